//! The capability that announces that events can expire, and within which limits.
//!
//! Invariants: the flag in `/versions` announces the endpoints; the capability announces what
//! this user may ask for.

use std::time::Duration;

use ruma::{api::client::discovery::get_capabilities::v3::Capabilities, serde::duration::secs};
use serde::{Deserialize, Serialize};

use super::WILL_EXPIRE;

/// The key in `unstable_features` of `GET /_matrix/client/versions`.
pub const UNSTABLE_FEATURE: &str = "org.matrix.msc4140.will_expire";

/// `m.will_expire` of `GET /_matrix/client/v3/capabilities`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct WillExpireCapability {
    /// Whether events may expire at all.
    pub enabled: bool,
    /// The shortest duration that is accepted; on the wire in seconds.
    #[serde(with = "secs")]
    pub min_duration: Duration,
    /// The longest duration that is accepted; on the wire in seconds.
    #[serde(with = "secs")]
    pub max_duration: Duration,
    /// How many events of a user may be running at once.
    pub max_running: u32,
}

impl WillExpireCapability {
    /// Adds it to a server's capabilities.
    ///
    /// # Errors
    ///
    /// If a duration has more seconds than a number in JSON may have (2⁵³ − 1).
    pub fn add_to(&self, capabilities: &mut Capabilities) -> serde_json::Result<()> {
        capabilities.set(WILL_EXPIRE, serde_json::to_value(self)?)
    }

    /// Finds it in a server's capabilities; `None` if the server has no such capability.
    ///
    /// # Errors
    ///
    /// If there is something else under its key.
    pub fn find_in(capabilities: &Capabilities) -> serde_json::Result<Option<Self>> {
        let value = capabilities.get(WILL_EXPIRE);
        value.map(|value| serde_json::from_value(value.into_owned())).transpose()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn capability_round_trips_through_the_list_of_all() {
        let capability = WillExpireCapability {
            enabled: true,
            min_duration: Duration::from_secs(1),
            max_duration: Duration::from_secs(86_400),
            max_running: 100,
        };
        let mut capabilities = Capabilities::new();
        assert_eq!(WillExpireCapability::find_in(&capabilities).unwrap(), None);
        capability.add_to(&mut capabilities).unwrap();

        let json = serde_json::to_value(&capabilities).unwrap();
        assert_eq!(
            json["m.will_expire"],
            json!({
                "enabled": true, "min_duration": 1, "max_duration": 86_400, "max_running": 100,
            })
        );
        let read: Capabilities = serde_json::from_value(json).unwrap();
        assert_eq!(WillExpireCapability::find_in(&read).unwrap(), Some(capability));
    }

    #[test]
    fn something_else_under_the_key_is_an_error() {
        let mut capabilities = Capabilities::new();
        capabilities.set(WILL_EXPIRE, json!({ "enabled": "yes" })).unwrap();
        assert!(WillExpireCapability::find_in(&capabilities).is_err());
    }

    #[test]
    fn duration_that_json_can_not_hold_is_an_error() {
        let capability = WillExpireCapability {
            enabled: true,
            min_duration: Duration::ZERO,
            max_duration: Duration::MAX,
            max_running: 0,
        };
        assert!(capability.add_to(&mut Capabilities::new()).is_err());
    }
}
