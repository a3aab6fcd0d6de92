//! Use cases of rooms: creation, membership, sending now or later, history, search, spaces.

pub mod delayed;
mod guests;
pub mod history;
mod member_events;
mod memberships;
pub mod reports;
pub mod restricted;
pub mod rooms;
pub mod search;
pub mod spaces;

pub use self::{
    delayed::Delayed, guests::GuestRemoval, history::History, memberships::Memberships,
    reports::Reports, rooms::Rooms, spaces::Spaces,
};
