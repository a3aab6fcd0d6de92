//! Tests of the whole crate through its public face.

mod batch;
mod change;
mod commit;
mod crash;
mod damage;
mod intern;
mod overlay;
mod watch;

use std::{
    future::Future,
    path::Path,
    pin::pin,
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Waker},
};

use crate::{Database, Fault, FaultAction, Options};

/// A database in a folder that goes when it does.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> std::path::PathBuf {
        self.0.path().join("db")
    }

    fn open(&self) -> Database {
        open(&self.path())
    }

    fn open_with(&self, fault: impl Fault) -> Database {
        let fault: Option<Arc<dyn Fault>> = Some(Arc::new(fault));
        Database::open(&self.path(), Options { fault, ..Options::default() }).unwrap()
    }
}

fn open(path: &Path) -> Database {
    Database::open(path, Options::default()).unwrap()
}

/// Whether a future is done, asked once.
fn is_ready<F: Future + Unpin>(future: &mut F) -> bool {
    pin!(future).poll(&mut Context::from_waker(Waker::noop())).is_ready()
}

/// Does `action` at the `at`-th commit.
struct At {
    at: u64,
    action: FaultAction,
}

impl Fault for At {
    fn before_commit(&self, number: u64) -> FaultAction {
        if number == self.at { self.action } else { FaultAction::Proceed }
    }
}

/// A disk whose syncs wait until they are let through, or fail.
#[derive(Clone, Default)]
struct Disk(Arc<DiskState>);

#[derive(Default)]
struct DiskState {
    held: Mutex<bool>,
    released: Condvar,
    fails: AtomicBool,
}

impl Disk {
    fn hold(&self) {
        *self.0.held.lock().unwrap() = true;
    }

    fn release(&self) {
        *self.0.held.lock().unwrap() = false;
        self.0.released.notify_all();
    }

    fn break_down(&self) {
        self.0.fails.store(true, Ordering::SeqCst);
    }
}

impl Fault for Disk {
    fn before_commit(&self, _number: u64) -> FaultAction {
        FaultAction::Proceed
    }

    fn before_sync(&self) -> bool {
        let held = self.0.held.lock().unwrap();
        drop(self.0.released.wait_while(held, |held| *held).unwrap());
        !self.0.fails.load(Ordering::SeqCst)
    }
}

#[test]
fn what_tasks_share_can_be_shared() {
    fn shared<T: Send + Sync>() {}
    fn sent<T: Send>() {}
    shared::<Database>();
    shared::<crate::Batch>();
    shared::<crate::Snapshot>();
    shared::<crate::Latest>();
    shared::<crate::Error>();
    sent::<crate::Pending>();
    sent::<crate::Watch>();
    sent::<crate::Scan<'_, String, u64>>();
}
