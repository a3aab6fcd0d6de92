//! Rooms shared with other servers: what this server asks them for.
//!
//! Invariants: no answer of another server is trusted before it is verified; every request is bounded in time and size.

mod peer;

pub use self::peer::Peers;
