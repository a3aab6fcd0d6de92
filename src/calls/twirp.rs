//! LiveKit's room service over Twirp: a `POST` of JSON for each call.
//!
//! Invariant: each request has a token of its own, which grants no more than the call needs and lasts a minute.

use std::{
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};
use wick_core::{Clock, Config, Result, Timestamp, clock::millis};
use wick_outbound::{Bounds, Outbound, Response, SystemResolver};

use crate::{
    jwt::Signer,
    livekit::{Answering, Failure, LiveKit, Participant, Reply, WellKnown},
};

/// How long a token for one request is valid.
const TOKEN_LIFETIME: Duration = Duration::from_secs(60);

/// A method that no client has: each answers that it does not know it.
const QUESTION: &str = "im.wick.are_you_there";

/// How long LiveKit keeps an empty room, before the first participant and after the last one.
const EMPTY_TIMEOUT: u32 = 300;
const DEPARTURE_TIMEOUT: u32 = 60;

/// How long one request may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// The most bytes of an answer: a list of thousands of participants.
const MAX_BYTES: u64 = 16 << 20;

/// The most bytes of a `.well-known` file.
const MAX_WELL_KNOWN_BYTES: u64 = 64 << 10;

/// A LiveKit server, by the configuration.
pub struct Twirp {
    base: String,
    well_known: String,
    signer: Signer,
    outbound: Outbound,
    clock: Arc<dyn Clock>,
}

/// LiveKit writes the list also if it is empty; what answers `{}` is something else.
#[derive(Deserialize)]
struct ParticipantList {
    participants: Vec<Listed>,
}

/// A room that was made.
#[derive(Deserialize)]
struct Room {
    name: String,
}

/// The body of an error. <https://twitchtv.github.io/twirp/docs/errors.html>
#[derive(Deserialize)]
struct Problem {
    code: String,
}

#[derive(Deserialize)]
struct Listed {
    #[serde(default)]
    identity: String,
    #[serde(default)]
    sid: String,
    #[serde(default)]
    state: Value,
}

impl Listed {
    /// Whether its connection has ended.
    fn is_disconnected(&self) -> bool {
        self.state == "DISCONNECTED" || self.state == 3
    }
}

impl Twirp {
    /// The configured server; `None` if there is none.
    ///
    /// # Errors
    /// If no HTTP client can be made.
    pub fn open(config: &Config, clock: &Arc<dyn Clock>) -> Result<Option<Self>> {
        let calls = &config.calls;
        // `ws` becomes `http`, `wss` becomes `https`.
        let Some(rest) = calls.livekit_url.strip_prefix("ws") else { return Ok(None) };
        // The operator names this address, so it may be a private one.
        let mut unguarded = config.outbound.clone();
        unguarded.deny_addresses = Vec::new();
        let outbound = Outbound::new(&unguarded, Arc::clone(clock), Arc::new(SystemResolver))?;
        Ok(Some(Self {
            base: format!("http{}/twirp/livekit.RoomService", rest.trim_end_matches('/')),
            well_known: format!("https://{}/.well-known/matrix/client", config.server.name),
            signer: Signer::new(calls.livekit_key.clone(), calls.livekit_secret.clone()),
            outbound,
            clock: Arc::clone(clock),
        }))
    }

    /// Calls a method; `None` if LiveKit does not know what the request names.
    async fn call(
        &self,
        method: &str,
        grants: Value,
        request: Value,
    ) -> Result<Option<Bytes>, Failure> {
        let response = self.post(method, grants, request).await?;
        match response.status() {
            StatusCode::OK => body_of(response).await.map(Some),
            StatusCode::NOT_FOUND => {
                // This status can also come from something other than LiveKit, such as a proxy in front of it.
                match problem_of(response).await?.as_deref() {
                    Some("not_found") => Ok(None),
                    _ => Err(Failure::Unexpected(StatusCode::NOT_FOUND.to_string())),
                }
            }
            status => Err(Failure::Unexpected(status.to_string())),
        }
    }

