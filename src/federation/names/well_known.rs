//! `/.well-known/matrix/server` of other servers, remembered.
//!
//! Invariants: a response is remembered as long as its headers allow, within a minute and two days; a failure for a minute
//! at first and an hour at last, and a delegation that was good until then holds meanwhile, up to two days; of one host, one
//! request runs at a time.

use std::{convert::Infallible, sync::Arc, time::Duration};

use http::{HeaderMap, header};
use quick_cache::sync::Cache;
use ruma::{OwnedServerName, ServerName};
use serde::Deserialize;
use tokio::sync::Mutex;
use wick_core::{Clock, Monotonic};
use wick_outbound::{Bounds, Outbound};

/// How many hosts are remembered.
const REMEMBERED: usize = 10_000;

const BOUNDS: Bounds = Bounds { bytes: 50 << 10, time: Duration::from_secs(10) };

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const SHORTEST: Duration = MINUTE;
const USUAL: Duration = Duration::from_secs(24 * 3600);
const LONGEST: Duration = Duration::from_secs(48 * 3600);

/// What hosts delegate to.
pub(super) struct Delegations {
    outbound: Arc<Outbound>,
    clock: Arc<dyn Clock>,
    known: Cache<String, Arc<Mutex<Option<Delegation>>>>,
}

/// What a host delegates to, as far as it is known.
struct Delegation {
    outcome: Result<OwnedServerName, String>,
    /// When to ask again.
    until: Monotonic,
    /// When it was answered last.
    good_at: Monotonic,
    failures: u32,
}

impl Delegations {
    pub(super) fn new(outbound: Arc<Outbound>, clock: Arc<dyn Clock>) -> Self {
        Self { outbound, clock, known: Cache::new(REMEMBERED) }
    }

    /// What `host` delegates to, or why to nothing.
    pub(super) async fn get(&self, host: &str) -> Result<OwnedServerName, String> {
        let Ok(known) = self.known.get_or_insert_with(host, || Ok::<_, Infallible>(Arc::default()));
        let mut known = known.lock().await;
        if let Some(delegation) =
            known.as_ref().filter(|known| self.clock.monotonic() < known.until)
        {
            return delegation.outcome.clone();
        }
        let fetched = self.fetch(host).await;
        let delegation = self.remember(known.take(), fetched);
        known.insert(delegation).outcome.clone()
    }

    fn remember(
        &self,
        before: Option<Delegation>,
        fetched: Result<(OwnedServerName, Duration), String>,
    ) -> Delegation {
        let now = self.clock.monotonic();
        let failure = match fetched {
            Ok((server, lifetime)) => {
                let until = now + lifetime;
                return Delegation { outcome: Ok(server), until, good_at: now, failures: 0 };
            }
            Err(failure) => failure,
        };
        let failures = before.as_ref().map_or(0, |before| before.failures);
        let until = now + MINUTE.saturating_mul(1 << failures.min(6)).min(HOUR);
        let failures = failures.saturating_add(1);
        match before {
            Some(Delegation { outcome: Ok(server), good_at, .. })
                if now.since(good_at) < LONGEST =>
            {
                Delegation { outcome: Ok(server), until, good_at, failures }
            }
            _ => Delegation { outcome: Err(failure), until, good_at: now, failures },
        }
    }

    async fn fetch(&self, host: &str) -> Result<(OwnedServerName, Duration), String> {
        let url = format!("https://{host}/.well-known/matrix/server");
        let response = self.outbound.get(&url, HeaderMap::new(), BOUNDS).await;
        let response = response
            .and_then(wick_outbound::Response::success)
            .map_err(|error| error.to_string())?;
        let lifetime = lifetime(response.headers());
        let body = response.bytes().await.map_err(|error| error.to_string())?;
        Ok((delegated(&body)?, lifetime))
    }
}

/// The server that a response names. The content type is not checked, as the specification demands.
fn delegated(body: &[u8]) -> Result<OwnedServerName, String> {
    #[derive(Deserialize)]
    struct WellKnown {
        #[serde(rename = "m.server")]
        server: String,
    }
    let WellKnown { server } = serde_json::from_slice(body)
        .map_err(|_| "the response is no JSON object with m.server".to_owned())?;
    ServerName::parse(&*server).map_err(|_| "m.server is no server name".to_owned())
}

/// How long a response holds.
fn lifetime(headers: &HeaderMap) -> Duration {
    let directives = headers
        .get_all(header::CACHE_CONTROL)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','));
    let mut lifetime = USUAL;
    for directive in directives.map(|text| text.trim().to_ascii_lowercase()) {
        match directive.split_once('=') {
            Some(("max-age", seconds)) => {
                let seconds = seconds.trim_matches('"').parse().unwrap_or(0);
                lifetime = Duration::from_secs(seconds);
            }
            _ if directive == "no-store" || directive == "no-cache" => return SHORTEST,
            _ => {}
        }
    }
    lifetime.clamp(SHORTEST, LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_holds_as_long_as_its_headers_allow_within_a_minute_and_two_days() {
        let of = |control: &'static str| {
            lifetime(&HeaderMap::from_iter([(
                header::CACHE_CONTROL,
                http::HeaderValue::from_static(control),
            )]))
        };
        assert_eq!(lifetime(&HeaderMap::new()), USUAL);
        assert_eq!(of("public, Max-Age=7200"), Duration::from_secs(7200));
        assert_eq!(of("max-age=1"), SHORTEST);
        assert_eq!(of("max-age=99999999"), LONGEST);
        assert_eq!(of("max-age=7200, no-store"), SHORTEST);
        assert_eq!(of("max-age=nonsense"), SHORTEST);
    }

    #[test]
    fn only_an_object_that_names_a_server_delegates() {
        assert_eq!(delegated(br#"{"m.server":"a.test:443","more":1}"#).unwrap(), "a.test:443");
        for body in ["", "null", "{}", r#"{"m.server":7}"#, r#"{"m.server":"a b"}"#, "[]"] {
            assert!(delegated(body.as_bytes()).is_err(), "{body}");
        }
    }
}
