//! Which invites a user wants: `m.invite_permission_config`, and the lists of MSC4155.
//!
//! Invariant: content that makes no sense has no effect, field by field.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#invite-permission>

use ruma::{UserId, api::error::ErrorKind};
use serde_json::{Map, Value};
use wick_core::{Error, Result, ShortUserId};
use wick_database::Read;
use wildmatch::WildMatch;

use crate::account_data;

/// The types of account data it is read from.
const TYPES: [&str; 3] = [
    "m.invite_permission_config",
    "org.matrix.msc4380.invite_permission_config",
    "org.matrix.msc4155.invite_permission_config",
];

/// The lists of MSC4155 in the order in which they decide, first of users and then of servers.
const LISTS: [(&str, InviteAction); 3] = [
    ("allowed", InviteAction::Allow),
    ("ignored", InviteAction::Ignore),
    ("blocked", InviteAction::Block),
];

/// What becomes of an invite.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InviteAction {
    /// It is shown to the user.
    Allow,
    /// It is taken, and not shown.
    Ignore,
    /// It is refused, and not shown.
    Block,
}

/// Which invites a user wants.
#[derive(Clone, Debug, Default)]
pub struct InviteFilter(Vec<Map<String, Value>>);

impl InviteFilter {
    /// The filter of a local user.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn of(read: &impl Read, user: ShortUserId) -> Result<Self> {
        let mut contents = Vec::new();
        for event_type in TYPES {
            let content = account_data::content(read, user, None, event_type)?;
            contents.extend(content.and_then(|content| serde_json::from_str(&content).ok()));
        }
        Ok(Self(contents))
    }

    /// What becomes of an invite by a user.
    #[must_use]
    pub fn action(&self, inviter: &UserId) -> InviteAction {
        let server = inviter.server_name().host();
        for (kind, subject) in [("users", inviter.as_str()), ("servers", server)] {
            for (list, action) in LISTS {
                let field = format!("{list}_{kind}");
                if self.0.iter().any(|content| has_match(content.get(&field), subject)) {
                    return action;
                }
            }
        }
        let blocks = |content: &Map<String, Value>| {
            content.get("default_action").and_then(Value::as_str) == Some("block")
        };
        if self.0.iter().any(blocks) { InviteAction::Block } else { InviteAction::Allow }
    }

    /// Fails if an invite by a user is to be refused.
    ///
    /// # Errors
    /// `M_INVITE_BLOCKED`.
    pub fn ensure_not_blocked(&self, inviter: &UserId) -> Result<()> {
        match self.action(inviter) {
            InviteAction::Block => {
                let message = "this user does not want to be invited";
                Err(Error::refused(ErrorKind::InviteBlocked, message))
            }
            InviteAction::Allow | InviteAction::Ignore => Ok(()),
        }
    }
}

fn has_match(patterns: Option<&Value>, subject: &str) -> bool {
    let patterns = patterns.and_then(Value::as_array).into_iter().flatten();
    patterns.filter_map(Value::as_str).any(|pattern| WildMatch::new(pattern).matches(subject))
}

#[cfg(test)]
mod tests {
    use ruma::user_id;
    use serde_json::json;

    use super::*;

    fn action(contents: &[Value]) -> InviteAction {
        let contents = contents.iter().filter_map(Value::as_object).cloned().collect();
        InviteFilter(contents).action(user_id!("@eve:one.example.org:8448"))
    }

    #[test]
    fn users_decide_before_servers_and_the_default_action_comes_last() {
        use InviteAction::{Allow, Block, Ignore};
        for (contents, wanted) in [
            (vec![], Allow),
            (vec![json!({ "default_action": "block" })], Block),
            (vec![json!({ "default_action": "dance" })], Allow),
            (vec![json!({ "default_action": 1, "blocked_users": null })], Allow),
            (vec![json!({ "blocked_users": ["@eve:*"] })], Block),
            (vec![json!({ "ignored_users": ["@e?e:one.example.org:8448"] })], Ignore),
            (vec![json!({ "blocked_servers": ["*.example.org"] })], Block),
            (vec![json!({ "blocked_servers": ["example.org"] })], Allow),
            (vec![json!({ "blocked_servers": ["*"], "allowed_users": ["@eve:*"] })], Allow),
            (vec![json!({ "allowed_servers": ["*"], "blocked_users": ["@eve:*"] })], Block),
            (
                vec![json!({ "default_action": "block" }), json!({ "allowed_servers": ["*"] })],
                Allow,
            ),
        ] {
            assert_eq!(action(&contents), wanted, "{contents:?}");
        }
    }
}
