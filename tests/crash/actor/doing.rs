//! What a user asks the server to do, and what follows from the answer.

use serde_json::{Value, json};

use super::{
    Actor, Claim, PASSWORD, SentMessage, encryption::Encryption, later::Form, registration,
};
use crate::{
    client::{Answer, Client},
    clock,
    delayed::Action,
    outcome::{Result, broken, ok, text},
    timer::{End, Timer},
};

/// Among how many of the newest messages one is chosen to be redacted, and of the newest timers one to be
/// kept alive.
const RECENT: usize = 8;

/// Something that changes what is stored.
#[derive(Clone, Debug)]
pub(super) enum Doing {
    /// A message, with a timer of so many seconds.
    Send {
        room: String,
        label: String,
        seconds: Option<u64>,
    },
    /// A piece of state with a timer of so many seconds.
    ArmState {
        room: String,
        label: String,
        seconds: u64,
    },
    /// The user's own piece of state in the first room.
    SetState {
        value: u64,
    },
    /// A redaction of a message.
    Redact {
        room: String,
        event_id: String,
        label: String,
    },
    /// In or out of the lobby.
    Join,
    Leave,
    /// A timer is refreshed.
    Extend(usize),
    /// A timer is ended.
    End(usize),
    /// An event is to be sent in so many milliseconds.
    Schedule {
        room: String,
        label: String,
        milliseconds: u64,
        form: Form,
    },
    /// A delayed event is restarted, sent or cancelled.
    Manage(Action, usize),
    /// New tokens for old ones.
    Renew,
    /// A room with an alias.
    Create {
        label: String,
    },
    /// Another account.
    Register {
        name: String,
    },
    /// Whether that other account was made.
    LogIn {
        name: String,
    },
    /// Something for encryption.
    Encryption(Encryption),
}

impl Doing {
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Send { seconds: None, .. } => "messages",
            Self::Send { .. } | Self::ArmState { .. } => "timers",
            Self::SetState { .. } => "state events",
            Self::Redact { .. } => "redactions",
            Self::Join => "joins",
            Self::Leave => "leaves",
            Self::Extend(_) => "refreshes",
            Self::End(_) => "ends",
            Self::Schedule { .. } => "delayed events",
            Self::Manage(action, _) => action.name(),
            Self::Renew => "new tokens",
            Self::Create { .. } => "rooms",
            Self::Register { .. } => "accounts",
            Self::LogIn { .. } => "log-ins",
            Self::Encryption(encryption) => encryption.name(),
        }
    }
}

impl Actor {
    /// What to do next.
    pub(super) fn choose(&mut self) -> Doing {
        let room = self.any_room();
        let seconds = 1 + u64::try_from(self.below(3)).unwrap_or_default();
        match self.below(165) {
            0..10 => Doing::Send { room, label: self.label(), seconds: Some(seconds) },
            10..15 => Doing::ArmState { room, label: self.label(), seconds },
            15..35 => self.running().map_or(Doing::Renew, Doing::Extend),
            35..40 => self.running().map_or(Doing::Renew, Doing::End),
            40..50 => Doing::SetState { value: self.value.unwrap_or_default() + 1 },
            50..54 => self.redaction().unwrap_or(Doing::Renew),
            54..60 if self.in_lobby => Doing::Leave,
            54..60 => Doing::Join,
            60..64 => Doing::Renew,
            64..67 => Doing::Create { label: self.label() },
            67..70 => Doing::Register { name: self.label() },
            70..85 => self.sooner_or_later(room),
            85..135 => Doing::Encryption(self.choose_encryption()),
            _ => Doing::Send { room, label: self.label(), seconds: None },
        }
    }

    /// One of the newest timers that may still run.
    fn running(&self) -> Option<usize> {
        let recent = self.timers.len().saturating_sub(self.below(RECENT) + 1);
        let timer = self.timers.get(recent)?;
        (timer.end == End::No && !timer.over).then_some(recent)
    }

