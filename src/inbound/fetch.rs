//! What an event needs and this server does not have, from other servers: missing events, auth events, states.
//!
//! Invariants: one event costs at most [`MAX_REQUESTS`] requests, whatever the answers are, and none after its deadline;
//! only servers in the room are asked; an answer adds nothing but what was asked for; what is not had is asked of another
//! server, and not made up.

mod auth;
mod bridge;
mod missing;
mod state;

use std::{collections::HashSet, future::Future, time::Duration};

use ruma::{
    OwnedRoomId, OwnedServerName, RoomVersionId, ServerName, room_version_rules::RoomVersionRules,
};
use serde_json::value::RawValue;
use wick_core::{Monotonic, Result};
use wick_outbound::Admitted;
use wick_room::{Gaps, Incoming, Received, Verified, by_auth_events, by_prev_events};

use crate::{Inbound, Peer, verify};

/// How many requests one event may cost.
const MAX_REQUESTS: usize = 100;

/// How long other servers are asked for what an event needs: when it came, while the events behind it wait, and when it is
/// tried again.
pub(crate) const FIRST_TRY: Duration = Duration::from_secs(60);
pub(crate) const LATER_TRY: Duration = Duration::from_secs(600);

/// How many searches ask other servers at the same time: in all, and for what one server sent.
pub(crate) const SEARCHES_AT_ONCE: (u32, u32) = (64, 8);

/// How many servers are asked besides the one that sent the event and its sender's.
const OTHER_SERVERS: usize = 3;

/// How many steps one event is brought forward by: its auth events, the state before it as each server has it, and once more.
const MAX_STEPS: usize = 8;

/// The search for what one event needs.
pub(crate) struct Fetch<'a, P> {
    inbound: &'a Inbound<P>,
    room_id: &'a OwnedRoomId,
    version: &'a RoomVersionId,
    rules: &'a RoomVersionRules,
    /// The servers to ask, in order.
    servers: Vec<OwnedServerName>,
    /// The server that sent the event.
    origin: OwnedServerName,
    /// Since the first request.
    admitted: Option<Admitted>,
    requests: usize,
    /// When nothing is asked for any more.
    deadline: Monotonic,
    /// The server that gave the last state.
    state_from: Option<OwnedServerName>,
    /// Whether a server gave a state of which not all can be had.
    is_broken: bool,
}

