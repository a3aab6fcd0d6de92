//! The rooms that a space holds, in their order.
//!
//! <https://spec.matrix.org/v1.18/client-server-api/#ordering-of-children-within-a-space>

use std::borrow::Cow;

use ruma::{OwnedRoomId, OwnedServerName, ServerName, events::StateEventType};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use wick_core::{Error, Result, ShortRoomId};
use wick_database::{
    Range, Read, Snapshot,
    schema::{lookup::CHILD_BY_SPACE, room::REDACTION_BY_EVENT},
};
use wick_room::Graph;

/// Children of one space that are looked at.
const MAX_CHILDREN: usize = 2000;

/// Servers of one child that are looked at.
const MAX_VIA: usize = 5;

/// Characters of the longest order that counts.
const MAX_ORDER: usize = 50;

/// A room in a space.
pub(super) struct Child {
    pub(super) room_id: OwnedRoomId,
    /// Servers that may be in it.
    pub(super) via: Vec<OwnedServerName>,
    pub(super) stripped: Box<RawValue>,
    order: Option<String>,
    since: u64,
}

#[derive(Deserialize)]
struct Content {
    via: Vec<serde_json::Value>,
    order: Option<serde_json::Value>,
    suggested: Option<serde_json::Value>,
}

/// The form of `m.space.child` events in a hierarchy.
#[derive(Serialize, Deserialize)]
struct Stripped<'a> {
    #[serde(rename = "type", borrow)]
    event_type: Cow<'a, str>,
    #[serde(borrow)]
    state_key: Cow<'a, str>,
    #[serde(borrow)]
    content: &'a RawValue,
    #[serde(borrow)]
    sender: Cow<'a, str>,
    origin_server_ts: u64,
}

/// The children of a space: those with an order first.
pub(super) fn of(
    graph: &Graph,
    read: &Snapshot,
    room: ShortRoomId,
    suggested_only: bool,
) -> Result<Vec<Child>> {
    let mut children = Vec::new();
    let rows = read.scan(&CHILD_BY_SPACE, Range::prefix((room,))).keys();
    for row in rows.take(MAX_CHILDREN) {
        let (_, state_key) = row?;
        let event = graph.state_event_short(read, room, &StateEventType::SpaceChild, &state_key)?;
        let Some(event) = event else { continue };
        // A redacted link is one without `via`.
        if read.contains(&REDACTION_BY_EVENT, &event)? {
            continue;
        }
        let pdu = graph.load_event(read, event)?;
        let stripped = Stripped {
            event_type: "m.space.child".into(),
            state_key: state_key.into(),
            content: &pdu.content,
            sender: pdu.sender.as_str().into(),
            origin_server_ts: pdu.origin_server_ts.0,
        };
        children.extend(child(&stripped, suggested_only)?);
    }
    sort(&mut children);
    Ok(children)
}

/// The children of a space at another server.
pub(super) fn of_events(events: &[Box<RawValue>], suggested_only: bool) -> Result<Vec<Child>> {
    let mut children = Vec::new();
    for event in events.iter().take(MAX_CHILDREN) {
        let Ok(stripped) = serde_json::from_str::<Stripped<'_>>(event.get()) else { continue };
        if stripped.event_type == "m.space.child" {
            children.extend(child(&stripped, suggested_only)?);
        }
    }
    sort(&mut children);
    Ok(children)
}

fn sort(children: &mut [Child]) {
    children.sort_by(|one, two| {
        let key = |child: &Child| (child.order.is_none(), child.order.clone(), child.since);
        key(one).cmp(&key(two)).then_with(|| one.room_id.cmp(&two.room_id))
    });
}

fn child(stripped: &Stripped<'_>, suggested_only: bool) -> Result<Option<Child>> {
    let Ok(content) = serde_json::from_str::<Content>(stripped.content.get()) else {
        return Ok(None);
    };
    let Ok(room_id) = OwnedRoomId::try_from(&*stripped.state_key) else { return Ok(None) };
    let suggested = content.suggested == Some(serde_json::Value::Bool(true));
    if content.via.is_empty() || (suggested_only && !suggested) {
        return Ok(None);
    }
    let via = content.via.iter().filter_map(|server| ServerName::parse(server.as_str()?).ok());
    let via = via.take(MAX_VIA).collect();
    let since = stripped.origin_server_ts;
    let stripped = serde_json::value::to_raw_value(stripped)
        .map_err(|error| Error::internal("could not serialize an event", error))?;
    let order = content.order.and_then(|order| order.as_str().map(str::to_owned));
    let sensible = |order: &String| {
        order.len() <= MAX_ORDER && order.bytes().all(|byte| (b' '..=b'~').contains(&byte))
    };
    Ok(Some(Child { room_id, via, stripped, order: order.filter(sensible), since }))
}
