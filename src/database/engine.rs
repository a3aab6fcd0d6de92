//! The database as a whole: opening, reading, writing, closing.
//!
//! Invariant: RocksDB closes when the last [`Database`], [`Batch`], [`Snapshot`] and [`Latest`] of it is
//! dropped; commits that were written survive a drop without [`Database::close`].
//!
//! When the disk is full, commits fail and reads continue to work. RocksDB looks every few seconds whether there
//! is space for one write buffer (16 MiB) again, and if so, commits work again without a restart.

pub(crate) mod backup;
pub(crate) mod commit;
pub(crate) mod durable;
pub(crate) mod fault;
pub(crate) mod log;
pub(crate) mod metrics;
pub(crate) mod open;
pub(crate) mod profile;
pub(crate) mod syncer;
mod version;

use std::{fmt, path::Path, sync::Arc};

use rocksdb::DB;
use wick_core::{Position, ShortRoomId, ShortUserId};

use self::{
    commit::{Committed, Durability, Engine, Pending},
    fault::Fault,
    syncer::Syncer,
};
use crate::{
    Batch, Error, Interner, Latest, Result, Snapshot, Table, Topic, Watch, migrate, schema::meta,
    table::Wakes,
};

/// How to open a database. The defaults suit a small machine.
#[derive(Clone)]
pub struct Options {
    /// In place of what each commit asks for.
    pub durability: Option<Durability>,
    /// Memory for blocks, filters and indexes read from disk, in bytes.
    pub cache_bytes: usize,
    /// Memory for rows that are only in the log yet, of all tables together, in bytes.
    pub write_buffer_bytes: usize,
    /// How many table files are kept open.
    pub max_open_files: i32,
    /// Makes commits fail, in tests.
    pub fault: Option<Arc<dyn Fault>>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            durability: None,
            cache_bytes: 64 << 20,
            write_buffer_bytes: 64 << 20,
            max_open_files: 512,
            fault: None,
        }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("durability", &self.durability)
            .field("cache_bytes", &self.cache_bytes)
            .field("write_buffer_bytes", &self.write_buffer_bytes)
            .field("max_open_files", &self.max_open_files)
            .finish_non_exhaustive()
    }
}

/// An open database. Cheap to clone.
#[derive(Clone)]
pub struct Database {
    engine: Arc<Engine>,
    interner: Arc<Interner>,
    // Last, so that the engine is still there while the thread ends.
    syncer: Arc<Syncer>,
}

impl Database {
    /// Opens the database in `path`, and makes it if there is none. Blocks: reads the log of the
    /// last run.
    ///
    /// # Errors
    /// If the folder is in use, broken, cannot be written to, or was written by a newer version;
    /// [`Error::Damaged`](crate::Error::Damaged) if durable commits cannot be read.
    pub fn open(path: &Path, options: Options) -> Result<Self> {
        let (db, durable) = open::open(path, &options)?;
        let db = Arc::new(db);
        let interner = Arc::new(Interner::open(&Latest(Arc::clone(&db)))?);
        let engine = Arc::new(Engine::new(db, durable, options.durability)?);
        let syncer = Arc::new(Syncer::spawn(Arc::clone(&engine))?);
        let database = Self { engine, interner, syncer };
        migrate::run(&database)?;
        if let Some(fault) = options.fault {
            database.engine.inject(fault);
        }
        Ok(database)
    }

    /// Gives up what follows the damage in the logs of a database that [`Database::open`] refuses as
    /// damaged, so that it opens again in the state before the damage. Returns what was given up; `None` if nothing had to
    /// be. The damaged files are kept under other names. Blocks.
    ///
    /// # Errors
    /// If the folder is in use, or is broken in another way.
    pub fn salvage(path: &Path, options: &Options) -> Result<Option<String>> {
        open::salvage(path, options)
    }

    /// The newest state that readers may see: consistent, and durable as far as its commits asked for.
    #[must_use]
    pub fn published(&self) -> Snapshot {
        self.engine.published()
    }

    /// The last published position.
    #[must_use]
    pub fn position(&self) -> Position {
        self.published().position()
    }

    /// Resolves once `position` is published: for a reader with a token of a position that is given out
    /// already, or that another node has published. A position that is never given out is waited for without
    /// end, so the caller limits the time.
    pub async fn reached(&self, position: Position) {
        let mut watch = self.watch().topic(Topic::Stream);
        while self.position() < position {
            watch.changed().await;
        }
    }

    /// Everything written, published or not. For writers that hold a room's lock, and for timers.
    #[must_use]
    pub fn latest(&self) -> Latest {
        Latest(Arc::clone(&self.engine.db))
    }

    /// An empty batch.
    #[must_use]
    pub fn batch(&self) -> Batch {
        Batch::new(self.clone())
    }

    /// Writes a batch and waits until it is durable (as far as asked) and published.
    ///
    /// # Errors
    /// As [`Database::write`]; and if the log cannot be made durable.
    pub async fn commit(&self, batch: Batch, durability: Durability) -> Result<Committed> {
        self.write(batch, durability)?.await
    }

