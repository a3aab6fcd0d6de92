//! The names of rooms and participants at LiveKit, which clients compute as well (MSC4195).
//!
//! Invariants: two slots never share a LiveKit room; an identity holds or hashes its user's id, so no other user
//! can get it.

use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};
use ruma::{OwnedRoomId, RoomId, UserId};
use sha2::{Digest, Sha256};
use wick_core::{Error, Result};

/// The slot of a room's call, which the first generation of clients does not name.
const ROOM_CALL: &str = "m.call#ROOM";

/// The longest slot, device or member id.
const MAX_ID_BYTES: usize = 255;

/// A place in a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seat {
    /// The room.
    pub room_id: OwnedRoomId,
    /// The slot; `None` is the room's call.
    pub slot_id: Option<String>,
    /// The member.
    pub member: Member,
}

/// A member of a call, in one of three generations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Member {
    /// A device, as in `/sfu/get`. Its identity is readable.
    Device(String),
    /// A device and a member id, as in the deployed `/get_token`.
    DeviceMember(String, String),
    /// A member id, as in the present text of MSC4195.
    Member(String),
}

impl Seat {
    /// The name of the LiveKit room.
    pub(crate) fn livekit_room(&self) -> String {
        livekit_room(&self.room_id, self.slot_id.as_deref().unwrap_or(ROOM_CALL))
    }

    /// The identity of `user` in it.
    ///
    /// # Errors
    /// `M_INVALID_PARAM` if an id is empty or too long, or a device id could be read as part of a user id.
    pub(crate) fn identity(&self, user: &UserId) -> Result<String> {
        if let Some(slot_id) = &self.slot_id {
            ensure_id(slot_id)?;
        }
        let user = user.as_str();
        match &self.member {
            Member::Device(device) => {
                ensure_id(device)?;
                // `@a:b` with `8448:D` would be `@a:b:8448` with `D`.
                if device.contains(':') {
                    return Err(Error::invalid_param("a device id in a call has no colon"));
                }
                Ok(format!("{user}:{device}"))
            }
            Member::DeviceMember(device, member) => {
                ensure_id(device)?;
                ensure_id(member)?;
                Ok(hash(&[user, device, member]))
            }
            Member::Member(member) => {
                ensure_id(member)?;
                Ok(hash(&[user, member]))
            }
        }
    }
}

/// The name of the LiveKit room of a slot.
fn livekit_room(room_id: &RoomId, slot_id: &str) -> String {
    hash(&[room_id.as_str(), slot_id])
}

fn ensure_id(id: &str) -> Result<()> {
    if id.is_empty() || id.len() > MAX_ID_BYTES {
        return Err(Error::invalid_param("an id has 1 to 255 bytes"));
    }
    Ok(())
}

/// The SHA-256 of a list of texts as canonical JSON, in unpadded base64.
fn hash(texts: &[&str]) -> String {
    // Lists of texts are written in their canonical form: shortest escapes, no white space.
    let canonical = serde_json::to_string(texts).expect("texts can be written as JSON");
    STANDARD_NO_PAD.encode(Sha256::digest(canonical))
}

#[cfg(test)]
mod tests {
    use ruma::{owned_room_id, room_id, user_id};

    use super::*;

    fn seat(slot_id: Option<&str>, member: Member) -> Seat {
        let room_id = owned_room_id!("!roomid:example.com");
        Seat { room_id, slot_id: slot_id.map(str::to_owned), member }
    }

    /// The first two are the vectors in MSC4195 (01d596b0). All are what
    /// `printf '%s' "$JSON" | openssl dgst -sha256 -binary | openssl base64 -A | tr -d =` prints.
    #[test]
    fn names_and_identities_are_the_test_vectors_of_the_proposal() {
        assert_eq!(
            livekit_room(room_id!("!roomid:example.com"), "slot1234"),
            "O8437W3+jmzMVjoIP3tNwbm+XxHQk2iKpOA7aqw3qSc"
        );
        let alice = user_id!("@alice:example.com");
        let newest = seat(None, Member::Member("memberABC".to_owned()));
        assert_eq!(newest.identity(alice).unwrap(), "M3VnsLXrkbxIDINXO64u8PZzFyD9ZYFiQULR2dshWYs");
        // ["@alice:example.com","DEVICE","memberABC"]
        let deployed =
            seat(None, Member::DeviceMember("DEVICE".to_owned(), "memberABC".to_owned()));
        assert_eq!(
            deployed.identity(alice).unwrap(),
            "lwZwzslDeNc9ntK/hT0YfCSFmepFF2SMMVNMTuwfnl4"
        );
        // ["!roomid:example.com","m.call#ROOM"]
        assert_eq!(deployed.livekit_room(), "F4oOprKFBq6JHqy2qYpq6UQQmR7hCvxkQQoUrd0+SbI");
        let named = seat(Some(ROOM_CALL), Member::Device("DEVICE".to_owned()));
        assert_eq!(named.livekit_room(), deployed.livekit_room());
        assert_eq!(named.identity(alice).unwrap(), "@alice:example.com:DEVICE");
    }

    #[test]
    fn no_device_id_makes_the_identity_of_another_user() {
        let device = seat(None, Member::Device("8448:DEVICE".to_owned()));
        device.identity(user_id!("@alice:example.com")).unwrap_err();
        let split = |device: &str, member: &str| {
            let member = Member::DeviceMember(device.to_owned(), member.to_owned());
            seat(None, member).identity(user_id!("@alice:example.com")).unwrap()
        };
        assert_ne!(split("A", "B\",\"C"), split("A\",\"B", "C"));
    }

    #[test]
    fn an_id_is_neither_empty_nor_longer_than_255_bytes() {
        let alice = user_id!("@alice:example.com");
        for id in [String::new(), "x".repeat(256)] {
            for seat in [
                seat(None, Member::Device(id.clone())),
                seat(None, Member::Member(id.clone())),
                seat(None, Member::DeviceMember("D".to_owned(), id.clone())),
                seat(Some(&id), Member::Member("m".to_owned())),
            ] {
                seat.identity(alice).unwrap_err();
            }
        }
    }
}
