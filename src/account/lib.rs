//! Accounts of this server: users, sessions, devices, and what clients store for one user.

pub mod account_data;
pub mod devices;
pub mod filters;
#[cfg(test)]
mod fixture;
pub mod invite_filter;
pub mod name_index;
pub mod openid;
mod proof;
pub mod push_rules;
pub mod pushers;
mod removal;
mod requester;
pub mod sessions;
pub mod turn;
pub mod uia;
mod upkeep;
pub mod users;

pub use self::{
    account_data::AccountData,
    devices::{DeviceListener, Devices},
    filters::Filters,
    openid::OpenId,
    proof::Proof,
    push_rules::PushRules,
    pushers::Pushers,
    requester::Requester,
    sessions::{Session, Sessions},
    uia::Uia,
    upkeep::Upkeep,
    users::Users,
};
