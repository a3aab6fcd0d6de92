//! The scenarios, and what they share: the server under test, its users and rooms, one way of measuring.

mod backup;
mod calls;
mod devices;
mod fire;
mod keys;
mod message;
mod push;
mod scale;
mod sync;
mod timers;
mod to_device;
mod victims;

use std::{cell::Cell, time::Duration};

use futures_util::{StreamExt, TryStreamExt, stream};
use serde::de::IgnoredAny;

use self::timers::Kind;
use crate::{
    Failure, Result,
    cli::{Plan, Scenario, Span, Target},
    clock,
    connection::Connection,
    livekit::LiveKit,
    matrix::{self, Account},
    process::{self, Usage},
    report::{Measure, Report},
    server::{Allows, Server},
    workers::{Drive, Seen, Worker, drive},
};

/// How many requests prepare a run at once.
const PREPARING: usize = 8;

/// The server under test and what a run needs of it.
pub(crate) struct Bench<'a> {
    plan: &'a Plan,
    server: Option<Server>,
    authority: String,
    /// Numbers every operation of the run: transaction ids and state keys never repeat.
    serial: Cell<u64>,
    /// Sets the names of this run apart from those of an earlier one on the same server.
    run: String,
    registered: Cell<usize>,
    /// What takes the place of a LiveKit server, if the scenario needs one.
    livekit: Option<LiveKit>,
}

/// Runs the planned scenario.
///
/// # Errors
/// What made the run impossible; failures of single measured requests are counted in the report instead.
pub async fn run(plan: &Plan) -> Result<Report> {
    let mut bench = Bench::start(plan).await?;
    let (measures, notes) = match plan.scenario {
        Scenario::Send => (vec![message::send(&bench).await?], Vec::new()),
        Scenario::State => (vec![message::state(&bench).await?], Vec::new()),
        Scenario::Join => (vec![message::join(&bench).await?], Vec::new()),
        Scenario::SyncFanout => (sync::fanout(&bench).await?, Vec::new()),
        Scenario::SyncInitial => (vec![sync::initial(&bench).await?], Vec::new()),
        Scenario::SyncRooms => (sync::rooms(&bench).await?, Vec::new()),
        Scenario::KeysClaim => (vec![keys::claim(&bench).await?], Vec::new()),
        Scenario::KeysQuery => (vec![keys::query(&bench).await?], Vec::new()),
        Scenario::ToDevice => (to_device::run(&bench).await?, Vec::new()),
        Scenario::ExpireArm | Scenario::DelayedSchedule => {
            (vec![timers::set(&bench).await?], Vec::new())
        }
        Scenario::ExpireRefresh | Scenario::DelayedRestart => {
            (vec![timers::keep_alive(&bench).await?], Vec::new())
        }
        Scenario::ExpireFire | Scenario::DelayedFire => (fire::run(&bench).await?, Vec::new()),
        Scenario::Calls => match &bench.livekit {
            Some(livekit) => calls::run(&bench, livekit).await?,
            None => (Vec::new(), Vec::new()),
        },
        Scenario::Push => (push::run(&mut bench).await?, Vec::new()),
        Scenario::Scale => scale::run(&mut bench).await?,
        Scenario::RefreshScale => scale::refreshing(&bench).await?,
        Scenario::ScaleDevices => devices::run(&bench).await?,
        Scenario::ScaleBackup => backup::run(&bench).await?,
        Scenario::Victims => victims::run(&mut bench).await?,
    };
    Ok(Report { scenario: plan.scenario.name(), parameters: plan.parameters(), measures, notes })
}

impl<'a> Bench<'a> {
    async fn start(plan: &'a Plan) -> Result<Self> {
        let livekit = match plan.scenario {
            Scenario::Calls => Some(LiveKit::start().await?),
            _ => None,
        };
        let server = match &plan.target {
            Target::Spawn(binary) => {
                let allows = match plan.scenario {
                    Scenario::Victims => Allows::All,
                    _ => Allows::Benchmark,
                };
                let settings = (plan.durability, livekit.as_ref().map(|livekit| livekit.address));
                Some(Server::start(binary, &plan.folder, settings, allows).await?)
            }
            Target::Running(_) => {
                // Better no run than one without the figure it was asked for.
                process::usage(&plan.cpu_of)?;
                None
            }
        };
        let authority = match (&server, &plan.target) {
            (Some(server), _) => server.authority(),
            (None, Target::Running(authority)) => authority.clone(),
            (None, Target::Spawn(_)) => String::new(),
        };
        let run = format!("load{}", clock::unix_ms());
        let (serial, registered) = (Cell::new(0), Cell::new(0));
        Ok(Self { plan, server, authority, serial, run, registered, livekit })
    }

    /// Kills the server that this run started, and starts it again with another configuration.
    async fn restart(&mut self, allows: Allows) -> Result<()> {
        let server = self.server.as_mut();
        let server = server.ok_or_else(|| Failure::Other("this needs --spawn".to_owned()))?;
        server.restart_with(self.plan.durability, allows).await
    }

    fn connection(&self) -> Connection {
        Connection::new(&self.authority)
    }

    /// The kind of timers this scenario is about.
    fn kind(&self) -> Kind {
        Kind::of(self.plan.scenario)
    }

