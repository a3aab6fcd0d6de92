//! `[limits]`: rate limits by user, token and address.

use serde::{Deserialize, Serialize};

use super::Rate;

/// The section `[limits]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Whether these limits hold.
    pub enabled: bool,
    /// All requests with one access token.
    pub requests: Rate,
    /// All requests without an access token from one address.
    pub anonymous: Rate,
    /// New accounts from one address.
    pub registration: Rate,
    /// Log-in attempts from one address.
    pub login: Rate,
    /// Passwords tried at one account from one address, or with one device that is logged in.
    pub login_account: Rate,
    /// Changes one user begins that need the password again.
    pub confirmations: Rate,
    /// Events one user sends.
    pub messages: Rate,
    /// Rooms one user joins or knocks on.
    pub joins: Rate,
    /// Invitations one user sends.
    pub invites: Rate,
    /// Display names and avatars one user sets. Each is put into all of the user's rooms.
    pub profiles: Rate,
    /// Changes of presence by one user. Each is sent to all users that share a room with them.
    pub presence: Rate,
    /// Rooms one user creates.
    pub rooms: Rate,
    /// Files one user uploads, and media ids one user reserves.
    pub uploads: Rate,
    /// Pages that are fetched for one user's previews.
    pub previews: Rate,
    /// Requests of one other server.
    pub servers: Rate,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            enabled: true,
            requests: Rate { per_second: 50.0, burst: 500 },
            anonymous: Rate { per_second: 10.0, burst: 100 },
            registration: Rate { per_second: 0.2, burst: 10 },
            login: Rate { per_second: 0.5, burst: 20 },
            login_account: Rate { per_second: 0.2, burst: 10 },
            confirmations: Rate { per_second: 0.5, burst: 20 },
            messages: Rate { per_second: 10.0, burst: 100 },
            joins: Rate { per_second: 0.5, burst: 20 },
            invites: Rate { per_second: 0.5, burst: 50 },
            profiles: Rate { per_second: 0.1, burst: 10 },
            presence: Rate { per_second: 0.2, burst: 20 },
            rooms: Rate { per_second: 0.2, burst: 20 },
            uploads: Rate { per_second: 1.0, burst: 100 },
            previews: Rate { per_second: 0.5, burst: 20 },
            servers: Rate { per_second: 50.0, burst: 500 },
        }
    }
}

impl Limits {
    /// Every rate with its key.
    pub(super) fn rates(&self) -> [(&'static str, Rate); 15] {
        [
            ("limits.requests", self.requests),
            ("limits.anonymous", self.anonymous),
            ("limits.registration", self.registration),
            ("limits.login", self.login),
            ("limits.login_account", self.login_account),
            ("limits.confirmations", self.confirmations),
            ("limits.messages", self.messages),
            ("limits.joins", self.joins),
            ("limits.invites", self.invites),
            ("limits.profiles", self.profiles),
            ("limits.presence", self.presence),
            ("limits.rooms", self.rooms),
            ("limits.uploads", self.uploads),
            ("limits.previews", self.previews),
            ("limits.servers", self.servers),
        ]
    }
}
