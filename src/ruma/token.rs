//! The token that keeps an event alive or ends it.
//!
//! Invariants: it is a bearer token, so `Debug` shows nothing of it and there is no `Display`; and
//! no `PartialEq`, whose timing would reveal how much of a guess is right.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The secret in the response to a request that sends an event that will expire.
///
/// Opaque: an arbitrary string, from the network as well.
#[derive(Clone, Deserialize, Serialize)]
#[serde(transparent)]
pub struct ExpireRefreshToken(String);

impl ExpireRefreshToken {
    /// Wraps a token.
    pub fn new(token: impl Into<String>) -> Self {
        Self(token.into())
    }

    /// The secret itself. Compare it in constant time, and keep it out of logs and errors.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for ExpireRefreshToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ExpireRefreshToken(…)")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn token_is_a_plain_string_on_the_wire_and_hidden_in_debug() {
        let token: ExpireRefreshToken = serde_json::from_value(json!("secret")).unwrap();
        assert_eq!(serde_json::to_value(&token).unwrap(), json!("secret"));
        assert_eq!(token.as_str(), "secret");
        assert!(!format!("{token:?} {:#?}", Some(&token)).contains("secret"));
    }

    #[test]
    fn token_of_another_type_is_refused() {
        for json in [json!(1), json!(null), json!(["secret"]), json!({})] {
            assert!(serde_json::from_value::<ExpireRefreshToken>(json).is_err());
        }
    }
}
