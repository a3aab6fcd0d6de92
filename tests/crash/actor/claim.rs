//! Claims: what must hold because the server has answered it.

use serde_json::{Value, json};

use super::{Actor, SentMessage, doing::message, later::Form};
use crate::{
    client::Client,
    outcome::{Result, broken, ok},
};

/// Something that was answered and not looked at since.
#[derive(Clone, Debug)]
pub(super) enum Claim {
    /// A message is there.
    Sent(SentMessage),
    /// The same request again gives the same event.
    Again { room: String, label: String, seconds: Option<u64>, event_id: String },
    /// A delayed event is known, and became what it was to become if it is over.
    Later(usize),
    /// The same request again gives the same delayed event.
    LaterAgain { room: String, label: String, milliseconds: u64, form: Form, number: usize },
    /// The user's piece of state has the last value.
    State,
    /// A message is there without its content.
    Redacted { room: String, event_id: String },
    /// The user is in the lobby or is not.
    Membership,
    /// A room is there.
    Room { room: String },
    /// An access token is good.
    Account { user_id: String, token: String },
    /// The backup has what was put there.
    Backup,
}

impl Actor {
    pub(super) async fn verify(&mut self, client: &Client, claim: Claim) -> Result<()> {
        match claim {
            Claim::Sent(SentMessage { room, event_id, label }) => {
                if self.redacted.contains(&event_id) {
                    return self.body_is(client, (&room, &event_id), None).await;
                }
                self.body_is(client, (&room, &event_id), Some(&label)).await
            }
            Claim::Redacted { room, event_id } => {
                self.body_is(client, (&room, &event_id), None).await
            }
            Claim::Again { room, label, seconds, event_id } => {
                let path = format!("rooms/{room}/send/m.room.message/{label}");
                let answer = client.put(&path, &self.token, &message(&label, seconds)).await?;
                if answer.body.get("event_id") != Some(&json!(event_id)) {
                    return broken(format!("{label} again is not {event_id}"), &answer);
                }
                ok("a message again", &answer)
            }
            Claim::Later(number) => self.look_at_later(client, number).await.map(drop),
            Claim::LaterAgain { room, label, milliseconds, form, number } => {
                let answer = self.schedule(client, (&room, &label), milliseconds, form).await?;
                let delay_id = self.delayed.get(number).map(|delayed| &delayed.delay_id);
                if answer.status != 200 || answer.body.get("delay_id") != Some(&json!(delay_id)) {
                    return broken(format!("{label} again is not {delay_id:?}"), &answer);
                }
                Ok(())
            }
            Claim::State => {
                let answer = self.get(client, &self.state_path()).await?;
                if answer.body.get("value") != Some(&json!(self.value)) {
                    return broken(
                        format!("{}'s value is not {:?}", self.name, self.value),
                        &answer,
                    );
                }
                Ok(())
            }
            Claim::Membership => {
                let path = format!("rooms/{}/state/m.room.member/{}", self.lobby, self.user_id);
                let answer = self.get(client, &path).await?;
                let expected = if self.in_lobby { "join" } else { "leave" };
                if answer.body.get("membership") != Some(&json!(expected)) {
                    return broken(format!("{} is not in {expected}", self.name), &answer);
                }
                Ok(())
            }
            Claim::Room { room } => {
                let path = format!("rooms/{room}/state/m.room.create");
                ok("a room that was made", &self.get(client, &path).await?)
            }
            Claim::Account { user_id, token } => {
                let answer = client.get("account/whoami", &token).await?;
                if answer.body.get("user_id") != Some(&json!(user_id)) {
                    return broken(format!("{user_id}'s token is lost"), &answer);
                }
                Ok(())
            }
            Claim::Backup => self.look_at_backup(client).await,
        }
    }

    async fn body_is(
        &self,
        client: &Client,
        (room, event_id): (&str, &str),
        expected: Option<&str>,
    ) -> Result<()> {
        let answer = self.get(client, &format!("rooms/{room}/event/{event_id}")).await?;
        let body = answer.body.pointer("/content/body").and_then(Value::as_str);
        if answer.status != 200 || body != expected {
            return broken(format!("{event_id} should have {expected:?}"), &answer);
        }
        Ok(())
    }
}
