//! Delayed events of a user: scheduled in every form, restarted, sent, cancelled, seen to their end.

use std::time::Duration;

use serde_json::{Value, json};

use super::{Actor, Claim, Doing, doing::message};
use crate::{
    client::{Answer, Client},
    delayed::{Action, Delayed, LATER_STATE},
    outcome::{Result, broken, text},
};

/// Among how many of the newest delayed events one is chosen.
const RECENT: usize = 12;

/// The longest delay in milliseconds.
const LATEST: usize = 3_000;

const PAUSE: Duration = Duration::from_millis(20);

const ALL: &str = "/_matrix/client/v1/delayed_events";

const UNSTABLE: &str = "/_matrix/client/unstable/org.matrix.msc4140/delayed_events";

/// How an event is scheduled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// A message with the delay in the query.
    Message,
    /// A message by the path for both.
    MessageByPath,
    /// State with the delay in the query: without a transaction each request counts.
    State,
    /// State by the path for both.
    StateByPath,
}

impl Actor {
    /// Schedules something or does something with what is scheduled.
    pub(super) fn sooner_or_later(&mut self, room: String) -> Doing {
        let recent = self.delayed.len().checked_sub(self.below(RECENT) + 1);
        let action = match self.below(15) {
            0..3 => Action::Restart,
            3..5 => Action::Send,
            5..7 => Action::Cancel,
            _ => return self.anything_later(room),
        };
        match recent {
            // The fate of what is long over is asked for as well: it must stay the same.
            Some(number) => Doing::Manage(action, number),
            None => self.anything_later(room),
        }
    }

    fn anything_later(&mut self, room: String) -> Doing {
        let form = match self.below(4) {
            0 => Form::Message,
            1 => Form::MessageByPath,
            2 => Form::State,
            _ => Form::StateByPath,
        };
        let milliseconds = 1 + u64::try_from(self.below(LATEST)).unwrap_or_default();
        Doing::Schedule { room, label: self.label(), milliseconds, form }
    }

    pub(super) async fn schedule(
        &self,
        client: &Client,
        (room, label): (&str, &str),
        milliseconds: u64,
        form: Form,
    ) -> Result<Answer> {
        let content = message(label, None);
        let query = format!("org.matrix.msc4140.delay={milliseconds}");
        let mut body = json!({ "delay_ms": milliseconds, "content": content });
        let (path, body) = match form {
            Form::Message => (format!("send/m.room.message/{label}?{query}"), content),
            Form::State => (format!("state/{LATER_STATE}/{label}?{query}"), content),
            Form::MessageByPath => (format!("delayed_event/m.room.message/{label}"), body),
            Form::StateByPath => {
                if let Some(fields) = body.as_object_mut() {
                    fields.insert("state_key".to_owned(), json!(label));
                }
                (format!("delayed_event/{LATER_STATE}/{label}"), body)
            }
        };
        client.put(&format!("rooms/{room}/{path}"), &self.token, &body).await
    }

    /// Remembers what was scheduled by a request that was first made at some time.
    pub(super) fn scheduled(
        &mut self,
        (room, label, milliseconds, form): (&str, &str, u64, Form),
        answer: &Answer,
        (since, doubts): (u64, u64),
    ) -> Result<()> {
        let delay_id = text("a delayed event", answer, "delay_id")?;
        let (since, others) = match form {
            // Each request that was not answered may have scheduled one of its own.
            Form::State => (answer.asked, doubts),
            // The first request may have been the one that scheduled it.
            _ => (since, 0),
        };
        let delayed = Delayed::new((room, label), delay_id, milliseconds, since, others);
        self.claims.push_back(Claim::Later(self.delayed.len()));
        self.delayed.push(delayed);
        if form != Form::State && self.once_in(4) {
            let (room, label) = (room.to_owned(), label.to_owned());
            let number = self.delayed.len() - 1;
            self.claims.push_back(Claim::LaterAgain { room, label, milliseconds, form, number });
        }
        Ok(())
    }

    /// By any of the ways, without an access token: the delay id is the right.
    pub(super) async fn manage(
        &self,
        client: &Client,
        action: Action,
        number: usize,
    ) -> Result<Answer> {
        let delay_id = self.delayed.get(number).map_or("", |delayed| &delayed.delay_id);
        let verb = action.verb();
        match number % 3 {
            0 => client.post(&format!("{ALL}/{delay_id}/{verb}"), "", &Value::Null).await,
            1 => client.post(&format!("{UNSTABLE}/{delay_id}/{verb}"), "", &json!({})).await,
            _ => {
                let body = json!({ "action": verb });
                client.post(&format!("{UNSTABLE}/{delay_id}"), "", &body).await
            }
        }
    }

    /// Looks at a delayed event; whether it is over.
    pub(super) async fn look_at_later(&mut self, client: &Client, number: usize) -> Result<bool> {
        let Some(delayed) = self.delayed.get(number) else { return Ok(true) };
        let answer = self.get(client, &format!("{ALL}/{}", delayed.delay_id)).await?;
        let Some(delayed) = self.delayed.get_mut(number) else { return Ok(true) };
        let over = delayed.seen(&answer)?;
        let Some(event) = answer.body.get("event_id").and_then(Value::as_str) else {
            return Ok(over);
        };
        let path = format!("rooms/{}/event/{event}", delayed.room);
        let delayed = delayed.clone();
        let event = self.get(client, &path).await?;
        match delayed.fault_of_event(&event.body) {
            Some(fault) => broken(format!("{fault}: {delayed:?}"), &event),
            None => Ok(over),
        }
    }

    /// Waits until all are sent or cancelled, those too that were scheduled without an answer.
    pub(crate) async fn see_delayed_to_their_end(&mut self, client: &Client) -> Result<()> {
        for number in 0..self.delayed.len() {
            while !self.look_at_later(client, number).await? {
                tokio::time::sleep(PAUSE).await;
            }
        }
        loop {
            let answer = self.get(client, ALL).await?;
            match answer.body.get("delayed_events").and_then(Value::as_array) {
                Some(scheduled) if scheduled.is_empty() => return Ok(()),
                Some(_) => tokio::time::sleep(PAUSE).await,
                None => return broken("the list of what is scheduled", &answer),
            }
        }
    }
}
