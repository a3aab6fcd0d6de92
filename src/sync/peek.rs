//! `GET /events`: waits for what happens in one room that its reader need not have joined.
//!
//! <https://spec.matrix.org/v1.18/client-server-api/#room-previews>

use std::time::Duration;

use ruma::RoomId;
use wick_account::Session;
use wick_core::Result;
use wick_rooms::history::Messages;

use crate::Sync;

impl Sync {
    /// What happened in a room after `from`, by default from now on. Waits for it if there is nothing.
    ///
    /// # Errors
    /// `M_FORBIDDEN` if the session's user may not read the room, `M_INVALID_PARAM` if `from` is no token,
    /// `M_UNKNOWN_TOKEN` if the access token was revoked meanwhile.
    pub async fn peek(
        &self,
        session: &Session,
        room_id: &RoomId,
        from: Option<&str>,
        timeout: Duration,
    ) -> Result<Messages> {
        let timeout = timeout.min(self.resources.config.sync.max_timeout.0);
        let clock = &self.resources.clock;
        let mut deadline = clock.sleep_until(clock.monotonic() + timeout);
        let mut watch = self.resources.database.watch().user(session.user);
        if let Some(room) = self.graph.short(&self.resources.database.published(), room_id)? {
            watch = watch.room(room);
        }
        let mut news = self.history.news(session, room_id, from)?;
        let start = news.start.clone();
        while news.chunk.is_empty() && !timeout.is_zero() {
            tokio::select! {
                () = watch.changed() => {
                    session.ensure_live(&self.resources.database.published())?;
                    news = self.history.news(session, room_id, news.end.as_deref())?;
                }
                () = &mut deadline => break,
                () = self.stopping.cancelled() => break,
            }
        }
        Ok(Messages { start, ..news })
    }
}
