//! How far this server's events have got on their way to other servers, for use cases that wait for it.
//!
//! Invariant: in memory alone, and no truth: a waiting use case reads the queue again after each change and gives up in time.

use tokio::sync::watch;
use wick_core::Position;

/// Up to which position the stream was put into the queues of its destinations since the start. Changed, too, whenever a
/// destination has acknowledged something or does not answer.
pub struct Deliveries(watch::Sender<Position>);

impl Default for Deliveries {
    fn default() -> Self {
        Self(watch::Sender::new(Position::MIN))
    }
}

impl Deliveries {
    /// Notes that what the stream has up to a position is in the queues of its destinations.
    pub fn note_queued(&self, upto: Position) {
        self.0.send_modify(|queued| *queued = upto.max(*queued));
    }

    /// Notes that the queue of a destination is shorter by now, or that it does not answer.
    pub fn note_attempt(&self) {
        self.0.send_modify(|_| ());
    }

    /// The position, and its changes from now on.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Position> {
        self.0.subscribe()
    }
}
