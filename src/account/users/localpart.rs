//! The local part of a user id: its grammar for new accounts, and its forms at a log-in.
//!
//! Invariant: every account of this server has a name by the specification's present grammar
//! ("User Identifiers": `a-z 0-9 . _ = - / +`, 255 bytes with the server's name).

use ruma::{OwnedUserId, ServerName, UserId, api::error::ErrorKind};
use wick_core::{Error, Random, Result};

/// The user id of a new account that wants to be called `wanted`. Capitals are folded.
///
/// # Errors
/// `M_INVALID_USERNAME`.
pub(crate) fn new_user_id(wanted: &str, server: &ServerName) -> Result<OwnedUserId> {
    let localpart = wanted.to_ascii_lowercase();
    let allowed = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'=' | b'-' | b'/' | b'+');
    if localpart.is_empty() || !localpart.bytes().all(allowed) {
        return Err(invalid("a user name consists of a-z, 0-9 and . _ = - / +"));
    }
    let full = format!("@{localpart}:{server}");
    if full.len() > 255 {
        return Err(invalid("the user name is too long"));
    }
    UserId::parse(full).map_err(|_| invalid("this is no user name"))
}

/// A name for an account that did not ask for one.
pub(crate) fn any_user_id(random: &dyn Random, server: &ServerName) -> Result<OwnedUserId> {
    new_user_id(&random.letters(12), server)
}

/// The user of this server that `identifier` names at a log-in, by user id or local part;
/// `None` if it can be none of this server's.
pub(crate) fn login_user_id(identifier: &str, server: &ServerName) -> Option<OwnedUserId> {
    let localpart = match identifier.strip_prefix('@') {
        Some(rest) => {
            let (localpart, name) = rest.split_once(':')?;
            if name != server.as_str() {
                return None;
            }
            localpart
        }
        None => identifier,
    };
    new_user_id(localpart, server).ok()
}

fn invalid(message: &'static str) -> Error {
    Error::refused(ErrorKind::InvalidUsername, message)
}

#[cfg(test)]
mod tests {
    use ruma::server_name;

    use super::*;

    #[test]
    fn capitals_are_folded() {
        let user_id = new_user_id("User-UPPER", server_name!("here")).unwrap();
        assert_eq!(user_id, "@user-upper:here");
    }

    #[test]
    fn every_character_of_the_grammar_is_allowed() {
        assert!(new_user_id("az09._=-/+", server_name!("here")).is_ok());
    }

    #[test]
    fn anything_else_is_an_invalid_user_name() {
        for name in ["", "a b", "a!", "a:b", "@a", "é", "a\n", "a\\", "£", &"a".repeat(250)] {
            let error = new_user_id(name, server_name!("here")).unwrap_err();
            assert_eq!(error.kind(), Some(&ErrorKind::InvalidUsername), "{name:?}");
        }
    }

    #[test]
    fn a_login_means_a_user_of_this_server_alone() {
        let here = server_name!("here");
        assert_eq!(login_user_id("alice", here).unwrap(), "@alice:here");
        assert_eq!(login_user_id("@Alice:here", here).unwrap(), "@alice:here");
        assert_eq!(login_user_id("@alice:there", here), None);
        assert_eq!(login_user_id("@alice", here), None);
    }
}
