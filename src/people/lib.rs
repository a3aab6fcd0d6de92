//! Data about users that others see: profiles, the user directory, presence, typing, receipts.

mod deadlines;
pub mod presence;
pub mod profile;
pub mod receipts;
pub mod typing;
pub mod user_directory;

pub use self::{
    presence::Presence, profile::Profiles, receipts::Receipts, typing::Typing,
    user_directory::UserDirectory,
};
