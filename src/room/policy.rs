//! Policy servers: in a room that uses one, an event needs its signature beside that of the sender's server.
//!
//! Invariants: nothing is asked while a room's lock is held (R6): a change whose events lack signatures is not written, and
//! runs again with what the policy server answered; whatever that is, a signature counts only if it was made with the
//! key in the room's `m.room.policy`; the state before an event decides whether it needs one.
//!
//! Events of the history, outliers and the state that a join brings are not checked.
//!
//! <https://spec.matrix.org/v1.19/server-server-api/#policy-servers>

use std::{collections::HashMap, mem, pin::Pin, sync::Arc};

use futures_util::{StreamExt, stream};
use ruma::{
    OwnedEventId, OwnedServerName, ServerName, SigningKeyAlgorithm,
    canonical_json::{CanonicalJsonObject, CanonicalJsonValue},
    events::{
        StateEventType, TimelineEventType,
        room::policy::{POLICY_SERVER_ED25519_SIGNING_KEY_ID, RoomPolicyEventContent},
    },
    room_version_rules::RoomVersionRules,
    serde::Base64,
    signatures::verify_policy_server_signature,
};
use serde_json::value::RawValue;
use wick_core::{
    Draft, Error, Pdu, Refusal, RemoteFailure, Result, ShortRoomId, Timestamp,
    event::pdu::SharedPdu, rules,
};
use wick_database::{Read, schema::room::JOINED_BY_SERVER};

use crate::{Assembly, Graph, assembly::share};

/// How many events a policy server is asked to sign at the same time.
const AT_ONCE: usize = 8;

/// What [`PolicyServers::sign`] returns.
pub type Signing<'a> = Pin<Box<dyn Future<Output = Result<String>> + Send + 'a>>;

/// The way to policy servers.
pub trait PolicyServers: Send + Sync {
    /// Asks a policy server to sign an event, and returns its signature, which need not be good. Takes a bounded time.
    ///
    /// # Errors
    /// [`Error::Refused`] if it does not sign the event, [`Error::Remote`] if it has no answer for now.
    fn sign<'a>(&'a self, server: &'a ServerName, event: &'a RawValue) -> Signing<'a>;
}

/// The policy server of a room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Policy {
    via: OwnedServerName,
    key: Base64,
}

/// What a policy server answered.
#[derive(Clone, Debug)]
enum Answer {
    Signed(String),
    Refused(Box<Refusal>),
    Unavailable(RemoteFailure),
}

/// Whether an event may be sent or shown.
pub(crate) enum Verdict {
    /// It may: it needs no signature, or is signed, as it is here.
    Recommended(SharedPdu),
    /// The policy server does not sign it.
    Refused(Error),
    /// The policy server has no answer.
    Unavailable(Error),
    /// The policy server is to be asked.
    Unknown,
}

/// An event that the policy server is to be asked for.
struct Unsigned {
    policy: Policy,
    pdu: SharedPdu,
}

/// What is known of signatures while a change of a room is attempted.
#[derive(Default)]
pub(crate) struct PolicyChecks {
    answers: HashMap<OwnedEventId, (Policy, Answer)>,
    /// What this attempt lacks.
    unsigned: Vec<Unsigned>,
    /// What depends on the time in the events that this attempt made, in order.
    made: Vec<Timed>,
    /// The same of the attempt before: on the same head the same events are made again, which are signed by now.
    made_before: Vec<Timed>,
}

/// What depends on the time at which an event is made.
#[derive(Clone, Copy)]
struct Timed {
    origin_server_ts: Timestamp,
    /// What was left of the stickiness of the event that this one ends.
    sticky_duration: Option<u64>,
}

impl PolicyChecks {
    /// Whether the attempt made or received events that lack a signature.
    pub(crate) fn lacks_signatures(&self) -> bool {
        !self.unsigned.is_empty()
    }

    /// Whether the attempt made events, which depend on the head, rather than received some.
    pub(crate) fn makes_events(&self) -> bool {
        !self.made.is_empty()
    }

    /// Forgets what was attempted, but not what was answered.
    pub(crate) fn start_over(&mut self) {
        self.unsigned.clear();
        self.made.clear();
        self.made_before.clear();
    }

    /// Asks for the signatures that the attempt lacked.
    ///
    /// # Errors
    /// [`Error::Internal`] alone: what policy servers answer is kept for the next attempt.
    pub(crate) async fn ask(&mut self, servers: &dyn PolicyServers) -> Result<()> {
        self.made_before = mem::take(&mut self.made);
        let asking = mem::take(&mut self.unsigned).into_iter().map(|unsigned| async move {
            let Unsigned { policy, pdu } = unsigned;
            let answer = match servers.sign(&policy.via, &pdu.json).await {
                Ok(signature) => Answer::Signed(signature),
                Err(Error::Refused(refusal)) => Answer::Refused(refusal),
                Err(Error::Remote(failure)) => Answer::Unavailable(failure),
                Err(error) => return Err(error),
            };
            Ok((pdu.event_id.clone(), (policy, answer)))
        });
        let mut asking = stream::iter(asking).buffer_unordered(AT_ONCE);
        while let Some(answer) = asking.next().await {
            let (event, answer) = answer?;
            self.answers.insert(event, answer);
        }
        Ok(())
    }
}

