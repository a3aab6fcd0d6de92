//! The event graph: build, receive, resolve, commit, read. Consistent or not written.
//!
//! Invariants: no network (R6); every event, wherever it comes from, is stored by `commit` alone
//! (R1); a room's lock is private to this crate and held for microseconds, never over an fsync.

mod acl;
mod append;
mod assembly;
mod auth_chain;
mod build;
mod commit;
pub mod delayed;
mod effects;
mod events;
mod gaps;
mod graph;
mod heroes;
mod lock;
pub mod membership;
mod policy;
mod read;
mod receive;
pub mod relation;
mod remote;
pub mod render;
mod resolve;
mod servers;
pub mod shared_rooms;
mod stage;
mod sticky;
mod timeline;
pub mod visibility;

pub mod invariants;
pub mod state;

pub use self::{
    acl::Acl,
    assembly::Assembly,
    commit::{Placement, expiry::can_expire},
    effects::{Arm, Effects, Finish, Outcome, TimerChange, TransactionKey},
    events::Events,
    gaps::OpenGap,
    graph::{Graph, Hooks, NewRoom, Projection, TimerListener},
    membership::MemberContent,
    policy::{PolicyServers, Signing},
    receive::{
        Formatted, Gaps, Incoming, Received, Snapshot, Verified, by_auth_events, by_prev_events,
        topological_order,
    },
    relation::RelatesTo,
    remote::remote_sender,
    stage::{Appended, Redacted},
    timeline::{Direction, TimelineItem, to_place},
};

#[cfg(test)]
mod tests;
