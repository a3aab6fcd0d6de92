//! Accounts from their making to their end.

use ruma::{
    api::{
        client::{
            push::{Pusher, set_pusher::v3::PusherAction},
            uiaa::{AuthData, Dummy, Password, RegistrationToken, UiaaInfo},
        },
        error::ErrorKind,
    },
    owned_user_id,
    push::{NewPatternedPushRule, NewPushRule, RuleKind},
    room_id, user_id,
};
use serde_json::{json, value::to_raw_value};
use wick_core::{Error, Position, config::Mode};

use crate::{
    Proof, account_data,
    devices::NewDevice,
    fixture::Fixture,
    uia::{Confirmation, Request},
    users::{LogIn, NewAccount},
};

fn kind(error: &Error) -> &ErrorKind {
    error.kind().unwrap()
}

fn new(localpart: &str, password: &str) -> NewAccount {
    NewAccount {
        localpart: Some(localpart.to_owned()),
        password: password.to_owned(),
        ..NewAccount::default()
    }
}

fn log_in(identifier: &str, password: &str) -> LogIn {
    LogIn {
        identifier: identifier.to_owned(),
        password: password.to_owned(),
        device: NewDevice::default(),
        address: None,
    }
}

fn password(user: &str, password: &str) -> AuthData {
    let identifier = ruma::api::client::uiaa::MatrixUserIdentifier::new(user.to_owned());
    AuthData::Password(Password::new(identifier.into(), password.to_owned()))
}

#[tokio::test]
async fn an_account_without_a_login_has_no_device() {
    let fixture = Fixture::new();
    let made =
        fixture.users.register(new("Alice", "pässwörd"), &Proof::not_needed()).await.unwrap();
    assert_eq!(made.user_id, "@alice:localhost");
    assert!(made.device.is_none());
    let (user, _) = fixture.users.get(&made.user_id).unwrap().unwrap();
    assert!(fixture.devices.list(user).unwrap().is_empty());
    fixture.users.log_in(log_in("@ALICE:localhost", "pässwörd")).await.unwrap();
}

#[tokio::test]
async fn a_name_is_given_away_once() {
    let fixture = Fixture::new();
    fixture.users.ensure_available("alice").unwrap();
    let proof = Proof::not_needed();
    let (one, two) = tokio::join!(
        fixture.users.register(new("alice", "password"), &proof),
        fixture.users.register(new("ALICE", "password"), &proof),
    );
    assert!(one.is_ok() != two.is_ok());
    let error = fixture.users.ensure_available("alice").unwrap_err();
    assert_eq!(kind(&error), &ErrorKind::UserInUse);
}

#[tokio::test]
async fn wrong_logins_are_refused_alike() {
    let fixture = Fixture::new();
    fixture.users.register(new("alice", "password"), &Proof::not_needed()).await.unwrap();
    for (user, password) in [("alice", "wrong"), ("bob", "password"), ("@alice:there", "password")]
    {
        let error = fixture.users.log_in(log_in(user, password)).await.err().unwrap();
        assert_eq!(kind(&error), &ErrorKind::Forbidden, "{user}");
    }
}

#[tokio::test]
async fn a_short_password_is_weak() {
    let fixture = Fixture::new();
    let error =
        fixture.users.register(new("alice", "1234567"), &Proof::not_needed()).await.err().unwrap();
    assert_eq!(kind(&error), &ErrorKind::WeakPassword);
    fixture.users.ensure_available("alice").unwrap();
}

#[tokio::test]
async fn a_changed_password_ends_other_devices_and_their_pushers() {
    let fixture = Fixture::new();
    let tokens = fixture.register("alice", NewDevice::default()).await;
    let session = fixture.session(&tokens).await;
    let other = fixture.log_in("alice", "OTHER").await;
    let other = fixture.session(&other.tokens).await;
    let pusher = |key: &str| {
        let pusher: Pusher = serde_json::from_value(json!({
            "kind": "http", "app_id": "app", "pushkey": key, "lang": "en",
            "app_display_name": "app", "device_display_name": "device",
            "data": { "url": "https://push.example/_matrix/push/v1/notify" },
        }))
        .unwrap();
        PusherAction::Post(serde_json::from_value(serde_json::to_value(pusher).unwrap()).unwrap())
    };
    fixture.pushers.set(&session, &pusher("mine"), true).await.unwrap();
    fixture.pushers.set(&other, &pusher("other"), true).await.unwrap();
    fixture
        .users
        .change_password(&session, "another password", true, &Proof::not_needed())
        .await
        .unwrap();
    let pushers = fixture.pushers.list(session.user).unwrap();
    assert_eq!(pushers.len(), 1);
    assert_eq!(pushers[0].pusher.ids.pushkey, "mine");
    assert_eq!(fixture.devices.list(session.user).unwrap().len(), 1);
    fixture.session(&tokens).await;
    assert!(fixture.users.log_in(log_in("alice", "password")).await.is_err());
    let again = fixture.users.log_in(log_in("alice", "another password")).await.unwrap();
    fixture.users.change_password(&session, "password", false, &Proof::not_needed()).await.unwrap();
    fixture.session(&again.tokens).await;
}

