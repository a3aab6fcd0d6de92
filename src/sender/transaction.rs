//! What a destination is sent next.
//!
//! Invariant: the id of a transaction follows from its place in the queue and from what is in it, so that one that is
//! repeated after a crash has the same, and one that takes the same place after a restore from a backup another.

use data_encoding::HEXLOWER;
use ruma::{OwnedServerName, ServerName, serde::Raw};
use ruma_federation_api::transactions::edu::Edu;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use wick_core::{Error, Position, Result, ShortRoomId};
use wick_database::{
    Range, Read, Snapshot,
    schema::{
        outgoing::{Gap, OUTGOING_BY_DESTINATION, Outgoing, PROGRESS_BY_DESTINATION},
        to_device::Outstanding,
    },
};

use crate::{
    bounds::{Kind, as_message},
    catch_up,
    sender::Shared,
};

/// <https://spec.matrix.org/v1.19/server-server-api/#transactions>
const MAX_EVENTS: usize = 50;
const MAX_EDUS: usize = 100;

/// How many bytes a transaction has before no more is added.
const FULL: usize = 1 << 20;

/// What a destination does next.
pub(crate) enum Step {
    /// There is nothing to send.
    Rest,
    /// The gap ends where the stream is now.
    EndGap,
    /// Something is acknowledged without being sent.
    Pass(Acknowledged),
    /// A transaction.
    Send(Box<Transaction>),
}

/// A transaction ready to be sent.
pub(crate) struct Transaction {
    pub(crate) id: String,
    pub(crate) events: Vec<Box<RawValue>>,
    pub(crate) edus: Vec<Raw<Edu>>,
    /// What its success acknowledges.
    pub(crate) acknowledged: Acknowledged,
}

impl Transaction {
    /// A transaction that takes a place in the queue, or in a gap.
    pub(crate) fn new(
        place: &str,
        events: Vec<Box<RawValue>>,
        edus: Vec<Raw<Edu>>,
        acknowledged: Acknowledged,
    ) -> Self {
        let mut contents = Sha256::new();
        for json in events.iter().map(|event| &**event).chain(edus.iter().map(Raw::json)) {
            contents.update(json.get());
        }
        let id = format!("{place}-{}", HEXLOWER.encode(&contents.finalize()));
        Self { id, events, edus, acknowledged }
    }
}

/// How far a destination has got.
#[derive(Clone, Debug)]
pub(crate) enum Acknowledged {
    /// The queue up to a position, with these messages in it.
    Queue(Position, Outstanding),
    /// The gap up to a room; `None` for all of it.
    Gap(Gap, Option<ShortRoomId>),
}

/// Finds out what a destination is sent next.
pub(crate) fn next(shared: &Shared, server: &ServerName) -> Result<Step> {
    // The rows of the queue have no wake of their own: what was written is sent, published or not. The events that they
    // name are published already.
    let read = shared.resources.database.latest();
    let progress = read.get(&PROGRESS_BY_DESTINATION, server)?.unwrap_or_default();
    let server = server.to_owned();
    let upto = progress.gap.as_ref().and_then(|gap| gap.upto);
    let rows = Range::prefix((server.clone(),));
    let rows = match upto {
        Some(upto) => rows.and(Range::through(&(server.clone(), upto))),
        None => rows,
    };
    if let Some(step) = from_queue(shared, &read, rows)? {
        return Ok(step);
    }
    match progress.gap {
        None => Ok(Step::Rest),
        Some(Gap { upto: None, .. }) => Ok(Step::EndGap),
        Some(gap) => {
            // The end of the gap is a position that was written before, and is published soon.
            let read: Snapshot = shared.resources.database.published();
            catch_up::next(shared, &read, &server, gap)
        }
    }
}

fn from_queue(
    shared: &Shared,
    read: &impl Read,
    rows: Range<(OwnedServerName, Position)>,
) -> Result<Option<Step>> {
    let (mut events, mut edus, mut bytes) = (Vec::new(), Vec::new(), 0);
    let (mut first, mut last, mut held) = (None, None, Outstanding::default());
    for row in read.scan(&OUTGOING_BY_DESTINATION, rows) {
        let ((_, position), what) = row?;
        let is_full = match what {
            Outgoing::Event(_) => events.len() >= MAX_EVENTS,
            Outgoing::Edu(_) => edus.len() >= MAX_EDUS,
        };
        if is_full || bytes >= FULL {
            break;
        }
        if let Outgoing::Edu(json) = &what
            && Kind::of(json) == Kind::Message
        {
            held = held.plus(as_message(&what));
        }
        match what {
            Outgoing::Event(event) => {
                if let Some(pdu) = shared.graph.event(read, event)? {
                    bytes += pdu.json.get().len();
                    events.push(pdu.json.clone());
                }
            }
            Outgoing::Edu(json) => {
                bytes += json.len();
                let json = RawValue::from_string(json)
                    .map_err(|error| Error::internal("a queued EDU is no JSON", error))?;
                edus.push(Raw::from_json(json));
            }
        }
        first = first.or(Some(position));
        last = Some(position);
    }
    let (Some(first), Some(last)) = (first, last) else { return Ok(None) };
    let acknowledged = Acknowledged::Queue(last, held);
    if events.is_empty() && edus.is_empty() {
        return Ok(Some(Step::Pass(acknowledged)));
    }
    let place = format!("{first}-{last}");
    Ok(Some(Step::Send(Box::new(Transaction::new(&place, events, edus, acknowledged)))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transaction_has_an_id_of_its_place_and_its_contents() {
        let id = |place: &str, event: &str, edu: &str| {
            let json = |text: &str| RawValue::from_string(text.to_owned()).unwrap();
            let edus = vec![Raw::from_json(json(edu))];
            let acknowledged = Acknowledged::Queue(Position(1), Outstanding::default());
            Transaction::new(place, vec![json(event)], edus, acknowledged).id
        };
        let first = id("1-2", "{}", "[]");
        assert_eq!(id("1-2", "{}", "[]"), first);
        for other in [id("1-3", "{}", "[]"), id("1-2", "{ }", "[]"), id("1-2", "{}", "[1]")] {
            assert_ne!(other, first);
        }
    }
}
