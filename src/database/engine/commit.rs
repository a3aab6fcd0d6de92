//! The commit path: preconditions, positions and the write to the log, in one short critical section.
//!
//! Invariants: positions are given out in the order of the log. The published snapshot is only ever
//! replaced under the commit lock, by a later one, and never shows a row that asked for a sync before
//! the sync was done.

use std::{
    collections::BTreeMap,
    fmt,
    future::Future,
    pin::Pin,
    sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, RwLock},
    task::{Context, Poll},
};

use rocksdb::{DB, WriteBatch, WriteOptions};
use tokio::sync::oneshot;
use wick_core::Position;

use super::{
    durable::Durable,
    fault::{Fault, FaultAction},
    metrics::{Metrics, Stopwatch},
    open,
};
use crate::{
    Error, KeyLike, Result, Snapshot, Topic, Value,
    activity::Activity,
    batch::{Change, Positions, Requirements, Row, Rows, Slot, is_in_effect},
    read::family,
    schema::meta,
    watch::Registry,
};

/// What a commit has to survive before it is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// A power loss. The default: events, accounts, tokens, keys.
    Synced,
    /// A killed process. For typing, presence, receipts, progress. Answered once it is published, which waits for
    /// synced commits before it.
    Flushed,
    /// A killed process, and answered once it is written, before readers of
    /// [`Database::published`](crate::Database::published) see it. For rows that are read by
    /// [`Database::latest`](crate::Database::latest) alone, such as a refresh, which must not wait for the disk. With a
    /// position it is as [`Durability::Flushed`], because positions are published in order.
    Logged,
}

/// A batch that was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Committed {
    /// The last position of the batch; if it has none, the last one given out before.
    pub position: Position,
    first: u64,
    slots: u64,
}

impl Committed {
    /// The position that a slot of the batch was given.
    #[must_use]
    pub fn at(&self, slot: Slot) -> Option<Position> {
        (slot.0 < self.slots).then(|| Position(self.first.saturating_add(slot.0)))
    }
}

/// A batch that was written to the log. Resolves once it is durable, as far as it asked, and
/// published. Dropping it takes nothing back.
#[must_use = "the commit must not be answered before this resolves"]
#[derive(Debug)]
pub struct Pending {
    committed: Committed,
    wait: Option<oneshot::Receiver<Result<()>>>,
}

impl Pending {
    /// What was written, known before it is durable. For the next writer, not for clients.
    #[must_use]
    pub fn written(&self) -> Committed {
        self.committed
    }
}

impl Future for Pending {
    type Output = Result<Committed>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let committed = self.committed;
        let Some(wait) = &mut self.wait else { return Poll::Ready(Ok(committed)) };
        Pin::new(wait)
            .poll(context)
            .map(|outcome| outcome.unwrap_or(Err(Error::Stopped)).map(|()| committed))
    }
}

/// The engine and what the commit path knows.
pub(crate) struct Engine {
    pub(crate) db: Arc<DB>,
    pub(crate) registry: Arc<Registry>,
    pub(crate) activity: Activity,
    pub(super) work: Condvar,
    pub(super) metrics: Metrics,
    /// Set once the database is open: what opening commits is not asked about.
    pub(super) fault: OnceLock<Arc<dyn Fault>>,
    pub(super) durable: Durable,
    durability: Option<Durability>,
    write_options: WriteOptions,
    position_key: Vec<u8>,
    published: RwLock<Snapshot>,
    log: Mutex<Log>,
}

/// The state of the log, under the commit lock.
pub(super) struct Log {
    /// The last position given out.
    pub(super) position: u64,
    /// How many commits there were since the start.
    number: u64,
    /// What the syncer takes next.
    pub(super) waiting: Group,
    /// Whether the syncer is about to publish.
    pub(super) syncing: bool,
    pub(super) state: State,
}

/// Whether there can be commits.
#[derive(Clone)]
pub(super) enum State {
    Open,
    Closing,
    Stopped,
    Broken(Arc<str>),
}

impl State {
    /// Why there cannot.
    pub(super) fn refuse(&self) -> Result<()> {
        match self {
            Self::Open => Ok(()),
            Self::Closing | Self::Stopped => Err(Error::Stopped),
            Self::Broken(why) => Err(Error::Broken(Arc::clone(why))),
        }
    }
}

/// Commits that are published together.
#[derive(Default)]
pub(super) struct Group {
    pub(super) waiters: Vec<oneshot::Sender<Result<()>>>,
    pub(super) topics: Vec<Topic>,
    pub(super) commits: u32,
    /// Whether one of them asked for a sync.
    pub(super) sync: bool,
}

impl Group {
    /// Whether there is neither a commit to publish nor a wait to answer.
    pub(super) fn is_empty(&self) -> bool {
        self.commits == 0 && self.waiters.is_empty()
    }
}

/// How many bytes the engine's batch takes of each row beside key and value: a tag, the column family, two lengths.
const OVERHEAD_BYTES: usize = 12;

/// About how many bytes the engine's batch takes, so that one of many rows is not copied while it grows.
fn encoded_size(tables: &BTreeMap<&'static str, Rows>) -> usize {
    let rows = tables.values().flatten();
    rows.map(|(key, row)| OVERHEAD_BYTES + key.len() + row.value().map_or(0, <[u8]>::len)).sum()
}

impl Engine {
    pub(super) fn new(
        db: Arc<DB>,
        durable: Durable,
        durability: Option<Durability>,
    ) -> Result<Self> {
        let position = open::number(&db, meta::POSITION)?.unwrap_or_default();
        let mut write_options = WriteOptions::default();
        write_options.set_sync(false);
        Ok(Self {
            registry: Arc::default(),
            activity: Activity::new(Position(position)),
            work: Condvar::new(),
            metrics: Metrics::new(),
            fault: OnceLock::new(),
            durable,
            durability,
            write_options,
            position_key: KeyLike::<String>::encoded(meta::POSITION),
            published: RwLock::new(Snapshot::take(&db, Position(position))),
            log: Mutex::new(Log {
                position,
                number: 0,
                waiting: Group::default(),
                syncing: false,
                state: State::Open,
            }),
            db,
        })
    }

