//! What every use case works with: resources, supervised tasks, worker threads, followers of the
//! stream, limits.

mod follower;
mod health;
mod limits;
mod resources;
mod supervisor;
mod workers;

pub use self::{
    follower::{Consumer, Follower, Span},
    health::Health,
    limits::{Limit, Limits},
    resources::{ConflictLock, Resources},
    supervisor::Supervisor,
    workers::{WorkerTurn, Workers},
};
