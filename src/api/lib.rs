//! HTTP in and out, thin: extract, one service call, response. No rules live here.
//!
//! An endpoint is a function in `client/<family>.rs`
//!
//! ```text
//! pub(crate) async fn whoami(
//!     services: Arc<Services>,
//!     request: Ruma<whoami::v3::Request>,
//! ) -> Result<whoami::v3::Response>
//! ```
//!
//! and one line, `route(whoami)`, in that file's `routes()`, which `client::routes` names. Method,
//! paths and authentication follow from ruma's request type.

mod address;
mod admin;
mod auth;
mod body_stream;
mod client;
mod connections;
mod dispatch;
mod error;
mod event_filter;
mod guests;
mod health;
mod lists;
mod reply;
mod route;
mod router;
mod server;
mod unserved;
mod whole;

pub use self::{
    address::Peer,
    admin::admin_router,
    connections::{Closed, ConnectionSlot, Connections},
    guests::guest_endpoints,
    lists::limited_endpoints,
    router::{endpoints, router},
};
