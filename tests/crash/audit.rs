//! The account at the end: every room read from its first event to its last, every timer and every delayed
//! event seen to its end.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use serde_json::Value;

use crate::{
    actor::{Actor, SentMessage},
    client::Client,
    delayed::LATER_STATE,
    outcome::{Result, Stop, broken},
    timer::Timer,
};

/// How long to wait for the last timer, on however busy a machine.
const PATIENCE: Duration = Duration::from_secs(120);
const PAUSE: Duration = Duration::from_millis(20);

/// The timelines of the rooms.
#[derive(Default)]
struct Timelines {
    /// Every event by its id.
    events: BTreeMap<String, Value>,
    /// Terminal events by what they end.
    terminals: BTreeMap<String, Vec<Value>>,
    /// How often a message was found.
    labels: BTreeMap<String, u64>,
}

/// Waits until all timers are over and compares all rooms with what the users know.
pub(crate) async fn audit(client: &Client, actors: &mut [Actor]) -> Result<()> {
    for actor in &mut *actors {
        let all_over = async {
            for timer in &actor.timers {
                over(client, actor, timer).await?;
            }
            actor.see_delayed_to_their_end(client).await
        };
        match tokio::time::timeout(PATIENCE, all_over).await {
            Ok(result) => result?,
            Err(_) => return Err(Stop::Broken("a timer does not fire".to_owned())),
        }
    }
    let mut timelines = Timelines::default();
    let mut read = BTreeSet::new();
    for actor in &*actors {
        for room in &actor.rooms {
            if read.insert(room) {
                timelines.read(client, actor, room).await?;
            }
        }
    }
    actors.iter().try_for_each(|actor| timelines.compare(actor))
}

/// Waits until an event's status is final.
async fn over(client: &Client, actor: &Actor, timer: &Timer) -> Result<()> {
    let path = format!("rooms/{}/event/{}", timer.room, timer.event_id);
    loop {
        let answer = actor.get(client, &path).await?;
        let status = answer.body.pointer("/unsigned/m.will_expire/status").and_then(Value::as_str);
        match status {
            Some("running") => tokio::time::sleep(PAUSE).await,
            Some("expired" | "ended") => return Ok(()),
            _ => return broken(format!("no status: {timer:?}"), &answer),
        }
    }
}

impl Timelines {
    async fn read(&mut self, client: &Client, actor: &Actor, room: &str) -> Result<()> {
        let mut from = String::new();
        loop {
            let path = format!("rooms/{room}/messages?dir=f&limit=100{from}");
            let answer = actor.get(client, &path).await?;
            let Some(chunk) = answer.body.get("chunk").and_then(Value::as_array) else {
                return broken("a page of a room", &answer);
            };
            chunk.iter().try_for_each(|event| self.note(event))?;
            let Some(end) = answer.body.get("end").and_then(Value::as_str) else { return Ok(()) };
            from = format!("&from={end}");
        }
    }

    fn note(&mut self, event: &Value) -> Result<()> {
        let at = |pointer| event.pointer(pointer).and_then(Value::as_str);
        let id = at("/event_id").unwrap_or_default().to_owned();
        let relation = at("/content/m.relates_to/rel_type");
        if relation == Some("m.expire.relationship") {
            let original = at("/content/m.relates_to/event_id").unwrap_or_default();
            self.terminals.entry(original.to_owned()).or_default().push(event.clone());
        } else if let (Some("m.room.message" | LATER_STATE), Some(label)) =
            (at("/type"), at("/content/body"))
        {
            *self.labels.entry(label.to_owned()).or_default() += 1;
        }
        match self.events.insert(id, event.clone()) {
            None => Ok(()),
            Some(twice) => Err(Stop::Broken(format!("an event is found twice: {twice}"))),
        }
    }

    fn compare(&self, actor: &Actor) -> Result<()> {
        for SentMessage { event_id, label, .. } in &actor.messages {
            let times = self.labels.get(label).copied().unwrap_or_default();
            let expected = u64::from(!actor.redacted.contains(event_id));
            if !self.events.contains_key(event_id) || times != expected {
                let what = format!("{event_id} ({label}) was answered and is found {times} times");
                return Err(Stop::Broken(what));
            }
        }
        for delayed in &actor.delayed {
            let times = self.labels.get(&delayed.label).copied().unwrap_or_default();
            if let Some(fault) = delayed.fault(times) {
                return Err(Stop::Broken(format!("{fault}: {delayed:?}")));
            }
        }
        for timer in &actor.timers {
            let terminals = self.terminals.get(&timer.event_id).map_or(&[][..], Vec::as_slice);
            if let Some(fault) = timer.fault(terminals) {
                return Err(Stop::Broken(format!("{fault}: {timer:?} {terminals:?}")));
            }
        }
        Ok(())
    }
}
