//! The client-server API, a file per family of endpoints.

mod account;
mod alias;
mod backup;
mod config;
mod context;
mod dehydrated_device;
mod delayed_events;
mod device;
pub(crate) mod directory;
mod discovery;
mod expiration;
mod filter;
mod join;
mod keys;
mod livekit;
pub(crate) mod media;
mod members;
mod membership;
mod message;
mod peek;
mod presence;
mod profile;
mod push;
mod receipt;
mod redact;
mod relations;
mod reporting;
mod room;
mod rtc;
mod search;
mod send;
mod session;
mod shared_secret;
mod space;
mod state;
mod sync;
mod tag;
mod thirdparty;
mod threads;
mod timestamp;
mod to_device;
mod typing;
mod user_directory;
mod voip;
mod when;
mod whois;

use ruma::{UInt, UserId, api};
use wick_account::Session;
use wick_core::{Error, Result};
use wick_rooms::history::Direction;

use crate::route::Route;

/// Every endpoint of the client-server API.
pub(crate) fn routes() -> Vec<Route> {
    [
        account::routes(),
        alias::routes(),
        backup::routes(),
        config::routes(),
        context::routes(),
        dehydrated_device::routes(),
        delayed_events::routes(),
        device::routes(),
        directory::routes(),
        discovery::routes(),
        expiration::routes(),
        filter::routes(),
        members::routes(),
        message::routes(),
        join::routes(),
        keys::routes(),
        livekit::routes(),
        media::routes(),
        membership::routes(),
        peek::routes(),
        presence::routes(),
        profile::routes(),
        push::routes(),
        receipt::routes(),
        redact::routes(),
        room::routes(),
        rtc::routes(),
        send::routes(),
        relations::routes(),
        reporting::routes(),
        search::routes(),
        session::routes(),
        shared_secret::routes(),
        sync::routes(),
        space::routes(),
        state::routes(),
        tag::routes(),
        thirdparty::routes(),
        threads::routes(),
        timestamp::routes(),
        to_device::routes(),
        typing::routes(),
        user_directory::routes(),
        voip::routes(),
        whois::routes(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// The user id in a path must be the session's own.
fn own(session: &Session, user_id: &UserId) -> Result<()> {
    if session.user_id != user_id {
        return Err(Error::forbidden("this belongs to another user"));
    }
    Ok(())
}

/// How many, where anything beyond what can be counted is as many as there are.
pub(crate) fn count(number: UInt) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// The direction of a request.
pub(crate) fn direction(direction: api::Direction) -> Direction {
    match direction {
        api::Direction::Forward => Direction::Forward,
        api::Direction::Backward => Direction::Backward,
    }
}
