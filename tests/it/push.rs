//! Pushers and what they send to push gateways.

mod content;
mod counting;
mod crashes;
pub(crate) mod gateway;
mod retries;
mod setting;
