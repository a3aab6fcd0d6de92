//! Whether one event notifies one user.

use std::sync::Arc;

use futures_util::FutureExt;
use ruma::{
    OwnedEventId, UInt,
    events::{StateEventType, TimelineEventType},
    push::{Action, PushConditionRoomCtx, Ruleset},
    serde::Raw,
};
use serde::Deserialize;
use serde_json::value::RawValue;
use wick_account::Session;
use wick_core::{Error, Pdu, Result, ShortEventId, ShortRoomId};
use wick_database::{Read, Snapshot, schema::room::REDACTION_BY_EVENT};
use wick_room::{Graph, TimelineItem, membership};
use wick_ruma::{EXPIRE_RELATION, ExpireStatus};

/// How many relations are followed from an event to the thread it is in.
///
/// <https://spec.matrix.org/v1.18/client-server-api/#threading>
const MAX_HOPS: usize = 3;

/// What an event does that notifies a user.
pub(crate) struct Verdict {
    /// What their push rules want done.
    pub(crate) actions: Vec<Action>,
    /// The root of the thread it is in.
    pub(crate) thread: Option<ShortEventId>,
}

impl Verdict {
    /// Whether it is to stand out.
    pub(crate) fn highlights(&self) -> bool {
        self.actions.iter().any(Action::is_highlight)
    }
}

/// Judges events of one room for one user.
pub(crate) struct Evaluator<'a> {
    graph: &'a Graph,
    read: &'a Snapshot,
    rules: Arc<Ruleset>,
    context: PushConditionRoomCtx,
}

#[derive(Deserialize)]
struct Content {
    #[serde(rename = "m.relates_to")]
    relates_to: Option<RelatesTo>,
}

#[derive(Deserialize)]
struct RelatesTo {
    rel_type: String,
    event_id: OwnedEventId,
}

impl<'a> Evaluator<'a> {
    pub(crate) fn new(
        graph: &'a Graph,
        read: &'a Snapshot,
        room: ShortRoomId,
        session: &Session,
        rules: Arc<Ruleset>,
    ) -> Result<Self> {
        let head =
            graph.head(read, room)?.ok_or_else(|| Error::corrupt("a joined room has no head"))?;
        let user_id = session.user_id.clone();
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
        let context = PushConditionRoomCtx::new(room_id, members, user_id, name)
            .with_power_levels(graph.power_levels(read, room)?.into());
        Ok(Self { graph, read, rules, context })
    }

    /// What the event does; `None` if it does not notify.
    pub(crate) fn judge(&self, item: &TimelineItem, pdu: &Pdu) -> Result<Option<Verdict>> {
        let relation = relation(&pdu.content);
        let ends_another = relation.as_ref().is_some_and(|to| to.rel_type == EXPIRE_RELATION)
            && ExpireStatus::from_content(&pdu.content).is_some_and(|status| status.is_terminal());
        if ends_another || self.read.contains(&REDACTION_BY_EVENT, &item.event)? {
            return Ok(None);
        }
        let event: Raw<()> = Raw::from_json(pdu.json.clone());
        // Nothing in these rules waits for anything.
        let actions = self.rules.get_actions(&event, &self.context).now_or_never();
        let actions = actions.unwrap_or_default();
        if !actions.iter().any(Action::should_notify) {
            return Ok(None);
        }
        let thread = self.thread_of(relation)?;
        Ok(Some(Verdict { actions: actions.to_vec(), thread }))
    }

    /// The root of the thread that an event with this relation is in.
    fn thread_of(&self, mut relation: Option<RelatesTo>) -> Result<Option<ShortEventId>> {
        for _ in 0..MAX_HOPS {
            let Some(RelatesTo { rel_type, event_id }) = relation else { return Ok(None) };
            let parent = self.graph.intern().lookup_event(self.read, &event_id)?;
            let Some(parent) = parent else { return Ok(None) };
            if rel_type == "m.thread" {
                return Ok(Some(parent));
            }
            let Some(pdu) = self.graph.event(self.read, parent)? else { return Ok(None) };
            relation = self::relation(&pdu.content);
        }
        Ok(None)
    }
}

fn relation(content: &RawValue) -> Option<RelatesTo> {
    if !content.get().contains("m.relates_to") {
        return None;
    }
    serde_json::from_str::<Content>(content.get()).ok()?.relates_to
}

/// Whether an event of its sender's own is their coming into the room.
pub(crate) fn is_arrival(
    graph: &Graph,
    read: &Snapshot,
    event: ShortEventId,
    pdu: &Pdu,
) -> Result<bool> {
    use wick_database::schema::room::Membership;
    if !pdu.is_state(&TimelineEventType::RoomMember, pdu.sender.as_str())
        || membership::of(pdu) != Some(Membership::Join)
    {
        return Ok(false);
    }
    let Some(place) = graph.place(read, event)? else { return Ok(false) };
    let sender = pdu.sender.as_str();
    let before = graph.state_event_at(read, place.before, &StateEventType::RoomMember, sender)?;
    let Some(before) = before else { return Ok(true) };
    Ok(membership::of(&*graph.load_event(read, before)?) != Some(Membership::Join))
}
