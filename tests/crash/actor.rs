//! A user at work: asks for something, remembers what was answered, and after a kill asks again for what was
//! not.
//!
//! Invariant: what is asked is written down before it is asked and forgotten only when it was answered, so
//! that nothing is left in doubt.

mod claim;
mod doing;
mod encryption;
mod later;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde_json::{Value, json};
use wick_core::Random;
use wick_harness::SeededRandom;

use self::{claim::Claim, doing::Doing};
use crate::{
    client::{Answer, Client},
    delayed::Delayed,
    encryption::{Backup, Devices, Inbox, Keys},
    outcome::{Result, ok, text},
    timer::{End, Timer},
};

/// The password of all.
const PASSWORD: &str = "correct horse battery staple";

/// A user.
pub(crate) struct Actor {
    name: String,
    random: SeededRandom,
    pub(crate) user_id: String,
    device_id: String,
    token: String,
    refresh_token: String,
    /// Rooms with messages; all users are in the first two.
    pub(crate) rooms: Vec<String>,
    /// A room that users join and leave.
    lobby: String,
    in_lobby: bool,
    /// How many names were given so far.
    serial: u64,
    pending: Option<Operation>,
    claims: VecDeque<Claim>,
    /// Room, event and text of messages that were answered.
    pub(crate) messages: Vec<SentMessage>,
    pub(crate) redacted: BTreeSet<String>,
    pub(crate) timers: Vec<Timer>,
    pub(crate) delayed: Vec<Delayed>,
    /// The last value that was answered.
    value: Option<u64>,
    /// The devices of all users.
    devices: Devices,
    pub(crate) keys: Keys,
    pub(crate) inbox: Inbox,
    backup: Backup,
    /// By user, the number of the last message to the user's device that was answered.
    pub(crate) sent: BTreeMap<usize, u64>,
    /// How often what was answered.
    pub(crate) answered: BTreeMap<&'static str, u64>,
}

/// A message that was answered.
#[derive(Clone, Debug)]
pub(crate) struct SentMessage {
    pub(crate) room: String,
    pub(crate) event_id: String,
    pub(crate) label: String,
}

/// The operation at work.
struct Operation {
    doing: Doing,
    /// When it was first requested, if it was.
    since: Option<u64>,
    /// How often it was requested without an answer.
    doubts: u64,
}

/// The rooms that all users share.
#[derive(Clone)]
pub(crate) struct Shared {
    rooms: Vec<String>,
    lobby: String,
}

impl Shared {
    /// Creates them by a user who never leaves.
    pub(crate) async fn make(client: &Client, actor: &mut Actor) -> Result<Self> {
        let mut made = Vec::new();
        for _ in 0..3 {
            let body = json!({
                "preset": "public_chat", "power_level_content_override": { "state_default": 0 },
            });
            let answer = client.post("createRoom", &actor.token, &body).await?;
            made.push(text("a new room", &answer, "room_id")?);
        }
        let lobby = made.pop().unwrap_or_default();
        Ok(Self { rooms: made, lobby })
    }
}

impl Actor {
    /// Makes an account.
    pub(crate) async fn register(client: &Client, number: usize, seed: u64) -> Result<Self> {
        let name = format!("user{number}");
        let answer = client.post("register", "", &registration(&name)).await?;
        let text = |key| text("a new account", &answer, key);
        let number = u64::try_from(number).unwrap_or_default();
        Ok(Self {
            random: SeededRandom::new(seed ^ (number + 1).wrapping_mul(0x5851_f42d_4c95_7f2d)),
            user_id: text("user_id")?,
            device_id: text("device_id")?,
            token: text("access_token")?,
            refresh_token: text("refresh_token")?,
            name,
            rooms: Vec::new(),
            lobby: String::new(),
            in_lobby: false,
            serial: 0,
            pending: None,
            claims: VecDeque::new(),
            messages: Vec::new(),
            redacted: BTreeSet::new(),
            timers: Vec::new(),
            delayed: Vec::new(),
            value: None,
            devices: Devices::new(),
            keys: Keys::default(),
            inbox: Inbox::default(),
            backup: Backup::default(),
            sent: BTreeMap::new(),
            answered: BTreeMap::new(),
        })
    }

