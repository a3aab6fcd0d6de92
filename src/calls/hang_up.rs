//! Clients that break off: a connection that ends while its request waits may be the end of a client, long before
//! LiveKit notices. LiveKit is then made to ask the client something.
//!
//! Invariants: only a client that answers LiveKit no question in the time that it usually takes has hung up, and none
//! that answered none when nothing was broken; a broken connection to this server alone, such as the restart of a proxy,
//! ends no call. A client that has made another request since is given longer.

use std::{future::pending, sync::Arc, time::Duration};

use futures_util::{StreamExt, stream::FuturesUnordered};
use ruma::{DeviceId, OwnedDeviceId};
use wick_core::{Monotonic, ShortUserId};
use wick_runtime::Supervisor;

use crate::{
    Calls, Failure, Reply,
    contact::{MAX_PATIENCE, SUSPENSE},
    participants::Place,
};

/// The task, in logs and metrics.
const ASKING: &str = "silent participants";

/// How many participants are asked at a time.
const MOST_ASKED: usize = 128;

/// How long LiveKit waits for the answer to one question at most, whatever the request says.
const MOST_WITHIN: Duration = Duration::from_secs(2);

/// A question for which there is less time is not asked.
const LEAST_WITHIN: Duration = Duration::from_millis(300);

/// When another question is asked beside one that is not answered yet. The answer to either will do.
const ASKED_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// A request of a user's device that waits for news. If it is dropped before [`Listening::is_answered`], the client may be
/// gone.
pub struct Listening {
    client: Option<(Arc<Calls>, ShortUserId, OwnedDeviceId)>,
}

impl Listening {
    /// The request is answered.
    pub fn is_answered(mut self) {
        self.client = None;
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        let Some((calls, user, device)) = self.client.take() else { return };
        calls.watch.break_off(user, &device, calls.resources.clock.monotonic());
    }
}

impl Calls {
    /// A request of a user's device begins to wait.
    #[must_use]
    pub fn listening(self: &Arc<Self>, user: ShortUserId, device: &DeviceId) -> Listening {
        self.watch.broken_off.come_back(user, device);
        Listening { client: Some((Arc::clone(self), user, device.to_owned())) }
    }

    /// Starts to ask participants whose clients may be gone.
    pub(crate) fn ask_the_silent(self: &Arc<Self>, supervisor: &Supervisor) {
        self.spawn(supervisor, ASKING, |calls| async move {
            let ask = |place| calls.ask(place);
            let clock = &*calls.resources.clock;
            calls.watch.questions.work_off(clock, (ASKING, MOST_ASKED), ask).await;
        });
    }

    /// Asks a participant's client. One that broke off and does not answer has left. Returns when to ask it again, if at all.
    async fn ask(&self, place: Place) -> Option<Monotonic> {
        let question = self.watch.question(&place)?;
        let now = self.resources.clock.monotonic();
        let patience = match question.broke_off {
            // It lives, and its link may have become slower than it was.
            Some(broke_off) if self.watch.broken_off.is_back(question.user, now) => {
                (broke_off + SUSPENSE).since(now).min(MAX_PATIENCE).max(question.patience)
            }
            _ => question.patience,
        };
        let reply = self.reply(&place, patience).await;
        let now = self.resources.clock.monotonic();
        match (reply, question.broke_off) {
            (Ok((Reply::Silence, _)), Some(broke_off)) if !question.is_mute => {
                let is_back = self.watch.broken_off.is_back(question.user, now);
                if is_back && now.since(broke_off) < SUSPENSE {
                    return Some(now);
                }
                tracing::info!(identity = place.identity, "a participant's client does not answer");
                self.watch.settle(&place, &question, None);
                self.watch.report(&place, now, |watched| watched.lost(&question.sid, now));
            }
            (Ok((Reply::Answer, took)), _) => self.watch.settle(&place, &question, Some(took)),
            (Ok((Reply::Silence, _)), _) => self.watch.note_silence(&place, &question),
            (Ok((Reply::Unknown, _)), _) => self.watch.settle(&place, &question, None),
            (Err(failure), _) => {
                tracing::info!(%failure, "a participant could not be asked");
                self.watch.settle(&place, &question, None);
            }
        }
        None
    }

    /// Has a participant's client asked until it answers or `patience` has passed. Returns how long the answer took, too.
    async fn reply(&self, place: &Place, patience: Duration) -> Result<(Reply, Duration), Failure> {
        let clock = &*self.resources.clock;
        let begun = clock.monotonic();
        let (mut next, mut questions) = (Some(begun), FuturesUnordered::new());
        loop {
            let now = clock.monotonic();
            if next.is_some_and(|next| next <= now) {
                let left = (begun + patience).since(now);
                let answer = self.livekit.ask(&place.room, &place.identity, left.min(MOST_WITHIN));
                questions.push(async move { (now, answer.await) });
                let is_time = left.saturating_sub(ASKED_AGAIN_AFTER) >= LEAST_WITHIN;
                next = is_time.then(|| now + ASKED_AGAIN_AFTER);
            }
            if questions.is_empty() && next.is_none() {
                return Ok((Reply::Silence, patience));
            }
            let until_next = async {
                match next {
                    Some(next) => clock.sleep_until(next).await,
                    None => pending().await,
                }
            };
            tokio::select! {
                Some((asked, reply)) = questions.next(), if !questions.is_empty() => match reply? {
                    Reply::Silence => {}
                    reply => return Ok((reply, clock.monotonic().since(asked))),
                },
                () = until_next => {}
            }
        }
    }
}