    /// The response to a request, whatever its status, unless LiveKit refuses the token.
    async fn post(&self, method: &str, grants: Value, request: Value) -> Result<Response, Failure> {
        let validity = (self.clock.now(), TOKEN_LIFETIME);
        let unexpected = |error: &dyn std::fmt::Display| Failure::Unexpected(error.to_string());
        let token = self.signer.sign("", &grants, validity).map_err(|error| unexpected(&error))?;
        let mut bearer = HeaderValue::from_str(&format!("Bearer {token}"))
            .map_err(|error| unexpected(&error))?;
        bearer.set_sensitive(true);
        let headers = HeaderMap::from_iter([(header::AUTHORIZATION, bearer)]);
        let bounds = Bounds { bytes: MAX_BYTES, time: PATIENCE };
        let url = format!("{}/{method}", self.base);
        let response = self
            .outbound
            .post_json_with(&url, headers, request.to_string(), bounds)
            .await
            .map_err(|failure| Failure::Unreachable(failure.to_string()))?;
        if let StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN = response.status() {
            let date = response.headers().get(header::DATE).and_then(|date| date.to_str().ok());
            return Err(Failure::Denied(date.and_then(|date| skew(date, self.clock.now()))));
        }
        Ok(response)
    }
}

impl LiveKit for Twirp {
    fn create_room<'a>(&'a self, room: &'a str) -> Answering<'a, ()> {
        let request = json!({
            "name": room, "empty_timeout": EMPTY_TIMEOUT, "departure_timeout": DEPARTURE_TIMEOUT,
        });
        Box::pin(async move {
            let answer = self.call("CreateRoom", json!({ "roomCreate": true }), request).await?;
            let made = answer.as_deref().and_then(|answer| object::<Room>(answer).ok());
            match made {
                Some(made) if made.name == room => Ok(()),
                _ => Err(Failure::Unexpected("something that is no room".to_owned())),
            }
        })
    }

    fn participants<'a>(&'a self, room: &'a str) -> Answering<'a, Vec<Participant>> {
        let grants = json!({ "roomAdmin": true, "room": room });
        let request = json!({ "room": room });
        Box::pin(async move {
            match self.call("ListParticipants", grants, request).await? {
                Some(answer) => listed(&answer),
                None => Ok(Vec::new()),
            }
        })
    }

    fn remove<'a>(&'a self, room: &'a str, identity: &'a str) -> Answering<'a, ()> {
        let grants = json!({ "roomAdmin": true, "room": room });
        let request = json!({ "room": room, "identity": identity });
        Box::pin(async move {
            match self.call("RemoveParticipant", grants, request).await? {
                Some(answer) => object::<Value>(&answer).map(drop),
                None => Ok(()),
            }
        })
    }

    fn ask<'a>(
        &'a self,
        room: &'a str,
        identity: &'a str,
        within: Duration,
    ) -> Answering<'a, Reply> {
        let grants = json!({ "roomAdmin": true, "room": room });
        let request = json!({
            "room": room, "destination_identity": identity, "method": QUESTION,
            "response_timeout_ms": millis(within),
        });
        Box::pin(async move {
            let response = self.post("PerformRpc", grants, request).await?;
            if response.status() == StatusCode::OK {
                return Ok(Reply::Answer);
            }
            Ok(reply(problem_of(response).await?.as_deref()))
        })
    }
}

/// What the code in the response to a question means.
fn reply(code: Option<&str>) -> Reply {
    match code {
        // The client says that it does not know the method.
        Some("invalid_argument") => Reply::Answer,
        Some("canceled") => Reply::Silence,
        _ => Reply::Unknown,
    }
}

/// The code in a response without success, if it is LiveKit's.
async fn problem_of(response: Response) -> Result<Option<String>, Failure> {
    let answer = body_of(response).await?;
    Ok(serde_json::from_slice(&answer).ok().map(|Problem { code }| code))
}

