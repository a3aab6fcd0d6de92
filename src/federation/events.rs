//! Responses that are lists of events, such as the state of a room, read event by event as they arrive.
//!
//! Invariant: no more than one piece of the body and one event is held, however large the response is.

mod lists;

use std::time::Duration;

use ruma::{
    OwnedServerName, ServerName,
    api::{OutgoingRequest, path_builder::SinglePath},
};
use ruma_federation_api::authentication::ServerSignatures;
use serde_json::value::RawValue;
use wick_core::{Error, RemoteReason, Result};
use wick_outbound::{Admitted, Bounds, Failure, Response};

pub use self::lists::{Fields, Part};
use self::lists::{Lists, Malformed};
use crate::{
    Federation,
    transport::{Wait, remote, unreachable},
};

/// A response that is being read.
pub struct EventLists {
    server: OwnedServerName,
    response: Response,
    lists: Lists,
    _admitted: Admitted,
}

impl Federation {
    /// Makes a request to `server` whose response holds lists of events, and begins to read it. Of its fields only those
    /// of `fields` are read.
    ///
    /// # Errors
    /// As [`Federation::request`].
    pub async fn event_lists<R>(
        &self,
        server: &ServerName,
        request: R,
        fields: Fields,
        bounds: Bounds,
    ) -> Result<EventLists>
    where
        R: OutgoingRequest<Authentication = ServerSignatures, PathBuilder = SinglePath>,
    {
        let make = |base: &str| self.sign(server, request, base);
        let clock = self.transport.clock();
        let deadline = clock.monotonic() + bounds.time;
        let admitted = tokio::select! {
            biased;
            admitted = self.transport.admit(server) => admitted?,
            () = clock.sleep_until(deadline) => {
                return Err(unreachable(server, &Failure::TimedOut));
            }
        };
        let time = deadline.since(clock.monotonic());
        let wait = Wait { head: time, bounds: Bounds { time, ..bounds } };
        let response = self.transport.open(server, &admitted, wait, make).await?;
        let (server, lists) = (server.to_owned(), Lists::new(fields));
        Ok(EventLists { server, response, lists, _admitted: admitted })
    }

    /// The bounds of a response that holds the state of a room: 128 MiB, two minutes.
    #[must_use]
    pub fn state_bounds() -> Bounds {
        Bounds { bytes: 128 << 20, time: Duration::from_secs(120) }
    }
}

impl EventLists {
    /// The next event of a list, or the next of the other fields; `None` at the end of the response.
    ///
    /// # Errors
    /// [`Error::Remote`] if the connection breaks, the time is up, the response is larger than its bound, or it is no
    /// object with such lists.
    pub async fn next(&mut self) -> Result<Option<(Part, Box<RawValue>)>> {
        loop {
            match self.lists.next() {
                Ok(Some(found)) => return Ok(Some(found)),
                Ok(None) => {}
                Err(Malformed) => return Err(self.unreadable()),
            }
            let chunk = self.response.chunk().await;
            match chunk.map_err(|failure| unreachable(&self.server, &failure))? {
                Some(bytes) => self.lists.feed(bytes),
                None if self.lists.is_whole() => return Ok(None),
                None => return Err(self.unreadable()),
            }
        }
    }

    fn unreadable(&self) -> Error {
        remote(&self.server, RemoteReason::Unreadable, "the response is not what was asked for")
    }
}