impl Assembly<'_> {
    /// Makes a draft as the attempt before did, whatever time has passed since.
    pub(crate) fn repeat(&self, draft: &mut Draft) {
        let Some(before) = self.policy.made_before.get(self.policy.made.len()) else { return };
        draft.origin_server_ts.get_or_insert(before.origin_server_ts);
        draft.sticky_duration = before.sticky_duration;
    }

    /// An event that was built on the room as it is now, with the signature of the room's policy server if there is one. One
    /// that lacks it is returned as it is, and keeps the change from being written.
    ///
    /// # Errors
    /// What the policy server refuses it with; [`Error::Remote`] if it has no answer.
    pub(crate) fn ensure_recommended(&mut self, pdu: SharedPdu) -> Result<SharedPdu> {
        let Pdu { origin_server_ts, sticky_duration, .. } = *pdu;
        self.policy.made.push(Timed { origin_server_ts, sticky_duration });
        match self.verdict(&pdu)? {
            Verdict::Recommended(pdu) => Ok(pdu),
            Verdict::Refused(error) | Verdict::Unavailable(error) => Err(error),
            Verdict::Unknown => Ok(pdu),
        }
    }

    /// Whether the room's policy server recommends an event. One for which it has to be asked keeps the change from being
    /// written.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub(crate) fn verdict(&mut self, pdu: &SharedPdu) -> Result<Verdict> {
        let is_policy = pdu.is_state(&TimelineEventType::RoomPolicy, "");
        let policy = match is_policy {
            true => None,
            false => self.rooms.policy(&self.batch, self.room)?,
        };
        let Some(policy) = policy else {
            return Ok(Verdict::Recommended(SharedPdu::clone(pdu)));
        };
        let mut object = pdu
            .to_canonical_object()
            .map_err(|error| Error::internal("a verified event is not canonical", error))?;
        if policy.has_signed(&object, &self.rules) {
            return Ok(Verdict::Recommended(SharedPdu::clone(pdu)));
        }
        if policy.via == self.rooms.server {
            return Ok(Verdict::Refused(Error::forbidden("this server is no policy server")));
        }
        let answer = self.policy.answers.get(&pdu.event_id);
        let Some((_, answer)) = answer.filter(|(asked, _)| *asked == policy) else {
            self.policy.unsigned.push(Unsigned { policy, pdu: SharedPdu::clone(pdu) });
            return Ok(Verdict::Unknown);
        };
        let signature = match answer {
            Answer::Signed(signature) => signature,
            Answer::Refused(refusal) => return Ok(Verdict::Refused(refusal.clone().into())),
            Answer::Unavailable(failure) => {
                return Ok(Verdict::Unavailable(failure.clone().into()));
            }
        };
        policy.add_signature(&mut object, signature);
        if !policy.has_signed(&object, &self.rules) {
            let message = "the signature of the room's policy server is not good";
            return Ok(Verdict::Refused(Error::forbidden(message)));
        }
        let json = match rules::to_json(&object) {
            Ok(json) => json,
            // It is too large with the signature. Others that come with it must not suffer.
            Err(error) => return Ok(Verdict::Refused(error)),
        };
        let ids = (pdu.event_id.clone(), pdu.room_id.clone());
        let signed = Pdu::parse(ids.0, ids.1, json, &self.rules.redaction)
            .map_err(|error| Error::internal("a signed event cannot be parsed", error))?;
        Ok(Verdict::Recommended(share(signed)))
    }
}

impl Policy {
    fn has_signed(&self, object: &CanonicalJsonObject, rules: &RoomVersionRules) -> bool {
        let content = RoomPolicyEventContent::new(self.via.clone(), self.key.clone());
        verify_policy_server_signature(&content, object, rules).is_ok()
    }

    /// Adds a signature to those that the event has, which may be of the same server by another key.
    fn add_signature(&self, object: &mut CanonicalJsonObject, signature: &str) {
        let empty = || CanonicalJsonValue::Object(CanonicalJsonObject::new());
        let all = object.entry("signatures".to_owned()).or_insert_with(empty);
        let CanonicalJsonValue::Object(all) = all else { return };
        let of_server = all.entry(self.via.to_string()).or_insert_with(empty);
        let CanonicalJsonValue::Object(of_server) = of_server else { return };
        let signature = CanonicalJsonValue::String(signature.to_owned());
        of_server.insert(POLICY_SERVER_ED25519_SIGNING_KEY_ID.to_owned(), signature);
    }
}

impl Graph {
    /// Whether the events of a room need the signature of a policy server now.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn uses_policy_server(&self, read: &impl Read, room: ShortRoomId) -> Result<bool> {
        Ok(self.policy(read, room)?.is_some())
    }

    /// The policy server that a room uses now. None where there is no way to other servers.
    fn policy(&self, read: &impl Read, room: ShortRoomId) -> Result<Option<Policy>> {
        if self.hooks.policy_servers.is_none() {
            return Ok(None);
        }
        let event = self.state_event(read, room, &StateEventType::RoomPolicy, "")?;
        let content = event.and_then(|event| event.content_as::<RoomPolicyEventContent>().ok());
        let Some(RoomPolicyEventContent { via, mut public_keys, .. }) = content else {
            return Ok(None);
        };
        let Some(key) = public_keys.remove(&SigningKeyAlgorithm::Ed25519) else { return Ok(None) };
        let is_joined = read.contains(&JOINED_BY_SERVER, &(room, &*via))?;
        Ok(is_joined.then_some(Policy { via, key }))
    }

    /// Asks policy servers for the signatures that an attempt lacked.
    pub(crate) async fn ask_policy_servers(&self, checks: &mut PolicyChecks) -> Result<()> {
        match &self.hooks.policy_servers {
            Some(servers) => checks.ask(&*Arc::clone(servers)).await,
            None => Ok(()),
        }
    }
}
