//! The loop: start, work, kill, check; from time to time everything answered is looked at.

use std::{collections::BTreeMap, fmt, fs, path::Path, pin::pin, time::Duration};

use futures_util::future::{join_all, try_join_all};
use tempfile::TempDir;
use wick_core::Random;
use wick_harness::{Process, SeededRandom, process};

use crate::{
    actor::{Actor, Shared},
    audit::audit,
    client::Client,
    clock, encryption,
    outcome::{Result, Stop},
};

/// The latest moment of a kill after work begins, in milliseconds.
const LATEST: u64 = 400;

/// Every so many rounds all that was answered is looked at.
const SETTLE_EVERY: usize = 10;

/// One round in so many the server is killed while it starts.
const KILLED_AT_START: u64 = 8;

/// How long a look at everything may take, on however busy a machine.
const PATIENCE: Duration = Duration::from_secs(300);

/// No limits, as a few users stand for many.
const CONFIGURATION: &str = r#"
registration.mode = "open"
accounts = { argon2_memory_kilobytes = 8, argon2_iterations = 1 }
limits.enabled = false
database.durability = "synced"
admin.enabled = false
logging.format = "human"

[expiry]
max_running = 1000000

[delayed_events]
max_scheduled = 1000000

[timers]
overdue_per_second = 1000
keep_alive = { per_second = 1000000.0, burst = 1000000 }
invalid = { per_second = 1000000.0, burst = 1000000 }
"#;

/// What to do.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// How many kills.
    pub rounds: usize,
    /// What requests and moments follow from.
    pub seed: u64,
    /// How many users are at work at once.
    pub actors: usize,
}

/// What was done.
#[derive(Debug, Default)]
pub struct Summary {
    /// How often the server was killed.
    pub kills: usize,
    answered: BTreeMap<&'static str, u64>,
    pub(crate) timers: usize,
    /// Delayed events that were sent.
    pub(crate) sent_later: usize,
    /// Delayed events that were cancelled.
    pub(crate) cancelled: usize,
    /// One-time keys that were claimed.
    pub(crate) keys: usize,
    /// Messages from device to device that were delivered.
    pub(crate) messages: u64,
    took: Duration,
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} kills in {} s, answered:", self.kills, self.took.as_secs())?;
        for (name, count) in &self.answered {
            write!(f, " {count} {name},")?;
        }
        write!(
            f,
            " nothing lost, {} timers each ended once, {} delayed events each sent once, {} never, none early, \
             {} one-time keys each given once, {} messages delivered in order",
            self.timers, self.sent_later, self.cancelled, self.keys, self.messages
        )
    }
}

/// Runs the plan and reports each round.
///
/// # Errors
/// What the server did that it may not do, and the folder in which it did.
pub async fn run(plan: Plan, mut report: impl FnMut(&str)) -> std::result::Result<Summary, String> {
    let begun = clock::now();
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    fs::write(folder.path().join("wick.toml"), CONFIGURATION).map_err(|error| error.to_string())?;
    let mut rounds = Rounds { folder, random: SeededRandom::new(plan.seed), actors: Vec::new() };
    match rounds.run(plan, &mut report).await {
        Ok(kills) => {
            let mut summary = Summary { kills, took: begun.elapsed(), ..Summary::default() };
            for actor in &rounds.actors {
                summary.timers += actor.timers.len();
                let sent = actor.delayed.iter().filter(|delayed| delayed.was_sent()).count();
                summary.sent_later += sent;
                summary.cancelled += actor.delayed.len() - sent;
                summary.keys += actor.keys.claimed.len();
                summary.messages += actor.inbox.delivered.values().sum::<u64>();
                for (name, count) in &actor.answered {
                    *summary.answered.entry(name).or_default() += count;
                }
            }
            Ok(summary)
        }
        Err(stop) => {
            let what = match stop {
                Stop::Gone => "the server ended by itself".to_owned(),
                Stop::Broken(what) => what,
            };
            Err(format!("{what}\nits folder: {}", rounds.folder.keep().display()))
        }
    }
}

