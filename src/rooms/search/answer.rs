//! What was found, as clients get it.

use std::collections::BTreeMap;

use ruma::{
    OwnedEventId, OwnedRoomId, OwnedUserId,
    api::client::search::search_events::v3::{EventContext, GroupingKey},
    events::StateEventType,
};
use serde::Serialize;
use serde_json::value::RawValue;
use wick_core::{Result, ShortRoomId};
use wick_database::{Read, schema::room::REDACTION_BY_EVENT};
use wick_room::{membership, render::Show};

use super::{AskSearch, Match, Searching};
use crate::history::{EventFilter, context::Around, token::to_token};

/// The results of a search.
#[derive(Serialize)]
pub struct Found {
    search_categories: Categories,
}

#[derive(Serialize)]
struct Categories {
    room_events: RoomEvents,
}

#[derive(Serialize)]
struct RoomEvents {
    count: usize,
    highlights: Vec<String>,
    results: Vec<ResultRow>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_batch: Option<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    groups: BTreeMap<&'static str, BTreeMap<String, Group>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<BTreeMap<OwnedRoomId, Vec<Box<RawValue>>>>,
}

#[derive(Serialize)]
struct ResultRow {
    rank: f64,
    result: Box<RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    context: Option<Context>,
}

#[derive(Serialize)]
struct Context {
    start: String,
    end: String,
    events_before: Vec<Box<RawValue>>,
    events_after: Vec<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    profile_info: Option<BTreeMap<OwnedUserId, Profile>>,
}

#[derive(Serialize)]
struct Profile {
    #[serde(skip_serializing_if = "Option::is_none")]
    displayname: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    avatar_url: Option<String>,
}

#[derive(Default, Serialize)]
struct Group {
    results: Vec<OwnedEventId>,
    order: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_batch: Option<String>,
}

impl Found {
    /// The answer to a request that looks for nothing.
    #[must_use]
    pub fn nothing() -> Self {
        let room_events = RoomEvents {
            count: 0,
            highlights: Vec::new(),
            results: Vec::new(),
            next_batch: None,
            groups: BTreeMap::new(),
            state: None,
        };
        Self { search_categories: Categories { room_events } }
    }
}

impl Searching<'_> {
    pub(super) fn answer(
        mut self,
        ask: &AskSearch,
        page: Vec<Match>,
        count: usize,
        next_batch: Option<String>,
    ) -> Result<Found> {
        let groups = self.groups(ask, &page, next_batch.as_ref())?;
        let state = match ask.criteria.include_state {
            Some(true) => Some(self.states(&page)?),
            _ => None,
        };
        let mut results = Vec::with_capacity(page.len());
        for found in page {
            results.extend(self.result(&found, ask.context.as_ref())?);
        }
        let highlights = self.words.into_iter().collect();
        let room_events = RoomEvents { count, highlights, results, next_batch, groups, state };
        Ok(Found { search_categories: Categories { room_events } })
    }

    fn result(
        &mut self,
        found: &Match,
        context: Option<&EventContext>,
    ) -> Result<Option<ResultRow>> {
        let Some(reader) = self.readers.get_mut(&found.room) else { return Ok(None) };
        let Some(asked) = context else {
            let result = reader.viewer.show(found.event, Show::CLIENT)?;
            return Ok(Some(ResultRow { rank: found.rank, result, context: None }));
        };
        let limit = |limit| usize::try_from(limit).unwrap_or(usize::MAX).min(super::MAX_RESULTS);
        let limits = (limit(asked.before_limit), limit(asked.after_limit));
        let filter = EventFilter::default();
        let Some(around) = reader.around(found.event, limits, &filter)? else {
            return Ok(None);
        };
        let profile_info =
            if asked.include_profile { Some(self.profiles(found.room, &around)?) } else { None };
        let context = Context {
            start: to_token(around.start()),
            end: to_token(around.end()),
            events_before: around.before.events.into_iter().map(|event| event.json).collect(),
            events_after: around.after.events.into_iter().map(|event| event.json).collect(),
            profile_info,
        };
        let result = around.middle.json;
        Ok(Some(ResultRow { rank: found.rank, result, context: Some(context) }))
    }

    /// The profiles of the senders, from the state at the newest of the events.
    fn profiles(
        &mut self,
        room: ShortRoomId,
        around: &Around,
    ) -> Result<BTreeMap<OwnedUserId, Profile>> {
        let graph = &self.history.graph;
        let mut profiles = BTreeMap::new();
        let Some(reader) = self.readers.get_mut(&room) else { return Ok(profiles) };
        let Some(root) = reader.viewer.state_at(around.newest().place)? else {
            return Ok(profiles);
        };
        for event in around.events() {
            if profiles.contains_key(&event.sender) {
                continue;
            }
            let (member, sender) = (StateEventType::RoomMember, event.sender.as_str());
            let Some(member) = graph.state_event_at(self.read, root, &member, sender)? else {
                continue;
            };
            if self.read.contains(&REDACTION_BY_EVENT, &member)? {
                continue;
            }
            let content = membership::content(&*graph.load_event(self.read, member)?)?;
            let profile = Profile {
                displayname: content.displayname().map(str::to_owned),
                avatar_url: content.avatar_url().map(str::to_owned),
            };
            profiles.insert(event.sender.clone(), profile);
        }
        Ok(profiles)
    }

    fn groups(
        &self,
        ask: &AskSearch,
        page: &[Match],
        next_batch: Option<&String>,
    ) -> Result<BTreeMap<&'static str, BTreeMap<String, Group>>> {
        let mut groups: BTreeMap<_, BTreeMap<String, Group>> = BTreeMap::new();
        for grouping in &ask.criteria.groupings.group_by {
            let by_room = match grouping.key {
                Some(GroupingKey::RoomId) => true,
                Some(GroupingKey::Sender) => false,
                _ => continue,
            };
            let of_key = groups.entry(if by_room { "room_id" } else { "sender" }).or_default();
            for (order, found) in page.iter().enumerate() {
                let pdu = self.history.graph.load_event(self.read, found.event)?;
                let name = if by_room {
                    self.room_id(found.room)?.to_string()
                } else {
                    pdu.sender.to_string()
                };
                let group = of_key.entry(name).or_insert_with(|| Group {
                    order,
                    next_batch: next_batch.cloned(),
                    ..Group::default()
                });
                group.results.push(pdu.event_id.clone());
            }
        }
        Ok(groups)
    }

    /// The states of the rooms in which something was found, as late as the user may know them.
    fn states(&mut self, page: &[Match]) -> Result<BTreeMap<OwnedRoomId, Vec<Box<RawValue>>>> {
        let mut states = BTreeMap::new();
        for found in page {
            let room_id = self.room_id(found.room)?;
            if states.contains_key(&room_id) {
                continue;
            }
            let Some(reader) = self.readers.get_mut(&found.room) else { continue };
            let Some(root) = reader.viewer.latest_state()? else { continue };
            let mut state = Vec::new();
            for (_, event) in reader.graph.states().collect(self.read, root)? {
                state.push(reader.viewer.show(event, Show::CLIENT)?);
            }
            states.insert(room_id, state);
        }
        Ok(states)
    }
}
