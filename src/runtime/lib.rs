//! What every use case works with: resources, supervised tasks, limits.

mod limits;
mod resources;
mod supervisor;

pub use self::{
    limits::{Limit, Limits},
    resources::{Resources, is_conflict},
    supervisor::Supervisor,
};
