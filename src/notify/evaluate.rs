//! Whether one event notifies one user.

use std::sync::Arc;

use ruma::{
    UInt,
    events::{StateEventType, TimelineEventType},
    push::{Action, FlattenedJson, PushConditionRoomCtx},
    serde::Raw,
};
use wick_core::{Error, Pdu, Result, ShortEventId, ShortRoomId};
use wick_database::{
    Read, Snapshot,
    schema::room::{Membership, REDACTION_BY_EVENT},
};
use wick_people::receipts::thread_of;
use wick_room::{Graph, RelatesTo, TimelineItem, membership};
use wick_ruma::{EXPIRE_RELATION, ExpireStatus};

use crate::{
    Recipient,
    pattern::Pattern,
    rules::{Candidate, Rules},
};

/// What an event does that notifies a user.
pub(crate) struct Verdict {
    /// The actions of the push rule.
    pub(crate) actions: Vec<Action>,
    /// The root of the thread it is in.
    pub(crate) thread: Option<ShortEventId>,
}

impl Verdict {
    /// Whether it is highlighted.
    pub(crate) fn highlights(&self) -> bool {
        self.actions.iter().any(Action::is_highlight)
    }
}

/// Evaluates events of one room for one user.
pub(crate) struct Evaluator<'a> {
    graph: &'a Graph,
    read: &'a Snapshot,
    rules: Arc<Rules>,
    context: PushConditionRoomCtx,
    name: Pattern,
}

impl<'a> Evaluator<'a> {
    pub(crate) fn new(
        graph: &'a Graph,
        read: &'a Snapshot,
        room: ShortRoomId,
        recipient: Recipient<'_>,
        rules: Arc<Rules>,
    ) -> Result<Self> {
        let head =
            graph.head(read, room)?.ok_or_else(|| Error::corrupt("a joined room has no head"))?;
        let user_id = recipient.user_id.to_owned();
        let member =
            graph.state_event(read, room, &StateEventType::RoomMember, user_id.as_str())?;
        let name = member
            .and_then(|member| membership::content(&member).ok())
            .and_then(|content| content.displayname().map(ToOwned::to_owned))
            .unwrap_or_else(|| user_id.localpart().to_owned());
        let room_id = graph
            .intern()
            .room_id(read, room)?
            .ok_or_else(|| Error::corrupt("a room has no room id"))?;
        let members = UInt::new_saturating(head.counts.joined);
        let pattern = Pattern::words(&name);
        let context = PushConditionRoomCtx::new(room_id, members, user_id, name)
            .with_power_levels(graph.power_levels(read, room)?.into());
        Ok(Self { graph, read, rules, context, name: pattern })
    }

    /// What an event of another user does; `None` if it does not notify. Adds what it took to `cost`, in
    /// bytes of text that patterns were matched against.
    pub(crate) fn evaluate(
        &self,
        item: &TimelineItem,
        pdu: &Pdu,
        cost: &mut usize,
    ) -> Result<Option<Verdict>> {
        if is_end_of_another(pdu) || self.read.contains(&REDACTION_BY_EVENT, &item.event)? {
            return Ok(None);
        }
        let event = FlattenedJson::from_raw(&Raw::<()>::from_json(pdu.json.clone()));
        let candidate = Candidate::new(&event, &self.context, &self.name);
        let actions = self.rules.actions(&candidate, cost);
        if !actions.iter().any(Action::should_notify) {
            return Ok(None);
        }
        let thread = thread_of(self.graph, self.read, pdu)?;
        Ok(Some(Verdict { actions: actions.to_vec(), thread }))
    }
}

/// Whether an event is the terminal copy of one that expired or was ended.
fn is_end_of_another(pdu: &Pdu) -> bool {
    RelatesTo::of(&pdu.content).is_some_and(|relation| relation.rel_type == EXPIRE_RELATION)
        && ExpireStatus::from_content(&pdu.content).is_some_and(|status| status.is_terminal())
}

/// Whether an event of its sender's own shows that they have read what came before: a message does, a
/// change of state (such as their profile's) and a redaction do not.
pub(crate) fn is_own_reading(pdu: &Pdu) -> bool {
    pdu.state_key.is_none()
        && pdu.event_type != TimelineEventType::RoomRedaction
        && !is_end_of_another(pdu)
}

/// Whether an event of its sender's own is their join.
pub(crate) fn is_arrival(
    graph: &Graph,
    read: &Snapshot,
    event: ShortEventId,
    pdu: &Pdu,
) -> Result<bool> {
    if !pdu.is_state(&TimelineEventType::RoomMember, pdu.sender.as_str())
        || membership::of(pdu) != Some(Membership::Join)
    {
        return Ok(false);
    }
    let before = member_before(graph, read, event, pdu.sender.as_str())?;
    let Some(before) = before else { return Ok(true) };
    Ok(membership::of(&*graph.load_event(read, before)?) != Some(Membership::Join))
}

/// The invitation that a user accepted by an event of theirs, if they did.
pub(crate) fn accepted_invite(
    graph: &Graph,
    read: &Snapshot,
    arrival: ShortEventId,
    user_id: &str,
) -> Result<Option<ShortEventId>> {
    let Some(before) = member_before(graph, read, arrival, user_id)? else { return Ok(None) };
    let invite = membership::of(&*graph.load_event(read, before)?) == Some(Membership::Invite);
    Ok(invite.then_some(before))
}

fn member_before(
    graph: &Graph,
    read: &Snapshot,
    event: ShortEventId,
    user_id: &str,
) -> Result<Option<ShortEventId>> {
    let Some(place) = graph.place(read, event)? else { return Ok(None) };
    graph.state_event_at(read, place.before, &StateEventType::RoomMember, user_id)
}