    fn redaction(&mut self) -> Option<Doing> {
        let recent = self.messages.len().saturating_sub(self.below(RECENT) + 1);
        let SentMessage { room, event_id, .. } = self.messages.get(recent)?.clone();
        let label = self.label();
        Some(Doing::Redact { room, event_id, label })
    }

    /// Makes the request.
    pub(super) async fn ask(&self, client: &Client, doing: &Doing) -> Result<Answer> {
        let token = &self.token;
        match doing {
            Doing::Send { room, label, seconds } => {
                let path = format!("rooms/{room}/send/m.room.message/{label}");
                client.put(&path, token, &message(label, *seconds)).await
            }
            Doing::ArmState { room, label, seconds } => {
                let path = format!("rooms/{room}/state/org.example.here/{label}");
                client.put(&path, token, &message(label, Some(*seconds))).await
            }
            Doing::SetState { value } => {
                client.put(&self.state_path(), token, &json!({ "value": value })).await
            }
            Doing::Redact { room, event_id, label } => {
                let path = format!("rooms/{room}/redact/{event_id}/{label}");
                client.put(&path, token, &json!({})).await
            }
            Doing::Join => client.post(&format!("join/{}", self.lobby), token, &json!({})).await,
            Doing::Leave => {
                client.post(&format!("rooms/{}/leave", self.lobby), token, &json!({})).await
            }
            Doing::Extend(timer) => self.expiration(client, "refresh", *timer).await,
            Doing::End(timer) => self.expiration(client, "end", *timer).await,
            Doing::Schedule { room, label, milliseconds, form } => {
                self.schedule(client, (room, label), *milliseconds, *form).await
            }
            Doing::Manage(action, number) => self.manage(client, *action, *number).await,
            Doing::Renew => {
                let body = json!({ "refresh_token": self.refresh_token });
                client.post("refresh", "", &body).await
            }
            Doing::Create { label } => {
                let body = json!({ "preset": "public_chat", "room_alias_name": label });
                client.post("createRoom", token, &body).await
            }
            Doing::Register { name } => client.post("register", "", &registration(name)).await,
            Doing::LogIn { name } => {
                let body = json!({
                    "type": "m.login.password", "password": PASSWORD,
                    "identifier": { "type": "m.id.user", "user": name },
                });
                client.post("login", "", &body).await
            }
            Doing::Encryption(encryption) => self.ask_encryption(client, encryption).await,
        }
    }

    async fn expiration(&self, client: &Client, method: &str, timer: usize) -> Result<Answer> {
        let token = self.timers.get(timer).map(|timer| timer.token.as_str());
        let body = json!({ "expire_refresh_token": token });
        client.put(&format!("expiration/{method}"), "", &body).await
    }

    pub(super) fn state_path(&self) -> String {
        let room = self.rooms.first().map(String::as_str).unwrap_or_default();
        format!("rooms/{room}/state/org.example.value/{}", self.name)
    }

