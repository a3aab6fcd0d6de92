//! What timers do when they fire, by kind.

use std::sync::Arc;

use wick_core::Result;
use wick_database::{Batch, schema::timer::Feature};
use wick_room::Assembly;
use wick_rooms::Delayed;
use wick_timers::{
    Expiry,
    timers::{Decided, Fired, Fires},
};

/// What timers of each kind do when they fire.
pub(crate) struct Kinds {
    pub(crate) expiry: Arc<Expiry>,
    pub(crate) delayed: Arc<Delayed>,
}

impl Kinds {
    fn of(&self, decided: &Decided) -> &dyn Fires {
        match decided.row.kind.feature() {
            Feature::Expiry => &*self.expiry,
            Feature::Delay => &*self.delayed,
        }
    }
}

impl Fires for Kinds {
    fn fire(&self, room: &mut Assembly<'_>, decided: &Decided) -> Result<Fired> {
        self.of(decided).fire(room, decided)
    }

    fn discard(&self, batch: &mut Batch, decided: &Decided) -> Result<()> {
        self.of(decided).discard(batch, decided)
    }
}
