//! Invites by third-party identifiers, from the servers of the invited users and from identity servers.
//!
//! <https://spec.matrix.org/v1.19/server-server-api/#third-party-invites>

use std::sync::Arc;

use ruma::{
    events::{
        StateEventType,
        room::member::{MembershipState, SignedContent},
    },
    serde::Raw,
};
use ruma_federation_api::thirdparty::{
    bind_callback::v1 as bind_callback, exchange_invite::v1 as exchange_invite,
};
use serde::Deserialize;
use wick_core::{Error, Result};
use wick_remote::BoundInvite;
use wick_service::Services;

use crate::route::{Route, Ruma, route};

pub(super) fn routes() -> Vec<Route> {
    vec![route(exchange), route(on_bind)]
}

/// `PUT /_matrix/federation/v1/exchange_third_party_invite/{roomId}`
async fn exchange(
    services: Arc<Services>,
    Ruma { body, sender: origin, .. }: Ruma<exchange_invite::Request>,
) -> Result<exchange_invite::Response> {
    #[derive(Deserialize)]
    struct Content {
        membership: MembershipState,
        third_party_invite: Signed,
    }
    #[derive(Deserialize)]
    struct Signed {
        signed: Raw<SignedContent>,
    }
    let exchange_invite::Request { room_id, kind, sender, state_key, content, .. } = body;
    let content: Content = serde_json::from_str(content.json().get())
        .map_err(|_| Error::bad_json("the content is not that of a third-party invite"))?;
    if kind != StateEventType::RoomMember || content.membership != MembershipState::Invite {
        return Err(Error::bad_json("the event is no invite"));
    }
    let signed = content.third_party_invite.signed;
    let invite = BoundInvite { room_id, sender, invitee: state_key, signed };
    services.federated()?.rooms.exchange_invite(&origin, invite).await?;
    Ok(exchange_invite::Response::new())
}

/// `PUT /_matrix/federation/v1/3pid/onbind`
async fn on_bind(
    services: Arc<Services>,
    Ruma { body, .. }: Ruma<bind_callback::Request>,
) -> Result<bind_callback::Response> {
    let invites = body.invites.into_iter().map(|invite| BoundInvite {
        room_id: invite.room_id,
        sender: invite.sender,
        invitee: invite.mxid,
        signed: invite.signed,
    });
    services.federated()?.rooms.take_bound(&body.mxid, invites.collect()).await?;
    Ok(bind_callback::Response::new())
}
