//! The server-server API, a file per family of endpoints.
//!
//! Invariant: where federation is off, none of them is there.

mod directory;
mod event;
mod event_lists;
mod first_version;
mod invite;
mod keys;
mod media;
mod membership;
mod query;
mod third_party;
mod transaction;
mod user;
mod version;

use wick_core::Result;
use wick_service::Services;

use crate::route::Route;

/// Every endpoint of the server-server API.
pub(crate) fn routes() -> Vec<Route> {
    let routes = [
        directory::routes(),
        event::routes(),
        invite::routes(),
        keys::routes(),
        media::routes(),
        membership::routes(),
        query::routes(),
        third_party::routes(),
        transaction::routes(),
        user::routes(),
        version::routes(),
    ];
    let federated = routes.into_iter().flatten().map(|route| route.only_with(ensure_federated));
    federated.collect()
}

/// Fails where federation is off.
///
/// # Errors
/// 404 `M_UNRECOGNIZED`.
fn ensure_federated(services: &Services) -> Result<()> {
    services.federation().map(|_| ())
}
