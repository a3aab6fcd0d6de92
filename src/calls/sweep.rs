//! Deletes what is known of participants that are long gone.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
    time::Duration,
};

use wick_core::Result;
use wick_database::{
    Durability, Range, Read,
    schema::calls::{PARTICIPANT_BY_IDENTITY, ParticipantRow},
};
use wick_runtime::Supervisor;

use crate::{Calls, participants::Place};

/// How long a participant without a delegated timer or a connection is known after its last token.
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
        let old = self.disconnected(self.long_unused()?).await;
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

    /// The participants without a timer that got no token for long, by LiveKit room.
    fn long_unused(&self) -> Result<BTreeMap<String, Vec<(String, ParticipantRow)>>> {
        let now = self.resources.clock.now();
        let mut unused = BTreeMap::<_, Vec<_>>::new();
        for row in self.resources.database.latest().scan(&PARTICIPANT_BY_IDENTITY, Range::all()) {
            let ((room, identity), row) = row?;
            if !row.has_timers() && now.since(row.issued) > KEPT_FOR {
                unused.entry(room).or_default().push((identity, row));
            }
        }
        Ok(unused)
    }

    /// Those that LiveKit does not list: a forgotten one could not be removed when its user stops being a member.
    async fn disconnected(
        &self,
        unused: BTreeMap<String, Vec<(String, ParticipantRow)>>,
    ) -> Vec<(Place, ParticipantRow)> {
        let mut old = Vec::new();
        for (room, participants) in unused {
            let listed = match self.livekit.participants(&room).await {
                Ok(listed) => listed,
                Err(failure) => {
                    tracing::info!(%failure, "former participants are kept for now");
                    break;
                }
            };
            let present: HashSet<_> = listed.into_iter().map(|listed| listed.identity).collect();
            for (identity, row) in participants {
                if !present.contains(&identity) {
                    old.push((Place { room: room.clone(), identity }, row));
                }
            }
        }
        old
    }
}
