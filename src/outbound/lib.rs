//! HTTP requests to addresses that users or other servers name.
//!
//! Invariant: no request reaches an address that the configuration denies, whatever names, redirects or
//! spellings of addresses lead to it.

mod client;
mod failure;
mod guard;
mod in_flight;
mod resolver;
#[cfg(test)]
mod tests;

pub use self::{
    client::{Bounds, Outbound, Response, as_sent, host, retry_after},
    failure::Failure,
    in_flight::{Admitted, InFlight},
    resolver::{Resolve, Resolving, ResolvingEndpoints, SystemResolver},
};
