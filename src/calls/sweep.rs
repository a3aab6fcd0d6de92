//! Deletes what is known of participants that are long gone.

use std::{sync::Arc, time::Duration};

use wick_core::Result;
use wick_database::{Durability, Range, Read, schema::calls::PARTICIPANT_BY_IDENTITY};
use wick_runtime::Supervisor;

use crate::{Calls, participants::Place};

/// How long a participant without a delegated timer is known after its last token.
const KEPT_FOR: Duration = Duration::from_secs(7 * 86_400);

/// How often old ones are looked for.
const SWEEP_EVERY: Duration = Duration::from_secs(3_600);

/// How many are deleted at a time.
const CHUNK: usize = 500;

impl Calls {
    /// Starts to sweep.
    pub(crate) fn sweep_regularly(self: &Arc<Self>, supervisor: &Supervisor) {
        let calls = Arc::clone(self);
        supervisor.spawn_periodic("former participants", SWEEP_EVERY, move || {
            let calls = Arc::clone(&calls);
            async move { calls.sweep().await }
        });
    }

    async fn sweep(&self) -> Result<()> {
        let now = self.resources.clock.now();
        let mut old = Vec::new();
        for row in self.resources.database.latest().scan(&PARTICIPANT_BY_IDENTITY, Range::all()) {
            let ((room, identity), row) = row?;
            if row.delegated.is_empty() && now.since(row.issued) > KEPT_FOR {
                old.push((Place { room, identity }, row));
            }
        }
        for chunk in old.chunks(CHUNK) {
            self.resources
                .change_with(Durability::Flushed, |batch| {
                    for (place, seen) in chunk {
                        let row = batch.read_for_update(&PARTICIPANT_BY_IDENTITY, &place.key())?;
                        if row.as_ref() == Some(seen) {
                            self.forget(batch, place, (seen.room, seen.user))?;
                        }
                    }
                    Ok(())
                })
                .await?;
        }
        Ok(())
    }
}