    /// The user and the device.
    pub(crate) fn device_of(&self) -> (String, String) {
        (self.user_id.clone(), self.device_id.clone())
    }

    /// Learns of the devices of all users.
    pub(crate) fn meet(&mut self, devices: &Devices) {
        self.devices.clone_from(devices);
    }

    /// Joins what is shared.
    pub(crate) async fn enter(&mut self, client: &Client, shared: &Shared) -> Result<()> {
        for room in shared.rooms.iter().chain([&shared.lobby]) {
            let answer = client.post(&format!("join/{room}"), &self.token, &json!({})).await?;
            ok("a join", &answer)?;
        }
        self.rooms.clone_from(&shared.rooms);
        self.lobby.clone_from(&shared.lobby);
        self.in_lobby = true;
        Ok(())
    }

    /// Works until the server is gone.
    pub(crate) async fn work(&mut self, client: Client) -> Result<()> {
        self.doubt();
        loop {
            self.step(&client, false).await?;
        }
    }

    /// Asks again for all that is in doubt and looks at all that was answered.
    pub(crate) async fn settle(&mut self, client: Client) -> Result<()> {
        self.doubt();
        while self.pending.is_some() || !self.claims.is_empty() {
            self.step(&client, true).await?;
        }
        Ok(())
    }

    /// What was not answered may have been done.
    fn doubt(&mut self) {
        if let Some(pending) = &mut self.pending {
            pending.doubts += u64::from(pending.since.is_some());
        }
    }

    async fn step(&mut self, client: &Client, settle: bool) -> Result<()> {
        if self.pending.is_none() {
            if let Some(claim) = self.claims.front().cloned()
                && (settle || self.once_in(2))
            {
                self.verify(client, claim).await?;
                self.claims.pop_front();
                return Ok(());
            }
            let doing = self.choose();
            self.pending = Some(Operation { doing, since: None, doubts: 0 });
        }
        self.pursue(client).await
    }

    async fn pursue(&mut self, client: &Client) -> Result<()> {
        let Some(pending) = &mut self.pending else { return Ok(()) };
        let since = *pending.since.get_or_insert_with(crate::clock::unix_ms);
        let (doing, doubts) = (pending.doing.clone(), pending.doubts);
        self.expect(&doing);
        let answer = self.ask(client, &doing).await?;
        let next = self.learn(&doing, &answer, (since, doubts))?;
        *self.answered.entry(doing.name()).or_default() += 1;
        self.pending = next.map(|doing| Operation { doing, since: None, doubts: 0 });
        Ok(())
    }

    /// What is asked for may be done from now on.
    fn expect(&mut self, doing: &Doing) {
        match doing {
            Doing::End(timer) => {
                if let Some(timer) = self.timers.get_mut(*timer)
                    && timer.end == End::No
                {
                    timer.end = End::Maybe;
                }
            }
            Doing::Manage(action, number) => {
                if let Some(delayed) = self.delayed.get_mut(*number) {
                    delayed.asked(*action);
                }
            }
            _ => {}
        }
    }

    pub(crate) async fn get(&self, client: &Client, path: &str) -> Result<Answer> {
        client.get(path, &self.token).await
    }

    /// A name that nothing else has.
    fn label(&mut self) -> String {
        self.serial += 1;
        format!("{}-{}", self.name, self.serial)
    }

    fn below(&self, end: usize) -> usize {
        let end = u64::try_from(end).unwrap_or(u64::MAX).max(1);
        usize::try_from(self.random.number() % end).unwrap_or_default()
    }

    fn once_in(&self, times: usize) -> bool {
        self.below(times) == 0
    }

    fn any_room(&self) -> String {
        self.rooms.get(self.below(self.rooms.len())).cloned().unwrap_or_default()
    }
}

fn registration(name: &str) -> Value {
    json!({
        "username": name, "password": PASSWORD, "refresh_token": true,
        "auth": { "type": "m.login.dummy" },
    })
}
