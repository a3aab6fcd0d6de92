//! `[calls]`: the LiveKit server of calls, or a token service of another program.

use serde::{Deserialize, Serialize};

use super::{Config, Secret};

/// The path of this server's own token service for LiveKit, below which it answers clients and web hooks.
pub const TOKEN_SERVICE_PATH: &str = "/_matrix/livekit/jwt";

/// The section `[calls]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Calls {
    /// The WebSocket URL of LiveKit, as clients and this server reach it; empty if there is none. It turns on
    /// this server's own token service.
    pub livekit_url: String,
    /// The key that LiveKit's configuration has for this server.
    pub livekit_key: String,
    /// The secret of the key.
    pub livekit_secret: Secret,
    /// The URL of a token service of another program; empty if there is none.
    pub livekit_service_url: String,
}

impl Config {
    /// The URL of the token service that clients are referred to, if there is one.
    #[must_use]
    pub fn token_service_url(&self) -> Option<String> {
        let Calls { livekit_url, livekit_service_url, .. } = &self.calls;
        if !livekit_service_url.is_empty() {
            return Some(livekit_service_url.clone());
        }
        let base = self.server.well_known_client.trim_end_matches('/');
        (!livekit_url.is_empty()).then(|| format!("{base}{TOKEN_SERVICE_PATH}"))
    }
}