    /// Asks `fault` about every commit from now on.
    pub(super) fn inject(&self, fault: Arc<dyn Fault>) {
        self.fault.get_or_init(|| fault);
    }

    pub(super) fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn published(&self) -> Snapshot {
        self.published.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Shows readers a later state. The caller holds the commit lock.
    pub(super) fn publish(&self, _log: &mut Log, snapshot: Snapshot) {
        let mut published = self.published.write().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut *published, snapshot);
        drop(published);
        drop(before);
    }

    /// Writes `change`. See [`Database::write`](crate::Database::write).
    pub(super) fn write(&self, change: Change, durability: Durability) -> Result<Pending> {
        if is_in_effect() {
            return Err(Error::engine("a commit within an effect of another one"));
        }
        let stopwatch = Stopwatch::start();
        let written = self.write_locked(change, self.durability.unwrap_or(durability));
        match &written {
            Ok(_) => self.metrics.commits.increment(1),
            Err(_) => self.metrics.failures.increment(1),
        }
        self.metrics.write_seconds.record(stopwatch.elapsed());
        written
    }

    fn write_locked(&self, change: Change, durability: Durability) -> Result<Pending> {
        let Change { rows, required, mut topics, bells, slots, promises, effects, misuse } = change;
        if let Some(misuse) = misuse {
            return Err(Error::engine(misuse));
        }
        let mut engine_batch = WriteBatch::with_capacity_bytes(encoded_size(&rows));
        let mut late = Vec::new();
        for (table, rows) in rows {
            let family = family(&self.db, table)?;
            for (key, row) in rows {
                match row {
                    Row::Put(value) => engine_batch.put_cf(family, key, value),
                    Row::Delete => engine_batch.delete_cf(family, key),
                    Row::Late(row) => late.push((family, row.row)),
                }
            }
        }

        let mut log = self.log();
        log.state.refuse()?;
        required.check(&self.db)?;
        let stop_after = self.ask_fault(&mut log)?;
        let first = log.position.saturating_add(1);
        let last = log.position.saturating_add(slots);
        let committed = Committed { position: Position(last), first, slots };
        for (family, row) in late {
            let (key, value) = row(Positions::from(first));
            engine_batch.put_cf(family, key, value);
        }
        if slots > 0 {
            let meta = family(&self.db, meta::META.name())?;
            engine_batch.put_cf(meta, &self.position_key, Value::encode(&last));
            topics.push(Topic::Stream);
        }
        if !engine_batch.is_empty() {
            self.db.write_opt(engine_batch, &self.write_options).map_err(Error::engine)?;
        }
        log.position = last;
        self.activity.note(&topics, Position(last));
        topics.extend(bells);
        promises.keep();
        if stop_after {
            return Err(self.stop(&mut log));
        }
        effects.run();
        Ok(Pending { committed, wait: self.hand_over(log, topics, durability, slots) })
    }

    /// Publishes what was written, if nothing before it still waits for a sync; otherwise leaves it
    /// to the syncer.
    fn hand_over(
        &self,
        mut log: MutexGuard<'_, Log>,
        topics: Vec<Topic>,
        durability: Durability,
        slots: u64,
    ) -> Option<oneshot::Receiver<Result<()>>> {
        let sync = durability == Durability::Synced;
        if !sync && !log.syncing && log.waiting.commits == 0 {
            let snapshot = Snapshot::take(&self.db, Position(log.position));
            self.publish(&mut log, snapshot);
            drop(log);
            self.registry.wake(&topics);
            return None;
        }
        let waiting = &mut log.waiting;
        waiting.commits = waiting.commits.saturating_add(1);
        waiting.topics.extend(topics);
        waiting.sync |= sync;
        let outcome = (durability != Durability::Logged || slots > 0).then(|| {
            let (sender, outcome) = oneshot::channel();
            waiting.waiters.push(sender);
            outcome
        });
        self.work.notify_one();
        outcome
    }

    /// See [`Database::settle`](crate::Database::settle).
    pub(super) fn settle(&self, required: &Requirements) -> Result<Pending> {
        let mut log = self.log();
        log.state.refuse()?;
        required.check(&self.db)?;
        let committed = Committed { position: Position(log.position), first: 0, slots: 0 };
        if !log.syncing && log.waiting.is_empty() {
            return Ok(Pending { committed, wait: None });
        }
        let (sender, outcome) = oneshot::channel();
        log.waiting.waiters.push(sender);
        self.work.notify_one();
        Ok(Pending { committed, wait: Some(outcome) })
    }

    fn ask_fault(&self, log: &mut Log) -> Result<bool> {
        let Some(fault) = self.fault.get() else { return Ok(false) };
        log.number = log.number.saturating_add(1);
        match fault.before_commit(log.number) {
            FaultAction::Proceed => Ok(false),
            FaultAction::Fail => Err(Error::engine("injected fault")),
            FaultAction::Conflict => Err(Error::Conflict { table: "of an injected fault" }),
            FaultAction::StopBefore => Err(self.stop(log)),
            FaultAction::StopAfter => Ok(true),
        }
    }

    /// Refuses commits from now on. The syncer reports it to those that wait.
    fn stop(&self, log: &mut Log) -> Error {
        log.state = State::Stopped;
        self.work.notify_one();
        Error::Stopped
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").finish_non_exhaustive()
    }
}
