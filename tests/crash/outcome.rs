//! How a user's work ends.

use std::fmt;

use serde_json::Value;

use crate::client::Answer;

/// Why a user stopped working.
#[derive(Debug)]
pub(crate) enum Stop {
    /// The server is gone: there was no answer.
    Gone,
    /// The server broke its word.
    Broken(String),
}

pub(crate) type Result<T> = std::result::Result<T, Stop>;

/// What is wrong, with the answer that shows it.
pub(crate) fn broken<T>(what: impl fmt::Display, answer: &Answer) -> Result<T> {
    Err(Stop::Broken(format!("{what}: {} {}", answer.status, answer.body)))
}

/// A string of an answer that must be 200.
pub(crate) fn text(what: &str, answer: &Answer, key: &str) -> Result<String> {
    let value = answer.body.get(key).and_then(Value::as_str);
    match value {
        Some(value) if answer.status == 200 => Ok(value.to_owned()),
        _ => broken(format!("{what} has no {key}"), answer),
    }
}

/// An answer that must be 200.
pub(crate) fn ok(what: &str, answer: &Answer) -> Result<()> {
    if answer.status == 200 { Ok(()) } else { broken(what, answer) }
}
