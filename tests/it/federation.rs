//! Talking to other servers: their names, their keys, requests in both directions.

#![expect(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "what a test asks for is there"
)]

mod administration;
mod bounds;
mod calls;
mod convergence;
mod crashes;
mod device_lists;
mod directory;
mod encryption;
mod expiring;
mod history;
mod hostile;
mod hostile_events;
mod hostile_joins;
mod invites;
mod joins;
mod keys;
mod large_joins;
mod media;
mod missed;
mod names;
mod peer;
mod policy;
mod receiver;
mod requests;
mod restricted;
mod rooms;
mod sending;
mod sending_edus;
mod spaces;
mod third_party;
mod three_servers;
mod waiting;

use std::{
    future::{Ready, ready},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use axum::response::Response;
use ruma::{ServerName, UserId};
use ruma_federation_api::query::get_profile_information::v1 as get_profile_information;
use serde_json::Value;
use wick_core::{Error, RemoteReason};
use wick_harness::TestServer;

/// What a server answers.
type Answer = Arc<dyn Fn() -> Response + Send + Sync>;

/// A handler that gives these answers, and how often it did.
fn counted(
    answer: impl Fn() -> Response + Clone + Send + Sync + 'static,
) -> (Arc<AtomicUsize>, impl Fn() -> Ready<Response> + Clone + Send + Sync + 'static) {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    let handler = move || {
        counted.fetch_add(1, Ordering::SeqCst);
        ready(answer())
    };
    (count, handler)
}

/// The profile of a user as `server` gets it from another one.
async fn profile(server: &TestServer, of: &str, user_id: &str) -> Result<Value, Error> {
    let request = get_profile_information::Request::new(UserId::parse(user_id).unwrap());
    let federation = server.services().federation().unwrap();
    let response = federation.request(&ServerName::parse(of).unwrap(), request).await?;
    Ok(response.data.iter().map(|(key, value)| (key.clone(), value.clone())).collect())
}

/// Why a request to another server failed.
fn reason<T>(result: Result<T, Error>) -> RemoteReason {
    match result {
        Err(Error::Remote(failure)) => failure.reason,
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("it succeeded"),
    }
}
