//! Timers that survive a crash, and the events that expire by them.

pub mod expiry;
pub mod timers;

pub use self::{expiry::Expiry, timers::Timers};
