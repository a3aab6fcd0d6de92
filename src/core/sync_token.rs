//! The token between two syncs: `s` with a stream position, and behind `_` how far the inbox of the device was
//! delivered if that is less far.
//!
//! Invariants: tokens are opaque to clients; what is at or below both numbers was in an answer that this
//! token came with.

use std::fmt;

use crate::{Error, Position, Result};

/// Where a sync continues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SyncToken {
    /// The client was sent everything up to here.
    pub position: Position,
    /// The device was sent the messages of its inbox up to here.
    pub to_device: Position,
}

impl SyncToken {
    /// Reads a token.
    ///
    /// # Errors
    /// `M_INVALID_PARAM` if it is no token of this server.
    pub fn parse(token: &str) -> Result<Self> {
        let numbers = token.strip_prefix('s').ok_or_else(unknown)?;
        match numbers.split_once('_') {
            None => {
                let position = number(numbers)?;
                Ok(Self { position, to_device: position })
            }
            Some((position, to_device)) => {
                Ok(Self { position: number(position)?, to_device: number(to_device)? })
            }
        }
    }
}

impl fmt::Display for SyncToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s{}", self.position.0)?;
        if self.to_device != self.position {
            write!(f, "_{}", self.to_device.0)?;
        }
        Ok(())
    }
}

/// A position: digits alone, and no more than a place in a timeline can be.
fn number(digits: &str) -> Result<Position> {
    digits
        .parse()
        .ok()
        .filter(|number| i64::try_from(*number).is_ok())
        .filter(|number: &u64| number.to_string() == digits)
        .map(Position)
        .ok_or_else(unknown)
}

fn unknown() -> Error {
    Error::invalid_param("this is no token of a sync")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_comes_back_as_what_it_stands_for_and_nothing_else_is_one() {
        for (text, position, to_device) in [("s17", 17, 17), ("s17_3", 17, 3), ("s0", 0, 0)] {
            let token = SyncToken { position: Position(position), to_device: Position(to_device) };
            assert_eq!(token.to_string(), text);
            assert_eq!(SyncToken::parse(text).unwrap(), token);
        }
        for bad in [
            "",
            "s",
            "17",
            "s-1",
            "s+1",
            "s1x",
            "s 1",
            "s18446744073709551615",
            "x1",
            "s1_",
            "s_1",
            "s1_2_3",
            "s01",
            "s1_-2",
        ] {
            assert!(SyncToken::parse(bad).is_err(), "{bad}");
        }
    }
}
