//! Rooms shared with other servers: what this server asks them for.
//!
//! Invariants: no answer of another server is trusted before it is verified; every request is bounded in time and size.

mod directory;
mod join;
mod peer;
mod rooms;
mod template;

pub use self::{peer::Peers, rooms::RemoteRooms};
