//! Whether one event notifies one user.

use std::{cell::OnceCell, sync::Arc};

use ruma::{
    RoomId, UInt,
    events::{StateEventType, TimelineEventType},
    push::{Action, PushConditionRoomCtx},
};
use serde_json::value::RawValue;
use wick_core::{Error, Pdu, Result, ShortEventId, ShortRoomId};
use wick_database::{
    Read, Snapshot,
    schema::room::{Membership, REDACTION_BY_EVENT},
};
use wick_people::receipts::thread_of;
use wick_room::{Graph, TimelineItem, membership};

use crate::{
    Recipient,
    flattened::{Flattened, FlattenedEvents, is_end_of_another},
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
    room: ShortRoomId,
    rules: Arc<Rules>,
    events: &'a FlattenedEvents,
    context: PushConditionRoomCtx,
    /// The same with the power levels, which few events need.
    with_power_levels: OnceCell<PushConditionRoomCtx>,
    name: Pattern,
}

impl<'a> Evaluator<'a> {
    pub(crate) fn new(
        graph: &'a Graph,
        read: &'a Snapshot,
        room: ShortRoomId,
        recipient: Recipient<'_>,
        (rules, events): (Arc<Rules>, &'a FlattenedEvents),
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
        let context = PushConditionRoomCtx::new(room_id, members, user_id, name);
        let with_power_levels = OnceCell::new();
        Ok(Self { graph, read, room, rules, events, context, with_power_levels, name: pattern })
    }

    /// What an event of another user does; `None` if it does not notify. Adds what it took to `cost`, in
    /// bytes of text that patterns were matched against.
    pub(crate) fn evaluate(
        &self,
        item: &TimelineItem,
        pdu: &Pdu,
        cost: &mut usize,
    ) -> Result<Option<Verdict>> {
        let event = self.events.get(item.event, pdu);
        if event.ends_another || self.read.contains(&REDACTION_BY_EVENT, &item.event)? {
            return Ok(None);
        }
        let candidate = Candidate {
            event: &event,
            context: &self.context,
            with_power_levels: &|| self.with_power_levels(),
            name: &self.name,
        };
        let actions = self.rules.actions(&candidate, cost)?;
        if !actions.iter().any(Action::should_notify) || self.is_in_gap(item, &event)? {
            return Ok(None);
        }
        let thread = thread_of(self.graph, self.read, pdu)?;
        Ok(Some(Verdict { actions: actions.to_vec(), thread }))
    }

    /// Whether an event came long after it was sent, looked up once for all users.
    fn is_in_gap(&self, item: &TimelineItem, event: &Flattened) -> Result<bool> {
        if let Some(known) = event.is_in_gap.get() {
            return Ok(*known);
        }
        let is_in_gap = self.graph.is_in_gap(self.read, self.room, item.place)?;
        Ok(*event.is_in_gap.get_or_init(|| is_in_gap))
    }

    fn with_power_levels(&self) -> Result<&PushConditionRoomCtx> {
        if let Some(context) = self.with_power_levels.get() {
            return Ok(context);
        }
        let levels = self.graph.power_levels(self.read, self.room)?;
        let context = self.context.clone().with_power_levels(levels.into());
        Ok(self.with_power_levels.get_or_init(|| context))
    }
}

/// What an invite to a room that is not here does, of which nothing but the invite is known; `None` if it does not notify.
///
/// # Errors
/// None that is expected.
pub(crate) fn evaluate_remote_invite(
    rules: &Rules,
    recipient: Recipient<'_>,
    room_id: &RoomId,
    invite: &RawValue,
) -> Result<Option<Vec<Action>>> {
    let name = recipient.user_id.localpart();
    let pattern = Pattern::words(name);
    let user_id = recipient.user_id.to_owned();
    let context =
        PushConditionRoomCtx::new(room_id.to_owned(), UInt::MIN, user_id, name.to_owned());
    let candidate = Candidate {
        event: &Flattened::of_invite(invite),
        context: &context,
        with_power_levels: &|| Ok(&context),
        name: &pattern,
    };
    let actions = rules.actions(&candidate, &mut 0)?;
    Ok(actions.iter().any(Action::should_notify).then(|| actions.to_vec()))
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
