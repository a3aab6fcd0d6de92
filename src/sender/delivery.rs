//! One destination at work: sends what is in its queue, one transaction after another, until nothing is left.
//!
//! Invariants: the queue is shortened only once the destination has answered; a destination that does not answer is asked
//! again when its back-off ends, or when it gives a sign of life.

use std::{sync::Arc, time::Duration};

use ruma::{OwnedServerName, OwnedTransactionId, ServerName};
use ruma_federation_api::transactions::send_transaction_message::v1::{Request, Response};
use tokio::sync::SemaphorePermit;
use wick_core::{Error, RemoteReason, Result};
use wick_database::{
    Batch, Durability, Range,
    schema::outgoing::{
        DestinationProgress, Gap, OUTGOING_BY_DESTINATION, PROGRESS_BY_DESTINATION,
    },
};

use crate::{
    bounds,
    sender::Shared,
    transaction::{self, Acknowledged, Step, Transaction},
};

/// The wait after a failure that lets the destination be asked at once, as a refusal does.
pub(crate) const PAUSE: Duration = Duration::from_secs(60);

/// The bounds of the wait that a destination asks for.
const SHORTEST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(3600);

/// A destination at work.
pub(crate) struct Delivery {
    shared: Arc<Shared>,
    server: OwnedServerName,
}

/// What became of a step.
enum Outcome {
    /// There was nothing to send.
    Rested,
    /// Something was acknowledged.
    Moved,
    /// The destination did not take it.
    Failed(Error),
    /// The server stops.
    Stopped,
}

impl Delivery {
    pub(crate) fn new(shared: &Arc<Shared>, server: &ServerName) -> Self {
        Self { shared: Arc::clone(shared), server: server.to_owned() }
    }

    /// Works until there is nothing to send, the destination does not answer, or the server stops.
    pub(crate) async fn run(self) {
        loop {
            match self.step().await {
                Ok(Outcome::Rested) if self.shared.has_more(&self.server) => {}
                Ok(Outcome::Rested | Outcome::Stopped) => return,
                Ok(Outcome::Moved) => {}
                Ok(Outcome::Failed(error)) => {
                    metrics::counter!("wick_federation_send_failures_total").increment(1);
                    tracing::info!(server = %self.server, %error, "a server did not take a transaction");
                    return self.pause(self.asks_for(&error));
                }
                Err(error) => {
                    tracing::warn!(server = %self.server, %error, "a transaction cannot be sent and is tried again");
                    return self.pause(PAUSE);
                }
            }
        }
    }

    /// The wait that a destination asks for with its refusal, within bounds.
    fn asks_for(&self, error: &Error) -> Duration {
        let now = self.shared.resources.clock.now();
        let retry_at = match error {
            Error::Remote(failure) => failure.retry_at(now),
            Error::Refused(_) | Error::Internal(_) => None,
        };
        retry_at.map_or(PAUSE, |at| at.since(now).clamp(SHORTEST_PAUSE, LONGEST_PAUSE))
    }

    /// Waits until the end of the back-off, or for `pause` if there is none.
    fn pause(&self, pause: Duration) {
        let retry_at = |shared: &Shared| shared.federation.retry_at(&self.server).ok().flatten();
        let is_backing_off = retry_at(&self.shared);
        let end = || self.shared.resources.clock.now().after(pause);
        self.shared.wait(&self.server, is_backing_off.unwrap_or_else(end));
        self.shared.federation.deliveries.note_attempt();
        // A sign of life that came before the wait began has ended none.
        if is_backing_off.is_some() && retry_at(&self.shared).is_none() {
            self.shared.revive(&self.server);
        }
    }

    async fn step(&self) -> Result<Outcome> {
        let Some(permit) = self.permit().await? else { return Ok(Outcome::Stopped) };
        let (shared, server) = (Arc::clone(&self.shared), self.server.clone());
        let next = move || transaction::next(&shared, &server);
        match self.shared.resources.workers.run(&("sender", &self.server), next).await? {
            Step::Rest => Ok(Outcome::Rested),
            Step::EndGap => self.end_gap().await.map(|()| Outcome::Moved),
            Step::Pass(acknowledged) => {
                self.acknowledge(&acknowledged).await.map(|()| Outcome::Moved)
            }
            Step::Send(transaction) => self.send(*transaction, permit).await,
        }
    }