    /// What the server has used so far, if its processes are known.
    fn usage(&self) -> Option<Usage> {
        match &self.server {
            Some(server) => process::usage(&[server.pid()]).ok(),
            None if self.plan.cpu_of.is_empty() => None,
            None => process::usage(&self.plan.cpu_of).ok(),
        }
    }

    async fn account(&self) -> Result<Account> {
        let number = self.registered.get();
        self.registered.set(number + 1);
        let name = format!("{}x{number}", self.run);
        let token = self.plan.registration_token.as_deref();
        matrix::register(&mut self.connection(), &name, token).await
    }

    async fn accounts(&self, count: usize) -> Result<Vec<Account>> {
        stream::iter(0..count).map(|_| self.account()).buffered(PREPARING).try_collect().await
    }

    /// The planned users with the planned number of devices each, which have keys; those of one user together.
    async fn devices(&self) -> Result<Vec<Account>> {
        let of_users = stream::iter(0..self.plan.users).map(async |_| {
            let mut connection = self.connection();
            let mut devices = vec![self.account().await?];
            while let (Some(account), true) = (devices.first(), devices.len() < self.plan.devices) {
                devices.push(matrix::log_in(&mut connection, account).await?);
            }
            for device in &devices {
                let upload = crate::keys::upload_call(device, true, 0..1);
                matrix::patient::<IgnoredAny>(&mut connection, &upload).await?;
            }
            Ok::<_, Failure>(devices)
        });
        let of_users: Vec<_> = of_users.buffered(PREPARING).try_collect().await?;
        Ok(of_users.concat())
    }

    /// The planned connections, each with a user of its own who is in no room.
    async fn askers(&self) -> Result<Vec<Worker>> {
        let accounts = self.accounts(self.plan.connections).await?;
        let worker = |account| Worker { connection: self.connection(), account, rooms: Vec::new() };
        Ok(accounts.into_iter().map(worker).collect())
    }

    /// What the server takes in memory and on disk, as a note.
    fn size(&self, what: &str) -> String {
        let memory = self.usage().unwrap_or_default();
        let disk = self.server.as_ref().map_or(0, Server::disk_bytes);
        format!(
            "{what}: rss {} KiB, peak {} KiB, disk {} KiB",
            memory.rss_kib,
            memory.peak_kib,
            disk / 1024
        )
    }

    /// Lets each account join each room.
    async fn join_all(&self, accounts: &[Account], rooms: &[String]) -> Result<()> {
        stream::iter(accounts.iter().map(Ok))
            .try_for_each_concurrent(PREPARING, async |account| {
                let mut connection = self.connection();
                for room in rooms {
                    matrix::join(&mut connection, account, room).await?;
                }
                Ok(())
            })
            .await
    }

    async fn rooms(&self, creators: &[Account], count: usize) -> Result<Vec<String>> {
        stream::iter(creators.iter().cycle().take(count))
            .map(async |creator| matrix::create_room(&mut self.connection(), creator).await)
            .buffered(PREPARING)
            .try_collect()
            .await
    }

    /// The planned connections with their users; each user sends to the rooms it made, or joins one if it made none.
    async fn workers(&self, rooms: usize) -> Result<(Vec<Worker>, Vec<String>)> {
        let accounts = self.accounts(self.plan.users).await?;
        let rooms = self.rooms(&accounts, rooms).await?;
        let mut homes = Vec::with_capacity(accounts.len());
        for (number, account) in accounts.iter().enumerate() {
            let mut own: Vec<String> =
                rooms.iter().skip(number).step_by(accounts.len()).cloned().collect();
            if own.is_empty() {
                own.extend(rooms.iter().cycle().nth(number).cloned());
                self.join_all(std::slice::from_ref(account), &own).await?;
            }
            homes.push((account, own));
        }
        let workers = homes
            .iter()
            .cycle()
            .take(self.plan.connections)
            .map(|(account, own)| Worker {
                connection: self.connection(),
                account: (*account).clone(),
                rooms: own.clone(),
            })
            .collect();
        Ok((workers, rooms))
    }

    /// Warms up, then measures `operation` for the planned span at the planned rate.
    async fn measure<W, F>(&self, label: &str, workers: &mut [W], operation: F) -> Measure
    where
        F: AsyncFn(&mut W, u64) -> Result<()>,
    {
        if !self.plan.warmup.is_zero() {
            self.drive(workers, Span::Time(self.plan.warmup), self.plan.rate, &operation).await;
        }
        self.measure_cold(label, workers, self.plan.span, operation).await
    }

    async fn measure_cold<W, F>(
        &self,
        label: &str,
        workers: &mut [W],
        span: Span,
        operation: F,
    ) -> Measure
    where
        F: AsyncFn(&mut W, u64) -> Result<()>,
    {
        let before = self.usage();
        let seen = self.drive(workers, span, self.plan.rate, operation).await;
        seen.measure(label).with_cost(before, self.usage())
    }

    async fn drive<W, F>(
        &self,
        workers: &mut [W],
        span: Span,
        rate: Option<u64>,
        operation: F,
    ) -> Seen
    where
        F: AsyncFn(&mut W, u64) -> Result<()>,
    {
        drive(workers, Drive { span, rate, serial: &self.serial }, operation).await
    }
}

/// How long a run waits for what should have come, before it counts it as missing.
const GRACE: Duration = Duration::from_secs(30);