#[tokio::test]
async fn a_deactivated_account_is_over_and_its_name_stays_taken() {
    let fixture = Fixture::new();
    let tokens = fixture.register("alice", NewDevice::default()).await;
    let session = fixture.session(&tokens).await;
    fixture.users.deactivate(session.user, &Proof::not_needed(), false).await.unwrap();
    assert!(fixture.sessions.authenticate(&tokens.access).await.is_err());
    let error = fixture.users.log_in(log_in("alice", "password")).await.err().unwrap();
    assert_eq!(kind(&error), &ErrorKind::UserDeactivated);
    assert!(fixture.users.ensure_available("alice").is_err());
    assert!(!fixture.users.is_active(user_id!("@alice:localhost")).unwrap());
    assert_eq!(fixture.users.departing().unwrap(), [session.user]);
    fixture.users.note_departed(session.user).await.unwrap();
    assert!(fixture.users.departing().unwrap().is_empty());
}

#[tokio::test]
async fn proof_is_the_own_password_for_one_operation() {
    let fixture = Fixture::new();
    fixture.register("bob", NewDevice::default()).await;
    let tokens = fixture.register("alice", NewDevice::default()).await;
    let alice = fixture.session(&tokens).await;
    let confirm = async |operation: &str, auth: Option<&AuthData>| {
        fixture.uia.confirm(&alice, operation, &Request::new(&[operation], b"{}"), auth).await
    };
    let challenge = challenge(confirm("delete A", None).await.unwrap()).unwrap();
    assert!(challenge.params.is_some() && challenge.auth_error.is_none());
    let session = challenge.session.unwrap();

    let wrong = password("alice", "wrong");
    let challenge = self::challenge(confirm("delete A", Some(&wrong)).await.unwrap()).unwrap();
    assert_eq!(challenge.auth_error.unwrap().kind, ErrorKind::Forbidden);

    let error = confirm("delete A", Some(&password("bob", "password"))).await.err().unwrap();
    assert_eq!(kind(&error), &ErrorKind::Forbidden);

    let AuthData::Password(mut right) = password("@alice:localhost", "password") else {
        unreachable!()
    };
    right.session = Some(session);
    let right = AuthData::Password(right);
    let error = confirm("delete B", Some(&right)).await.err().unwrap();
    assert_eq!(kind(&error), &ErrorKind::Forbidden);
    assert!(self::challenge(confirm("delete A", Some(&right)).await.unwrap()).is_none());
}

/// The challenge, unless it is confirmed.
fn challenge(confirmation: Confirmation) -> Option<Box<UiaaInfo>> {
    match confirmation {
        Confirmation::Challenge(challenge) => Some(challenge),
        Confirmation::Confirmed(_) => None,
    }
}

#[tokio::test]
async fn registration_asks_for_the_token_if_there_is_one() {
    let request = Request::new(&["register"], b"{}");
    let dummy = AuthData::Dummy(Dummy::new());
    let open = Fixture::new();
    let ask = async |fixture: &Fixture, auth: Option<&AuthData>| {
        challenge(fixture.uia.confirm_registration(&request, auth).await.unwrap()).is_some()
    };
    assert!(ask(&open, None).await);
    assert!(!ask(&open, Some(&dummy)).await);
    assert!(!open.users.is_registration_token(""));

    let guarded = Fixture::with(|config| {
        config.registration.mode = Mode::Token;
        config.registration.token = "secret".to_owned().into();
    });
    let token = |text: &str| AuthData::RegistrationToken(RegistrationToken::new(text.to_owned()));
    assert!(ask(&guarded, Some(&dummy)).await);
    assert!(ask(&guarded, Some(&token("guess"))).await);
    assert!(!ask(&guarded, Some(&token("secret"))).await);
}

