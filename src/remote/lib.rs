//! Rooms shared with other servers: what this server asks them for.
//!
//! Invariants: no answer of another server is trusted before it is verified; every request is bounded in time and size.

mod deliveries;
mod directory;
mod invite;
mod invited;
mod join;
mod knock;
mod leave;
mod peer;
mod policy;
mod profile;
mod rooms;
mod spaces;
mod stripped;
mod template;
mod third_party;
mod timestamp;

pub use self::{
    invited::Invite, peer::Peers, policy::RemotePolicyServers, rooms::RemoteRooms,
    third_party::BoundInvite,
};
