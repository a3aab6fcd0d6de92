//! What every use case works with: resources, supervised tasks, worker threads, limits.

mod limits;
mod resources;
mod supervisor;
mod workers;

pub use self::{
    limits::{Limit, Limits},
    resources::Resources,
    supervisor::Supervisor,
    workers::Workers,
};
