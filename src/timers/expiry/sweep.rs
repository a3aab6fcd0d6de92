//! Forgetting ends that are too long ago to be answered again.

use std::{sync::Arc, time::Duration};

use wick_core::Result;
use wick_database::{Durability, Range, Read, schema::timer::ENDED_BY_TIMER};
use wick_runtime::Supervisor;

use super::{END_REPEAT, Expiry};

/// How often the memory of hand-ended timers is swept.
const SWEEP_EVERY: Duration = Duration::from_secs(10 * 60);

impl Expiry {
    /// Starts to sweep.
    pub fn start(self: &Arc<Self>, supervisor: &Arc<Supervisor>) {
        let expiry = Arc::clone(self);
        supervisor.spawn_periodic("ended timers", SWEEP_EVERY, move || {
            let expiry = Arc::clone(&expiry);
            async move { expiry.sweep_ended().await }
        });
    }

    async fn sweep_ended(&self) -> Result<()> {
        let now = self.resources.clock.now();
        let latest = self.timers.latest();
        let mut batch = self.resources.database.batch();
        for row in latest.scan(&ENDED_BY_TIMER, Range::all()) {
            let (timer, row) = row?;
            if now.since(row.at) > END_REPEAT {
                batch.delete(&ENDED_BY_TIMER, &timer);
            }
        }
        if !batch.is_empty() {
            self.resources.database.commit(batch, Durability::Flushed).await?;
        }
        Ok(())
    }
}