#[tokio::test]
async fn account_data_is_told_in_the_order_of_its_changes() {
    let fixture = Fixture::new();
    let tokens = fixture.register("alice", NewDevice::default()).await;
    let alice = fixture.session(&tokens).await;
    let room = room_id!("!room:localhost");
    let set = async |room, event_type: &str, content| {
        let content = to_raw_value(&content).unwrap();
        fixture.account_data.set(alice.user, room, event_type, &content).await.unwrap();
    };
    let start = fixture.resources.database.position();
    set(None, "a", json!({ "n": 1 })).await;
    set(Some(room), "a", json!({ "n": 2 })).await;
    set(None, "b", json!({ "n": 3 })).await;
    set(None, "a", json!({ "n": 4 })).await;
    fixture.account_data.delete(alice.user, None, "b").await.unwrap();
    fixture.account_data.delete(alice.user, None, "never there").await.unwrap();
    let read = fixture.resources.database.published();
    let changed = account_data::changed(&read, alice.user, start, read.position()).unwrap();
    let listed: Vec<_> = changed
        .iter()
        .map(|change| (change.room.is_some(), &*change.event_type, &*change.content))
        .collect();
    assert_eq!(listed, [(true, "a", r#"{"n":2}"#), (false, "a", r#"{"n":4}"#), (false, "b", "{}")]);
    let global = account_data::all(&read, alice.user, None).unwrap();
    let types: Vec<_> = global.iter().map(|change| &*change.event_type).collect();
    assert_eq!(types, ["a", "m.push_rules"]);
    assert!(fixture.account_data.get(alice.user, None, "b").unwrap().is_none());
    assert!(fixture.account_data.get(alice.user, Some(room), "a").unwrap().is_some());
}

#[tokio::test]
async fn concurrent_writers_of_one_type_leave_one_change() {
    let fixture = Fixture::new();
    let tokens = fixture.register("alice", NewDevice::default()).await;
    let alice = fixture.session(&tokens).await;
    let start = fixture.resources.database.position();
    let (one, two) =
        (to_raw_value(&json!({"n": 1})).unwrap(), to_raw_value(&json!({"n": 2})).unwrap());
    let (first, second) = tokio::join!(
        fixture.account_data.set(alice.user, None, "a", &one),
        fixture.account_data.set(alice.user, None, "a", &two),
    );
    first.and(second).unwrap();
    let read = fixture.resources.database.published();
    let changed = account_data::changed(&read, alice.user, start, Position::MAX).unwrap();
    assert_eq!(changed.len(), 1);
}

#[tokio::test]
async fn push_rules_are_account_data_that_only_their_endpoints_write() {
    let fixture = Fixture::new();
    let tokens = fixture.register("alice", NewDevice::default()).await;
    let alice = fixture.session(&tokens).await;
    let start = fixture.resources.database.position();
    let mut watch = fixture.resources.database.watch().user(alice.user);
    let rule = NewPatternedPushRule::new("mine".to_owned(), "pat".to_owned(), Vec::new());
    fixture.push_rules.set(&alice, NewPushRule::Content(rule), None, None).await.unwrap();
    watch.changed().await;
    let read = fixture.resources.database.published();
    let changed = account_data::changed(&read, alice.user, start, read.position()).unwrap();
    assert_eq!(changed.len(), 1);
    assert!(changed[0].content.contains(r#""rule_id":"mine""#));
    fixture.push_rules.delete(&alice, RuleKind::Content, "mine").await.unwrap();
    assert!(fixture.push_rules.get(&alice, RuleKind::Content, "mine").is_err());
    let content = to_raw_value(&json!({})).unwrap();
    let error = fixture.account_data.set(alice.user, None, "m.push_rules", &content).await;
    let Error::Refused(refusal) = error.unwrap_err() else { panic!("not refused") };
    assert_eq!((refusal.status, refusal.kind), (Some(405), ErrorKind::BadJson));
}

#[tokio::test]
async fn a_devices_notification_settings_go_with_it() {
    let fixture = Fixture::new();
    let tokens = fixture.register("alice", NewDevice::default()).await;
    let alice = fixture.session(&tokens).await;
    let other = fixture.log_in("alice", "OTHER").await;
    assert_eq!(other.user_id, owned_user_id!("@alice:localhost"));
    let event_type = "org.matrix.msc3890.local_notification_settings.OTHER";
    let content = to_raw_value(&json!({ "is_silenced": true })).unwrap();
    fixture.account_data.set(alice.user, None, event_type, &content).await.unwrap();
    fixture.devices.remove(alice.user, &[other.device_id], &Proof::not_needed()).await.unwrap();
    assert!(fixture.account_data.get(alice.user, None, event_type).unwrap().is_none());
}