    /// Writes a batch to the log, in order, and returns a future of its publication, which the answer waits for.
    /// Takes microseconds. What is written is seen by [`Database::latest`] at once; the next writer
    /// of a room can build on it before the wait is over.
    ///
    /// # Errors
    /// [`Error::Conflict`](crate::Error::Conflict) if a required row has changed; otherwise if the
    /// engine refuses. Nothing was written then.
    pub fn write(&self, batch: Batch, durability: Durability) -> Result<Pending> {
        self.engine.write(batch.change, durability)
    }

    /// Whether a row that a batch requires is another one by now, so that a commit of the batch would be a
    /// conflict.
    ///
    /// # Errors
    /// If a row cannot be read.
    pub fn has_changed(&self, batch: &Batch) -> Result<bool> {
        match batch.change.required.check(self.engine()) {
            Ok(()) => Ok(false),
            Err(error) if error.is_conflict() => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// Checks what a void batch requires, and returns a future that waits until all that was written
    /// before is durable (as far as asked) and published: what the batch read can be of a request that is
    /// not answered yet. This is no commit.
    ///
    /// # Errors
    /// [`Error::Conflict`](crate::Error::Conflict) if a required row has changed; if the batch is not
    /// [void](Batch::is_void); as [`Database::write`].
    pub fn settle(&self, mut batch: Batch) -> Result<Pending> {
        if !batch.is_void() {
            return Err(Error::engine("a batch that changes something must be committed"));
        }
        self.engine.settle(&batch.change.required)
    }

    /// Whether something may have been written in a room above `since` that wakes the room's readers.
    /// `false` is certain for every snapshot; `true` is not.
    #[must_use]
    pub fn is_busy_since(&self, room: ShortRoomId, since: Position) -> bool {
        self.engine.activity.is_busy_since(room, since)
    }

    /// The rooms in which something was written above `since` that wakes their readers, the newest first;
    /// `None` if they are more than `most`, or if `since` is too long ago to know.
    #[must_use]
    pub fn busy_since(&self, since: Position, most: usize) -> Option<Vec<ShortRoomId>> {
        self.engine.activity.busy_since(since, most)
    }

    /// Whether a row with a position may have been written above `since` in a table that wakes a user, for this
    /// user. `false` is certain for every snapshot; `true` is not.
    #[must_use]
    pub fn is_user_changed_since(&self, user: ShortUserId, since: Position) -> bool {
        self.engine.activity.is_user_changed_since(user, since)
    }

    /// The same for a table, if it is one that wakes its own topic.
    #[must_use]
    pub fn is_table_changed_since<K, V>(&self, table: &Table<K, V>, since: Position) -> bool {
        table.wakes() != Wakes::Table
            || self.engine.activity.is_table_changed_since(table.name(), since)
    }

    /// Whether a row of `MEMBER_BY_USER` of a user may have been written above `since`. `false` is
    /// certain for every snapshot; `true` is not.
    #[must_use]
    pub fn is_member_changed_since(&self, user: ShortUserId, since: Position) -> bool {
        self.engine.activity.is_member_changed_since(user, since)
    }

    /// A watch on nothing yet. Add what to wait for, then read, then wait.
    #[must_use]
    pub fn watch(&self) -> Watch {
        Watch::new(Arc::clone(&self.engine.registry))
    }

    /// The short ids.
    #[must_use]
    pub fn intern(&self) -> &Interner {
        &self.interner
    }

    /// The folder it is in.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.engine.db.path()
    }

    /// Copies the database, as it is at some moment of the call, into `folder`, which must not exist
    /// yet. Commits continue meanwhile. On the same file system the copy shares its files with the
    /// database and takes hardly any space. Blocks.
    ///
    /// # Errors
    /// If the folder exists, or cannot be written.
    pub fn backup(&self, folder: &Path) -> Result<()> {
        backup::backup(&self.engine, folder)
    }

    /// Writes a row of no meaning and makes it durable.
    ///
    /// # Errors
    /// If commits do not work.
    pub async fn ensure_writable(&self) -> Result<()> {
        let mut batch = self.batch();
        batch.put(&meta::META, &meta::PROBE.to_owned(), &0);
        self.commit(batch, Durability::Synced).await.map(drop)
    }

    /// Whether this is a copy that [`Database::backup`] made, or what [`Database::salvage`] left, and was not adopted
    /// yet: what was done since is not in it.
    ///
    /// # Errors
    /// If the folder cannot be read.
    pub fn is_copy(&self) -> Result<bool> {
        backup::is_copy(&self.engine)
    }

    /// Makes a copy a database like any other, once everything is done that a copy needs.
    ///
    /// # Errors
    /// If the folder cannot be written, or this is no copy.
    pub fn adopt(&self) -> Result<()> {
        backup::adopt(&self.engine)
    }

    /// Makes everything durable and refuses commits from now on. Reads still work.
    ///
    /// # Errors
    /// If the log cannot be made durable.
    pub async fn close(&self) -> Result<()> {
        self.syncer.close(&self.engine).await
    }

    pub(crate) fn engine(&self) -> &DB {
        &self.engine.db
    }
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Database")
            .field("path", &self.engine.db.path())
            .field("position", &self.position())
            .finish_non_exhaustive()
    }
}
