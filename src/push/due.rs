//! Finds out what the pushers of users are to send.
//!
//! Invariants: an event is evaluated once for each user, however many pushers they have; a user without pushers costs
//! nothing; what comes again, after a crash, is neither stored anew nor after all pushers have passed it.

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    sync::Arc,
};

use ruma::{UserId, events::TimelineEventType};
use wick_account::{
    account_data::ignored_users,
    invite_filter::{InviteAction, InviteFilter},
};
use wick_core::{Error, Pdu, Position, Result, ShortEventId, ShortRoomId, ShortUserId};
use wick_database::{
    Durability, Range, Read,
    schema::{
        ephemeral::RECEIPT_BY_STREAM,
        push::{PENDING_PUSH_BY_POSITION, PROGRESS_BY_PUSHER, PendingPush, Pushed},
        remote::{REMOTE_INVITE_BY_STREAM, RemoteInvite},
        room::Membership,
        stream::StreamEntry,
    },
};
use wick_notify::Recipient;
use wick_room::{TimelineItem, membership};
use wick_runtime::{Consumer, Span};

use crate::{push::Shared, remote_invite::StoredInvite};

/// How many rows are written in one batch.
const BATCH: usize = 1_000;

/// Stores what is due.
#[derive(Clone)]
pub(crate) struct Due(pub(crate) Arc<Shared>);

/// What is due, by user and position.
type Found = BTreeMap<(ShortUserId, Position), Pushed>;

impl Consumer for Due {
    async fn consume(&self, span: &Span) -> Result<bool> {
        let resources = &self.0.resources;
        let owners = self.0.pushers.owners();
        if owners.is_empty() {
            return Ok(false);
        }
        let (this, span) = (self.clone(), span.clone());
        let found = resources.workers.run(&"push", move || this.find(&span, &owners)).await?;
        let found: Vec<_> = found.into_iter().collect();
        let at = resources.clock.now();
        for rows in found.chunks(BATCH) {
            let build = |batch: &mut wick_database::Batch| {
                let mut passed = BTreeMap::new();
                for (key, what) in rows {
                    let passed = match passed.entry(key.0) {
                        Entry::Occupied(known) => *known.get(),
                        Entry::Vacant(unknown) => *unknown.insert(passed_by_all(batch, key.0)?),
                    };
                    let is_passed = passed.is_some_and(|passed| passed >= key.1);
                    if is_passed || batch.contains(&PENDING_PUSH_BY_POSITION, key)? {
                        continue;
                    }
                    let pending = PendingPush { at, what: what.clone() };
                    batch.put(&PENDING_PUSH_BY_POSITION, key, &pending);
                }
                Ok(())
            };
            resources.change_with(Durability::Flushed, build).await?;
        }
        // The span is not acknowledged before: after a crash it comes again.
        let users: BTreeSet<_> = found.iter().map(|((user, _), _)| *user).collect();
        users.into_iter().try_for_each(|user| self.0.wake(user))?;
        Ok(!found.is_empty())
    }
}

/// The position that all pushers of a user have passed: what is due up to it was stored before. `None` if the
/// user has no pusher.
fn passed_by_all(read: &impl Read, user: ShortUserId) -> Result<Option<Position>> {
    let mut lowest = None::<Position>;
    for row in read.scan(&PROGRESS_BY_PUSHER, Range::prefix((user,))) {
        let (_, progress) = row?;
        lowest = Some(lowest.map_or(progress.upto, |lowest| lowest.min(progress.upto)));
    }
    Ok(lowest)
}

impl Due {
    fn find(&self, span: &Span, owners: &[ShortUserId]) -> Result<Found> {
        let mut found = Found::new();
        for (position, entry) in span.events()? {
            self.find_notified((span, owners), position, entry, &mut found)?;
        }
        let range = || Range::after(&span.after).and(Range::through(&span.upto));
        for row in span.read.scan(&RECEIPT_BY_STREAM, range()) {
            let (position, receipt) = row?;
            if self.0.pushers.may_have(receipt.user) {
                found.insert((receipt.user, position), Pushed::Count);
            }
        }
        for row in span.read.scan(&REMOTE_INVITE_BY_STREAM, range()) {
            let (position, RemoteInvite { user, room }) = row?;
            if self.0.pushers.may_have(user) {
                self.evaluate_remote_invite(span, (position, user), room, &mut found)?;
            }
        }
        Ok(found)
    }

