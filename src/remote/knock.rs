//! Knocking on rooms of other servers.
//!
//! <https://spec.matrix.org/v1.19/server-server-api/#knocking-upon-a-room>

use std::sync::Arc;

use ruma::{
    OwnedRoomId, OwnedServerName, RoomId, ServerName, events::room::member::MembershipState,
};
use ruma_federation_api::membership::{
    create_knock_event::v1 as send_knock, prepare_knock_event::v1 as make_knock,
};
use wick_account::Session;
use wick_core::{Position, Result, rules::SUPPORTED_VERSIONS};
use wick_database::schema::{remote::RemoteMembership, room::Membership};
use wick_runtime::Limit;

use crate::{
    RemoteRooms,
    rooms::Failures,
    stripped::{strip, strip_all},
    template::Member,
};

impl RemoteRooms {
    /// Knocks on a room, over another server if this one has no member in it. Continues if the client hangs up.
    ///
    /// # Errors
    /// As [`Rooms::knock`](wick_rooms::Rooms::knock); what the other servers refuse; a failure of theirs if none has an
    /// answer.
    pub async fn knock(
        self: &Arc<Self>,
        session: &Arc<Session>,
        room_id: &RoomId,
        via: Vec<OwnedServerName>,
        reason: Option<&str>,
    ) -> Result<()> {
        if self.is_here(room_id)? {
            return self.rooms.knock(session, room_id, reason).await;
        }
        self.resources.limits.ensure(Limit::Joins, &session.user_id)?;
        let content =
            self.rooms.member_content(MembershipState::Knock, &session.user_id, reason)?;
        let servers = self.candidates(session.user, room_id, via)?;
        let (remote, session) = (Arc::clone(self), Arc::clone(session));
        let room_id = room_id.to_owned();
        let knock = async move {
            let member = Member { room_id: &room_id, user_id: &session.user_id, content };
            let mut failures = Failures::default();
            for server in &servers {
                match remote.knock_by(server, &session, &room_id, &member).await {
                    Ok(()) => return Ok(()),
                    Err(error) => failures.note(server, error)?,
                }
            }
            Err(failures.into_error())
        };
        self.supervisor.complete("knock over another server", knock).await
    }

    async fn knock_by(
        &self,
        server: &ServerName,
        session: &Session,
        room_id: &OwnedRoomId,
        member: &Member<'_>,
    ) -> Result<()> {
        let mut request = make_knock::Request::new(room_id.clone(), member.user_id.to_owned());
        request.ver = SUPPORTED_VERSIONS.to_vec();
        let draft = self.federation.request(server, request).await?;
        let signed = self.sign(member, Some(draft.room_version), &draft.event)?;
        let (id, pdu) = (signed.event_id.clone(), signed.json.clone());
        let request = send_knock::Request::new(room_id.clone(), id, pdu);
        let answer = self.federation.request(server, request).await?;
        let mut state = strip_all(&answer.knock_room_state);
        state.extend(strip(&signed.json));
        let membership = RemoteMembership {
            membership: Membership::Knock,
            version: signed.version.to_string(),
            event_id: signed.event_id,
            event: signed.json.get().to_owned(),
            state,
            servers: vec![server.to_owned()],
            position: Position(0),
        };
        let change = |_| Ok(Some(membership.clone()));
        self.graph.change_remote_membership(room_id, session.user, change).await.map(drop)
    }
}
