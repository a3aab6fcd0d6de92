//! What every use case works with: resources, supervised tasks, worker threads, followers of the
//! stream, limits.

mod follower;
mod health;
mod key_locks;
mod limits;
mod resources;
mod supervisor;
mod workers;

pub use self::{
    follower::{Consumer, Follower, Span},
    health::Health,
    key_locks::KeyLocks,
    limits::{Limit, Limits},
    resources::{ConflictLock, Resources},
    supervisor::Supervisor,
    workers::{WorkerTurn, Workers},
};
