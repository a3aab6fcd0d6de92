//! Asking the policy server of a room to sign an event.
//!
//! <https://spec.matrix.org/v1.19/server-server-api/#asking-for-a-policy-server-signature-on-an-event>

use std::{sync::Arc, time::Duration};

use ruma::{ServerName, api::error::ErrorKind};
use ruma_federation_api::policy::sign_event::v1 as sign_event;
use serde_json::value::RawValue;
use wick_core::{Error, RemoteFailure, RemoteReason, Result};
use wick_federation::{Bounds, Federation};
use wick_room::{PolicyServers, Signing};

/// The bounds of an answer, for which the request to send an event waits.
const ANSWER: Bounds = Bounds { bytes: 64 << 10, time: Duration::from_secs(10) };

/// Policy servers, reached by signed requests.
pub struct RemotePolicyServers(Arc<Federation>);

impl RemotePolicyServers {
    /// Asks policy servers through `federation`.
    #[must_use]
    pub fn new(federation: Arc<Federation>) -> Self {
        Self(federation)
    }

    async fn ask(&self, server: &ServerName, event: &RawValue) -> Result<String> {
        let request = sign_event::Request::new(event.to_owned());
        let answer = self.0.request_within(server, request, ANSWER).await.map_err(refusal)?;
        let signature = answer.ed25519_signature(server).map(str::to_owned);
        signature.ok_or_else(|| Error::forbidden("the room's policy server did not sign the event"))
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
