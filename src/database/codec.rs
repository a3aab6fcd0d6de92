//! How keys and values become bytes.
//!
//! Invariants: the order of encoded keys is the order of the keys; every value begins with the
//! version of its format.

pub mod key;
pub mod value;

use std::borrow::Cow;

pub use self::{
    key::{Descending, Key, KeyLike, PrefixOf},
    value::Value,
};

/// Stored bytes do not have the form their table promises.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct CodecError(Cow<'static, str>);

impl CodecError {
    /// An error with a description. Never put the bytes themselves in it: they can be secret.
    pub fn new(what: impl Into<Cow<'static, str>>) -> Self {
        Self(what.into())
    }

    /// The bytes ended before the value did.
    #[must_use]
    pub fn short() -> Self {
        Self::new("too few bytes")
    }

    /// The first byte names a format that this server does not know.
    #[must_use]
    pub fn version(found: Option<u8>) -> Self {
        match found {
            Some(found) => Self::new(format!("unknown value format {found}")),
            None => Self::short(),
        }
    }
}
