//! `/join/{roomIdOrAlias}` and `/rooms/{roomId}/join`.
//!
//! Invariant: what the body has beside what the specification names becomes part of the member
//! event, so the requests are read here and not by ruma, which would drop it.

use std::{marker::PhantomData, sync::Arc};

use http::Method;
use ruma::{
    OwnedRoomOrAliasId,
    api::{
        IncomingRequest, Metadata,
        client::membership::{join_room_by_id, join_room_by_id_or_alias},
        error::DeserializationError,
    },
    canonical_json::CanonicalJsonObject,
};
use serde::{
    Deserialize,
    de::value::{self, SeqDeserializer},
};
use wick_core::Result;
use wick_service::{Limit, Services};

use crate::route::{Route, Ruma, route};

pub(crate) fn routes() -> Vec<Route> {
    vec![
        route(join_room_by_id).limited(Limit::Joins),
        route(join_room_by_id_or_alias).limited(Limit::Joins),
    ]
}

/// `POST /_matrix/client/v3/rooms/{roomId}/join`
async fn join_room_by_id(
    services: Arc<Services>,
    Ruma { body, sender, .. }: Ruma<Join<join_room_by_id::v3::Request>>,
) -> Result<join_room_by_id::v3::Response> {
    let room_id = services.rooms.room_named(&body.room)?;
    services.rooms.join(&sender, &room_id, body.content).await?;
    Ok(join_room_by_id::v3::Response::new(room_id))
}

/// `POST /_matrix/client/v3/join/{roomIdOrAlias}`
async fn join_room_by_id_or_alias(
    services: Arc<Services>,
    Ruma { body, sender, .. }: Ruma<Join<join_room_by_id_or_alias::v3::Request>>,
) -> Result<join_room_by_id_or_alias::v3::Response> {
    let room_id = services.rooms.room_named(&body.room)?;
    services.rooms.join(&sender, &room_id, body.content).await?;
    Ok(join_room_by_id_or_alias::v3::Response::new(room_id))
}

/// A request to join, as ruma's `R`, with everything its body says.
struct Join<R> {
    room: OwnedRoomOrAliasId,
    content: CanonicalJsonObject,
    request: PhantomData<R>,
}

impl<R: Metadata> Metadata for Join<R> {
    const METHOD: Method = R::METHOD;
    const RATE_LIMITED: bool = R::RATE_LIMITED;
    type Authentication = R::Authentication;
    type PathBuilder = R::PathBuilder;
    const PATH_BUILDER: Self::PathBuilder = R::PATH_BUILDER;
}

impl<R: IncomingRequest> IncomingRequest for Join<R> {
    type EndpointError = R::EndpointError;
    type OutgoingResponse = R::OutgoingResponse;

    fn try_from_http_request_inner(
        request: http::Request<&[u8]>,
        arguments: &[&str],
    ) -> Result<Self, DeserializationError> {
        let (room,): (OwnedRoomOrAliasId,) =
            Deserialize::deserialize(SeqDeserializer::<_, value::Error>::new(
                arguments.iter().copied(),
            ))?;
        let mut content = CanonicalJsonObject::new();
        if !request.body().trim_ascii().is_empty() {
            content = serde_json::from_slice(request.body())?;
        }
        for key in ["third_party_signed", "membership"] {
            content.remove(key);
        }
        Ok(Self { room, content, request: PhantomData })
    }
}
