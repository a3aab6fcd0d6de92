//! A transaction as it arrives: each event is put into the queue of its room or refused.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, hash_map::Entry},
    sync::Arc,
};

use ruma::{
    OwnedEventId, OwnedRoomId, OwnedServerName, RoomVersionId, ServerName,
    room_version_rules::RoomVersionRules,
};
use serde::Deserialize;
use serde_json::value::RawValue;
use wick_core::{Error, Result, rules};
use wick_database::{
    Latest, Read, first_portion,
    schema::inbound::{ANSWER_BY_ORIGIN, AnsweredInbound},
};
use wick_room::Formatted;

use super::Inbound;
use crate::{Peer, queue};

/// How many events a transaction has at most.
///
/// <https://spec.matrix.org/v1.19/server-server-api/#transactions>
const MAX_EVENTS: usize = 50;

/// How many events of one room wait at most that one server sent.
const MAX_QUEUED: usize = 5_000;

/// When a server that has too many events waiting in a room may come again.
const RETRY_AFTER: std::time::Duration = std::time::Duration::from_secs(5);

/// For each event of a transaction why it was refused, if it was. Events that have no event id, because they are
/// malformed or of an unknown room version, are in it not at all.
pub type EventResults = BTreeMap<OwnedEventId, Result<(), String>>;

/// An event of a transaction.
struct Arrived {
    room_id: OwnedRoomId,
    event_id: OwnedEventId,
    json: String,
    verdict: Result<(), String>,
}

impl<P: Peer> Inbound<P> {
    /// Takes in the events of a transaction of `origin`, whose signature was checked. Returns when they are durable;
    /// they are received after that. A repeated transaction gets the same answer.
    ///
    /// # Errors
    /// `M_INVALID_PARAM` if it has too many events, `M_LIMIT_EXCEEDED` if too many of it wait in a room; a database error.
    pub async fn take_in(
        self: &Arc<Self>,
        origin: &ServerName,
        id: &str,
        events: Vec<Box<RawValue>>,
    ) -> Result<EventResults> {
        if events.len() > MAX_EVENTS {
            return Err(Error::invalid_param("a transaction has at most 50 events"));
        }
        let answered = self.resources.database.latest().get(&ANSWER_BY_ORIGIN, origin)?;
        if let Some(answered) = answered.filter(|answered| answered.id == id) {
            self.resources.settle().await?;
            let results = answered.results.into_iter();
            return Ok(results.map(|(id, error)| (id, error.map_or(Ok(()), Err))).collect());
        }
        let (inbound, server) = (Arc::clone(self), origin.to_owned());
        let arrive = move || inbound.arrive(&server, events);
        let arrived = self.resources.workers.run(&origin, arrive).await?;
        let results: EventResults =
            arrived.iter().map(|event| (event.event_id.clone(), event.verdict.clone())).collect();
        let mut seen = BTreeSet::new();
        let is_new = |event: &Arrived| event.verdict.is_ok() && seen.insert(event.event_id.clone());
        let queued: Vec<_> = arrived.into_iter().filter(is_new).collect();
        self.write(origin, id, &queued, &results).await?;
        for room in queued.into_iter().map(|event| event.room_id).collect::<BTreeSet<_>>() {
            self.schedule(&room);
        }
        Ok(results)
    }

    fn arrive(&self, origin: &ServerName, events: Vec<Box<RawValue>>) -> Result<Vec<Arrived>> {
        let read = self.resources.database.latest();
        let mut rooms = HashMap::new();
        let mut arrived = Vec::with_capacity(events.len());
        for event in events {
            let Some(room_id) = room_of(&event) else { continue };
            let (rules, verdict) = match rooms.entry(room_id.clone()) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(place) => match self.admit(&read, &room_id, origin)? {
                    Some(admitted) => place.insert(admitted),
                    // Without its version the event has no id that could be answered.
                    None => continue,
                },
            };
            let Ok(formatted) = Formatted::check(&event, Some(&room_id), rules) else { continue };
            arrived.push(Arrived {
                event_id: formatted.event_id().to_owned(),
                json: event.get().to_owned(),
                verdict: verdict.clone(),
                room_id,
            });
        }
        Ok(arrived)
    }

    /// Whether events of a room are taken from a server; `None` if the room is not known.
    fn admit(
        &self,
        read: &Latest,
        room_id: &OwnedRoomId,
        origin: &ServerName,
    ) -> Result<Option<(RoomVersionRules, Result<(), String>)>> {
        if self.counts.of_server(room_id, origin) >= MAX_QUEUED {
            return Err(Error::limit_exceeded(RETRY_AFTER));
        }
        let here = match self.graph.short(read, room_id)? {
            Some(room) => self.graph.head(read, room)?.map(|head| (room, head)),
            None => None,
        };
        let Some((room, head)) = here else {
            let version = self.joining_version(room_id);
            let rules = version.map(|version| rules::version_rules(&version)).transpose()?;
            return Ok(rules.map(|rules| (rules, Ok(()))));
        };
        let is_in_room = |server: &ServerName| self.graph.has_member_of(read, room, server);
        let verdict = if !self.graph.acl(read, room)?.allows(origin) {
            Err("the room's server ACL denies this server".to_owned())
        // Who is in a room that is being joined is not known.
        } else if self.joining_version(room_id).is_none()
            && !is_in_room(origin)?
            && self.counts.of_outsiders(room_id, is_in_room)? >= queue::MAX_OF_OUTSIDERS
        {
            Err("too many events of servers that are not in the room wait".to_owned())
        } else {
            Ok(())
        };
        Ok(Some((self.graph.rules_of(&head)?, verdict)))
    }

    /// Writes the events down, in batches; the last one has the answer.
    async fn write(
        &self,
        origin: &ServerName,
        id: &str,
        queued: &[Arrived],
        results: &EventResults,
    ) -> Result<()> {
        let origin = OwnedServerName::from(origin);
        let mut rest = queued;
        loop {
            let (portion, others) = first_portion(rest, |event| event.json.len());
            self.resources
                .change(|batch| {
                    for event in portion {
                        let who = (origin.clone(), event.event_id.clone());
                        let batch = (&mut *batch, &self.counts);
                        queue::push(batch, &event.room_id, who, event.json.clone())?;
                    }
                    if others.is_empty() {
                        let results =
                            results.iter().map(|(id, result)| (id.clone(), result.clone().err()));
                        let results = results.collect();
                        let answered = AnsweredInbound { id: id.to_owned(), results };
                        batch.put(&ANSWER_BY_ORIGIN, &origin, &answered);
                    }
                    Ok(())
                })
                .await?;
            rest = others;
            if rest.is_empty() {
                return Ok(());
            }
        }
    }

    /// The version of a room that is here, with its rules.
    pub(crate) fn version_of(
        &self,
        room_id: &OwnedRoomId,
    ) -> Result<Option<(RoomVersionId, RoomVersionRules)>> {
        let read = self.resources.database.latest();
        let Some(room) = self.graph.short(&read, room_id)? else { return Ok(None) };
        let Some(head) = self.graph.head(&read, room)? else { return Ok(None) };
        let version = RoomVersionId::try_from(head.version.as_str())
            .map_err(|error| Error::internal("a room's version cannot be read", error))?;
        Ok(Some((version, self.graph.rules_of(&head)?)))
    }
}

fn room_of(event: &RawValue) -> Option<OwnedRoomId> {
    #[derive(Deserialize)]
    struct OfRoom {
        room_id: OwnedRoomId,
    }
    serde_json::from_str::<OfRoom>(event.get()).ok().map(|event| event.room_id)
}
