//! What ruma does not have for events that expire. The modules are wick's own schema (`src/ruma`), copied
//! as they are by `patches/apply`.

mod capability;
mod relation;
mod unsigned;
mod will_expire;

pub use self::{
    capability::{UNSTABLE_FEATURE, WillExpireCapability},
    relation::{EXPIRE_RELATION, ExpireRelation, TerminalContent},
    unsigned::ExpireUnsigned,
    will_expire::{ExpireStatus, InvalidExpiry, RequestedExpiry, WILL_EXPIRE},
};

/// The private payload of the `_Custom` variants of string enums. By hand, as not every server's ruma has
/// the macro for it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PrivOwnedStr(Box<str>);
