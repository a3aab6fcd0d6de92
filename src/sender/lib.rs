//! Events and EDUs sent to other servers.
//!
//! A follower of the stream finds out which servers each piece of news is for and puts it into their queues. Each
//! destination is sent its queue in transactions, one after another; one that has nothing in its queue, or that is
//! not to be asked at present, costs nothing.
//!
//! Invariants: an event goes to the servers that were in the room before or after it; what is queued stays until its
//! destination has acknowledged it; transactions of a destination are in order and never at the same time, and one
//! that is repeated has the same id. A destination that is out of reach for long is sent the newest event of each room
//! instead of all that it missed.
//!
//! <https://spec.matrix.org/v1.19/server-server-api/#transactions>

mod bounds;
mod catch_up;
mod delivery;
mod edus;
mod news;
mod presence;
mod sender;
mod transaction;
mod waiting;

pub use self::sender::Sender;
