//! Asking a server for its keys.
//!
//! Invariants: an attempt that breaks off counts as one; after a failure the next comes later each time, after a success not
//! within a minute, however many keys are asked for that the server does not have.

use std::{convert::Infallible, time::Duration};

use ruma::ServerName;
use ruma_federation_api::discovery::get_server_keys;
use wick_core::{Monotonic, RemoteReason, Result};
use wick_outbound::Bounds;

use super::{
    ServerKeys,
    stored::{Verified, verify},
};
use crate::{
    federation::request_unsigned,
    transport::{BackOff, remote},
};

const BOUNDS: Bounds = Bounds { bytes: 256 << 10, time: Duration::from_secs(10) };

/// The shortest time between two attempts.
const PAUSE: Duration = Duration::from_secs(60);
const LONGEST_PAUSE: Duration = Duration::from_secs(3600);

/// The attempts to fetch the keys of one server.
#[derive(Default)]
pub(super) struct Attempts {
    next: Monotonic,
    failures: u32,
}

impl ServerKeys {
    /// Fetches and stores the keys of another server, unless that was tried lately. A failure to fetch them is none of this.
    pub(super) async fn refresh(&self, server: &ServerName) -> Result<()> {
        let Ok(attempts) =
            self.attempts.get_or_insert_with(server, || Ok::<_, Infallible>(Default::default()));
        let mut attempts = attempts.lock().await;
        let now = self.resources.clock.monotonic();
        if now < attempts.next {
            return Ok(());
        }
        let pause = PAUSE.saturating_mul(1 << attempts.failures.min(6)).min(LONGEST_PAUSE);
        let failures = attempts.failures.saturating_add(1);
        *attempts = Attempts { next: now + pause, failures };
        match self.fetch_somewhere(server).await {
            Ok(verified) => {
                self.store(server, &verified).await?;
                *attempts = Attempts { next: now + PAUSE, failures: 0 };
            }
            Err(error) => tracing::debug!(%error, "cannot fetch the keys of a server"),
        }
        Ok(())
    }

    /// The keys of a server, of itself or else of a notary.
    async fn fetch_somewhere(&self, server: &ServerName) -> Result<Verified> {
        let has_notaries = !self.resources.config.federation.trusted_notaries.is_empty();
        // Both together take no longer than one does alone.
        let bounds = Bounds { time: BOUNDS.time / (1 + u32::from(has_notaries)), ..BOUNDS };
        let of_itself = self.fetch_within(server, bounds).await;
        match of_itself {
            Err(error) if has_notaries => match self.ask_notaries(server, bounds).await? {
                Some(verified) => Ok(verified),
                None => Err(error),
            },
            of_itself => of_itself,
        }
    }

    /// The keys of a server as it publishes them now, verified.
    pub(crate) async fn fetch(&self, server: &ServerName) -> Result<Verified> {
        self.fetch_within(server, BOUNDS).await
    }

    pub(super) async fn fetch_within(
        &self,
        server: &ServerName,
        bounds: Bounds,
    ) -> Result<Verified> {
        let request = get_server_keys::v2::Request::new();
        let response =
            request_unsigned(&self.transport, server, request, bounds, BackOff::Ignore).await?;
        verify(server, &response.server_key)
            .map_err(|problem| remote(server, RemoteReason::Unreadable, problem))
    }
}
