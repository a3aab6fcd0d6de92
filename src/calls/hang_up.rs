//! Clients that break off: a connection that ends while its request waits may be the end of a client, long before
//! LiveKit notices. LiveKit is then made to ask the client something.
//!
//! Invariant: only a client that does not answer LiveKit has hung up; a broken connection to this server alone, such as
//! the restart of a proxy, ends no call.

use std::sync::Arc;

use wick_core::{Monotonic, ShortUserId};
use wick_runtime::Supervisor;

use crate::{Calls, Reply, participants::Place};

/// The task, in logs and metrics.
const ASKING: &str = "silent participants";

/// How many participants are asked at a time.
const MOST_ASKED: usize = 32;

/// A request of a user's client that waits for news. If it is dropped before [`Listening::is_answered`], the client may be
/// gone.
pub struct Listening {
    client: Option<(Arc<Calls>, ShortUserId)>,
}

impl Listening {
    /// The request is answered.
    pub fn is_answered(mut self) {
        self.client = None;
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        let Some((calls, user)) = self.client.take() else { return };
        let now = calls.resources.clock.monotonic();
        for place in calls.watch.places_of(user) {
            calls.watch.questions.add(place, now);
        }
    }
}

impl Calls {
    /// A request of a user's client begins to wait.
    #[must_use]
    pub fn listening(self: &Arc<Self>, user: ShortUserId) -> Listening {
        Listening { client: Some((Arc::clone(self), user)) }
    }

    /// Starts to ask participants whose clients may be gone.
    pub(crate) fn ask_the_silent(self: &Arc<Self>, supervisor: &Supervisor) {
        self.spawn(supervisor, ASKING, |calls| async move {
            let ask = |place| calls.ask(place);
            let clock = &*calls.resources.clock;
            calls.watch.questions.work_off(clock, (ASKING, MOST_ASKED), ask).await;
        });
    }

    /// Asks a participant's client. One that does not answer has left.
    async fn ask(&self, place: Place) -> Option<Monotonic> {
        let sid = self.watch.session(&place)?;
        match self.livekit.ask(&place.room, &place.identity).await {
            Ok(Reply::Silence) => {
                tracing::info!(identity = place.identity, "a participant's client does not answer");
                let now = self.resources.clock.monotonic();
                self.watch.report(&place, now, |watched| watched.left(&sid));
            }
            Ok(Reply::Answer | Reply::Unknown) => {}
            Err(failure) => tracing::info!(%failure, "a participant could not be asked"),
        }
        None
    }
}
