//! Memberships in rooms in which this server has no member.
//!
//! Invariants: their events are never part of the graph, since nothing is here to judge them by; such a membership ends
//! with the batch by which its user becomes a member of the room as it is here.

use std::mem;

use ruma::{
    OwnedEventId, OwnedRoomId, OwnedUserId, RoomId, RoomVersionId,
    canonical_json::CanonicalJsonObject, room_version_rules::RoomVersionRules,
};
use serde::Deserialize;
use wick_core::{Draft, Error, Result, ShortRoomId, ShortUserId, event::pdu::SharedPdu, rules};
use wick_database::{
    Range, Read,
    schema::{
        remote::{REMOTE_BY_MEMBER, REMOTE_INVITE_BY_STREAM, RemoteInvite, RemoteMembership},
        room::Membership,
    },
};

use crate::{Assembly, Graph, build, graph::unsettled, policy::PolicyChecks};

/// How often a batch is made anew because the row has changed meanwhile.
const ATTEMPTS: usize = 16;

impl Graph {
    /// A user's membership in a room in which this server has no member.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn remote_membership(
        &self,
        read: &impl Read,
        room: ShortRoomId,
        user: ShortUserId,
    ) -> Result<Option<RemoteMembership>> {
        Ok(read.get(&REMOTE_BY_MEMBER, &(user, room))?)
    }

    /// All such memberships of a user.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn remote_memberships(
        &self,
        read: &impl Read,
        user: ShortUserId,
    ) -> Result<Vec<(OwnedRoomId, RemoteMembership)>> {
        let mut memberships = Vec::new();
        for row in read.scan(&REMOTE_BY_MEMBER, Range::prefix((user,))) {
            let ((_, room), membership) = row?;
            let room_id = self.intern().room_id(read, room)?;
            let room_id = room_id.ok_or_else(|| Error::corrupt("a room has no room id"))?;
            memberships.push((room_id, membership));
        }
        Ok(memberships)
    }

    /// Changes a user's membership in a room in which this server has no member: `change` returns what it is to be,
    /// `None` to leave it. The position in it is filled in. Returns whether it was changed: it is not if this server has
    /// members in the room by now.
    ///
    /// # Errors
    /// Those of `change`; a database error.
    pub async fn change_remote_membership(
        &self,
        room_id: &RoomId,
        user: ShortUserId,
        mut change: impl FnMut(Option<RemoteMembership>) -> Result<Option<RemoteMembership>>,
    ) -> Result<bool> {
        let mut attempt = 1;
        loop {
            let lock = self.locks.take(room_id).await;
            let mut batch = self.db.batch();
            let room = self.intern().room(room_id, &mut batch)?;
            if self.has_local_member(&batch, room)? {
                return Ok(false);
            }
            let key = (user, room);
            let there = batch.read_for_update(&REMOTE_BY_MEMBER, &key)?;
            let before = there.as_ref().map(|there| there.position);
            let Some(membership) = change(there)? else { return Ok(false) };
            if let Some(before) = before {
                batch.delete(&REMOTE_INVITE_BY_STREAM, &before);
            }
            let slot = batch.reserve_position();
            if membership.membership == Membership::Invite {
                let invite = RemoteInvite { user, room };
                batch.put_at(slot, &REMOTE_INVITE_BY_STREAM, move |position| (position, invite));
            }
            batch.put_at(slot, &REMOTE_BY_MEMBER, move |position| {
                (key, RemoteMembership { position, ..membership })
            });
            let written = self.db.write(batch, Self::DURABILITY);
            drop(lock);
            match written {
                Ok(pending) => {
                    pending.await?;
                    return Ok(true);
                }
                Err(error) if error.is_conflict() && attempt < ATTEMPTS => attempt += 1,
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// An event as it would be sent now, signed, by the room's policy server too if there is one, for other servers to see
    /// before it is sent. It is sent by receiving it.
    ///
    /// # Errors
    /// `M_NOT_FOUND` if the room is not here, `M_FORBIDDEN` if the auth rules refuse the event, what the policy server
    /// refuses it with; [`Error::Remote`] if that has no answer.
    pub async fn propose(&self, draft: Draft) -> Result<(RoomVersionId, SharedPdu)> {
        let mut checks = PolicyChecks::default();
        for _ in 0..ATTEMPTS {
            let proposed = self.propose_with(&mut checks, draft.clone())?;
            if !checks.lacks_signatures() {
                return Ok(proposed);
            }
            self.ask_policy_servers(&mut checks).await?;
        }
        Err(unsettled())
    }

    fn propose_with(
        &self,
        checks: &mut PolicyChecks,
        mut draft: Draft,
    ) -> Result<(RoomVersionId, SharedPdu)> {
        let mut room = Assembly::open(self, &draft.room_id)?
            .ok_or_else(|| Error::not_found("this server does not know that room"))?;
        let version = RoomVersionId::try_from(room.head().version.as_str())
            .map_err(|error| Error::internal("a room's version cannot be read", error))?;
        room.policy = mem::take(checks);
        room.repeat(&mut draft);
        let built = build::build(&room, draft)?.pdu;
        let pdu = room.ensure_recommended(built)?;
        *checks = room.policy;
        Ok((version, pdu))
    }

    /// Hashes and signs an event of a room that need not be here.
    ///
    /// # Errors
    /// `M_TOO_LARGE` if the event or one of its fields is over its limit.
    pub fn sign(
        &self,
        event: &mut CanonicalJsonObject,
        rules: &RoomVersionRules,
    ) -> Result<OwnedEventId> {
        rules::hash_and_sign(event, rules, &self.server, &self.keys.current())
    }
}

/// The sender of the member event of a membership in a room in which this server has no member.
///
/// # Errors
/// If what is stored cannot be read.
pub fn remote_sender(there: &RemoteMembership) -> Result<OwnedUserId> {
    #[derive(Deserialize)]
    struct Sent {
        sender: OwnedUserId,
    }
    let sent = serde_json::from_str::<Sent>(&there.event);
    sent.map(|sent| sent.sender).map_err(|error| Error::internal("a stored member event", error))
}

/// Ends what a user was in the room before it was here.
pub(crate) fn end(room: &mut Assembly<'_>, user: ShortUserId) -> Result<()> {
    let key = (user, room.room);
    if let Some(there) = room.batch.get(&REMOTE_BY_MEMBER, &key)? {
        room.batch.delete(&REMOTE_INVITE_BY_STREAM, &there.position);
        room.batch.delete(&REMOTE_BY_MEMBER, &key);
    }
    Ok(())
}