    /// Remembers an answer to what was first asked at some time; gives what must be asked next.
    pub(super) fn learn(
        &mut self,
        doing: &Doing,
        answer: &Answer,
        (since, doubts): (u64, u64),
    ) -> Result<Option<Doing>> {
        match doing {
            Doing::Send { room, label, seconds } => {
                let event_id = text("a message", answer, "event_id")?;
                self.sent(room, label, (event_id, *seconds), answer, since)?;
            }
            Doing::ArmState { room, seconds, .. } => {
                // The same state again replaces the first, timer and all.
                let event_id = text("a state event", answer, "event_id")?;
                self.armed(room, event_id, *seconds, answer, answer.asked)?;
            }
            Doing::SetState { value } => {
                ok("a state event", answer)?;
                self.value = Some(*value);
                self.claims.push_back(Claim::State);
            }
            Doing::Redact { room, event_id, .. } => {
                ok("a redaction", answer)?;
                self.redacted.insert(event_id.clone());
                let (room, event_id) = (room.clone(), event_id.clone());
                self.claims.push_back(Claim::Redacted { room, event_id });
            }
            Doing::Join | Doing::Leave => {
                ok("coming or going", answer)?;
                self.in_lobby = matches!(doing, Doing::Join);
                self.claims.push_back(Claim::Membership);
            }
            Doing::Extend(timer) | Doing::End(timer) => self.timed(doing, *timer, answer)?,
            Doing::Schedule { room, label, milliseconds, form } => {
                let what = (room.as_str(), label.as_str(), *milliseconds, *form);
                self.scheduled(what, answer, (since, doubts))?;
            }
            Doing::Manage(action, number) => {
                if let Some(delayed) = self.delayed.get_mut(*number) {
                    delayed.answered(*action, answer)?;
                }
            }
            Doing::Renew => {
                self.token = text("a refreshed session", answer, "access_token")?;
                self.refresh_token = text("a refreshed session", answer, "refresh_token")?;
            }
            Doing::Create { .. } if doubts > 0 && is_refused(answer, "M_ROOM_IN_USE") => {}
            Doing::Create { .. } => {
                let room = text("a new room", answer, "room_id")?;
                self.rooms.push(room.clone());
                self.claims.push_back(Claim::Room { room });
            }
            Doing::Register { name } if doubts > 0 && is_refused(answer, "M_USER_IN_USE") => {
                return Ok(Some(Doing::LogIn { name: name.clone() }));
            }
            Doing::Register { .. } | Doing::LogIn { .. } => {
                let user_id = text("an account", answer, "user_id")?;
                let token = text("an account", answer, "access_token")?;
                self.claims.push_back(Claim::Account { user_id, token });
            }
            Doing::Encryption(encryption) => self.learn_encryption(encryption, answer, doubts)?,
        }
        Ok(None)
    }

    fn sent(
        &mut self,
        room: &str,
        label: &str,
        (event_id, seconds): (String, Option<u64>),
        answer: &Answer,
        since: u64,
    ) -> Result<()> {
        match seconds {
            None => {
                let message = SentMessage {
                    room: room.to_owned(),
                    event_id: event_id.clone(),
                    label: label.to_owned(),
                };
                self.messages.push(message.clone());
                self.claims.push_back(Claim::Sent(message));
            }
            // The first request may have been the one that armed it.
            Some(seconds) => self.armed(room, event_id.clone(), seconds, answer, since)?,
        }
        if self.once_in(4) {
            let (room, label) = (room.to_owned(), label.to_owned());
            self.claims.push_back(Claim::Again { room, label, seconds, event_id });
        }
        Ok(())
    }

    fn armed(
        &mut self,
        room: &str,
        event_id: String,
        seconds: u64,
        answer: &Answer,
        since: u64,
    ) -> Result<()> {
        self.timers.push(Timer {
            room: room.to_owned(),
            event_id,
            token: text("a timer", answer, "expire_refresh_token")?,
            milliseconds: seconds * 1000,
            since,
            end: End::No,
            over: false,
        });
        Ok(())
    }

    fn timed(&mut self, doing: &Doing, timer: usize, answer: &Answer) -> Result<()> {
        let Some(timer) = self.timers.get_mut(timer) else { return Ok(()) };
        match (answer.status, doing) {
            (200, Doing::Extend(_)) => timer.since = timer.since.max(answer.asked),
            (200, _) => timer.end = End::Answered,
            (404, _) => {
                timer.over = true;
                let ended = timer.end;
                if let Doing::End(_) = doing {
                    // It was not this end that ended it, for then it would be answered.
                    timer.end = End::No;
                }
                if !timer.may_be_over(clock::unix_ms()) {
                    timer.end = ended;
                    return broken(format!("a timer is over too early: {timer:?}"), answer);
                }
            }
            _ => return broken("a timer", answer),
        }
        Ok(())
    }
}

fn is_refused(answer: &Answer, errcode: &str) -> bool {
    answer.status == 400 && answer.body.get("errcode").and_then(Value::as_str) == Some(errcode)
}

pub(super) fn message(label: &str, seconds: Option<u64>) -> Value {
    match seconds {
        None => json!({ "msgtype": "m.text", "body": label }),
        Some(seconds) => json!({ "msgtype": "m.text", "body": label, "m.will_expire": seconds }),
    }
}
