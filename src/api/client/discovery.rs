//! What the server is and can: `/versions`, `/capabilities`, `/.well-known/matrix/client`.
//!
//! Invariant: only what works is announced.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use ruma::api::client::discovery::{
    discover_homeserver::{self, HomeserverInfo},
    get_capabilities::{
        self,
        v3::{
            Capabilities, ChangePasswordCapability, ProfileFieldsCapability, RoomVersionStability,
            RoomVersionsCapability, ThirdPartyIdChangesCapability,
        },
    },
    get_supported_versions,
};
use serde::Serialize;
use wick_core::{Error, Result, rules::SUPPORTED_VERSIONS};
use wick_ruma::{
    capability::{UNSTABLE_FEATURE, WillExpireCapability},
    delayed_events::{self, DelayedEventsCapability},
};
use wick_service::Services;

use super::rtc;
use crate::{
    reply::Json,
    route::{Route, Ruma, route},
};

pub(crate) fn routes() -> Vec<Route> {
    vec![
        route(get_supported_versions).uncounted(),
        route(get_capabilities),
        route(discover_homeserver).uncounted(),
    ]
}

/// Versions of the client-server API.
const VERSIONS: &[&str] = &[
    "r0.6.1", "v1.1", "v1.2", "v1.3", "v1.4", "v1.5", "v1.6", "v1.7", "v1.8", "v1.9", "v1.10",
    "v1.11", "v1.12",
];

/// What is not in these versions.
const FEATURES: &[&str] = &[
    "org.matrix.msc3391",
    "org.matrix.msc3874",
    "org.matrix.msc3881",
    "org.matrix.msc4155",
    "org.matrix.msc4354",
    "org.matrix.msc4380",
    "org.matrix.msc4380.stable",
    UNSTABLE_FEATURE,
    "uk.half-shot.msc2666.query_mutual_rooms",
    "uk.half-shot.msc2666.query_mutual_rooms.stable",
    "uk.tcpip.msc4133.stable",
];

/// Events that are sent later, by the two names of MSC4140.
const DELAYED_EVENTS: [&str; 2] =
    [delayed_events::UNSTABLE_FEATURE, delayed_events::STABLE_FEATURE];

/// `GET /_matrix/client/versions`
async fn get_supported_versions(
    services: Arc<Services>,
    _: Ruma<get_supported_versions::Request>,
) -> Result<get_supported_versions::Response> {
    let versions = VERSIONS.iter().map(|&version| version.to_owned()).collect();
    let mut response = get_supported_versions::Response::new(versions);
    let delayed = services.delayed.is_enabled();
    response.unstable_features = FEATURES
        .iter()
        .map(|&feature| (feature.to_owned(), true))
        .chain(DELAYED_EVENTS.map(|feature| (feature.to_owned(), delayed)))
        .collect();
    Ok(response)
}

/// Ruma's response with what it leaves out because it is the default: clients look for it.
#[derive(Serialize)]
struct Announced {
    capabilities: SendOutcome,
}

#[derive(Serialize)]
struct SendOutcome {
    #[serde(rename = "m.change_password")]
    change_password: ChangePasswordCapability,
    #[serde(flatten)]
    capabilities: Capabilities,
}

/// `GET /_matrix/client/v3/capabilities`
async fn get_capabilities(
    services: Arc<Services>,
    _: Ruma<get_capabilities::v3::Request>,
) -> Result<Json<Announced>> {
    let available: BTreeMap<_, _> = SUPPORTED_VERSIONS
        .iter()
        .map(|version| (version.clone(), RoomVersionStability::Stable))
        .collect();
    let mut capabilities = Capabilities::default();
    capabilities.room_versions =
        RoomVersionsCapability::new(services.config.rooms.default_version.clone(), available);
    capabilities.profile_fields = Some(ProfileFieldsCapability::new(true));
    capabilities.thirdparty_id_changes = ThirdPartyIdChangesCapability::new(false);
    let expiry = &services.config.expiry;
    WillExpireCapability {
        enabled: expiry.enabled,
        min_duration: Duration::from_secs(expiry.min_duration),
        max_duration: Duration::from_secs(expiry.max_duration),
        max_running: expiry.max_running,
    }
    .add_to(&mut capabilities)
    .map_err(untellable)?;
    let delayed = services.delayed.settings();
    DelayedEventsCapability {
        max_delay: Some(delayed.max_delay.0),
        max_scheduled: Some(if delayed.enabled { delayed.max_scheduled } else { 0 }),
    }
    .add_to(&mut capabilities)
    .map_err(untellable)?;
    let change_password = ChangePasswordCapability::new(true);
    Ok(Json(Announced { capabilities: SendOutcome { change_password, capabilities } }))
}

fn untellable(error: serde_json::Error) -> Error {
    Error::internal("the capabilities cannot be written", error)
}

/// `GET /.well-known/matrix/client`
async fn discover_homeserver(
    services: Arc<Services>,
    _: Ruma<discover_homeserver::Request>,
) -> Result<discover_homeserver::Response> {
    let url = &services.config.server.well_known_client;
    if url.is_empty() {
        return Err(Error::not_found("this server announces no base URL"));
    }
    let mut response = discover_homeserver::Response::new(HomeserverInfo::new(url.clone()));
    response.rtc_foci = rtc::transports(&services);
    Ok(response)
}
