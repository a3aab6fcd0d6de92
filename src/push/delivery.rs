//! One pusher at work: sends what is due to its gateway, one after another, until nothing is left.
//!
//! Invariants: the cursor moves only once the gateway has accepted a notification, or once it is dropped; what the
//! gateway does not accept is sent again, later each time, until it is too old.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use serde::Deserialize;
use wick_account::pushers::{self, PusherKey};
use wick_core::{BackOff, Error, Position, Result, Timestamp, error::retry_time};
use wick_database::{
    Batch, Durability, Range, Read,
    schema::{
        account_data::{PUSHER_BY_ID, StoredPusher},
        push::{PENDING_PUSH_BY_POSITION, PROGRESS_BY_PUSHER, Pushed, PusherProgress},
    },
};
use wick_outbound::{Failure, Response};

use crate::{
    notification::{Writer, Written},
    push::Shared,
};

/// The wait after a gateway did not accept a notification.
const BACK_OFF: BackOff = BackOff::new(Duration::from_secs(1), Duration::from_secs(3600));

/// How long a notification is worth sending.
const LIFETIME: Duration = Duration::from_secs(24 * 3600);

/// How much of a gateway's response is read.
const MAX_RESPONSE: u64 = 65_536;

/// How many rows are looked at before the cursor is moved.
const LOOKED_AT: usize = 100;

/// A pusher at work.
#[derive(Clone)]
pub(crate) struct Delivery {
    shared: Arc<Shared>,
    key: PusherKey,
}

/// What a pusher does next.
enum Step {
    /// There is nothing to send.
    Rest,
    /// Everything up to a position is dropped.
    Drop(Position),
    /// A request.
    Send(Box<Sending>),
}

/// A notification ready to be sent.
struct Sending {
    position: Position,
    /// When it became due.
    at: Timestamp,
    written: Written,
    /// The pusher it was made for.
    pusher: StoredPusher,
}

/// What became of a step.
enum StepOutcome {
    /// There was nothing to send.
    Rested,
    /// The cursor was moved.
    Moved,
    /// The gateway did not accept the notification.
    Failed(Failure),
    /// The server stops.
    Stopped,
}

/// Why a wait is over.
enum Waited {
    /// The time has passed.
    Whole,
    /// The user has set a pusher.
    SetAnew,
}

/// What a gateway answers.
#[derive(Default, Deserialize)]
struct Answer {
    #[serde(default)]
    rejected: Vec<String>,
}

impl Delivery {
    pub(crate) fn new(shared: &Arc<Shared>, key: &PusherKey) -> Self {
        Self { shared: Arc::clone(shared), key: key.clone() }
    }

    /// Works until there is nothing to send, or the server stops.
    pub(crate) async fn run(self) {
        let mut failures = 0_u32;
        loop {
            let back_off = BACK_OFF.after(failures);
            let wait = match self.step().await {
                Ok(StepOutcome::Rested) if self.shared.has_more(&self.key) => continue,
                Ok(StepOutcome::Rested | StepOutcome::Stopped) => return,
                Ok(StepOutcome::Moved) => {
                    failures = 0;
                    continue;
                }
                Ok(StepOutcome::Failed(failure)) => {
                    metrics::counter!("wick_push_failed_total").increment(1);
                    tracing::info!(%failure, ?back_off, "a push gateway did not accept a notification");
                    let now = self.shared.resources.clock.now();
                    let retry_at = match failure {
                        Failure::Status { retry_after, .. } => {
                            retry_after.and_then(|after| retry_time(after, now))
                        }
                        _ => None,
                    };
                    retry_at.map_or(back_off, |at| at.since(now).max(back_off))
                }
                Err(error) => {
                    tracing::warn!(%error, ?back_off, "a notification cannot be made and is tried again");
                    back_off
                }
            };
            match self.wait(wait.min(BACK_OFF.longest())).await {
                None => return,
                Some(Waited::Whole) => failures = failures.saturating_add(1),
                Some(Waited::SetAnew) => failures = 0,
            }
        }
    }

    /// Waits for some time, or until the user sets a pusher. `None` if the server stops.
    async fn wait(&self, time: Duration) -> Option<Waited> {
        let resources = &self.shared.resources;
        let mut set = resources.database.watch().topic(pushers::topic(self.key.0));
        let over = resources.clock.sleep_until(resources.clock.monotonic() + time);
        let wait = async {
            tokio::select! {
                () = over => Waited::Whole,
                () = set.changed() => Waited::SetAnew,
            }
        };
        self.shared.supervisor.stopping().run_until_cancelled(wait).await
    }

    async fn step(&self) -> Result<StepOutcome> {
        let (this, workers) = (self.clone(), &self.shared.resources.workers);
        // Of their own, so that a user's pushers and a user's requests do not wait for each other.
        let step = workers.run(&("push", self.key.0), move || this.next()).await?;
        match step {
            Step::Rest => Ok(StepOutcome::Rested),
            Step::Drop(upto) => {
                self.advance(upto, None).await?;
                Ok(StepOutcome::Moved)
            }
            Step::Send(sending) => self.send(*sending).await,
        }
    }

