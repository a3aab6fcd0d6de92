//! What every use case works with: resources, supervised tasks, worker threads, limits.

mod health;
mod limits;
mod resources;
mod supervisor;
mod workers;

pub use self::{
    health::Health,
    limits::{Limit, Limits},
    resources::Resources,
    supervisor::Supervisor,
    workers::Workers,
};
