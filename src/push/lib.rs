//! Notifications sent to push gateways.
//!
//! A follower of the stream evaluates each event for the users with pushers, and stores what notifies them. Each pusher sends what its user
//! has stored, one after another, and moves its own cursor; one that has nothing to send costs nothing.
//!
//! Invariants: what was stored is sent by each pusher, or dropped because it was read, redacted, left behind or too
//! old; it is sent twice only if the server crashes between the gateway's answer and the move of the cursor; no event leaves
//! the server that its user cannot see.
//!
//! <https://spec.matrix.org/v1.19/push-gateway-api/>

mod delivery;
mod due;
mod gateways;
mod notification;
mod push;
mod remote_invite;
mod room_name;

pub use self::push::Push;
