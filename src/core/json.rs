//! How deep JSON may be nested: one limit for all that clients send and that is stored.
//!
//! Invariant: what is within the limit can be read again where it is stored and shown, inside of other JSON.
//! JSON readers give up beyond 127 levels.

use memchr::memchr2;
use serde_json::value::RawValue;

use crate::{Error, Result};

/// How deep JSON may be nested.
pub const MAX_DEPTH: usize = 100;

/// How deep a transaction of another server may be nested: more than what it holds, each part of which is checked by
/// itself, and less than what JSON readers take.
pub const MAX_TRANSACTION_DEPTH: usize = 120;

/// Whether a JSON value is an object.
#[must_use]
pub fn is_object(json: &RawValue) -> bool {
    json.get().starts_with('{')
}

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
    let (mut depth, mut rest) = (0_usize, json);
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        match byte {
            b'"' => rest = after_string(after),
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

/// What follows on the string that `text` begins in.
fn after_string(mut text: &[u8]) -> &[u8] {
    while let Some(end) = memchr2(b'"', b'\\', text) {
        let is_escape = text.get(end) == Some(&b'\\');
        text = text.get(end + 1 + usize::from(is_escape)..).unwrap_or_default();
        if !is_escape {
            return text;
        }
    }
    &[]
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
