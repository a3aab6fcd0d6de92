//! A user who reads `/sync` one long poll after the other.

use std::collections::HashMap;

use serde::Deserialize;

use crate::{
    Result,
    connection::{Call, Connection, encode},
    matrix::Account,
};

/// A reader of `/sync`, at a position.
pub(crate) struct Watcher {
    connection: Connection,
    account: Account,
    since: String,
    /// Rooms of an answer whose timeline began later than the last one ended: events were left out.
    pub(crate) gaps: u64,
}

#[derive(Deserialize)]
struct Answer {
    next_batch: String,
    #[serde(default)]
    rooms: Rooms,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Rooms {
    join: HashMap<String, Joined>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Joined {
    timeline: Timeline,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Timeline {
    limited: bool,
    events: Vec<Event>,
}

/// An event, as far as a benchmark looks at it.
#[derive(Deserialize)]
pub(crate) struct Event {
    pub(crate) origin_server_ts: u64,
    pub(crate) content: Content,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(crate) struct Content {
    pub(crate) body: Option<String>,
    #[serde(rename = "m.will_expire")]
    will_expire: Option<serde_json::Value>,
    #[serde(rename = "m.relates_to")]
    relates_to: Relation,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Relation {
    event_id: Option<String>,
}

impl Event {
    /// The id of the original, if this is its terminal event.
    pub(crate) fn expired(&self) -> Option<&str> {
        let status = self.content.will_expire.as_ref()?.as_str()?;
        if status == "expired" { self.content.relates_to.event_id.as_deref() } else { None }
    }
}

impl Watcher {
    /// A watcher at the present end of the stream.
    pub(crate) async fn start(mut connection: Connection, account: Account) -> Result<Self> {
        let filter = encode(r#"{"room":{"timeline":{"limit":1},"state":{"types":[]}}}"#);
        let path = format!("/_matrix/client/v3/sync?filter={filter}");
        let answer: Answer = connection.call_json(&Call::get(path, &account.access_token)).await?;
        Ok(Self { connection, account, since: answer.next_batch, gaps: 0 })
    }

    /// The next events of all rooms, or none after `timeout_ms`.
    pub(crate) async fn next(&mut self, timeout_ms: u64) -> Result<Vec<Event>> {
        let filter = encode(r#"{"room":{"timeline":{"limit":1000},"state":{"types":[]}}}"#);
        let since = encode(&self.since);
        let path =
            format!("/_matrix/client/v3/sync?since={since}&timeout={timeout_ms}&filter={filter}");
        let answer: Answer =
            self.connection.call_json(&Call::get(path, &self.account.access_token)).await?;
        self.since = answer.next_batch;
        let mut events = Vec::new();
        for room in answer.rooms.join.into_values() {
            self.gaps += u64::from(room.timeline.limited);
            events.extend(room.timeline.events);
        }
        Ok(events)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(content: &str) -> Event {
        serde_json::from_str(&format!(r#"{{"origin_server_ts":1,"content":{content}}}"#)).unwrap()
    }

    #[test]
    fn only_a_terminal_event_names_its_original() {
        let terminal = event(r#"{"m.will_expire":"expired","m.relates_to":{"event_id":"$a"}}"#);
        assert_eq!(terminal.expired(), Some("$a"));
        assert_eq!(event(r#"{"m.will_expire":"running"}"#).expired(), None);
        assert_eq!(event(r#"{"body":"x"}"#).expired(), None);
    }
}
