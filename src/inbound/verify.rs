//! Format, keys and signatures of events, on the worker threads.

use std::sync::Arc;

use ruma::{RoomId, room_version_rules::RoomVersionRules};
use serde_json::value::RawValue;
use wick_core::Result;
use wick_room::{Formatted, Verified};
use wick_runtime::Resources;

use crate::Peer;

/// How many events are one job of the worker threads.
const PORTION: usize = 100;

/// What was found out about an event without its room.
#[derive(Debug)]
pub(crate) enum Check {
    /// Its signatures are good.
    Good(Verified),
    /// It is malformed or forged.
    Bad(String),
    /// A key that it was signed with is not known.
    NoKey,
}

/// Checks events of a room, in their order.
pub(crate) async fn check_all<P: Peer>(
    resources: &Resources,
    peer: &P,
    (room_id, rules): (&RoomId, &RoomVersionRules),
    events: Vec<Box<RawValue>>,
) -> Result<Vec<Check>> {
    let rules = Arc::new(rules.clone());
    let mut checks = Vec::with_capacity(events.len());
    let mut events = events.into_iter();
    loop {
        let portion: Vec<_> = events.by_ref().take(PORTION).collect();
        if portion.is_empty() {
            return Ok(checks);
        }
        let (room, version) = (room_id.to_owned(), Arc::clone(&rules));
        let format = move || {
            let checks = portion.iter().map(|json| Formatted::check(json, Some(&room), &version));
            Ok(checks.collect::<Vec<_>>())
        };
        let formatted = resources.workers.run(&room_id, format).await?;
        let objects =
            formatted.iter().flatten().map(|formatted| formatted.object().clone()).collect();
        let keys = peer.keys(objects, &rules).await?;
        let (room, version) = (room_id.to_owned(), Arc::clone(&rules));
        let verify = move || {
            let mut keys = keys.into_iter();
            let check = |formatted: Result<Formatted>| match formatted {
                Err(error) => Check::Bad(error.to_string()),
                Ok(formatted) => {
                    let keys = keys.next().unwrap_or_default();
                    match formatted.verify(&version, &keys) {
                        Ok(Some(event)) if *event.pdu().room_id == *room => Check::Good(event),
                        Ok(Some(_)) => Check::Bad("it is of another room".to_owned()),
                        Ok(None) => Check::NoKey,
                        Err(error) => Check::Bad(error.to_string()),
                    }
                }
            };
            Ok(formatted.into_iter().map(check).collect::<Vec<_>>())
        };
        checks.extend(resources.workers.run(&room_id, verify).await?);
    }
}

/// The events of an answer whose signatures are good. The others are as if the answer did not have them.
pub(crate) async fn good<P: Peer>(
    resources: &Resources,
    peer: &P,
    room: (&RoomId, &RoomVersionRules),
    events: Vec<Box<RawValue>>,
) -> Result<Vec<Verified>> {
    let checks = check_all(resources, peer, room, events).await?;
    let good = |check| match check {
        Check::Good(event) => Some(event),
        Check::Bad(reason) => {
            tracing::debug!(room = %room.0, reason, "an event of an answer is dropped");
            None
        }
        Check::NoKey => None,
    };
    Ok(checks.into_iter().filter_map(good).collect())
}
