//! The thread that makes the log durable for all commits that wait, then publishes them.
//!
//! It starts as soon as one waits; those that come during a sync share the next one. Commits
//! that asked for none are published without one. Waits that are no commits ([`Engine::settle`]) are
//! answered with the commits written before them.

use std::{
    sync::{Arc, Mutex, PoisonError},
    thread::{self, JoinHandle},
};

use tokio::sync::{oneshot, watch};
use wick_core::Position;

use super::{
    commit::{Engine, Group, State},
    metrics::Stopwatch,
};
use crate::{Error, Result, Snapshot};

/// A handle on the thread. Dropping it ends the thread after what waits.
pub(crate) struct Syncer {
    engine: Arc<Engine>,
    thread: Mutex<Option<JoinHandle<()>>>,
    ended: watch::Receiver<bool>,
}

impl Syncer {
    pub(super) fn spawn(engine: Arc<Engine>) -> Result<Self> {
        let (end, ended) = watch::channel(false);
        let of_thread = Arc::clone(&engine);
        let thread = thread::Builder::new()
            .name("database-sync".into())
            .spawn(move || {
                run(&of_thread);
                end.send_replace(true);
            })
            .map_err(Error::engine)?;
        Ok(Self { engine, thread: Mutex::new(Some(thread)), ended })
    }

    pub(super) async fn close(&self, engine: &Engine) -> Result<()> {
        request_end(engine);
        let mut ended = self.ended.clone();
        // An error means that the thread has ended, which is what this waits for.
        drop(ended.wait_for(|ended| *ended).await);
        if let State::Broken(why) = &engine.log().state {
            return Err(Error::Broken(Arc::clone(why)));
        }
        engine.db.flush_wal(true).map_err(Error::engine)?;
        engine.durable.settle(engine.db.latest_sequence_number()).map_err(Error::engine)
    }
}

impl Drop for Syncer {
    fn drop(&mut self) {
        request_end(&self.engine);
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        // A waiter's last act can be to drop the last handle, on this very thread.
        if let Some(thread) = thread.filter(|thread| thread.thread().id() != thread::current().id())
        {
            drop(thread.join());
        }
    }
}

fn request_end(engine: &Engine) {
    let mut log = engine.log();
    if matches!(log.state, State::Open) {
        log.state = State::Closing;
    }
    drop(log);
    engine.work.notify_all();
}

fn run(engine: &Engine) {
    let _ending = Ending(engine);
    while let Some((group, snapshot, written)) = next(engine) {
        let synced = sync(engine, &group, written);
        let outcome = finish(engine, snapshot, synced);
        if group.commits > 0 {
            engine.metrics.group_size.record(group.commits);
        }
        if outcome.is_ok() {
            wake(engine, group.topics);
        }
        answer(group.waiters, &outcome);
    }
}

/// Leaves no commit waiting when the thread ends, also if it panics.
struct Ending<'a>(&'a Engine);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        let (left, refusal) = {
            let mut log = self.0.log();
            if matches!(log.state, State::Open) {
                log.state = State::Broken("the thread that syncs the log has panicked".into());
            }
            (std::mem::take(&mut log.waiting), log.state.refuse())
        };
        answer(left.waiters, &refusal);
    }
}

/// Never under the commit lock: an answer to a task of a runtime that is shut down can drop the task, and
/// with it a database handle, which takes the lock.
fn answer(waiters: Vec<oneshot::Sender<Result<()>>>, outcome: &Result<()>) {
    for waiter in waiters {
        // The receiver is gone if its future was dropped.
        drop(waiter.send(outcome.clone()));
    }
}

/// Waits for commits to publish, and gives them with the last sequence number of the log. `None` when there will be
/// none.
fn next(engine: &Engine) -> Option<(Group, Snapshot, u64)> {
    let mut log = engine.log();
    loop {
        match log.state {
            State::Open | State::Closing if !log.waiting.is_empty() => {
                log.syncing = true;
                let snapshot = Snapshot::take(&engine.db, Position(log.position));
                let written = engine.db.latest_sequence_number();
                return Some((std::mem::take(&mut log.waiting), snapshot, written));
            }
            State::Open => {
                log = engine.work.wait(log).unwrap_or_else(PoisonError::into_inner);
            }
            State::Closing => {
                log.state = State::Stopped;
                return None;
            }
            State::Stopped | State::Broken(_) => return None,
        }
    }
}

fn sync(engine: &Engine, group: &Group, written: u64) -> Result<()> {
    if !group.sync {
        return Ok(());
    }
    let stopwatch = Stopwatch::start();
    if engine.fault.get().is_some_and(|fault| !fault.before_sync()) {
        return Err(Error::engine("injected fault"));
    }
    engine.db.flush_wal(true).map_err(Error::engine)?;
    engine.durable.note(written);
    engine.metrics.sync_seconds.record(stopwatch.elapsed());
    Ok(())
}

/// Publishes, unless the sync failed.
fn finish(engine: &Engine, snapshot: Snapshot, synced: Result<()>) -> Result<()> {
    let mut log = engine.log();
    log.syncing = false;
    if let Err(error) = synced {
        // Which of the written commits a restart would find is unknown now, so nothing may build on
        // them; not even on those that did not ask for a sync.
        let why: Arc<str> = error.to_string().into();
        tracing::error!(%error, "the log cannot be made durable, refusing commits until a restart");
        log.state = State::Broken(why);
    }
    match &log.state {
        State::Open | State::Closing => {
            engine.publish(&mut log, snapshot);
            Ok(())
        }
        state => state.refuse(),
    }
}

fn wake(engine: &Engine, mut topics: Vec<crate::Topic>) {
    topics.sort_unstable();
    topics.dedup();
    engine.registry.wake(&topics);
}
