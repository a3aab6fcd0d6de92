//! The composition of one server: builds every use case in the order of their crates and starts their tasks.

mod avatars;
mod services;

pub use self::services::{Keys, Remotes, Services, database_options};