    /// The first thing that is due and not to be dropped.
    fn next(&self) -> Result<Step> {
        // Rows without a position can be published late. The events that they name are published already.
        let latest = self.shared.resources.database.latest();
        let Some(pusher) = latest.get(&PUSHER_BY_ID, &self.key)? else { return Ok(Step::Rest) };
        let progress = latest.get(&PROGRESS_BY_PUSHER, &self.key)?.unwrap_or_default();
        let user = self.key.0;
        let range = Range::prefix((user,)).and(Range::after(&(user, progress.upto)));
        let rows = latest.scan(&PENDING_PUSH_BY_POSITION, range).take(LOOKED_AT);
        let rows = rows.collect::<std::result::Result<Vec<_>, _>>()?;
        let Some(((_, last), _)) = rows.last() else { return Ok(Step::Rest) };
        if !pusher.is_enabled {
            return Ok(Step::Drop(*last));
        }
        let read = self.shared.resources.database.published();
        let writer = Writer::new(&self.shared, &read, &self.key, &pusher)?;
        let now = self.shared.resources.clock.now();
        for ((_, position), pending) in &rows {
            if now.since(pending.at) >= LIFETIME {
                metrics::counter!("wick_push_given_up_total").increment(1);
                continue;
            }
            let written = match &pending.what {
                Pushed::Event { room, event, actions } => {
                    writer.event((*room, *event), actions, &progress)?
                }
                Pushed::RemoteInvite { room, actions } => {
                    writer.remote_invite((*room, *position), actions, &progress)?
                }
                // What comes later has the count, too.
                Pushed::Count if position == last => writer.count(&progress)?,
                Pushed::Count => None,
            };
            if let Some(written) = written {
                let sending = Sending { position: *position, at: pending.at, written, pusher };
                return Ok(Step::Send(Box::new(sending)));
            }
        }
        Ok(Step::Drop(*last))
    }

    async fn send(&self, sending: Sending) -> Result<StepOutcome> {
        let Written { url, body, badge } = sending.written;
        let request = async {
            let admitted = self.shared.gateways.admit(&url).await?;
            let (outbound, clock) = (&self.shared.outbound, &self.shared.resources.clock);
            let began = clock.monotonic();
            let response = outbound.post_json(&url, body, outbound.short(MAX_RESPONSE)).await;
            let answer = match response.and_then(Response::success) {
                Ok(response) => response.bytes().await,
                Err(failure) => Err(failure),
            };
            admitted.note(answer.is_ok(), clock.monotonic().since(began));
            Ok::<_, Error>(answer)
        };
        // What comes after the answer is not cancelled: it would be sent again.
        let stopping = self.shared.supervisor.stopping();
        let Some(answer) = stopping.run_until_cancelled(request).await else {
            return Ok(StepOutcome::Stopped);
        };
        let answer = match answer? {
            Ok(answer) => answer,
            Err(failure) => return Ok(StepOutcome::Failed(failure)),
        };
        // A gateway that answers something else has accepted the notification all the same.
        let Answer { rejected } = serde_json::from_slice(&answer).unwrap_or_default();
        if rejected.contains(&self.key.2) {
            metrics::counter!("wick_push_rejected_total").increment(1);
            self.shared.pushers.reject(&self.key, &sending.pusher).await?;
        }
        metrics::counter!("wick_push_sent_total").increment(1);
        let lag = self.shared.resources.clock.now().since(sending.at);
        metrics::histogram!("wick_push_lag_seconds").record(lag.as_secs_f64());
        self.advance(sending.position, badge).await?;
        Ok(StepOutcome::Moved)
    }

    /// Moves the cursor, and deletes what all pushers of the user have passed.
    async fn advance(&self, upto: Position, badge: Option<u64>) -> Result<()> {
        let user = self.key.0;
        let build = |batch: &mut Batch| {
            if !batch.contains(&PUSHER_BY_ID, &self.key)? {
                return Ok(());
            }
            let rows = batch.scan_for_update(&PROGRESS_BY_PUSHER, Range::prefix((user,)))?;
            let mut all: BTreeMap<_, _> = rows.into_iter().collect();
            let lowest = |all: &BTreeMap<PusherKey, PusherProgress>| {
                all.values().map(|progress| progress.upto).min().unwrap_or_default()
            };
            let before = lowest(&all);
            let progress = all.entry(self.key.clone()).or_default();
            progress.upto = progress.upto.max(upto);
            progress.badge = badge.or(progress.badge);
            batch.put(&PROGRESS_BY_PUSHER, &self.key, progress);
            let passed = Range::after(&(user, before)).and(Range::through(&(user, lowest(&all))));
            Ok(batch.delete_range(&PENDING_PUSH_BY_POSITION, passed)?)
        };
        self.shared.resources.change_with(Durability::Flushed, build).await
    }
}
