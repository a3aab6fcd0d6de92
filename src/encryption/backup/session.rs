//! A session to back up, and which of two backups of one session is kept.

use ruma::{OwnedRoomId, UInt};
use serde::Deserialize;
use serde_json::value::RawValue;
use wick_core::{Error, Result, json};
use wick_database::schema::backups::BackedUpSession;

/// Bytes of one session's JSON.
const MAX_SESSION_BYTES: usize = 65_536;

/// Bytes of a session id.
const MAX_ID_BYTES: usize = 255;

/// A session to back up.
pub struct UploadedSession {
    /// The room that it encrypts messages of.
    pub room_id: OwnedRoomId,
    /// Its id.
    pub session_id: String,
    pub(super) session: BackedUpSession,
}

#[derive(Deserialize)]
struct Fields<'a> {
    first_message_index: UInt,
    forwarded_count: UInt,
    is_verified: bool,
    #[serde(borrow)]
    session_data: &'a RawValue,
}

impl UploadedSession {
    /// Reads a session.
    ///
    /// # Errors
    /// `M_BAD_JSON` if a field is missing or malformed, `M_TOO_LARGE`.
    pub fn read(room_id: OwnedRoomId, session_id: String, json: &RawValue) -> Result<Self> {
        if json.get().len() > MAX_SESSION_BYTES || session_id.len() > MAX_ID_BYTES {
            return Err(Error::too_large("a session is too large"));
        }
        // The error's own text could quote the session.
        let fields: Fields<'_> = serde_json::from_str(json.get())
            .map_err(|_| Error::bad_json("a session lacks a field or has a malformed one"))?;
        if !json::is_object(fields.session_data) {
            return Err(Error::bad_json("session_data is an object"));
        }
        let session = BackedUpSession {
            is_verified: fields.is_verified,
            first_message_index: fields.first_message_index.into(),
            forwarded_count: fields.forwarded_count.into(),
            json: json.get().to_owned(),
        };
        Ok(Self { room_id, session_id, session })
    }
}

/// Whether a new backup of a session replaces the stored one: a verified one replaces one that is not, then
/// the one that decrypts more messages, then the one that was forwarded less often.
pub(super) fn is_better(new: &BackedUpSession, stored: &BackedUpSession) -> bool {
    let rank = |session: &BackedUpSession| {
        (!session.is_verified, session.first_message_index, session.forwarded_count)
    };
    rank(new) < rank(stored)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(
        is_verified: bool,
        first_message_index: u64,
        forwarded_count: u64,
    ) -> BackedUpSession {
        BackedUpSession { is_verified, first_message_index, forwarded_count, json: String::new() }
    }

    #[test]
    fn verified_then_earlier_then_less_forwarded_is_better() {
        let stored = session(false, 5, 3);
        assert!(is_better(&session(true, 9, 9), &stored));
        assert!(is_better(&session(false, 4, 9), &stored));
        assert!(is_better(&session(false, 5, 2), &stored));
        assert!(!is_better(&session(false, 5, 3), &stored), "the same changes nothing");
        assert!(!is_better(&session(false, 6, 0), &stored));
        assert!(!is_better(&session(false, 0, 0), &session(true, 5, 3)));
    }
}
