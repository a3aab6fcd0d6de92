//! `/sync`: what is new for a session since its last request, or everything it begins with.
//!
//! A response is assembled from parts. Each part is a function of a [`Context`] (one snapshot, the session,
//! the users it ignores) and of what it is about (a [`Scope`], a position), and knows nothing of the request.
//! [`v3`] assembles them into the responses of `/_matrix/client/v3/sync`.
//!
//! Invariants: a request registers for news before it reads, so none is missed; everything in one
//! response is read from one snapshot, and its token is that snapshot's position; the cost of a
//! response grows with what is new, not with the sizes of the user's rooms.

pub mod account_data;
mod context;
pub mod device_lists;
pub mod encryption;
pub mod events;
pub mod invited;
mod joined;
mod lazy;
mod members;
mod peek;
pub mod presence;
pub mod receipts;
mod remote;
mod roster;
mod scope;
pub mod state;
pub mod sticky;
pub mod summary;
pub mod timeline;
pub mod token;
pub mod typing;
pub mod unread;
pub mod v3;

pub use self::{
    context::Context, joined::JoinedRooms, lazy::Lazy, members::Members, roster::RosterChanges,
    scope::Scope, v3::Sync,
};
