//! What a user does for end-to-end encryption: uploads and claims keys, sends and receives messages from device to
//! device, backs sessions up.

use std::ops::Range;

use serde_json::{Map, Value, json};

use super::{Actor, Claim};
use crate::{
    client::{Answer, Client},
    encryption::Backup,
    outcome::{Result, Stop, broken, ok, text},
};

const ALGORITHM: &str = "signed_curve25519";

/// Uploaded keys that are left at most, by far fewer than a device may have.
const MANY_KEYS: u64 = 200;

/// The room of all sessions that are backed up.
const ROOM: &str = "!room:localhost";

/// Nothing but what comes to the device.
const FILTER: &str = "%7B%22room%22:%7B%22rooms%22:%5B%5D%7D%7D";

/// Something that is done with keys, messages or the backup.
#[derive(Clone, Debug)]
pub(super) enum Encryption {
    /// One-time keys with these numbers.
    Upload(Range<u64>),
    /// A one-time key of a user.
    ClaimKey(usize),
    /// The message with this number to a user.
    Send(usize, u64),
    /// A sync with the last token, or without one.
    Receive { with_token: bool },
    /// A new version of the backup.
    CreateBackup,
    /// Sessions with these numbers.
    BackUp(Range<u64>),
    /// A session that is deleted.
    Drop(u64),
}

impl Encryption {
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Upload(_) => "key uploads",
            Self::ClaimKey(_) => "key claims",
            Self::Send(..) => "to-device messages",
            Self::Receive { .. } => "syncs",
            Self::CreateBackup => "backups",
            Self::BackUp(_) => "backed-up sessions",
            Self::Drop(_) => "dropped sessions",
        }
    }
}

impl Actor {
    /// What to do next.
    pub(super) fn choose_encryption(&mut self) -> Encryption {
        let some = 1 + u64::try_from(self.below(4)).unwrap_or_default();
        let user = self.below(self.devices.len());
        match self.below(20) {
            0..5 if self.keys.left < MANY_KEYS => {
                Encryption::Upload(self.keys.uploaded..self.keys.uploaded + some)
            }
            0..9 => Encryption::ClaimKey(user),
            9..13 => {
                let last = self.sent.get(&user).copied().unwrap_or_default();
                Encryption::Send(user, last + 1)
            }
            13..15 => Encryption::Receive { with_token: self.inbox.since.is_some() },
            15 => Encryption::Receive { with_token: false },
            _ => self.choose_for_backup(some),
        }
    }

    fn choose_for_backup(&mut self, some: u64) -> Encryption {
        if self.backup.version.is_empty() || self.once_in(50) {
            return Encryption::CreateBackup;
        }
        let first = self.backup.sessions.first().copied();
        match first {
            Some(session) if self.once_in(4) => Encryption::Drop(session),
            _ => {
                self.serial += some;
                Encryption::BackUp(self.serial - some..self.serial)
            }
        }
    }

    /// Makes the request.
    pub(super) async fn ask_encryption(
        &self,
        client: &Client,
        encryption: &Encryption,
    ) -> Result<Answer> {
        let (token, version) = (&self.token, &self.backup.version);
        match encryption {
            Encryption::Upload(numbers) => {
                let keys: Map<_, _> =
                    numbers.clone().map(|number| self.one_time_key(number)).collect();
                client.post("keys/upload", token, &json!({ "one_time_keys": keys })).await
            }
            Encryption::ClaimKey(user) => {
                let (user_id, device_id) = self.device(*user);
                let wanted = json!({ user_id: { device_id: ALGORITHM } });
                client.post("keys/claim", token, &json!({ "one_time_keys": wanted })).await
            }
            Encryption::Send(user, number) => {
                let (user_id, device_id) = self.device(*user);
                let messages = json!({ user_id: { device_id: { "number": number } } });
                let path = format!("sendToDevice/org.example.number/{user}-{number}");
                client.put(&path, token, &json!({ "messages": messages })).await
            }
            Encryption::Receive { with_token } => {
                let since = self.inbox.since.as_deref().filter(|_| *with_token);
                let since = since.map_or_else(String::new, |since| format!("&since={since}"));
                self.get(client, &format!("sync?filter={FILTER}{since}")).await
            }
            Encryption::CreateBackup => {
                let body = json!({
                    "algorithm": "m.megolm_backup.v1.curve25519-aes-sha2", "auth_data": {},
                });
                client.post("room_keys/version", token, &body).await
            }
            Encryption::BackUp(numbers) => {
                let sessions: Map<_, _> = numbers.clone().map(session).collect();
                let body = json!({ "rooms": { ROOM: { "sessions": sessions } } });
                client.put(&format!("room_keys/keys?version={version}"), token, &body).await
            }
            Encryption::Drop(number) => {
                let path = format!("room_keys/keys/{ROOM}/{number}?version={version}");
                client.delete(&path, token).await
            }
        }
    }

