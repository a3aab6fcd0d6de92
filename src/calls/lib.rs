//! Calls by LiveKit (MSC4195): the token service of one LiveKit server, and the timers that clients delegate
//! to it.
//!
//! Invariants: a token is issued to a user who is joined to the room at that moment, for an identity that no
//! other user can get; a delegated timer is kept alive as long as LiveKit reports its participant
//! connected, and ends once LiveKit reports it gone.

mod agenda;
mod calls;
mod contact;
mod delegation;
mod diagnosis;
mod ending;
mod follow;
mod hang_up;
mod identity;
mod jwt;
mod livekit;
mod openid;
mod participants;
mod presence;
mod removal;
mod sweep;
mod twirp;
mod watch;
mod web_hook;

pub use self::{
    calls::{Calls, Token},
    delegation::Handed,
    hang_up::Listening,
    identity::{Member, Seat},
    livekit::{Answering, Failure, LiveKit, Participant, Reply, WellKnown},
    twirp::Twirp,
};
