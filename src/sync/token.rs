//! The token between two syncs: `s` with a stream position.

use wick_core::{Error, Position, Result};

/// The token of a position.
#[must_use]
pub fn to_token(place: i64) -> String {
    format!("s{place}")
}

/// The position of a token.
///
/// # Errors
/// `M_INVALID_PARAM` if it is no token of this server.
pub fn from_token(token: &str) -> Result<Position> {
    token
        .strip_prefix('s')
        .filter(|number| number.bytes().all(|byte| byte.is_ascii_digit()))
        .and_then(|number| number.parse().ok())
        .filter(|number| i64::try_from(*number).is_ok())
        .map(Position)
        .ok_or_else(|| Error::invalid_param("this is no token of a sync"))
}

/// A position as a place in a room's timeline.
#[must_use]
pub fn to_place(position: Position) -> i64 {
    i64::try_from(position.0).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_comes_back_as_its_position_and_nothing_else_is_one() {
        assert_eq!(from_token(&to_token(17)).unwrap(), Position(17));
        for bad in ["", "s", "17", "s-1", "s+1", "s1x", "s 1", "s18446744073709551615", "x1"] {
            assert!(from_token(bad).is_err(), "{bad}");
        }
    }
}
