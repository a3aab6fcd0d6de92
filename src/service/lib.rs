//! Use cases: users, rooms, sync, expiry. No HTTP, no storage engine types.

mod limits;
mod services;
pub mod sessions;
mod supervisor;

pub use self::{
    limits::{Limit, Limits},
    services::{Keys, Services, database_options},
    sessions::{Session, Sessions},
    supervisor::Supervisor,
};
