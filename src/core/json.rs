//! How deep JSON may be nested: one limit for all that clients send and that is stored.
//!
//! Invariant: what is within the limit can be read again where it is stored and shown, inside of other JSON.
//! JSON readers give up beyond 127 levels.

use crate::{Error, Result};

/// How deep JSON may be nested.
pub const MAX_DEPTH: usize = 100;

/// How deep a transaction of another server may be nested: more than what it holds, each part of which is checked by
/// itself, and less than what JSON readers take.
pub const MAX_TRANSACTION_DEPTH: usize = 120;

/// Fails if JSON text is nested deeper than [`MAX_DEPTH`]. Whether it is JSON is not checked.
///
/// # Errors
/// `M_BAD_JSON`.
pub fn ensure_shallow(json: &[u8]) -> Result<()> {
    ensure_depth(json, MAX_DEPTH)
}

/// Fails if JSON text is nested deeper than `max` levels. Whether it is JSON is not checked.
///
/// # Errors
/// `M_BAD_JSON`.
pub fn ensure_depth(json: &[u8], max: usize) -> Result<()> {
    let (mut depth, mut in_string, mut is_escaped) = (0_usize, false, false);
    for byte in json {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if in_string => is_escaped = true,
            b'"' => in_string = !in_string,
            _ if in_string => {}
            b'{' | b'[' if depth == max => {
                let message = format!("the JSON is nested deeper than {max} levels");
                return Err(Error::bad_json(message));
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use ruma::api::error::ErrorKind;

    use super::*;

    fn nested(levels: usize, open: &str, close: &str) -> Vec<u8> {
        [open.repeat(levels), close.repeat(levels)].concat().into_bytes()
    }

    #[test]
    fn what_is_nested_a_hundred_levels_deep_is_allowed_and_one_more_is_not() {
        let half = MAX_DEPTH / 2;
        for (levels, open, close) in
            [(MAX_DEPTH, "[", "]"), (MAX_DEPTH, r#"{"a":"#, "}"), (half, r#"[{"\"[":"#, "}]")]
        {
            assert!(ensure_shallow(&nested(levels, open, close)).is_ok(), "{open}");
            let error = ensure_shallow(&nested(levels + 1, open, close)).unwrap_err();
            assert_eq!(error.kind(), Some(&ErrorKind::BadJson), "{open}");
        }
    }

    #[test]
    fn brackets_in_strings_and_beside_each_other_do_not_nest() {
        let text = format!(r#"["{}\"[\\"]"#, "[".repeat(1000));
        assert!(ensure_shallow(text.as_bytes()).is_ok());
        let list = format!("[{}]", "[],".repeat(1000));
        assert!(ensure_shallow(list.as_bytes()).is_ok());
    }
}