impl<'a, P: Peer> Fetch<'a, P> {
    /// What `event` needs, from the server that sent it, its sender's, and some others, as far as they are in the room, until
    /// `deadline`.
    pub(crate) fn new(
        inbound: &'a Inbound<P>,
        (room_id, version, rules): (&'a OwnedRoomId, &'a RoomVersionId, &'a RoomVersionRules),
        origin: &ServerName,
        event: &Verified,
        deadline: Monotonic,
    ) -> Result<Self> {
        let own = inbound.graph.server_name();
        let mut distinct: Vec<OwnedServerName> = Vec::new();
        for server in [origin, event.pdu().sender.server_name()] {
            if server != own && inbound.is_in_room(server, room_id)? {
                distinct.push(server.to_owned());
            }
        }
        distinct.extend(inbound.servers(room_id, OTHER_SERVERS)?);
        let mut seen = HashSet::new();
        distinct.retain(|server| seen.insert(server.clone()));
        Ok(Self {
            inbound,
            room_id,
            version,
            rules,
            servers: distinct,
            origin: origin.to_owned(),
            admitted: None,
            requests: 0,
            deadline,
            state_from: None,
            is_broken: false,
        })
    }

    /// Receives an event with everything that it needs. [`Received::Missing`] if that cannot be had now. If not one of the
    /// events before it can be had, the state before it is asked for only if `is_last_resort`: the event may have come
    /// before them. So is the state before an event that follows on one whose state is incomplete.
    pub(crate) async fn complete(
        &mut self,
        event: Verified,
        is_last_resort: bool,
    ) -> Result<Received> {
        // What was missing may have come with the event before it.
        let gaps = match self.receive_once(&Incoming::from(event.clone())).await? {
            Received::Missing(gaps) => gaps,
            received => return Ok(received),
        };
        let mut events = Vec::new();
        if !gaps.prev.is_empty() {
            events = self.missing_events(&event, &gaps.prev).await?;
            if events.is_empty() && !is_last_resort {
                return Ok(Received::Missing(gaps));
            }
        }
        events.push(event);
        let mut last = Received::Missing(gaps);
        // The event itself is the last one: none of the others refers to it.
        for event in by_prev_events(events) {
            last = self.receive(&event, is_last_resort).await?;
            // What follows on it cannot be received before it, and waits with it.
            if matches!(last, Received::Later(_)) {
                break;
            }
            if self.is_broken && !is_last_resort && matches!(last, Received::Missing(_)) {
                break;
            }
        }
        Ok(last)
    }

    /// Receives one event; fetches its auth events, and the state before it if its prev events are not here.
    async fn receive(&mut self, event: &Verified, is_last_resort: bool) -> Result<Received> {
        let mut incoming = Incoming::from(event.clone());
        let mut received = self.receive_once(&incoming).await?;
        for _ in 0..MAX_STEPS {
            let Received::Missing(gaps) = &received else { break };
            let is_brought_forward = (!gaps.auth.is_empty()
                && self.auth_events(event, &gaps.auth).await?)
                || (incoming.state.is_none()
                    && !gaps.prev.is_empty()
                    && self.bridge(&mut incoming, &gaps.prev, is_last_resort).await?);
            if !is_brought_forward {
                break;
            }
            received = self.receive_once(&incoming).await?;
            if let Received::Missing(gaps) = &received
                && !gaps.prev.is_empty()
                && incoming.state.take().is_some()
            {
                self.pass_over_state();
            }
        }
        Ok(received)
    }

    /// The server whose state refused an event is not asked any more.
    fn pass_over_state(&mut self) {
        if let Some(server) = self.state_from.take() {
            tracing::info!(room = %self.room_id, %server, "the state that a server gives refuses an event");
            self.servers.retain(|other| *other != server);
        }
    }

    async fn receive_once(&self, incoming: &Incoming) -> Result<Received> {
        let events = vec![incoming.clone()];
        let received = self.inbound.receive_in_room(self.room_id, events).await?.pop();
        Ok(received.unwrap_or_else(|| Received::Missing(Gaps::default())))
    }

    /// Makes a request, if the event has not cost too many yet. A server that has no answer in time is `None`.
    async fn ask<T>(&mut self, request: impl Future<Output = Result<T>>) -> Option<T> {
        let clock = &self.inbound.resources.clock;
        if self.requests >= MAX_REQUESTS || clock.monotonic() >= self.deadline {
            return None;
        }
        self.requests += 1;
        let searches = &self.inbound.searches;
        let (admitted, origin) = (&mut self.admitted, &self.origin);
        let answer = async {
            if admitted.is_none() {
                *admitted = Some(searches.admit(origin.as_str()).await?);
            }
            request.await
        };
        let answer = tokio::select! {
            answer = answer => Some(answer),
            () = clock.sleep_until(self.deadline) => None,
        };
        match answer? {
            Ok(answer) => Some(answer),
            Err(error) => {
                tracing::debug!(room = %self.room_id, %error, "another server has no answer");
                None
            }
        }
    }

    /// Stores events that came with an answer outside of the timeline.
    async fn store_outliers(&self, events: Vec<Box<RawValue>>) -> Result<()> {
        let events = self.verified(events).await?;
        let events = by_auth_events(events);
        self.inbound.store_outliers(self.room_id, self.version, events).await?;
        Ok(())
    }

    /// The events of an answer whose signatures are good.
    async fn verified(&self, events: Vec<Box<RawValue>>) -> Result<Vec<Verified>> {
        let Inbound { resources, peer, .. } = self.inbound;
        verify::good(resources, peer, (self.room_id, self.rules), events).await
    }
}
