//! The state before an event whose prev events cannot be had.

use std::sync::Arc;

use ruma::OwnedEventId;
use wick_core::{Result, StateRoot};
use wick_room::Verified;

use super::Fetch;
use crate::{EventSpool, Peer, StateIds};

/// How many events of a state are fetched one by one; if more are missing, the whole state is.
const MAX_SINGLE: usize = 30;

impl<P: Peer> Fetch<'_, P> {
    /// The state before an event, as the first server has it that has the whole of it. `None` if none has.
    pub(crate) async fn state_before(&mut self, event: &Verified) -> Result<Option<StateRoot>> {
        for server in self.servers.clone() {
            let (room, id) = (self.room_id.clone(), event.event_id().to_owned());
            let peer = &self.inbound.peer;
            let ids = self.ask(peer.state_ids(&server, room.clone(), id.clone())).await;
            let Some(StateIds { state, auth_chain }) = ids else { continue };
            let missing = self.not_here(state.iter().chain(&auth_chain))?;
            if missing.len() > MAX_SINGLE {
                let mut events = EventSpool::new(&self.inbound.resources, self.room_id);
                if self.ask(peer.state(&server, room, id, &mut events)).await.is_some() {
                    let room = (self.room_id, self.version, &Arc::new(self.rules.clone()));
                    self.inbound.store_spooled(room, events).await?;
                }
            } else {
                self.events_one_by_one(&server, &missing).await?;
            }
            match self.inbound.state_of(self.room_id, state).await {
                Ok(root) => {
                    self.is_broken = false;
                    self.state_from = Some(server);
                    return Ok(Some(root));
                }
                Err(error) if error.kind().is_some() => {
                    self.is_broken = true;
                    tracing::debug!(room = %self.room_id, %server, %error, "a state is not whole");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    fn not_here<'i>(
        &self,
        ids: impl Iterator<Item = &'i OwnedEventId>,
    ) -> Result<Vec<OwnedEventId>> {
        let mut missing = Vec::new();
        for id in ids {
            if !self.is_here(id)? {
                missing.push(id.clone());
            }
        }
        Ok(missing)
    }
}
