//! Which events notify a user, and how many of them are unread.

pub mod counts;
mod evaluate;
pub mod notifications;
mod pattern;
mod rules;

pub use self::{counts::Counts, notifications::Notifications};
