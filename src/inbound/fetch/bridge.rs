//! The way over a gap: the last event in it with the state before that, or the state before the event after it.

use ruma::OwnedEventId;
use wick_core::Result;
use wick_room::{Incoming, Received, Verified};

use super::Fetch;
use crate::Peer;

impl<P: Peer> Fetch<'_, P> {
    /// Brings an event forward of whose prev events these are missing. Whether that succeeded. An incomplete state is not passed
    /// over: what comes after it is tried only as a last resort.
    pub(super) async fn bridge(
        &mut self,
        incoming: &mut Incoming,
        missing: &[OwnedEventId],
        is_last_resort: bool,
    ) -> Result<bool> {
        if let [prev] = missing
            && self.receive_with_state(prev).await?
        {
            return Ok(true);
        }
        if self.is_broken && !is_last_resort {
            return Ok(false);
        }
        // It comes with an auth chain, too.
        incoming.state = self.state_before(&incoming.event).await?;
        Ok(incoming.state.is_some())
    }

    /// Fetches an event and the state before it, and receives it. Whether it is part of the room now.
    async fn receive_with_state(&mut self, id: &OwnedEventId) -> Result<bool> {
        let Some(event) = self.single_event(id).await? else { return Ok(false) };
        let Some(state) = self.state_before(&event).await? else { return Ok(false) };
        if !self.has_auth_events(&event).await? {
            return Ok(false);
        }
        let received = self.receive_once(&Incoming { event, state: Some(state) }).await?;
        if matches!(&received, Received::Missing(gaps) if !gaps.prev.is_empty()) {
            self.pass_over_state();
        }
        Ok(matches!(received, Received::Accepted(_) | Received::Known(_)))
    }

    async fn single_event(&mut self, id: &OwnedEventId) -> Result<Option<Verified>> {
        for server in self.servers.clone() {
            let peer = &self.inbound.peer;
            let Some(event) = self.ask(peer.event(&server, id.clone())).await else { continue };
            let event = self.verified(vec![event]).await?.pop();
            if let Some(event) = event.filter(|event| event.event_id() == id) {
                return Ok(Some(event));
            }
        }
        Ok(None)
    }
}
