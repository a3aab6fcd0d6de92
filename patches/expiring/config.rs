//! The section `[global.expiring]` of the configuration.
//!
//! Invariant: a server without the section behaves by the contract's defaults.

use serde::Deserialize;

/// Limits of events that expire.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Expiring {
    /// Whether new events may expire. Timers that run already run on.
    pub enabled: bool,
    /// The shortest duration, in seconds.
    pub min_duration: u64,
    /// The longest duration, in seconds.
    pub max_duration: u64,
    /// The most timers that a user may have running; zero forbids them.
    pub max_running: u32,
    /// Uses of one valid token.
    pub uses: Rate,
    /// Requests with an invalid token, from one address.
    pub guesses: Rate,
}

/// How often something may happen.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rate {
    /// How many times in a second, in the long run.
    pub per_second: f64,
    /// How many times at once.
    pub burst: u32,
}

impl Default for Expiring {
    fn default() -> Self {
        Self {
            enabled: true,
            min_duration: 1,
            max_duration: 86_400,
            max_running: 100,
            uses: Rate { per_second: 2.0, burst: 10 },
            guesses: Rate { per_second: 0.5, burst: 5 },
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_left_out_has_its_default_and_unknown_keys_are_refused() {
        let config: Expiring = serde_json::from_value(json!({
            "max_running": 3, "uses": { "per_second": 1.0, "burst": 2 },
        }))
        .unwrap();
        let uses = Rate { per_second: 1.0, burst: 2 };
        assert_eq!(config, Expiring { max_running: 3, uses, ..Expiring::default() });
        for wrong in [json!({ "max": 3 }), json!({ "uses": { "burst": 2 } })] {
            assert!(serde_json::from_value::<Expiring>(wrong).is_err());
        }
    }
}
