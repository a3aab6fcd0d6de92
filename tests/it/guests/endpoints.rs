//! What guests may call.

use super::*;

/// The list of the specification's module, by method and path below the version.
const SPECIFIED: &[(&str, &str)] = &[
    ("GET", "/rooms/{room_id}/state"),
    ("GET", "/rooms/{room_id}/context/{event_id}"),
    ("GET", "/rooms/{room_id}/event/{event_id}"),
    ("GET", "/rooms/{room_id}/state/{event_type}"),
    ("GET", "/rooms/{room_id}/state/{event_type}/"),
    ("GET", "/rooms/{room_id}/state/{event_type}/{state_key}"),
    ("GET", "/rooms/{room_id}/messages"),
    ("GET", "/rooms/{room_id}/members"),
    ("GET", "/rooms/{room_id}/initialSync"),
    ("GET", "/sync"),
    ("GET", "/events"),
    ("GET", "/media/download/{server_name}/{media_id}"),
    ("GET", "/media/download/{server_name}/{media_id}/{filename}"),
    ("GET", "/media/thumbnail/{server_name}/{media_id}"),
    ("POST", "/rooms/{room_id}/join"),
    ("POST", "/rooms/{room_id}/leave"),
    ("PUT", "/rooms/{room_id}/send/{event_type}/{txn_id}"),
    ("PUT", "/rooms/{room_id}/state/{event_type}"),
    ("PUT", "/rooms/{room_id}/state/{event_type}/"),
    ("PUT", "/rooms/{room_id}/state/{event_type}/{state_key}"),
    ("PUT", "/sendToDevice/{event_type}/{txn_id}"),
    ("GET", "/devices"),
    ("GET", "/devices/{device_id}"),
    ("PUT", "/devices/{device_id}"),
    ("GET", "/account/whoami"),
    ("POST", "/keys/upload"),
    ("POST", "/keys/query"),
    ("POST", "/keys/claim"),
];

/// What guests may call besides.
const BESIDES: &[(&str, &str)] = &[
    ("POST", "/join/{room_id_or_alias}"),
    ("PUT", "/rooms/{room_id}/delayed_event/{event_type}/{txn_id}"),
];

/// Endpoints that take requests without an access token, but not a guest's.
const UNPROVEN: &[&str] = &["/account/password", "/account/deactivate"];

/// The path of an endpoint of the client-server API below its version; the name of the feature is that of an
/// unstable one.
fn below_version(pattern: &str) -> Option<&str> {
    let below = pattern.strip_prefix("/_matrix/client/")?;
    let below = below.strip_prefix("unstable/").unwrap_or(below);
    Some(below.find('/').and_then(|slash| below.get(slash..)).unwrap_or(below))
}

#[tokio::test]
async fn guests_may_call_what_the_specification_lists_and_nothing_else_that_needs_a_token() {
    let server = server().await;
    let guest = server.register_guest().await;
    let mut open = 0;
    for (method, pattern) in wick_api::endpoints() {
        let Some(below) = below_version(&pattern) else { continue };
        let is = |(of, path): &(&str, &str)| *of == method.as_str() && *path == below;
        let path = pattern.replace(['{', '}'], "");
        let (status, body) = server.request(method.clone(), &path, &guest.token, Value::Null).await;
        let answer = Answer { status, body };
        if SPECIFIED.iter().chain(BESIDES).any(is) {
            open += 1;
            assert_ne!(answer.errcode(), FORBIDDEN, "{method} {pattern}");
            continue;
        }
        if UNPROVEN.contains(&below) {
            assert_eq!(answer.errcode(), FORBIDDEN, "{method} {pattern}");
            continue;
        }
        let anonymous = server.request(method.clone(), &path, "", Value::Null).await;
        let needs_token = anonymous.1["errcode"] == "M_MISSING_TOKEN";
        assert_eq!(answer.errcode() == FORBIDDEN, needs_token, "{method} {pattern}: {answer:?}");
    }
    assert!(open > 40, "{open} endpoints of the list are served");
}

#[tokio::test]
async fn a_guest_sets_its_display_name_and_nothing_else_of_its_profile() {
    let server = server().await;
    let guest = server.register_guest().await;
    let path = |field| format!("profile/{}/{field}", guest.user_id);
    let name = json!({ "displayname": "Visitor" });
    call(&server, &guest, (Method::PUT, &path("displayname")), name).await.ok();
    let avatar = json!({ "avatar_url": "mxc://localhost/a" });
    let refused = call(&server, &guest, (Method::PUT, &path("avatar_url")), avatar).await;
    assert_eq!(refused.errcode(), FORBIDDEN);
    let refused = call(&server, &guest, (Method::DELETE, &path("displayname")), json!({})).await;
    assert_eq!(refused.errcode(), FORBIDDEN);
    let (_, profile) = server.get(&format!("{V3}/profile/{}", guest.user_id), "").await;
    assert_eq!(profile, json!({ "displayname": "Visitor" }));
}

#[tokio::test]
async fn a_guest_is_not_in_the_user_directory_until_it_is_a_full_account() {
    let server = server().await;
    let alice = server.register("alice").await;
    let guest = server.register_guest().await;
    let room = open_room(&server, &alice).await;
    join(&server, &guest, &room).await.ok();
    let path = format!("profile/{}/displayname", guest.user_id);
    call(&server, &guest, (Method::PUT, &path), json!({ "displayname": "Visitor" })).await.ok();
    let search = async || {
        let term = json!({ "search_term": "visitor" });
        let found = call(&server, &alice, (Method::POST, "user_directory/search"), term).await;
        found.ok()["results"].as_array().unwrap().len()
    };
    assert_eq!(search().await, 0);
    accounts::upgrade(&server, &guest).await.ok();
    assert_eq!(search().await, 1);
}
