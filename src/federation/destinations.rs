//! How requests to each server went, and when the next one is due.
//!
//! Invariant: a server that does not answer is asked later each time, at random moments; whatever comes from it ends that.

use std::time::Duration;

use ruma::{OwnedServerName, ServerName};
use tokio::sync::broadcast;
use wick_core::{BackOff, Error, RemoteReason, Result, Timestamp};
use wick_database::{
    Batch, Durability, Range, Read,
    schema::federation::{DESTINATION_BY_SERVER, DestinationRow},
};
use wick_runtime::Resources;

use crate::transport::{is_outage, remote};

/// The wait after a failure, before chance makes it shorter or longer.
const BACK_OFF: BackOff = BackOff::new(Duration::from_secs(10), Duration::from_secs(6 * 3600));

/// How many revivals a receiver can be behind.
const REVIVALS: usize = 256;

/// How exact the time of the last success is.
const SUCCESS_NOTED_EVERY: Duration = Duration::from_secs(600);

/// What is remembered of other servers as destinations.
pub(crate) struct Destinations {
    resources: Resources,
    /// Sends the name of each server that is out of back-off again.
    revivals: broadcast::Sender<OwnedServerName>,
}

impl Destinations {
    pub(crate) fn new(resources: Resources) -> Self {
        Self { resources, revivals: broadcast::Sender::new(REVIVALS) }
    }

    /// When a server may be asked again that did not answer; `None` if it did.
    pub(crate) fn retry_at(&self, server: &ServerName) -> Result<Option<Timestamp>> {
        let row = self.resources.database.latest().get(&DESTINATION_BY_SERVER, &server)?;
        Ok(row.filter(|row| row.failures > 0).map(|row| row.retry_at))
    }

    /// The servers that come out of back-off before its end, from now on.
    pub(crate) fn revivals(&self) -> broadcast::Receiver<OwnedServerName> {
        self.revivals.subscribe()
    }

    /// Tells of a server's coming out of back-off, once a batch is written.
    fn tell_revival(&self, batch: &mut Batch, server: &ServerName) {
        let (revivals, server) = (self.revivals.clone(), server.to_owned());
        batch.on_applied(move || {
            // No receiver is no error: nothing waits for the server then.
            drop(revivals.send(server));
        });
    }

    /// Fails if the server is not to be asked yet.
    pub(crate) fn ensure_due(&self, server: &ServerName) -> Result<()> {
        let row = self.resources.database.latest().get(&DESTINATION_BY_SERVER, &server)?;
        match row {
            Some(row) if row.retry_at > self.resources.clock.now() => {
                let message = "it did not answer lately and is not asked at present";
                Err(remote(server, RemoteReason::BackingOff, message))
            }
            _ => Ok(()),
        }
    }

    /// Notes how a request ended.
    pub(crate) async fn note(&self, server: &ServerName, error: Option<&Error>) {
        let noted = match error {
            Some(error) if is_outage(error) => self.note_failure(server, error).await,
            // A refusal is an answer.
            None | Some(Error::Remote(_)) => self.note_life(server).await,
            Some(_) => Ok(()),
        };
        if let Err(error) = noted {
            tracing::warn!(%server, %error, "cannot note how a request to another server went");
        }
    }

    /// Notes a sign of life.
    pub(crate) async fn note_life(&self, server: &ServerName) -> Result<()> {
        let now = self.resources.clock.now();
        let is_known = |row: Option<DestinationRow>| {
            row.is_some_and(|row| row.failures == 0 && is_recent(row.last_success, now))
        };
        if is_known(self.resources.database.latest().get(&DESTINATION_BY_SERVER, &server)?) {
            return Ok(());
        }
        self.change(server, |row| {
            let old = row.unwrap_or_default();
            DestinationRow { last_success: Some(now), failures: 0, retry_at: Timestamp(0), ..old }
        })
        .await
    }

    async fn note_failure(&self, server: &ServerName, error: &Error) -> Result<()> {
        let now = self.resources.clock.now();
        let random = self.resources.random.number();
        let failure = match error {
            Error::Remote(failure) => failure.message.clone(),
            other => other.to_string(),
        };
        self.change(server, |row| {
            let old = row.unwrap_or_default();
            // Requests that were on their way together are one failure.
            if old.retry_at > now {
                return old;
            }
            let failures = old.failures.saturating_add(1);
            let retry_at = now.after(wait(failures, random));
            DestinationRow { failures, retry_at, failure: Some(failure.clone()), ..old }
        })
        .await
    }

    async fn change(
        &self,
        server: &ServerName,
        change: impl Fn(Option<DestinationRow>) -> DestinationRow + Send + Sync,
    ) -> Result<()> {
        self.resources
            .change_with(Durability::Flushed, |batch| {
                let row = batch.read_for_update(&DESTINATION_BY_SERVER, &server)?;
                let was_failing = row.as_ref().is_some_and(|row| row.failures > 0);
                let row = change(row);
                if was_failing && row.failures == 0 {
                    self.tell_revival(batch, server);
                }
                batch.put(&DESTINATION_BY_SERVER, &server, &row);
                Ok(())
            })
            .await
    }

    /// The servers that requests were made to, by name, after `after`.
    pub(crate) fn list(
        &self,
        after: Option<&ServerName>,
        limit: usize,
    ) -> Result<Vec<(OwnedServerName, DestinationRow)>> {
        let range = after.map_or_else(Range::all, |after| Range::after(&after));
        let latest = self.resources.database.latest();
        let rows = latest.scan(&DESTINATION_BY_SERVER, range).take(limit);
        rows.map(|row| row.map_err(Error::from)).collect()
    }

    /// Lets the next request to a server be made at once. Returns whether there was something to forget.
    pub(crate) async fn reset(&self, server: &ServerName) -> Result<bool> {
        self.resources
            .change(|batch| {
                let row = batch.read_for_update(&DESTINATION_BY_SERVER, &server)?;
                let Some(row) = row.filter(|row| row.failures > 0) else { return Ok(false) };
                let reset = DestinationRow { failures: 0, retry_at: Timestamp(0), ..row };
                batch.put(&DESTINATION_BY_SERVER, &server, &reset);
                self.tell_revival(batch, server);
                Ok(true)
            })
            .await
    }
}

fn is_recent(last_success: Option<Timestamp>, now: Timestamp) -> bool {
    last_success.is_some_and(|last| now.since(last) < SUCCESS_NOTED_EVERY)
}

/// The wait after so many failures: between three and five quarters of what doubles.
fn wait(failures: u32, random: u64) -> Duration {
    let wait = BACK_OFF.after(failures.saturating_sub(1));
    let share = u32::try_from(random % 1000).unwrap_or_default();
    wait.saturating_mul(3) / 4 + wait.saturating_mul(share) / 2000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_bound_and_vary() {
        let first = BACK_OFF.first();
        assert_eq!(wait(1, 0), first * 3 / 4);
        assert!(wait(1, 999) > first && wait(1, 999) < first * 5 / 4);
        assert_eq!(wait(2, 0), first * 3 / 2);
        assert_eq!(wait(u32::MAX, 0), BACK_OFF.longest() * 3 / 4);
    }
}
