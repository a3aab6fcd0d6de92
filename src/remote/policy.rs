//! Asking the policy server of a room to sign an event.
//!
//! Invariant: one that does not answer is asked later each time, and a minute later at most: the rooms that use it take no
//! event until it signs again. Other requests to the same server do not wait for that.
//!
//! <https://spec.matrix.org/v1.19/server-server-api/#asking-for-a-policy-server-signature-on-an-event>

use std::{sync::Arc, time::Duration};

use quick_cache::sync::Cache;
use ruma::{OwnedServerName, ServerName, api::error::ErrorKind};
use ruma_federation_api::policy::sign_event::v1 as sign_event;
use serde_json::value::RawValue;
use wick_core::{BackOff, Clock, Error, Monotonic, RemoteFailure, RemoteReason, Result};
use wick_federation::{Bounds, Federation};
use wick_room::{PolicyServers, Signing};

/// The bounds of an answer, for which the request to send an event waits.
const ANSWER: Bounds = Bounds { bytes: 64 << 10, time: Duration::from_secs(10) };

/// The wait after a policy server had no answer.
const BACK_OFF: BackOff = BackOff::new(Duration::from_secs(5), Duration::from_secs(60));

/// How many policy servers without an answer are remembered.
const MAX_WAITS: usize = 1_000;

/// Policy servers, reached by signed requests.
pub struct RemotePolicyServers {
    federation: Arc<Federation>,
    clock: Arc<dyn Clock>,
    waits: Cache<OwnedServerName, Wait>,
}

/// When a policy server that had no answer is asked again.
#[derive(Clone, Copy, Default)]
struct Wait {
    failures: u32,
    until: Monotonic,
}

impl RemotePolicyServers {
    /// Asks policy servers through `federation`.
    #[must_use]
    pub fn new(federation: Arc<Federation>, clock: Arc<dyn Clock>) -> Self {
        Self { federation, clock, waits: Cache::new(MAX_WAITS) }
    }

    async fn ask(&self, server: &ServerName, event: &RawValue) -> Result<String> {
        self.ensure_due(server)?;
        let request = sign_event::Request::new(event.to_owned());
        let answer = self.federation.request_apart(server, request, ANSWER).await.map_err(refusal);
        match &answer {
            Err(Error::Remote(_)) => self.note_failure(server),
            _ => drop(self.waits.remove(server)),
        }
        let signature = answer?.ed25519_signature(server).map(str::to_owned);
        signature.ok_or_else(|| Error::forbidden("the room's policy server did not sign the event"))
    }

    fn ensure_due(&self, server: &ServerName) -> Result<()> {
        let wait = self.waits.get(server).unwrap_or_default();
        if wait.until <= self.clock.monotonic() {
            return Ok(());
        }
        let message = "the policy server did not answer lately and is not asked at present".into();
        let reason = RemoteReason::BackingOff;
        Err(RemoteFailure { server: server.to_string(), reason, message }.into())
    }

    fn note_failure(&self, server: &ServerName) {
        let now = self.clock.monotonic();
        let wait = self.waits.get(server).unwrap_or_default();
        // Requests that were on their way together are one failure.
        if wait.until > now {
            return;
        }
        let until = now + BACK_OFF.after(wait.failures);
        let failures = wait.failures.saturating_add(1);
        self.waits.insert(server.to_owned(), Wait { failures, until });
    }
}

impl PolicyServers for RemotePolicyServers {
    fn sign<'a>(&'a self, server: &'a ServerName, event: &'a RawValue) -> Signing<'a> {
        Box::pin(self.ask(server, event))
    }
}

/// The refusal to sign an event as the client is answered. Failures that say nothing of the event stay as they are.
fn refusal(error: Error) -> Error {
    let Error::Remote(RemoteFailure { message, reason, server }) = error else { return error };
    match reason {
        RemoteReason::Refused { status: status @ (400 | 403 | 404), kind } => {
            // Other errcodes of the policy server would say something of the client's request, or of its session.
            let is_forbidden = matches!(kind.as_deref(), Some(ErrorKind::Forbidden));
            let status = if is_forbidden { status } else { 403 };
            Error::refused_with(status, ErrorKind::Forbidden, format!("{server}: {message}"))
        }
        reason => RemoteFailure { message, reason, server }.into(),
    }
}
