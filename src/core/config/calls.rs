//! `[calls]`: where clients find what calls need besides this server.

use serde::{Deserialize, Serialize};

/// The section `[calls]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Calls {
    /// The URL of the service that hands out tokens for LiveKit; empty if there is none.
    pub livekit_service_url: String,
}
