//! Background work: finishing what a crash has interrupted, pruning old rows.

use std::{sync::Arc, time::Duration};

use wick_core::Result;
use wick_database::{
    Durability, Range, Read,
    schema::{
        replacement::{PREDECESSOR_BY_MEMBER, REPLACEMENT_BY_ROOM},
        room::{ANSWER_BY_TRANSACTION, TRANSACTION_BY_POSITION},
    },
};

use super::{Rooms, sticky};

/// For how long a repeated request is given the same answer.
const ANSWERS_KEPT_FOR: Duration = Duration::from_secs(14 * 86_400);

/// How often older answers are deleted.
const PRUNE_EVERY: Duration = Duration::from_secs(3_600);

/// How often sticky events that have ended are deleted.
const PRUNE_STICKY_EVERY: Duration = Duration::from_secs(600);

/// How many are deleted in one batch.
const CHUNK: usize = 1_000;

impl Rooms {
    /// Starts to prune, and to finish what an earlier run has not finished.
    pub fn start(self: &Arc<Self>) {
        let rooms = Arc::clone(self);
        self.supervisor.spawn_once("rooms", async move {
            if let Err(error) = rooms.resume().await {
                tracing::error!(%error, "cannot finish what an earlier run began");
            }
        });
        let rooms = Arc::clone(self);
        self.supervisor.spawn_periodic("transaction answers", PRUNE_EVERY, move || {
            let rooms = Arc::clone(&rooms);
            async move { rooms.prune_answers().await }
        });
        let resources = self.resources.clone();
        self.supervisor.spawn_periodic("ended sticky events", PRUNE_STICKY_EVERY, move || {
            let resources = resources.clone();
            async move { sticky::prune(&resources).await }
        });
    }

    /// Finishes upgrades, and copies what follows users into replacement rooms.
    ///
    /// # Errors
    /// If the database refuses.
    pub async fn resume(&self) -> Result<()> {
        let latest = self.resources.database.latest();
        for old in latest.scan(&REPLACEMENT_BY_ROOM, Range::all()).keys() {
            match self.announce_replacement(old?).await {
                Ok(_) => {}
                Err(error) if !error.is_internal() => {
                    tracing::warn!(%error, "a replaced room has no tombstone");
                }
                Err(error) => return Err(error),
            }
        }
        for member in latest.scan(&PREDECESSOR_BY_MEMBER, Range::all()).keys() {
            let (user, room) = member?;
            self.follow(user, room).await;
        }
        // A request may have finished some of it, and not be durable yet.
        self.resources.settle().await
    }

    /// Deletes the answers that are too old for their requests to be repeated.
    async fn prune_answers(&self) -> Result<()> {
        let now = self.resources.clock.now();
        loop {
            let mut batch = self.resources.database.batch();
            let oldest = self.resources.database.latest();
            for row in oldest.scan(&TRANSACTION_BY_POSITION, Range::all()).take(CHUNK) {
                let (position, answered) = row?;
                if now.since(answered.at) <= ANSWERS_KEPT_FOR {
                    break;
                }
                batch.delete(&TRANSACTION_BY_POSITION, &position);
                batch.delete(&ANSWER_BY_TRANSACTION, &answered.key);
            }
            if batch.is_empty() {
                return Ok(());
            }
            self.resources.database.commit(batch, Durability::Flushed).await?;
        }
    }
}
