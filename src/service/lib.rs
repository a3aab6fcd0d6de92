//! Use cases: users, rooms, sync, expiry. No HTTP, no storage engine types.

pub mod account_data;
mod counts;
pub mod delayed;
pub mod devices;
pub mod expiry;
pub mod filters;
#[cfg(test)]
mod fixture;
pub mod history;
mod limits;
mod memberships;
pub mod notifications;
pub mod openid;
pub mod presence;
pub mod profile;
pub mod push_rules;
pub mod pushers;
pub mod receipts;
pub mod reports;
mod resources;
pub mod rooms;
pub mod search;
mod services;
pub mod sessions;
pub mod spaces;
mod supervisor;
pub mod sync;
pub mod timers;
pub mod typing;
pub mod uia;
pub mod user_directory;
pub mod users;

pub use self::{
    account_data::AccountData,
    counts::Counts,
    delayed::Delayed,
    devices::Devices,
    expiry::Expiry,
    filters::Filters,
    history::History,
    limits::{Limit, Limits},
    memberships::Memberships,
    notifications::Notifications,
    openid::OpenId,
    presence::Presence,
    profile::Profiles,
    push_rules::PushRules,
    pushers::Pushers,
    receipts::Receipts,
    reports::Reports,
    resources::Resources,
    rooms::Rooms,
    services::{Keys, Services, database_options},
    sessions::{Session, Sessions},
    spaces::Spaces,
    supervisor::Supervisor,
    sync::Sync,
    timers::Timers,
    typing::Typing,
    uia::Uia,
    user_directory::UserDirectory,
    users::Users,
};
