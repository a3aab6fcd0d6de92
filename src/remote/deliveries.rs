//! Waiting until another server has been sent what it needs for a decision.

use std::time::Duration;

use ruma::{OwnedServerName, RoomId, ServerName};
use wick_core::{Monotonic, Position, Result, ShortUserId};
use wick_database::{
    Range, Read,
    schema::{outgoing::OUTGOING_BY_DESTINATION, room::Membership, stream::CURSOR_BY_FOLLOWER},
};
use wick_federation::FOLLOWER;
use wick_rooms::restricted::allowed_rooms;

use crate::RemoteRooms;

/// How long to wait at most.
const PATIENCE: Duration = Duration::from_secs(5);

impl RemoteRooms {
    /// Waits until the servers know that a user is in the rooms whose members may join a restricted room, and until the
    /// events of that room that came by then are taken in; no longer than five seconds. Returns whether the user is in such a room.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub(crate) async fn exchange(
        &self,
        user: ShortUserId,
        room_id: &RoomId,
        servers: &[OwnedServerName],
    ) -> Result<bool> {
        let Some(upto) = self.joined_allowed_room(user, room_id)? else { return Ok(false) };
        let deadline = self.resources.clock.monotonic() + PATIENCE;
        for server in servers {
            self.deliver(server, upto, deadline).await?;
        }
        self.inbound.worked_off(&[room_id.to_owned()], deadline).await;
        Ok(true)
    }

    /// Up to which position the stream has the joins of a user to the rooms whose members may join a restricted room; `None` if
    /// the user is in none of them.
    fn joined_allowed_room(&self, user: ShortUserId, room_id: &RoomId) -> Result<Option<Position>> {
        let read = self.resources.database.latest();
        let Some(room) = self.graph.short(&read, room_id)? else { return Ok(None) };
        let mut upto = None;
        for allowed in allowed_rooms(&self.graph, &read, room)?.unwrap_or_default() {
            let Some(allowed) = self.graph.short(&read, &allowed)? else { continue };
            let member = self.graph.member(&read, allowed, user)?;
            let joined = member.filter(|member| member.membership == Membership::Join);
            upto = upto.max(joined.map(|member| member.position));
        }
        Ok(upto)
    }

    /// Waits until a server has acknowledged what it is sent of the stream up to a position, or does not answer.
    async fn deliver(
        &self,
        server: &ServerName,
        upto: Position,
        deadline: Monotonic,
    ) -> Result<()> {
        let clock = &self.resources.clock;
        let mut changes = self.federation.deliveries.watch();
        loop {
            let queued = *changes.borrow_and_update();
            if self.is_delivered(server, upto, queued)? {
                return Ok(());
            }
            tokio::select! {
                Ok(()) = changes.changed() => {}
                () = clock.sleep_until(deadline) => return Ok(()),
            }
        }
    }

    fn is_delivered(&self, server: &ServerName, upto: Position, queued: Position) -> Result<bool> {
        let is_silent = self.federation.retry_at(server)?;
        if is_silent.is_some_and(|until| until > self.resources.clock.now()) {
            return Ok(true);
        }
        let read = self.resources.database.latest();
        let cursor = read.get(&CURSOR_BY_FOLLOWER, FOLLOWER)?.unwrap_or(Position::MIN);
        let range = Range::prefix((server,)).and(Range::through(&(server, upto)));
        let waits = read.first(&OUTGOING_BY_DESTINATION, range)?.is_some();
        Ok(!waits && queued.max(cursor) >= upto)
    }
}
