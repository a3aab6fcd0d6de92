//! Talking to other servers: discovery, server keys, signed requests in and out. No policy.
//!
//! Invariants: no request reaches a server or an address that the configuration denies; nothing of another server is
//! accepted that is neither signed by it nor covered by its certificate; every request is bounded in time and size,
//! and no server that is slow or gone holds up another.
//!
//! <https://spec.matrix.org/v1.19/server-server-api/>

mod authenticate;
mod deliveries;
mod destinations;
mod diagnosis;
mod edus;
mod events;
mod federation;
mod keys;
mod media;
mod names;
mod openid;
mod running;
mod transport;

pub use wick_outbound::Bounds;

/// The name under which the sender follows the stream.
pub const FOLLOWER: &str = "federation";

pub use self::{
    deliveries::Deliveries,
    diagnosis::Finding,
    edus::{Keep, queue_edu},
    events::{EventLists, Fields, Part},
    federation::{Federation, Network},
    keys::ServerKeys,
    media::{FileTurn, RemoteFile},
    names::{LookingUp, NoServices, Service, Services, SystemServices},
    running::RunningRequest,
};
