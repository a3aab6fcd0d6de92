//! EDUs on their way to other servers.
//!
//! Invariant: an EDU is queued in the batch of the change that it tells of.

use ruma::OwnedServerName;
use ruma_federation_api::transactions::edu::Edu;
use wick_core::{Error, Result};
use wick_database::{
    Batch,
    schema::outgoing::{EDU_BY_STREAM, QueuedEdu},
};

/// What becomes of an EDU for a server that is out of reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// It is sent once the server is back.
    UntilSent,
    /// It is dropped: it would mean nothing later.
    WhileReachable,
}

/// Has an EDU sent to `destinations`, none of which is this server, once the batch is written. Each of them gets it in the order of
/// the stream, and again only after a crash between its acknowledgement and the note of it.
///
/// # Errors
/// If the EDU is no JSON.
pub fn queue_edu(
    batch: &mut Batch,
    destinations: Vec<OwnedServerName>,
    edu: &Edu,
    keep: Keep,
) -> Result<()> {
    if destinations.is_empty() {
        return Ok(());
    }
    let json = serde_json::to_string(edu).map_err(|error| Error::internal("an EDU", error))?;
    let queued = QueuedEdu { destinations, json, is_transient: keep == Keep::WhileReachable };
    let slot = batch.reserve_position();
    batch.put_at(slot, &EDU_BY_STREAM, move |position| (position, queued));
    Ok(())
}