    /// Remembers an answer to what was asked for without an answer so many times before.
    pub(super) fn learn_encryption(
        &mut self,
        encryption: &Encryption,
        answer: &Answer,
        doubts: u64,
    ) -> Result<()> {
        let fault = match encryption {
            Encryption::Upload(numbers) => {
                self.keys.left = keys_left(answer)?;
                self.keys.uploaded = numbers.end;
                None
            }
            Encryption::ClaimKey(user) => {
                ok("a claim", answer)?;
                *self.keys.doubts.entry(*user).or_default() += doubts;
                let number = claimed(answer, self.device(*user));
                number.and_then(|number| self.keys.claim(*user, number))
            }
            Encryption::Send(user, number) => {
                ok("a message", answer)?;
                self.sent.insert(*user, *number);
                None
            }
            Encryption::Receive { with_token } => {
                let next_batch = text("a sync", answer, "next_batch")?;
                self.inbox.receive(*with_token, &messages(answer), next_batch)
            }
            Encryption::CreateBackup => {
                self.backup = Backup::new(text("a backup", answer, "version")?);
                None
            }
            Encryption::BackUp(numbers) => {
                self.backup.sessions.extend(numbers.clone());
                self.backed_up(answer, true)?
            }
            Encryption::Drop(number) => {
                self.backup.sessions.remove(number);
                self.backed_up(answer, true)?
            }
        };
        if matches!(
            encryption,
            Encryption::CreateBackup | Encryption::BackUp(_) | Encryption::Drop(_)
        ) {
            self.claims.push_back(Claim::Backup);
        }
        fault.map_or(Ok(()), |fault| broken(format!("{}: {fault}", self.name), answer))
    }

    fn backed_up(&mut self, answer: &Answer, has_changed: bool) -> Result<Option<String>> {
        let etag = text("a backup", answer, "etag")?;
        let count = answer.body.get("count").and_then(Value::as_u64).unwrap_or(u64::MAX);
        Ok(self.backup.seen(count, &etag, has_changed))
    }

    /// Looks at the count and the etag of the backup, and at its sessions.
    pub(crate) async fn look_at_backup(&mut self, client: &Client) -> Result<()> {
        if self.backup.version.is_empty() {
            return Ok(());
        }
        let answer = self.get(client, "room_keys/version").await?;
        if answer.body.get("version").and_then(Value::as_str) != Some(&self.backup.version) {
            return broken(format!("{}'s backup is another one", self.name), &answer);
        }
        if let Some(fault) = self.backed_up(&answer, false)? {
            return broken(format!("{}'s backup: {fault}", self.name), &answer);
        }
        let path = format!("room_keys/keys?version={}", self.backup.version);
        let answer = self.get(client, &path).await?;
        let sessions = answer.body.pointer(&format!("/rooms/{ROOM}/sessions"));
        let found = sessions.and_then(Value::as_object).map_or(0, Map::len);
        let has = |number: &u64| sessions.and_then(|all| all.get(number.to_string())).is_some();
        if found != self.backup.sessions.len() || !self.backup.sessions.iter().all(has) {
            return broken(format!("{}'s backup has other sessions", self.name), &answer);
        }
        Ok(())
    }

    /// Receives until nothing more comes.
    pub(crate) async fn empty_inbox(&mut self, client: &Client) -> Result<()> {
        loop {
            let receive = Encryption::Receive { with_token: self.inbox.since.is_some() };
            let answer = self.ask_encryption(client, &receive).await?;
            self.learn_encryption(&receive, &answer, 0)?;
            if messages(&answer).is_empty() {
                return Ok(());
            }
        }
    }

    /// Asks how many keys are left.
    pub(crate) async fn count_keys(&mut self, client: &Client) -> Result<()> {
        let answer = client.post("keys/upload", &self.token, &json!({})).await?;
        self.keys.left = keys_left(&answer)?;
        Ok(())
    }

    fn device(&self, user: usize) -> (&str, &str) {
        self.devices.get(user).map_or(("", ""), |(user_id, device_id)| (user_id, device_id))
    }

    /// The ids ascend as the numbers do.
    fn one_time_key(&self, number: u64) -> (String, Value) {
        let key = json!({
            "key": format!("{number:0>43}"),
            "signatures": { &*self.user_id: { "ed25519:DEVICE": "a signature" } },
        });
        (format!("{ALGORITHM}:{number:0>12}"), key)
    }
}

fn session(number: u64) -> (String, Value) {
    let session = json!({
        "first_message_index": 0, "forwarded_count": 0, "is_verified": true,
        "session_data": { "ciphertext": format!("session {number}") },
    });
    (number.to_string(), session)
}

fn keys_left(answer: &Answer) -> Result<u64> {
    ok("an upload of keys", answer)?;
    let count = answer.body.pointer(&format!("/one_time_key_counts/{ALGORITHM}"));
    count.and_then(Value::as_u64).ok_or_else(|| Stop::Broken("an upload without counts".to_owned()))
}

/// The number of the key that was claimed.
fn claimed(answer: &Answer, (user_id, device_id): (&str, &str)) -> Option<u64> {
    let keys = answer.body.get("one_time_keys")?.get(user_id)?.get(device_id)?.as_object()?;
    keys.keys().next()?.rsplit(':').next()?.parse().ok()
}

/// Sender and number of the messages in a sync.
fn messages(answer: &Answer) -> Vec<(String, u64)> {
    let events = answer.body.pointer("/to_device/events").and_then(Value::as_array);
    let message = |event: &Value| {
        let sender = event.get("sender")?.as_str()?.to_owned();
        Some((sender, event.pointer("/content/number")?.as_u64()?))
    };
    events.into_iter().flatten().filter_map(message).collect()
}
