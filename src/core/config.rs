//! The configuration: one struct per section, each with its defaults and the meaning of its keys.
//!
//! Invariants: with no configuration at all the server starts for local use; an unknown key is a
//! problem, not ignored; `wick-example.toml` has the same defaults, which a test checks.

mod accounts;
mod admin;
mod calls;
mod check;
mod connections;
mod database;
mod delayed_events;
mod expiry;
mod federation;
mod limits;
mod listen;
mod load;
mod logging;
mod media;
mod metrics;
mod outbound;
mod presence;
mod previews;
mod push;
mod registration;
mod rooms;
mod server;
mod sync;
mod timers;
mod turn;
mod values;
mod variables;

use std::{fmt, path::PathBuf};

use serde::{Deserialize, Serialize};

pub use self::{
    accounts::Accounts,
    admin::Admin,
    calls::{Calls, TOKEN_SERVICE_PATH},
    connections::Connections,
    database::{Database, Durability},
    delayed_events::DelayedEvents,
    expiry::Expiry,
    federation::Federation,
    limits::Limits,
    listen::Listen,
    load::Sources,
    logging::{Format, Logging},
    media::{Media, S3, ThumbnailMethod, ThumbnailSize},
    metrics::Metrics,
    outbound::Outbound,
    presence::Presence,
    previews::Previews,
    push::{Counted, Push},
    registration::{Mode, Registration},
    rooms::Rooms,
    server::Server,
    sync::Sync,
    timers::Timers,
    turn::Turn,
    values::{Network, Period, Rate, Secret},
};

/// The example file with every key and its default.
pub const EXAMPLE: &str = include_str!("../../wick-example.toml");

/// Everything that can be configured, by section.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The server's name and proxies.
    pub server: Server,
    /// Where clients reach it.
    pub listen: Listen,
    /// How many connections there may be, and how long each phase of one may take.
    pub connections: Connections,
    /// The database.
    pub database: Database,
    /// How accounts are made.
    pub registration: Registration,
    /// Passwords, sessions, and how much one user may store.
    pub accounts: Accounts,
    /// What users may do with rooms.
    pub rooms: Rooms,
    /// Expiring events.
    pub expiry: Expiry,
    /// Events that are sent later.
    pub delayed_events: DelayedEvents,
    /// What both have in common.
    pub timers: Timers,
    /// What calls need besides.
    pub calls: Calls,
    /// Where calls pass through if no direct way exists.
    pub turn: Turn,
    /// Notifications sent to push gateways.
    pub push: Push,
    /// Requests to addresses that users and other servers name.
    pub outbound: Outbound,
    /// Talking to other servers.
    pub federation: Federation,
    /// Files that users upload.
    pub media: Media,
    /// Previews of pages that users link to.
    pub previews: Previews,
    /// Rate limits.
    pub limits: Limits,
    /// What one `/sync` may ask for.
    pub sync: Sync,
    /// Presence.
    pub presence: Presence,
    /// Log lines.
    pub logging: Logging,
    /// Numbers for Prometheus.
    pub metrics: Metrics,
    /// The administrator's socket.
    pub admin: Admin,
}

impl Config {
    /// How accounts are made, with [`Mode::Local`] decided: it is never the result.
    #[must_use]
    pub fn registration_mode(&self) -> Mode {
        match self.registration.mode {
            Mode::Local if self.server.name == "localhost" && self.listen.is_local() => Mode::Open,
            Mode::Local => Mode::Closed,
            mode => mode,
        }
    }

    /// The folder of uploaded files.
    #[must_use]
    pub fn media_folder(&self) -> PathBuf {
        if self.media.path.as_os_str().is_empty() {
            self.database.path.join("media")
        } else {
            self.media.path.clone()
        }
    }

    /// The path of the administrator's socket.
    #[must_use]
    pub fn admin_socket(&self) -> PathBuf {
        if self.admin.socket.as_os_str().is_empty() {
            self.database.path.join("admin.sock")
        } else {
            self.admin.socket.clone()
        }
    }
}

/// Something wrong with the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The key, such as `server.name`; empty if it is about a source as a whole.
    pub key: String,
    /// Where the value came from.
    pub origin: Option<String>,
    /// What is wrong with it.
    pub message: String,
}

impl Problem {
    fn general(origin: &str, error: &dyn fmt::Display) -> Self {
        Self {
            key: String::new(),
            origin: Some(origin.to_owned()),
            message: error.to_string().trim_end().to_owned(),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.key.as_str(), &self.origin) {
            ("", Some(origin)) => write!(f, "{origin}: {}", self.message),
            (key, Some(origin)) => write!(f, "{key} (from {origin}): {}", self.message),
            (key, None) => write!(f, "{key} {}", self.message),
        }
    }
}

#[cfg(test)]
mod tests;
