//! Which events notify a user, and how many of them are unread.

pub mod badges;
pub mod counts;
mod evaluate;
mod flattened;
pub mod notifications;
mod pattern;
mod recipient;
mod rules;

pub use self::{
    badges::Badges, counts::Counts, notifications::Notifications, recipient::Recipient,
};
