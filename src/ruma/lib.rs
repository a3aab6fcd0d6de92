//! The ruma schema extension: what ruma does not have for events that expire.
//!
//! The wire format is the first form of [MSC4140], "expiring events with keep alive endpoint".
//! A client sends an event whose content has its lifetime, the server distributes it
//! as `running`, and when the keep-alives stop it posts a copy with the status `expired`:
//!
//! | on the wire | here |
//! |---|---|
//! | `m.will_expire: 10` in the content of a send request | [`RequestedExpiry`], [`WillExpire`] |
//! | `m.will_expire: "running"` in a stored event | [`ExpireStatus`] |
//! | `m.relates_to` of the copy | [`ExpireRelation`], [`TerminalContent`] |
//! | `m.will_expire` in `unsigned` | [`ExpireUnsigned`] |
//! | `expire_refresh_token` in the answer of `/send` and `/state` | [`send`] |
//! | `PUT /expiration/{refresh_method}` | [`expiration`] |
//! | `m.will_expire` in `/capabilities`, the flag in `/versions` | [`capability`] |
//!
//! The later form of the same proposal is [`delayed_events`].
//!
//! Invariants: everything is built with ruma's own public macros and traits, for both sides of the
//! API; nothing here decides a policy (limits, allowed event types); a refresh token never shows in
//! a `Debug` output.
//!
//! # Example
//!
//! A client announces itself for ten seconds, and renews that once:
//!
//! ```
//! use ruma::{
//!     api::client::message::send_message_event,
//!     events::{MessageLikeEventType, room::message::RoomMessageEventContent},
//!     owned_room_id,
//!     serde::Raw,
//! };
//! use wick_ruma::{
//!     RequestedExpiry, WillExpire,
//!     expiration::{self, RefreshMethod},
//!     send,
//! };
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let content = WillExpire {
//!     content: RoomMessageEventContent::text_plain("I am here"),
//!     will_expire: RequestedExpiry::from_seconds(10)?,
//! };
//! let request = send::Request(send_message_event::v3::Request::new_raw(
//!     owned_room_id!("!call:example.org"),
//!     "txn1".into(),
//!     MessageLikeEventType::RoomMessage,
//!     Raw::new(&content)?.cast_unchecked(),
//! ));
//! assert!(request.0.body.json().get().contains(r#""m.will_expire":10"#));
//!
//! // What the server answered:
//! # let body = br#"{"event_id":"$here:example.org","expire_refresh_token":"secret"}"#;
//! # use ruma::api::IncomingResponseExt as _;
//! # let response = send::Response::try_from_http_response(http::Response::new(&body[..]))?;
//! if let Some(token) = response.expire_refresh_token {
//!     let keep_alive = expiration::Request::new(RefreshMethod::Refresh, token);
//! #   assert_eq!(keep_alive.expire_refresh_token.as_str(), "secret");
//! }
//! # Ok(())
//! # }
//! ```
//!
//! [MSC4140]: https://github.com/matrix-org/matrix-spec-proposals/pull/4140

#![expect(
    unexpected_cfgs,
    reason = "ruma's request and response macros ask for `ruma_unstable_exhaustive_types`, a cfg \
              that is declared in its own crates alone"
)]

pub mod account_data;
pub mod capability;
pub mod dehydrated_events;
pub mod delayed_events;
pub mod expiration;
pub mod livekit;
mod relation;
pub mod send;
pub mod sync;
mod token;
pub mod typing;
mod unsigned;
mod will_expire;

pub use relation::{EXPIRE_RELATION, ExpireRelation, TerminalContent};
pub use token::ExpireRefreshToken;
pub use unsigned::ExpireUnsigned;
pub use will_expire::{ExpireStatus, InvalidExpiry, RequestedExpiry, WILL_EXPIRE, WillExpire};

// The private payload of the `_Custom` variants of this crate's string enums.
ruma::priv_owned_str!();
