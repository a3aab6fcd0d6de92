//! Joining.
//!
//! <https://spec.matrix.org/v1.19/server-server-api/#joining-rooms>

use std::{sync::Arc, time::Duration};

use ruma::{
    OwnedRoomId, OwnedServerName, RoomId, ServerName, api::error::ErrorKind,
    canonical_json::CanonicalJsonObject,
};
use ruma_federation_api::membership::{
    create_join_event::v2 as send_join, prepare_join_event::v1 as make_join,
};
use wick_account::Session;
use wick_core::{Error, RemoteFailure, RemoteReason, Result, rules::SUPPORTED_VERSIONS};
use wick_database::schema::room::Membership;
use wick_federation::{Federation, Fields};
use wick_runtime::Limit;

use crate::{RemoteRooms, peer::fill, rooms::Failures, template::Member};

/// How many members are looked at to find servers that can authorise a join.
const MAX_MEMBERS: usize = 1_000;

/// The fields of the response to `send_join`.
const ANSWER: Fields = Fields { lists: &["state", "auth_chain"], values: &["event"] };

/// How many joins over other servers are under way at once: in all, and by one user. A large one takes some memory.
pub(crate) const JOINS_AT_ONCE: (u32, u32) = (8, 2);

/// How long the events of a room may take to be verified and stored. What is stored by then is there when the join is
/// repeated.
const LONGEST_ENTRY: Duration = Duration::from_secs(15 * 60);

impl RemoteRooms {
    /// Joins a room, over another server if this one has no member in it or cannot authorise the join. `via` are servers to
    /// ask, `extra` becomes part of the member event. Continues if the client hangs up.
    ///
    /// # Errors
    /// As [`Rooms::join`](wick_rooms::Rooms::join); what the other servers refuse; a failure of theirs if none has an answer.
    pub async fn join(
        self: &Arc<Self>,
        session: &Arc<Session>,
        room_id: &RoomId,
        via: Vec<OwnedServerName>,
        extra: CanonicalJsonObject,
    ) -> Result<()> {
        let (remote, session) = (Arc::clone(self), Arc::clone(session));
        let room_id = room_id.to_owned();
        let join = async move { remote.join_somehow(&session, &room_id, via, extra).await };
        self.supervisor.complete("join over another server", join).await
    }

    async fn join_somehow(
        self: &Arc<Self>,
        session: &Session,
        room_id: &OwnedRoomId,
        via: Vec<OwnedServerName>,
        extra: CanonicalJsonObject,
    ) -> Result<()> {
        let _one_at_a_time = self.joining.take(room_id.clone()).await;
        let mut servers = via;
        if self.is_here(room_id)? {
            match self.rooms.try_join(session, room_id, extra.clone()).await {
                Err(error) if is_undecided(&error) => {
                    let authorising = self.authorising_servers(room_id)?;
                    if authorising.is_empty() {
                        return Err(Error::forbidden(error.to_string()));
                    }
                    // What decides may be on its way, here or there.
                    let again = match self.exchange(session.user, room_id, &authorising).await? {
                        true => self.rooms.try_join(session, room_id, extra.clone()).await,
                        false => Err(error),
                    };
                    match again {
                        Err(error) if is_undecided(&error) => servers = authorising,
                        joined => return joined,
                    }
                }
                joined => return joined,
            }
        } else if session.is_guest {
            let message = "guests cannot join rooms of other servers";
            return Err(Error::refused(ErrorKind::GuestAccessForbidden, message));
        } else {
            self.resources.limits.ensure(Limit::Joins, &session.user_id)?;
        }
        let servers = self.candidates(session.user, room_id, servers)?;
        let content = self.rooms.join_content(&session.user_id, extra)?;
        let member = Member { room_id, user_id: &session.user_id, content };
        let mut failures = Failures::default();
        for server in &servers {
            match self.join_by(server, room_id, &member).await {
                Ok(()) => return self.rooms.follow_predecessor(session.user, room_id).await,
                Err(error) => failures.note(server, error)?,
            }
        }
        Err(failures.into_error())
    }

    async fn join_by(
        self: &Arc<Self>,
        server: &ServerName,
        room_id: &OwnedRoomId,
        member: &Member<'_>,
    ) -> Result<()> {
        let mut request = make_join::Request::new(room_id.clone(), member.user_id.to_owned());
        request.ver = SUPPORTED_VERSIONS.to_vec();
        let draft = self.federation.request(server, request).await?;
        let signed = self.sign(member, draft.room_version, &draft.event)?;
        let _admitted = self.joins.admit(member.user_id.as_str()).await?;
        let (version, event_id) = (signed.version, signed.event_id);
        let joining = self.inbound.joining(room_id.clone(), version);
        let pdu = signed.json.clone();
        let request = send_join::Request::new(room_id.clone(), event_id.clone(), pdu);
        let bounds = Federation::state_bounds();
        let mut answer = self.federation.event_lists(server, request, ANSWER, bounds).await?;
        let mut events = joining.spool();
        let event = fill(&mut events, &mut answer, "state").await?.unwrap_or(signed.json);
        // The connection is free again.
        drop(answer);
        let clock = &self.resources.clock;
        tokio::select! {
            entered = joining.enter((&event_id, event), events) => entered.map(drop),
            () = clock.sleep_until(clock.monotonic() + LONGEST_ENTRY) => {
                let message = "the events of the room take too long to verify".to_owned();
                let reason = RemoteReason::Unreachable;
                Err(RemoteFailure { server: server.to_string(), reason, message }.into())
            }
        }
    }

    /// Other servers that may be able to authorise a join which this one cannot: those of joined users that can invite.
    fn authorising_servers(&self, room_id: &RoomId) -> Result<Vec<OwnedServerName>> {
        let read = self.resources.database.latest();
        let Some(room) = self.graph.short(&read, room_id)? else { return Ok(Vec::new()) };
        let levels = self.graph.power_levels(&read, room)?;
        let mut servers = Vec::new();
        for member in self.graph.members(&read, room, Membership::Join).take(MAX_MEMBERS) {
            let user_id = self.graph.user_id(&read, member?.0)?;
            let server = user_id.server_name().to_owned();
            let is_new = !self.is_local(&user_id) && !servers.contains(&server);
            if is_new && levels.user_can_invite(&user_id) {
                servers.push(server);
            }
        }
        Ok(servers)
    }
}

/// Whether a join was refused because this server cannot tell whether it is allowed, or has no member who could
/// authorise it.
fn is_undecided(error: &Error) -> bool {
    error.kind().is_some_and(|kind| {
        matches!(kind, ErrorKind::UnableToAuthorizeJoin | ErrorKind::UnableToGrantJoin)
    })
}