    /// The users that an event notifies, and those whose unread count it may lower: its sender, by reading, and
    /// members, by a redaction.
    fn find_notified(
        &self,
        (span, owners): (&Span, &[ShortUserId]),
        position: Position,
        StreamEntry { room, event }: StreamEntry,
        found: &mut Found,
    ) -> Result<()> {
        let Shared { graph, pushers, .. } = &*self.0;
        let pdu = graph.load_event(&span.read, event)?;
        let sender = graph.intern().lookup_user(&span.read, &pdu.sender)?;
        if let Some(sender) = sender.filter(|sender| pushers.may_have(*sender)) {
            found.insert((sender, position), Pushed::Count);
        }
        for user in self.joined(span, owners, room)? {
            if pdu.redacts.is_some() {
                // Its target may have been counted.
                found.insert((user, position), Pushed::Count);
            }
            if Some(user) != sender {
                self.evaluate(span, (position, user), (room, event), &pdu, found)?;
            }
        }
        if let Some(user) = self.target(span, &pdu)?
            && Some(user) != sender
            && pushers.may_have(user)
        {
            match membership::of(&pdu) {
                Some(Membership::Invite) => {
                    if InviteFilter::of(&span.read, user)?.action(&pdu.sender)
                        != InviteAction::Allow
                    {
                        return Ok(());
                    }
                    self.evaluate(span, (position, user), (room, event), &pdu, found)?;
                }
                // After a kick or a ban nothing is unread there any more.
                _ => drop(found.insert((user, position), Pushed::Count)),
            }
        }
        Ok(())
    }

    /// The users in a room who have pushers, found in the room or among them, whichever are fewer.
    fn joined(
        &self,
        span: &Span,
        owners: &[ShortUserId],
        room: ShortRoomId,
    ) -> Result<Vec<ShortUserId>> {
        let Shared { graph, pushers, .. } = &*self.0;
        let head = graph.head(&span.read, room)?;
        let members =
            head.map_or(0, |head| usize::try_from(head.counts.joined).unwrap_or(usize::MAX));
        let mut joined = Vec::new();
        if owners.len() < members {
            for owner in owners {
                let member = graph.member(&span.read, room, *owner)?;
                let is_joined = member.is_some_and(|row| row.membership == Membership::Join);
                joined.extend(is_joined.then_some(*owner));
            }
        } else {
            for row in graph.members(&span.read, room, Membership::Join) {
                let (user, _) = row?;
                joined.extend(pushers.may_have(user).then_some(user));
            }
        }
        Ok(joined)
    }

    /// The user whose membership an event changes.
    fn target(&self, span: &Span, pdu: &Pdu) -> Result<Option<ShortUserId>> {
        let key =
            pdu.state_key.as_deref().filter(|_| pdu.event_type == TimelineEventType::RoomMember);
        let user_id = key.and_then(|key| <&UserId>::try_from(key).ok());
        match user_id {
            Some(user_id) => Ok(self.0.graph.intern().lookup_user(&span.read, user_id)?),
            None => Ok(None),
        }
    }

    fn evaluate(
        &self,
        span: &Span,
        (position, user): (Position, ShortUserId),
        (room, event): (ShortRoomId, ShortEventId),
        pdu: &Pdu,
        found: &mut Found,
    ) -> Result<()> {
        let Shared { graph, counts, .. } = &*self.0;
        let user_id = graph.user_id(&span.read, user)?;
        if ignored_users(&span.read, user, &user_id)?.contains(&pdu.sender) {
            return Ok(());
        }
        let item = TimelineItem { place: wick_room::to_place(position), event };
        let recipient = Recipient { user, user_id: &user_id };
        if let Some(actions) = counts.evaluate(&span.read, recipient, (room, item), pdu)? {
            let actions = serde_json::to_string(&actions)
                .map_err(|error| Error::internal("the actions of a push rule", error))?;
            found.insert((user, position), Pushed::Event { room, event, actions });
        }
        Ok(())
    }

    /// An invite to a room that is not here, if it is still the user's membership there.
    fn evaluate_remote_invite(
        &self,
        span: &Span,
        (position, user): (Position, ShortUserId),
        room: ShortRoomId,
        found: &mut Found,
    ) -> Result<()> {
        let Shared { graph, counts, .. } = &*self.0;
        let (read, user_id) = (&span.read, graph.user_id(&span.read, user)?);
        let there = graph.remote_membership(read, room, user)?;
        let Some(there) = there.filter(|there| there.position == position) else { return Ok(()) };
        let invite = StoredInvite::read(&there)?;
        let is_wanted = InviteFilter::of(read, user)?.action(&invite.sender) == InviteAction::Allow
            && !ignored_users(read, user, &user_id)?.contains(&invite.sender);
        let Some(room_id) = graph.intern().room_id(read, room)?.filter(|_| is_wanted) else {
            return Ok(());
        };
        let recipient = Recipient { user, user_id: &user_id };
        let event = (&*room_id, &*invite.json);
        if let Some(actions) = counts.evaluate_remote_invite(read, recipient, event)? {
            let actions = serde_json::to_string(&actions)
                .map_err(|error| Error::internal("the actions of a push rule", error))?;
            found.insert((user, position), Pushed::RemoteInvite { room, actions });
        }
        Ok(())
    }
}
