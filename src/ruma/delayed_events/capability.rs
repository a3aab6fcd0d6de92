//! The capability that announces the longest delay and the number of delayed events.
//!
//! Invariant: written under the stable and the unstable name, read under either.

use std::time::Duration;

use ruma::{api::client::discovery::get_capabilities::v3::Capabilities, serde::duration::opt_ms};
use serde::{Deserialize, Serialize};

const STABLE: &str = "m.delayed_events";
const UNSTABLE: &str = "org.matrix.msc4140.delayed_events";

/// `m.delayed_events` of `GET /_matrix/client/v3/capabilities`. A limit that is not there is not
/// enforced; zero events mean that none can be scheduled.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct DelayedEventsCapability {
    /// The longest delay.
    #[serde(
        rename = "max_delay_ms",
        default,
        with = "opt_ms",
        skip_serializing_if = "Option::is_none"
    )]
    pub max_delay: Option<Duration>,
    /// How many events a user may have scheduled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_scheduled: Option<u32>,
}

impl DelayedEventsCapability {
    /// Adds it to a server's capabilities.
    ///
    /// # Errors
    ///
    /// If the delay has more milliseconds than a number in JSON may have (2⁵³ − 1).
    pub fn add_to(&self, capabilities: &mut Capabilities) -> serde_json::Result<()> {
        for name in [STABLE, UNSTABLE] {
            capabilities.set(name, serde_json::to_value(self)?)?;
        }
        Ok(())
    }

    /// Finds it in a server's capabilities; `None` if the server has no such capability.
    ///
    /// # Errors
    ///
    /// If there is something else under its key.
    pub fn find_in(capabilities: &Capabilities) -> serde_json::Result<Option<Self>> {
        let value = capabilities.get(STABLE).or_else(|| capabilities.get(UNSTABLE));
        value.map(|value| serde_json::from_value(value.into_owned())).transpose()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn capability_round_trips_through_the_list_of_all() {
        let capability = DelayedEventsCapability {
            max_delay: Some(Duration::from_secs(86_400)),
            max_scheduled: Some(100),
        };
        let mut capabilities = Capabilities::new();
        assert_eq!(DelayedEventsCapability::find_in(&capabilities).unwrap(), None);
        capability.add_to(&mut capabilities).unwrap();
        let json = serde_json::to_value(&capabilities).unwrap();
        for name in [STABLE, UNSTABLE] {
            assert_eq!(json[name], json!({ "max_delay_ms": 86_400_000, "max_scheduled": 100 }));
        }
        let read: Capabilities = serde_json::from_value(json).unwrap();
        assert_eq!(DelayedEventsCapability::find_in(&read).unwrap(), Some(capability));
    }

    #[test]
    fn limit_that_is_not_enforced_is_not_there() {
        let json = serde_json::to_value(DelayedEventsCapability::default()).unwrap();
        assert_eq!(json, json!({}));
    }
}
