//! Consumers of the stream that lie outside a commit, such as push.
//!
//! Invariants (R7): a follower's cursor moves only after its consumer has acknowledged everything up to it, so each
//! position is consumed at least once, whatever crashes; the commit path knows no follower; what is nothing to a
//! consumer costs no commit.

use std::{future::Future, sync::Arc, time::Duration};

use wick_core::{BackOff, Position, Result};
use wick_database::{
    Durability, Range, Read, Snapshot, Topic,
    schema::stream::{CURSOR_BY_FOLLOWER, EVENT_BY_STREAM, StreamEntry},
};

use crate::{Resources, Supervisor};

/// The wait after a consumer failed.
const BACK_OFF: BackOff = BackOff::new(Duration::from_secs(1), Duration::from_secs(300));

/// How many positions that were nothing to the consumer a start goes through again at most.
const MAX_BEHIND: u64 = 10_000;

/// How many events one span has at most.
const MAX_EVENTS: usize = 100;

/// Consumes the stream, a [`Span`] after another.
pub trait Consumer: Send + Sync + 'static {
    /// Delivers what the consumer finds in the span. Success acknowledges all of it, and returns whether there was
    /// anything; otherwise the cursor need not be stored at once. After an error, a restart or a
    /// crash the same positions come again, perhaps in other spans: what must happen once carries an id that
    /// follows from the position.
    ///
    /// # Errors
    /// If it must be tried again.
    fn consume(&self, span: &Span) -> impl Future<Output = Result<bool>> + Send;
}

/// A part of the stream: the positions above one, up to and including another.
#[derive(Clone, Debug)]
pub struct Span {
    /// What to read from. It shows everything up to [`Span::upto`], and may show more.
    pub read: Snapshot,
    /// The last position before it.
    pub after: Position,
    /// Its last position.
    pub upto: Position,
}

impl Span {
    /// What was published after a position, up to [`MAX_EVENTS`] events.
    fn after(read: Snapshot, after: Position) -> Result<Self> {
        let range = Range::after(&after).and(Range::through(&read.position()));
        let full = read.scan(&EVENT_BY_STREAM, range).keys().nth(MAX_EVENTS.saturating_sub(1));
        let upto = full.transpose()?.unwrap_or_else(|| read.position());
        Ok(Self { read, after, upto })
    }

    /// The events in it, with their positions. Tables of other news are scanned for the same positions.
    ///
    /// # Errors
    /// If they cannot be read.
    pub fn events(&self) -> Result<Vec<(Position, StreamEntry)>> {
        let range = Range::after(&self.after).and(Range::through(&self.upto));
        Ok(self.read.scan(&EVENT_BY_STREAM, range).collect::<Result<_, _>>()?)
    }
}

/// Brings the stream to a consumer.
pub struct Follower<C> {
    resources: Resources,
    name: String,
    consumer: C,
}

impl<C: Consumer> Follower<C> {
    /// A follower whose cursor is stored under `name`. One that has none yet begins at the present position.
    #[must_use]
    pub fn new(resources: Resources, name: String, consumer: C) -> Self {
        Self { resources, name, consumer }
    }

    /// Stores the present position as the cursor if there is none.
    async fn begin(&self) -> Result<()> {
        if self.resources.database.latest().contains(&CURSOR_BY_FOLLOWER, &self.name)? {
            return Ok(());
        }
        self.move_cursor(None, self.resources.database.position()).await
    }

    /// Follows until the server stops. What is committed after this has returned is consumed. `task` names the kind of
    /// follower in logs.
    ///
    /// # Errors
    /// If the database refuses.
    pub async fn start(self, supervisor: &Supervisor, task: &'static str) -> Result<()> {
        self.begin().await?;
        let follower = Arc::new(self);
        let stopping = supervisor.stopping().clone();
        supervisor.spawn(task, move || {
            let (follower, stopping) = (Arc::clone(&follower), stopping.clone());
            async move {
                stopping.run_until_cancelled(follower.follow(task)).await.unwrap_or_default();
            }
        });
        Ok(())
    }

    async fn follow(&self, task: &'static str) {
        let clock = &self.resources.clock;
        let mut failures = 0_u32;
        let mut watch = self.resources.database.watch().topic(Topic::Stream);
        let mut passed = Position::MIN;
        loop {
            match self.step(&mut passed).await {
                Ok(true) => failures = 0,
                Ok(false) => watch.changed().await,
                Err(error) => {
                    let back_off = BACK_OFF.after(failures);
                    tracing::warn!(task, %error, ?back_off, "a consumer of the stream failed and is tried again");
                    clock.sleep_until(clock.monotonic() + back_off).await;
                    failures = failures.saturating_add(1);
                }
            }
        }
    }

