//! Presence that does not change, sent again: other servers take a user for offline of whom they heard nothing for long.

use std::{sync::Arc, time::Duration};

use wick_core::Result;
use wick_database::{
    Batch, Durability, Range, Read,
    schema::{
        ephemeral::{PRESENCE_BY_USER, PresenceKind},
        outgoing::{EDU_BY_STREAM, QueuedEdu},
    },
};

use crate::{edus, sender::Shared};

/// How often it is sent again: more often than every half hour, after which other servers forget it.
pub(crate) const EVERY: Duration = Duration::from_secs(25 * 60);

/// How many EDUs are queued in one batch.
const BATCH: usize = 100;

/// Queues the presence of all local users who are not offline for the servers that they share rooms with.
pub(crate) async fn send_again(shared: &Arc<Shared>) -> Result<()> {
    if !shared.resources.config.presence.enabled {
        return Ok(());
    }
    let of_job = Arc::clone(shared);
    let found = move || present(&of_job);
    let edus = shared.resources.workers.run(&"sender-presence", found).await?;
    for edus in edus.chunks(BATCH) {
        let build = |batch: &mut Batch| {
            for edu in edus {
                let (slot, edu) = (batch.reserve_position(), edu.clone());
                batch.put_at(slot, &EDU_BY_STREAM, move |position| (position, edu));
            }
            Ok(())
        };
        shared.resources.change_with(Durability::Flushed, build).await?;
    }
    Ok(())
}

fn present(shared: &Shared) -> Result<Vec<QueuedEdu>> {
    let read = shared.resources.database.published();
    let mut edus = Vec::new();
    for row in read.scan(&PRESENCE_BY_USER, Range::all()) {
        let (user, row) = row?;
        if row.state == PresenceKind::Offline {
            continue;
        }
        if let Some((json, destinations)) = edus::presence(shared, &read, (user, row.position))? {
            edus.push(QueuedEdu { destinations, json, is_transient: true });
        }
    }
    Ok(edus)
}
