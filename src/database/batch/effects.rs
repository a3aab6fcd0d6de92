//! What follows from a batch in memory, once it is written (R12).

use std::{
    cell::Cell,
    fmt,
    panic::{self, AssertUnwindSafe},
    sync::{Mutex, PoisonError},
};

type Effect = Box<dyn FnOnce() + Send>;

/// The effects of one batch. The mutex is never locked: it makes a batch `Sync`.
#[derive(Default)]
pub(crate) struct Effects(Mutex<Vec<Effect>>);

thread_local! {
    static IN_EFFECT: Cell<bool> = const { Cell::new(false) };
}

/// Whether this thread runs an effect, and so holds the commit lock.
pub(crate) fn is_in_effect() -> bool {
    IN_EFFECT.get()
}

impl Effects {
    pub(super) fn add(&mut self, effect: impl FnOnce() + Send + 'static) {
        self.0.get_mut().unwrap_or_else(PoisonError::into_inner).push(Box::new(effect));
    }

    pub(super) fn is_empty(&mut self) -> bool {
        self.0.get_mut().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// Runs them. The batch is written, so a panic is logged and takes nothing back.
    pub(crate) fn run(self) {
        for effect in self.0.into_inner().unwrap_or_else(PoisonError::into_inner) {
            IN_EFFECT.set(true);
            if panic::catch_unwind(AssertUnwindSafe(effect)).is_err() {
                tracing::error!("an effect of a commit panicked");
            }
            IN_EFFECT.set(false);
        }
    }
}

impl fmt::Debug for Effects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Effects").finish_non_exhaustive()
    }
}
