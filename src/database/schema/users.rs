//! Accounts of this server and their profiles.

use ruma::OwnedUserId;
use serde::{Deserialize, Serialize};
use wick_core::{ShortRoomId, ShortUserId, Timestamp};

use crate::postcard_value;

/// An account of this server. Its row is never removed: a name is not given away twice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// The argon2id hash in PHC form; `None` for an account without a password.
    pub password: Option<String>,
    /// When it was made.
    pub created: Timestamp,
    /// Whether it administers the server.
    pub admin: bool,
    /// When it was deactivated, if it was.
    pub deactivated: Option<Timestamp>,
}

/// A guest: an account whose access tokens serve for a part of the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Guest {
    /// When it was made.
    pub created: Timestamp,
}

/// An OpenID token: proof of a user id for a third party.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenIdToken {
    /// The user.
    pub user_id: OwnedUserId,
    /// From when on it is no proof.
    pub expires: Timestamp,
}

/// A member event that waits for the policy server of its room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PostponedMember {
    /// How often it was tried.
    pub attempts: u32,
    /// When it is tried again.
    pub retry_at: Timestamp,
}

postcard_value!(Account, version = 1);
postcard_value!(Guest, version = 1);
postcard_value!(OpenIdToken, version = 1);
postcard_value!(PostponedMember, version = 1);

tables! {
    /// The accounts of this server. Written when one is made, gets a new password or is deactivated;
    /// read at every log-in; rebuilt from nothing else.
    ACCOUNT_BY_USER: ShortUserId => Account, Random;

    /// The accounts that are guests'. Written when one is made; removed when it becomes a full account or is
    /// deactivated, which unused ones are; read when an access token is, and by what guests are refused;
    /// rebuilt from nothing else.
    GUEST_BY_USER: ShortUserId => Guest, Small;

    /// How many rows [`GUEST_BY_USER`] has. Written with them; read when a guest registers.
    GUEST_TOTAL: () => u64, Small;

    /// The fields of a local user's profile, each as JSON text. Written by the user; read for profile
    /// requests and for the member events that are made in the user's name; rebuilt from nothing else.
    PROFILE_FIELD_BY_USER: (ShortUserId, String) => String, Random;

    /// Deactivated users who are still in rooms or have running timers. Written with the deactivation;
    /// removed when the last room is left, or is in [`POSTPONED_BY_MEMBER`]; read at start to continue after a crash.
    DEPARTING_BY_USER: ShortUserId => (), Small;

    /// Deactivated users who requested erasure. Written with the deactivation and kept for good; read when
    /// their messages are shown.
    ERASED_BY_USER: ShortUserId => (), Small;

    /// Users whose member events do not repeat their profile yet, with a number that tells one change
    /// from the next. Written with the profile; removed when all member events do, or are in [`POSTPONED_BY_MEMBER`]; read at
    /// start to continue after a crash.
    PROFILE_CHANGE_BY_USER: ShortUserId => u64, Small;

    /// By room and local user: the member event that an account, a profile or the access of guests asks for, and for which
    /// the room's policy server has no answer. Written when that was asked in vain; removed with the event, or if it is
    /// refused; read by what tries again. What the event is to be follows from the other tables then.
    POSTPONED_BY_MEMBER: (ShortRoomId, ShortUserId) => PostponedMember, Small;

    /// OpenID tokens by their SHA-256. Written and read by the OpenID endpoints; may be lost.
    OPENID_TOKEN_BY_HASH: [u8; 32] => OpenIdToken, Random;
}
