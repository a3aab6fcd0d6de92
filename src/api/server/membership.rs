//! Joins, knocks and leaves of users of other servers in rooms of this one.
//!
//! <https://spec.matrix.org/v1.19/server-server-api/#joining-rooms>

use std::sync::Arc;

use ruma::{
    OwnedRoomId, OwnedServerName, OwnedUserId, RoomVersionId, ServerName,
    events::room::member::MembershipState,
};
use ruma_federation_api::membership::{
    RawStrippedState, create_join_event::v2 as create_join_event,
    create_knock_event::v1 as create_knock_event, create_leave_event::v2 as create_leave_event,
    prepare_join_event::v1 as prepare_join_event, prepare_knock_event::v1 as prepare_knock_event,
    prepare_leave_event::v1 as prepare_leave_event,
};
use serde::Serialize;
use serde_json::value::RawValue;
use wick_core::{Result, rules};
use wick_service::Services;

use super::{
    event_lists::EventLists,
    first_version::{FirstVersion, FirstVersionPath},
};
use crate::{
    reply::Json,
    route::{Route, Ruma, route},
};

pub(super) fn routes() -> Vec<Route> {
    vec![
        route(make_join),
        route(send_join),
        route(send_join_v1),
        route(make_knock),
        route(send_knock),
        route(make_leave),
        route(send_leave),
        route(send_leave_v1),
    ]
}

impl FirstVersionPath for create_join_event::Request {
    const PATH: &'static str = "/_matrix/federation/v1/send_join/{room_id}/{event_id}";
}

impl FirstVersionPath for create_leave_event::Request {
    const PATH: &'static str = "/_matrix/federation/v1/send_leave/{room_id}/{event_id}";
}

/// `GET /_matrix/federation/v1/make_join/{roomId}/{userId}`
async fn make_join(
    services: Arc<Services>,
    Ruma { body, sender, .. }: Ruma<prepare_join_event::Request>,
) -> Result<prepare_join_event::Response> {
    services.federated()?.inbound.take_in_allowed(&body.room_id).await?;
    let who = (body.room_id, body.user_id);
    let (version, event) = make(&services, &sender, who, MembershipState::Join, &body.ver)?;
    let mut response = prepare_join_event::Response::new(event);
    response.room_version = Some(version);
    Ok(response)
}

/// `PUT /_matrix/federation/v2/send_join/{roomId}/{eventId}`
async fn send_join(
    services: Arc<Services>,
    Ruma { body, sender, .. }: Ruma<create_join_event::Request>,
) -> Result<EventLists> {
    join(&services, sender, body).await
}

/// `PUT /_matrix/federation/v1/send_join/{roomId}/{eventId}`, which the specification no longer has
async fn send_join_v1(
    services: Arc<Services>,
    Ruma { body: FirstVersion(body), sender, .. }: Ruma<FirstVersion<create_join_event::Request>>,
) -> Result<EventLists> {
    Ok(join(&services, sender, body).await?.between("[200,", "]"))
}

/// `GET /_matrix/federation/v1/make_knock/{roomId}/{userId}`
async fn make_knock(
    services: Arc<Services>,
    Ruma { body, sender, .. }: Ruma<prepare_knock_event::Request>,
) -> Result<prepare_knock_event::Response> {
    let who = (body.room_id, body.user_id);
    let (version, event) = make(&services, &sender, who, MembershipState::Knock, &body.ver)?;
    Ok(prepare_knock_event::Response::new(version, event))
}

/// `PUT /_matrix/federation/v1/send_knock/{roomId}/{eventId}`
async fn send_knock(
    services: Arc<Services>,
    Ruma { body, sender, .. }: Ruma<create_knock_event::Request>,
) -> Result<create_knock_event::Response> {
    let federated = services.federated()?;
    let (room, knock) = (&body.room_id, MembershipState::Knock);
    federated.inbound.take_member_event(&sender, room, &body.event_id, body.pdu, &knock).await?;
    let shown = federated.answers.knock_state(room)?;
    let shown = shown.into_iter().map(RawStrippedState::Pdu).collect();
    Ok(create_knock_event::Response::new(shown))
}

/// `GET /_matrix/federation/v1/make_leave/{roomId}/{userId}`
async fn make_leave(
    services: Arc<Services>,
    Ruma { body, sender, .. }: Ruma<prepare_leave_event::Request>,
) -> Result<prepare_leave_event::Response> {
    let who = (body.room_id, body.user_id);
    // The asking server has been told the version before.
    let versions = rules::SUPPORTED_VERSIONS;
    let (version, event) = make(&services, &sender, who, MembershipState::Leave, versions)?;
    Ok(prepare_leave_event::Response::new(Some(version), event))
}

/// `PUT /_matrix/federation/v2/send_leave/{roomId}/{eventId}`
async fn send_leave(
    services: Arc<Services>,
    Ruma { body, sender, .. }: Ruma<create_leave_event::Request>,
) -> Result<create_leave_event::Response> {
    leave(&services, &sender, body).await?;
    Ok(create_leave_event::Response::new())
}

/// `PUT /_matrix/federation/v1/send_leave/{roomId}/{eventId}`, which the specification no longer has
async fn send_leave_v1(
    services: Arc<Services>,
    Ruma { body: FirstVersion(body), sender, .. }: Ruma<FirstVersion<create_leave_event::Request>>,
) -> Result<Json<(u16, serde_json::Map<String, serde_json::Value>)>> {
    leave(&services, &sender, body).await?;
    Ok(Json((200, serde_json::Map::new())))
}

fn make(
    services: &Services,
    sender: &ServerName,
    (room_id, user_id): (OwnedRoomId, OwnedUserId),
    membership: MembershipState,
    versions: &[RoomVersionId],
) -> Result<(RoomVersionId, Box<RawValue>)> {
    let inbound = &services.federated()?.inbound;
    let (version, event) =
        inbound.make_member_event(sender, &room_id, &user_id, &membership, versions)?;
    Ok((version, rules::to_json(&event)?))
}

/// The fields of the response to `send_join` besides its lists.
#[derive(Serialize)]
struct JoinFields {
    event: Box<RawValue>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    members_omitted: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    servers_in_room: Option<Vec<OwnedServerName>>,
}

async fn join(
    services: &Services,
    sender: OwnedServerName,
    body: create_join_event::Request,
) -> Result<EventLists> {
    let federated = services.federated()?;
    let (room, id, join) = (&body.room_id, &body.event_id, MembershipState::Join);
    let event = federated.inbound.take_member_event(&sender, room, id, body.pdu, &join).await?;
    let answer = federated.answers.join_state(&sender, room, id, body.omit_members).await?;
    let lists = [("state", answer.state), ("auth_chain", answer.auth_chain)];
    let members_omitted = answer.servers.is_some();
    let fields = JoinFields { event, members_omitted, servers_in_room: answer.servers };
    EventLists::new(services, sender, lists)?.with(&fields)
}

async fn leave(
    services: &Services,
    sender: &ServerName,
    body: create_leave_event::Request,
) -> Result<()> {
    let inbound = &services.federated()?.inbound;
    let (room, id, leave) = (&body.room_id, &body.event_id, MembershipState::Leave);
    inbound.take_member_event(sender, room, id, body.pdu, &leave).await.map(|_| ())
}