async fn body_of(response: Response) -> Result<Bytes, Failure> {
    response.bytes().await.map_err(|failure| Failure::Unreachable(failure.to_string()))
}

impl WellKnown for Twirp {
    fn client(&self) -> Answering<'_, Value> {
        Box::pin(async move {
            let bounds = Bounds { bytes: MAX_WELL_KNOWN_BYTES, time: PATIENCE };
            let unreachable =
                |failure: wick_outbound::Failure| Failure::Unreachable(failure.to_string());
            let response = self.outbound.get(&self.well_known, HeaderMap::new(), bounds).await;
            let response = response.map_err(unreachable)?;
            if response.status() != StatusCode::OK {
                return Err(Failure::Unexpected(response.status().to_string()));
            }
            object(&body_of(response).await?)
        })
    }
}

/// A JSON object in an answer. serde would take an array for a struct.
fn object<T: DeserializeOwned>(answer: &[u8]) -> Result<T, Failure> {
    let value = match serde_json::from_slice(answer) {
        Ok(value @ Value::Object(_)) => serde_json::from_value(value).ok(),
        _ => None,
    };
    value.ok_or_else(|| Failure::Unexpected("something else than the expected JSON".to_owned()))
}

/// The participants in an answer.
fn listed(answer: &[u8]) -> Result<Vec<Participant>, Failure> {
    let list: ParticipantList = object(answer)?;
    let present = list.participants.into_iter().filter(|listed| !listed.is_disconnected());
    Ok(present.map(|Listed { identity, sid, .. }| Participant { identity, sid }).collect())
}

/// How far an HTTP date and `now` are apart.
fn skew(date: &str, now: Timestamp) -> Option<Duration> {
    let date = httpdate::parse_http_date(date).ok()?.duration_since(UNIX_EPOCH).ok()?;
    let date = Timestamp::default().after(date);
    Some(now.since(date).max(date.since(now)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disconnected_participant_is_not_listed() {
        let answer = br#"{"participants":[
            {"sid":"PA_1","identity":"alice","state":"ACTIVE","tracks":[]},
            {"sid":"PA_2","identity":"bob","state":"DISCONNECTED"},
            {"sid":"PA_3","identity":"carol","state":3},
            {"sid":"PA_4","identity":"dan","state":"JOINED"}]}"#;
        let present = listed(answer).unwrap();
        let identities: Vec<_> = present.iter().map(|one| one.identity.as_str()).collect();
        assert_eq!(identities, ["alice", "dan"]);
        assert_eq!(listed(br#"{"participants":[]}"#).unwrap(), []);
    }

    #[test]
    fn an_answer_of_something_else_is_no_empty_room() {
        for answer in [&b"<html>"[..], b"", b"[]", b"{}", br#"{"ok":true}"#] {
            assert!(matches!(listed(answer), Err(Failure::Unexpected(_))));
        }
    }

    #[test]
    fn only_a_question_without_an_answer_means_that_a_client_is_gone() {
        assert_eq!(reply(Some("invalid_argument")), Reply::Answer);
        assert_eq!(reply(Some("canceled")), Reply::Silence);
        for code in [Some("not_found"), Some("bad_route"), Some("internal"), None] {
            assert_eq!(reply(code), Reply::Unknown);
        }
    }

    #[test]
    fn the_date_of_an_answer_tells_how_far_the_clocks_are_apart() {
        let now = Timestamp(784_111_777_000);
        assert_eq!(skew("Sun, 06 Nov 1994 08:49:37 GMT", now), Some(Duration::ZERO));
        let minute = Duration::from_secs(60);
        for other in [now.after(minute), Timestamp(now.0 - 60_000)] {
            assert_eq!(skew("Sun, 06 Nov 1994 08:49:37 GMT", other), Some(minute));
        }
        assert_eq!(skew("soon", now), None);
    }
}
