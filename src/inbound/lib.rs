//! What other servers send: events of rooms, taken in with whatever they need.
//!
//! Invariants: an event that was acknowledged is in the queue until it is stored or dropped for a reason that is
//! final, whatever crashes; the events of a room are received in the order in which they came; what a server sends
//! costs a bounded number of requests, however its events refer to others; nothing is stored whose signatures
//! were not verified.

mod answers;
mod countersign;
mod events;
mod extremities;
mod fetch;
mod history;
mod inbound;
mod join;
mod members;
mod peer;
mod queue;
mod spool;
mod verify;

pub use self::{
    answers::{Answers, JoinState, StateEvents},
    inbound::{EventResults, Inbound},
    join::Joining,
    peer::{MissingEvents, Peer, StateIds},
    spool::EventSpool,
};