    /// Waits until the destination may take up a transaction's memory; `None` if the server stops.
    async fn permit(&self) -> Result<Option<SemaphorePermit<'_>>> {
        let shared = &self.shared;
        let permits = match shared.federation.retry_at(&self.server)? {
            Some(_) => &shared.further_attempts,
            None => &shared.first_attempts,
        };
        let permit = shared.supervisor.stopping().run_until_cancelled(permits.acquire()).await;
        permit.transpose().map_err(|error| Error::internal("the transactions on their way", error))
    }

    async fn send(
        &self,
        Transaction { id, events, edus, acknowledged }: Transaction,
        permit: SemaphorePermit<'_>,
    ) -> Result<Outcome> {
        let shared = &self.shared;
        let own_name = shared.graph.server_name().to_owned();
        let now = shared.resources.clock.now();
        let mut request = Request::new(OwnedTransactionId::from(id), own_name, now.matrix());
        let sent = (events.len(), edus.len());
        (request.pdus, request.edus) = (events, edus);
        let request = shared.federation.request(&self.server, request);
        // What comes after the answer is not cancelled: it would be sent again.
        let Some(answer) = shared.supervisor.stopping().run_until_cancelled(request).await else {
            return Ok(Outcome::Stopped);
        };
        drop(permit);
        match self.judge(answer) {
            Ok(()) => {}
            Err(error @ Error::Remote(_)) => return Ok(Outcome::Failed(error)),
            Err(error) => return Err(error),
        }
        metrics::counter!("wick_federation_sent_events_total").increment(count(sent.0));
        metrics::counter!("wick_federation_sent_edus_total").increment(count(sent.1));
        self.acknowledge(&acknowledged).await?;
        Ok(Outcome::Moved)
    }

    /// Whether an answer acknowledges a transaction. A destination that refuses it as it is would do so again, so it
    /// is not repeated.
    fn judge(&self, answer: Result<Response>) -> Result<()> {
        let error = match answer {
            Ok(Response { pdus, .. }) => {
                for (event, result) in pdus {
                    if let Err(error) = result {
                        tracing::debug!(server = %self.server, %event, %error, "a server refused an event");
                    }
                }
                return Ok(());
            }
            Err(error) => error,
        };
        let Error::Remote(failure) = &error else { return Err(error) };
        match failure.reason {
            // It may be set up anew, or come to know this server's keys.
            RemoteReason::Unreachable
            | RemoteReason::BackingOff
            | RemoteReason::Forbidden
            | RemoteReason::Refused { status: 401 | 404 | 429 | 500.., .. } => Err(error),
            RemoteReason::Refused { .. } | RemoteReason::Unreadable | RemoteReason::TooLarge => {
                tracing::warn!(server = %self.server, %error, "a transaction was refused and is dropped");
                Ok(())
            }
        }
    }

    /// Ends the gap at the position of this change: whatever comes later finds it ended and is queued.
    async fn end_gap(&self) -> Result<()> {
        self.change(|batch, progress| {
            let Some(gap) = progress.gap.clone().filter(|gap| gap.upto.is_none()) else {
                return Ok(());
            };
            let (slot, server) = (batch.reserve_position(), self.server.clone());
            batch.put_at(slot, &PROGRESS_BY_DESTINATION, move |position| {
                let gap = Some(Gap { upto: Some(position), ..gap });
                (server, DestinationProgress { gap, ..progress })
            });
            Ok(())
        })
        .await
    }

    async fn acknowledge(&self, acknowledged: &Acknowledged) -> Result<()> {
        self.change(|batch, mut progress| {
            match acknowledged {
                Acknowledged::Queue(upto, sent) => {
                    bounds::release(batch, &self.server, *sent)?;
                    let through = Range::through(&(self.server.clone(), *upto));
                    let sent = Range::prefix((self.server.clone(),)).and(through);
                    batch.delete_range(&OUTGOING_BY_DESTINATION, sent)?;
                    progress.acknowledged = progress.acknowledged.max(*upto);
                }
                Acknowledged::Gap(gap, room) if progress.gap.as_ref() == Some(gap) => {
                    progress.gap = room.map(|room| Gap { room: Some(room), ..gap.clone() });
                }
                Acknowledged::Gap(..) => {}
            }
            batch.put(&PROGRESS_BY_DESTINATION, &self.server, &progress);
            let shared = Arc::clone(&self.shared);
            batch.on_applied(move || shared.federation.deliveries.note_attempt());
            Ok(())
        })
        .await
    }

    async fn change(
        &self,
        change: impl Fn(&mut Batch, DestinationProgress) -> Result<()> + Send + Sync,
    ) -> Result<()> {
        let build = |batch: &mut Batch| {
            let row = batch.read_for_update(&PROGRESS_BY_DESTINATION, &self.server)?;
            change(batch, row.unwrap_or_default())
        };
        self.shared.resources.change_with(Durability::Flushed, build).await
    }
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}
