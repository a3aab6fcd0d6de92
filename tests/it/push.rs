//! Pushers and what they send to push gateways.

mod connections;
mod content;
mod counting;
mod crashes;
pub(crate) mod gateway;
mod retries;
mod setting;
