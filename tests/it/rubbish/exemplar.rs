//! Good requests, for rubbish that differs from them in little and so gets far.

/// A good request: how the pattern of its path ends, its query, its body. What stands between angle brackets
/// is the world's thing of that name.
pub(super) struct Exemplar {
    pub(super) path: &'static str,
    pub(super) query: &'static str,
    pub(super) body: &'static str,
}

/// The good request to an endpoint, if one is written down.
pub(super) fn exemplar(pattern: &str) -> Option<&'static Exemplar> {
    EXEMPLARS.iter().find(|exemplar| pattern.trim_end_matches('/').ends_with(exemplar.path))
}

const fn good(path: &'static str, query: &'static str, body: &'static str) -> Exemplar {
    Exemplar { path, query, body }
}

const EXEMPLARS: &[Exemplar] = &[
    good("/timestamp_to_event", "ts=1790000000000&dir=b", ""),
    good("/media/v3/upload", "filename=a.png", r#"{"any":"bytes"}"#),
    good(
        "/thumbnail/{server_name}/{media_id}",
        "width=32&height=32&method=crop&animated=true&timeout_ms=1",
        "",
    ),
    good("/download/{server_name}/{media_id}", "timeout_ms=1&allow_redirect=true", ""),
    good("/media/preview_url", "url=http://127.0.0.1/", ""),
    good("/register/available", "username=nobody", ""),
    good("/messages", r#"dir=b&limit=5&from=<from>&filter={"types":["m.*"]}"#, ""),
    good("/sync", r#"since=<since>&timeout=1&filter={"room":{"timeline":{"limit":3}}}"#, ""),
    good("/context/{event_id}", "limit=3", ""),
    good("/members", "at=<at>&membership=join", ""),
    good("/hierarchy", "limit=2&max_depth=2&suggested_only=true", ""),
    good("/relations/{event_id}", "limit=2&dir=f&recurse=true", ""),
    good("/threads", "limit=2&include=all", ""),
    good("/publicRooms", "limit=2", r#"{"limit":2,"filter":{"generic_search_term":"a"}}"#),
    good("/user_directory/search", "", r#"{"search_term":"user","limit":3}"#),
    good(
        "/search",
        "",
        r#"{"search_categories":{"room_events":{"search_term":"here","keys":["content.body"],
        "order_by":"recent","event_context":{"before_limit":1},"groupings":{"group_by":[{"key":"room_id"}]}}}}"#,
    ),
    good("/account/deactivate", "", r#"{"erase":false,"auth":<auth>}"#),
    good(
        "/account/password",
        "",
        r#"{"new_password":"another password","logout_devices":false,"auth":<auth>}"#,
    ),
    good("/delete_devices", "", r#"{"devices":["<device_id>"],"auth":<auth>}"#),
    good(
        "/login",
        "",
        r#"{"type":"m.login.password","password":"<password>","refresh_token":true,
        "identifier":{"type":"m.id.user","user":"<user_id>"},"initial_device_display_name":"a"}"#,
    ),
    good(
        "/register",
        "kind=user",
        r#"{"username":"somebody","password":"a","refresh_token":true,
        "auth":{"type":"m.login.dummy"}}"#,
    ),
    good(
        "/createRoom",
        "",
        r#"{"preset":"public_chat","name":"a","topic":"b","room_version":"11",
        "invite":["<other>"],"is_direct":true,"visibility":"public","room_alias_name":"c",
        "power_level_content_override":{"users":{"<user_id>":100},"events":{"m.room.name":50}},
        "creation_content":{"m.federate":false,"type":"m.space"},
        "initial_state":[{"type":"m.room.topic","state_key":"","content":{"topic":"d"}}]}"#,
    ),
    good("/ban", "", r#"{"user_id":"<other>","reason":"a"}"#),
    good("/kick", "", r#"{"user_id":"<other>","reason":"a"}"#),
    good("/unban", "", r#"{"user_id":"<other>","reason":"a"}"#),
    good("/invite", "", r#"{"user_id":"<other>","reason":"a"}"#),
    good("/join", "via=localhost", r#"{"reason":"a"}"#),
    good("/upgrade", "", r#"{"new_version":"12"}"#),
    good("/typing/{user_id}", "", r#"{"typing":true,"timeout":1000}"#),
    good("/read_markers", "", r#"{"m.fully_read":"<event_id>","m.read":"<event_id>"}"#),
    good("/receipt/{receipt_type}/{event_id}", "", r#"{"thread_id":"main"}"#),
    good(
        "/send/{event_type}/{txn_id}",
        "",
        r#"{"msgtype":"m.text","body":"a","m.will_expire":60,
        "m.mentions":{"user_ids":["<user_id>"]},"m.new_content":{"body":"b"},
        "m.relates_to":{"rel_type":"m.thread","event_id":"<event_id>","m.in_reply_to":{"event_id":"<event_id>"}}}"#,
    ),
    good("/state/m.room.power_levels", "", r#"{"users":{"<user_id>":100},"ban":50}"#),
    good(
        "/state/{event_type}",
        "format=event",
        r#"{"topic":"a","name":"b","m.will_expire":60,"join_rule":"public",
        "users":{"<user_id>":100},"membership":"join","alias":"<room_alias>","algorithm":"a"}"#,
    ),
    good(
        "/state/{event_type}/{state_key}",
        "format=content",
        r#"{"topic":"a","m.will_expire":60,
        "membership":"join","displayname":"b"}"#,
    ),
    good(
        "/expiration/{refresh_method}",
        "",
        r#"{"expire_refresh_token":"<expire_refresh_token>"}"#,
    ),
    good("/refresh", "", r#"{"refresh_token":"<refresh_token>"}"#),
    good(
        "/pushers/set",
        "",
        r#"{"pushkey":"a","kind":"http","app_id":"b","app_display_name":"c",
        "device_display_name":"d","lang":"en","data":{"url":"https://example.org/_matrix/push/v1/notify"}}"#,
    ),
    good(
        "/pushrules/global/{kind}/{rule_id}",
        "before=.m.rule.master",
        r#"{"actions":["notify",{"set_tweak":"sound","value":"a"}],
        "conditions":[{"kind":"event_match","key":"type","pattern":"c"}]}"#,
    ),
    good("/enabled", "", r#"{"enabled":true}"#),
    good("/actions", "", r#"{"actions":["notify",{"set_tweak":"highlight"}]}"#),
    good(
        "/filter",
        "",
        r#"{"room":{"timeline":{"limit":3,"types":["m.*"],"not_senders":["<other>"]},
        "state":{"lazy_load_members":true},"include_leave":true},"event_fields":["content.body"]}"#,
    ),
    good("/presence/{user_id}/status", "", r#"{"presence":"online","status_msg":"a"}"#),
    good("/directory/room/{room_alias}", "", r#"{"room_id":"<room_id>"}"#),
    good("/directory/list/room/{room_id}", "", r#"{"visibility":"public"}"#),
    good("/tags/{tag}", "", r#"{"order":0.5}"#),
    good("/account_data/{event_type}", "", r#"{"a":{"b":[1]}}"#),
    good(
        "/profile/{user_id}/{field}",
        "",
        r#"{"displayname":"a","avatar_url":"mxc://a/b","m.tz":"c"}"#,
    ),
    good("/displayname", "", r#"{"displayname":"a"}"#),
    good("/avatar_url", "", r#"{"avatar_url":"mxc://a/b"}"#),
    good("/report/{event_id}", "", r#"{"reason":"a","score":-100}"#),
    good("/report", "", r#"{"reason":"a"}"#),
    good("/devices/{device_id}", "", r#"{"display_name":"a","auth":<auth>}"#),
    good(
        "/keys/upload",
        "",
        r#"{"device_keys":{"user_id":"<user_id>","device_id":"<device_id>","algorithms":["a"],
        "keys":{"ed25519:<device_id>":"b"},"signatures":{"<user_id>":{"ed25519:<device_id>":"c"}}},
        "one_time_keys":{"signed_curve25519:1":{"key":"AAAA","signatures":{"<user_id>":{"ed25519:d":"e"}}},
        "curve25519:1":"AAAA"},
        "fallback_keys":{"signed_curve25519:2":{"key":"AAAA","fallback":true,"signatures":{}}}}"#,
    ),
    good(
        "/keys/query",
        "",
        r#"{"device_keys":{"<user_id>":["<device_id>"],"<other>":[]},"timeout":1}"#,
    ),
    good(
        "/keys/claim",
        "",
        r#"{"one_time_keys":{"<user_id>":{"<device_id>":"signed_curve25519"}},"timeout":1}"#,
    ),
    good("/keys/changes", "from=<from>&to=<since>", ""),
    good(
        "/keys/device_signing/upload",
        "",
        r#"{"master_key":{"user_id":"<user_id>","usage":["master"],
        "keys":{"ed25519:3C5BFWi2Y8MaVvjM8M22DBmh24PmgR0nPvJOIArzgyI":"3C5BFWi2Y8MaVvjM8M22DBmh24PmgR0nPvJOIArzgyI"},
        "signatures":{"<user_id>":{"ed25519:<device_id>":"a"}}},"auth":<auth>}"#,
    ),
    good(
        "/keys/signatures/upload",
        "",
        r#"{"<user_id>":{"<device_id>":{"user_id":"<user_id>","device_id":"<device_id>","algorithms":["a"],
        "keys":{"ed25519:<device_id>":"b"},"signatures":{"<user_id>":{"ed25519:<device_id>":"c"}}}}}"#,
    ),
    good(
        "/sendToDevice/{event_type}/{txn_id}",
        "",
        r#"{"messages":{"<user_id>":{"*":{"a":1},"<device_id>":{"b":2}},"<other>":{"D":{}}}}"#,
    ),
    good(
        "/room_keys/version",
        "",
        r#"{"algorithm":"m.megolm_backup.v1.curve25519-aes-sha2","auth_data":{"public_key":"a","signatures":{}}}"#,
    ),
    good(
        "/room_keys/version/{version}",
        "",
        r#"{"algorithm":"m.megolm_backup.v1.curve25519-aes-sha2","auth_data":{"public_key":"b"},"version":"1"}"#,
    ),
    good(
        "/room_keys/keys",
        "version=1",
        r#"{"rooms":{"<room_id>":{"sessions":{"s":{"first_message_index":1,"forwarded_count":0,"is_verified":true,"session_data":{"ciphertext":"a"}}}}}}"#,
    ),
    good(
        "/room_keys/keys/{room_id}",
        "version=1",
        r#"{"sessions":{"s":{"first_message_index":1,"forwarded_count":0,"is_verified":true,"session_data":{"ciphertext":"a"}}}}"#,
    ),
    good(
        "/room_keys/keys/{room_id}/{session_id}",
        "version=1",
        r#"{"first_message_index":1,"forwarded_count":0,"is_verified":true,"session_data":{"ciphertext":"a"}}"#,
    ),
    good(
        "/dehydrated_device",
        "",
        r#"{"device_id":"ASLEEP","device_data":{"algorithm":"a"},"initial_device_display_name":"b",
        "device_keys":{"user_id":"<user_id>","device_id":"ASLEEP","algorithms":["a"],
        "keys":{"ed25519:ASLEEP":"b"},"signatures":{"<user_id>":{"ed25519:ASLEEP":"c"}}},
        "one_time_keys":{"curve25519:1":"AAAA"},"fallback_keys":{}}"#,
    ),
    good("/dehydrated_device/{device_id}/events", "from=0", r#"{"next_batch":"0"}"#),
    good("/redact/{event_id}/{txn_id}", "", r#"{"reason":"a"}"#),
];
