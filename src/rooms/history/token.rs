//! A token stands between two events of a timeline: `s` with the place of the event before it.
//!
//! Those of `/sync` serve as well; backfilled events have negative places.

use wick_core::{Error, Result, SyncToken};

/// The token that stands after this place.
#[must_use]
pub fn to_token(place: i64) -> String {
    format!("s{place}")
}

/// The place that a token stands after.
///
/// # Errors
/// `M_INVALID_PARAM` if it is no token of this server.
pub fn from_token(token: &str) -> Result<i64> {
    token
        .strip_prefix('s')
        .filter(|number| !number.starts_with('+'))
        .and_then(|number| number.parse().ok())
        .or_else(|| i64::try_from(SyncToken::parse(token).ok()?.position.0).ok())
        .ok_or_else(|| Error::invalid_param("this is no token of this server"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_comes_back_as_its_place_and_nothing_else_is_one() {
        for place in [0, 17, -4, i64::MAX, i64::MIN] {
            assert_eq!(from_token(&to_token(place)).unwrap(), place);
        }
        assert_eq!(from_token("s17_3").unwrap(), 17);
        for bad in ["", "s", "17", "s+1", "s1x", "s 1", "s9223372036854775808", "t1-2"] {
            assert!(from_token(bad).is_err(), "{bad}");
        }
    }
}