struct Rounds {
    folder: TempDir,
    random: SeededRandom,
    actors: Vec<Actor>,
}

impl Rounds {
    async fn run(&mut self, plan: Plan, report: &mut impl FnMut(&str)) -> Result<usize> {
        let mut kills = 0;
        let mut process = self.start();
        let client = Client::new(process.address());
        for number in 0..plan.actors {
            self.actors.push(Actor::register(&client, number, plan.seed).await?);
        }
        if let Some(first) = self.actors.first_mut() {
            let shared = Shared::make(&client, first).await?;
            let devices = self.actors.iter().map(Actor::device_of).collect();
            for actor in &mut self.actors {
                actor.enter(&client, &shared).await?;
                actor.meet(&devices);
            }
        }
        while kills < plan.rounds {
            if kills > 0 && kills % SETTLE_EVERY == 0 {
                self.settle(&process).await?;
            }
            let delay = Duration::from_millis(self.below(LATEST + 1));
            self.work_until_killed(process, delay).await?;
            kills += 1;
            report(&format!(
                "kill {kills} of {}: after {} ms of work",
                plan.rounds,
                delay.as_millis()
            ));
            if kills < plan.rounds && self.below(KILLED_AT_START) == 0 {
                let delay = Duration::from_millis(self.below(LATEST / 2));
                self.kill_at_start(delay).await?;
                kills += 1;
                report(&format!(
                    "kill {kills} of {}: {} ms after start",
                    plan.rounds,
                    delay.as_millis()
                ));
            }
            process = self.start();
        }
        self.settle(&process).await?;
        audit(&Client::new(process.address()), &mut self.actors).await?;
        drop(process);
        check(self.folder.path())?;
        Ok(kills)
    }

    fn start(&self) -> Process {
        Process::start(self.folder.path(), &[])
    }

    async fn work_until_killed(&mut self, process: Process, delay: Duration) -> Result<()> {
        let client = Client::new(process.address());
        let mut work = pin!(join_all(self.actors.iter_mut().map(|actor| actor.work(client))));
        let mut ended = tokio::select! {
            ended = &mut work => Some(ended),
            () = tokio::time::sleep(delay) => None,
        };
        let killed = ended.is_none();
        process.kill();
        if killed {
            // Answers that were on their way count.
            ended = Some(work.await);
        }
        for end in ended.into_iter().flatten() {
            match end {
                Err(Stop::Gone) if killed => {}
                end => end?,
            }
        }
        check(self.folder.path())
    }

    async fn kill_at_start(&self, delay: Duration) -> Result<()> {
        let mut child = process::spawn(self.folder.path(), &[]);
        tokio::time::sleep(delay).await;
        let killed = child.kill().and_then(|()| child.wait());
        killed.map_err(|error| Stop::Broken(format!("the server cannot be killed: {error}")))?;
        check(self.folder.path())
    }

    async fn settle(&mut self, process: &Process) -> Result<()> {
        let client = Client::new(process.address());
        let settled = try_join_all(self.actors.iter_mut().map(|actor| actor.settle(client)));
        match tokio::time::timeout(PATIENCE, settled).await {
            Ok(settled) => drop(settled?),
            Err(_) => return Err(Stop::Broken("requests are not answered".to_owned())),
        }
        encryption::audit(&client, &mut self.actors).await
    }

    fn below(&self, end: u64) -> u64 {
        self.random.number() % end.max(1)
    }
}

/// `wick check --rooms` finds nothing.
fn check(folder: &Path) -> Result<()> {
    let check = process::run(folder, &["check", "--rooms"]);
    if check.status.success() {
        return Ok(());
    }
    let output = [check.stdout, check.stderr].concat();
    Err(Stop::Broken(format!("the check fails: {}", String::from_utf8_lossy(&output))))
}