    /// Consumes one span. Returns whether there was one. `passed` is what was consumed beyond the cursor.
    async fn step(&self, passed: &mut Position) -> Result<bool> {
        let Some(cursor) = self.resources.database.latest().get(&CURSOR_BY_FOLLOWER, &self.name)?
        else {
            self.begin().await?;
            return Ok(true);
        };
        let after = cursor.max(*passed);
        let span = Span::after(self.resources.database.published(), after)?;
        if span.upto <= after {
            return Ok(false);
        }
        let is_something = self.consumer.consume(&span).await?;
        if is_something || span.upto.0.saturating_sub(cursor.0) >= MAX_BEHIND {
            self.move_cursor(Some(cursor), span.upto).await?;
        }
        *passed = span.upto;
        Ok(true)
    }

    /// A cursor that is lost by a power failure only lets positions come again, so nothing waits for the disk.
    async fn move_cursor(&self, from: Option<Position>, to: Position) -> Result<()> {
        let mut batch = self.resources.database.batch();
        batch.require(&CURSOR_BY_FOLLOWER, &self.name, from.as_ref());
        batch.put(&CURSOR_BY_FOLLOWER, &self.name, &to);
        self.resources.database.commit(batch, Durability::Logged).await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use tokio::sync::mpsc;
    use wick_core::{Clock, Config, Error, Random, ShortEventId, ShortRoomId, clock::ManualClock};
    use wick_database::{Database, Fault, FaultAction, Options};

    use super::*;
    use crate::{ConflictLock, Limits, Workers};

    struct Zeros;

    impl Random for Zeros {
        fn fill(&self, bytes: &mut [u8]) {
            bytes.fill(0);
        }
    }

    /// Records what it consumed; fails while `failures` are left.
    struct Recorder {
        consumed: mpsc::UnboundedSender<Vec<u64>>,
        failures: AtomicU64,
        /// What it returns for each span.
        is_something: bool,
    }

    impl Consumer for Recorder {
        async fn consume(&self, span: &Span) -> Result<bool> {
            if self.failures.load(Ordering::SeqCst) > 0 {
                self.failures.fetch_sub(1, Ordering::SeqCst);
                return Err(Error::corrupt("the far side is away"));
            }
            let events = span.events()?.into_iter().map(|(position, _)| position.0).collect();
            self.consumed.send(events).unwrap();
            Ok(self.is_something)
        }
    }

    struct Server {
        resources: Resources,
        clock: Arc<ManualClock>,
        supervisor: Supervisor,
    }

    impl Server {
        fn open(folder: &tempfile::TempDir, fault: Option<Arc<dyn Fault>>) -> Self {
            let clock = Arc::new(ManualClock::without_sleep());
            let supervisor = Supervisor::new(Arc::clone(&clock) as Arc<dyn Clock>);
            let options = Options { fault, ..Options::default() };
            let config = Arc::new(Config::default());
            let limits = Limits::new(&config, &(Arc::clone(&clock) as Arc<dyn Clock>));
            let resources = Resources {
                config,
                database: Database::open(folder.path(), options).unwrap(),
                clock: Arc::clone(&clock) as Arc<dyn Clock>,
                random: Arc::new(Zeros),
                limits: Arc::new(limits),
                workers: Arc::new(Workers::new(&supervisor)),
                conflicts: ConflictLock::default(),
            };
            Self { resources, clock, supervisor }
        }

        fn follower(
            &self,
            failures: u64,
        ) -> (Follower<Recorder>, mpsc::UnboundedReceiver<Vec<u64>>) {
            let (consumed, received) = mpsc::unbounded_channel();
            let failures = AtomicU64::new(failures);
            let recorder = Recorder { consumed, failures, is_something: true };
            (Follower::new(self.resources.clone(), "test".to_owned(), recorder), received)
        }

        async fn events(&self, count: u64) {
            let mut batch = self.resources.database.batch();
            for number in 0..count {
                let slot = batch.reserve_position();
                let entry = StreamEntry { room: ShortRoomId(1), event: ShortEventId(number) };
                batch.put_at(slot, &EVENT_BY_STREAM, move |position| (position, entry));
            }
            self.resources.database.commit(batch, Durability::Synced).await.unwrap();
        }
    }

    /// The process crashes at this commit.
    struct CrashesAt(u64);

    impl Fault for CrashesAt {
        fn before_commit(&self, number: u64) -> FaultAction {
            if number == self.0 { FaultAction::StopBefore } else { FaultAction::Proceed }
        }
    }

    #[tokio::test]
    async fn a_crash_between_delivery_and_acknowledgement_delivers_again_and_loses_nothing() {
        let folder = tempfile::tempdir().unwrap();
        // The first commit sets the cursor, the second has the events, the third moves the cursor.
        let server = Server::open(&folder, Some(Arc::new(CrashesAt(3))));
        let (follower, mut consumed) = server.follower(0);
        assert!(follower.step(&mut Position::default()).await.unwrap());
        server.events(2).await;
        follower.step(&mut Position::default()).await.unwrap_err();
        assert_eq!(consumed.recv().await.unwrap(), [1, 2]);
        drop((follower, server));

        let server = Server::open(&folder, None);
        let (follower, mut consumed) = server.follower(0);
        assert!(follower.step(&mut Position::default()).await.unwrap());
        assert_eq!(consumed.recv().await.unwrap(), [1, 2], "they come again");
        assert!(
            !follower.step(&mut Position::default()).await.unwrap(),
            "what is acknowledged does not"
        );
        drop((follower, server));

        let server = Server::open(&folder, None);
        let (follower, mut consumed) = server.follower(0);
        assert!(!follower.step(&mut Position::default()).await.unwrap());
        assert!(consumed.try_recv().is_err());
    }

    #[tokio::test]
    async fn a_follower_begins_now_and_is_woken_by_commits() {
        let folder = tempfile::tempdir().unwrap();
        let server = Server::open(&folder, None);
        server.events(3).await;
        let (follower, mut consumed) = server.follower(0);
        assert!(follower.step(&mut Position::default()).await.unwrap());
        follower.start(&server.supervisor, "test").await.unwrap();
        for expected in [[4], [5]] {
            server.events(1).await;
            assert_eq!(consumed.recv().await.unwrap(), expected);
        }
        assert!(server.supervisor.stop(Duration::from_secs(60)).await);
    }

    #[tokio::test]
    async fn a_consumer_that_fails_is_tried_again_later_each_time() {
        let folder = tempfile::tempdir().unwrap();
        let server = Server::open(&folder, None);
        let (follower, mut consumed) = server.follower(3);
        assert!(follower.step(&mut Position::default()).await.unwrap());
        server.events(1).await;
        follower.start(&server.supervisor, "test").await.unwrap();
        assert_eq!(consumed.recv().await.unwrap(), [1]);
        let waits = server.clock.slept_until();
        assert_eq!(waits, [1, 2, 4].map(Duration::from_secs));
    }

    #[tokio::test]
    async fn a_long_stream_comes_in_spans() {
        let folder = tempfile::tempdir().unwrap();
        let server = Server::open(&folder, None);
        let (follower, mut consumed) = server.follower(0);
        assert!(follower.step(&mut Position::default()).await.unwrap());
        server.events(250).await;
        while follower.step(&mut Position::default()).await.unwrap() {}
        let mut sizes = Vec::new();
        while let Ok(events) = consumed.try_recv() {
            sizes.push(events.len());
        }
        assert_eq!(sizes, [100, 100, 50]);
    }

    #[tokio::test]
    async fn what_is_nothing_to_the_consumer_is_consumed_once_and_moves_no_cursor_until_it_is_much()
    {
        let folder = tempfile::tempdir().unwrap();
        let server = Server::open(&folder, None);
        let (mut follower, mut consumed) = server.follower(0);
        follower.consumer.is_something = false;
        follower.begin().await.unwrap();
        let cursor = || {
            let latest = server.resources.database.latest();
            latest.get(&CURSOR_BY_FOLLOWER, &"test".to_owned()).unwrap().unwrap()
        };
        let (begun, mut passed) = (cursor(), Position::MIN);
        for number in 1..=3 {
            server.events(1).await;
            assert!(follower.step(&mut passed).await.unwrap());
            assert!(!follower.step(&mut passed).await.unwrap());
            assert_eq!(consumed.recv().await.unwrap(), [number]);
        }
        assert_eq!(cursor(), begun);
        server.events(MAX_BEHIND).await;
        while follower.step(&mut passed).await.unwrap() {}
        assert!(cursor() > begun);
    }
}
