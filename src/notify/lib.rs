//! Which events notify a user, and how many of them are unread.

pub mod counts;
pub mod notifications;

pub use self::{counts::Counts, notifications::Notifications};
