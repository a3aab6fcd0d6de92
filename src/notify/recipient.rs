//! The user whose notifications are evaluated.

use ruma::UserId;
use wick_account::Session;
use wick_core::ShortUserId;

/// A local user who may be notified.
#[derive(Clone, Copy, Debug)]
pub struct Recipient<'a> {
    /// The user.
    pub user: ShortUserId,
    /// The same as a user id.
    pub user_id: &'a UserId,
}

impl<'a> From<&'a Session> for Recipient<'a> {
    fn from(session: &'a Session) -> Self {
        Self { user: session.user, user_id: &session.user_id }
    }
}
