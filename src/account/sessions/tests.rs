//! Tokens from their making to their end.

use std::time::Duration;

use ruma::api::error::ErrorKind;
use wick_core::Error;

use crate::{
    devices::NewDevice,
    fixture::{Fixture, refreshing},
};

fn is_unknown(error: &Error, soft: bool) -> bool {
    matches!(error.kind(), Some(ErrorKind::UnknownToken(data)) if data.soft_logout == soft)
}

#[tokio::test]
async fn a_token_stands_for_its_user_and_device() {
    let fixture = Fixture::new();
    let device = NewDevice { device_id: Some("PHONE".into()), ..NewDevice::default() };
    let tokens = fixture.register("alice", device).await;
    for _ in 0..2 {
        let session = fixture.session(&tokens).await;
        assert_eq!(session.user_id, "@alice:localhost");
        assert_eq!(session.device_id, "PHONE");
        assert_eq!(session.expires, None);
    }
    assert!(tokens.refresh.is_none());
}

#[tokio::test]
async fn a_token_nobody_got_is_unknown() {
    let fixture = Fixture::new();
    let tokens = fixture.register("alice", refreshing()).await;
    for token in ["", "x", tokens.refresh.as_deref().unwrap()] {
        assert!(is_unknown(&fixture.sessions.authenticate(token).await.unwrap_err(), false));
    }
    assert!(is_unknown(&fixture.sessions.refresh(&tokens.access).await.err().unwrap(), false));
}

#[tokio::test]
async fn a_logged_out_token_is_unknown_at_once() {
    let fixture = Fixture::new();
    let tokens = fixture.register("alice", NewDevice::default()).await;
    let other = fixture.log_in("alice", "OTHER").await;
    let session = fixture.session(&tokens).await;
    fixture.session(&other.tokens).await;
    fixture.devices.log_out(session.user, &session.device_id).await.unwrap();
    let error = fixture.sessions.authenticate(&tokens.access).await.unwrap_err();
    assert!(is_unknown(&error, false));
    fixture.session(&other.tokens).await;
    fixture.devices.remove_all(session.user).await.unwrap();
    assert!(fixture.sessions.authenticate(&other.tokens.access).await.is_err());
}

#[tokio::test]
async fn logging_in_again_with_a_device_ends_its_old_token() {
    let fixture = Fixture::new();
    fixture.register("alice", NewDevice::default()).await;
    let first = fixture.log_in("alice", "PHONE").await;
    fixture.session(&first.tokens).await;
    let second = fixture.log_in("alice", "PHONE").await;
    let error = fixture.sessions.authenticate(&first.tokens.access).await.unwrap_err();
    assert!(is_unknown(&error, false));
    let session = fixture.session(&second.tokens).await;
    assert_eq!(fixture.devices.list(session.user).unwrap().len(), 2);
}

#[tokio::test]
async fn an_expired_token_is_a_soft_logout_and_can_be_refreshed() {
    let fixture = Fixture::new();
    let tokens = fixture.register("alice", refreshing()).await;
    fixture.session(&tokens).await;
    fixture.clock.advance(Duration::from_secs(3599));
    fixture.session(&tokens).await;
    fixture.clock.advance(Duration::from_secs(1));
    let error = fixture.sessions.authenticate(&tokens.access).await.unwrap_err();
    assert!(is_unknown(&error, true));
    let new = fixture.sessions.refresh(tokens.refresh.as_deref().unwrap()).await.unwrap();
    assert_eq!(new.expires_in, Some(Duration::from_secs(3600)));
    fixture.session(&new).await;
}

#[tokio::test]
async fn a_refresh_token_can_be_used_again_until_its_successor_is_used() {
    let fixture = Fixture::new();
    let tokens = fixture.register("alice", refreshing()).await;
    let refresh = tokens.refresh.clone().unwrap();
    let lost = fixture.sessions.refresh(&refresh).await.unwrap();
    let kept = fixture.sessions.refresh(&refresh).await.unwrap();
    // The pair whose answer was lost is invalid, the original is still valid.
    assert!(fixture.sessions.authenticate(&lost.access).await.is_err());
    fixture.session(&tokens).await;
    fixture.session(&kept).await;
    let error = fixture.sessions.refresh(&refresh).await.err().unwrap();
    assert!(is_unknown(&error, false));
    assert!(fixture.sessions.authenticate(&tokens.access).await.is_err());
    fixture.session(&kept).await;
}

#[tokio::test]
async fn using_a_new_refresh_token_ends_the_old_one_too() {
    let fixture = Fixture::new();
    let tokens = fixture.register("alice", refreshing()).await;
    let first = tokens.refresh.clone().unwrap();
    let second = fixture.sessions.refresh(&first).await.unwrap().refresh.unwrap();
    let third = fixture.sessions.refresh(&second).await.unwrap();
    assert!(fixture.sessions.refresh(&first).await.is_err());
    fixture.session(&third).await;
    assert!(fixture.sessions.refresh(&second).await.is_err());
}

#[tokio::test]
async fn concurrent_refreshes_leave_one_usable_pair() {
    let fixture = Fixture::new();
    let tokens = fixture.register("alice", refreshing()).await;
    let refresh = tokens.refresh.clone().unwrap();
    let sessions = &fixture.sessions;
    let (one, two) = tokio::join!(sessions.refresh(&refresh), sessions.refresh(&refresh));
    let mut good = 0;
    for pair in [one.unwrap(), two.unwrap()] {
        good += usize::from(fixture.sessions.authenticate(&pair.access).await.is_ok());
    }
    assert_eq!(good, 1);
}

#[tokio::test]
async fn a_device_is_seen_when_it_authenticates() {
    let fixture = Fixture::new();
    let tokens = fixture.register("alice", NewDevice::default()).await;
    let session = fixture.session(&tokens).await;
    let address = Some("192.0.2.1".parse().unwrap());
    fixture.sessions.note_seen(&session, address);
    // Published right after, although nothing waits for it.
    fixture.log_in("alice", "OTHER").await;
    let device = fixture.devices.get(session.user, &session.device_id).unwrap().unwrap();
    assert_eq!(device.last_seen_ip.as_deref(), Some("192.0.2.1"));
    assert!(device.last_seen_ts.is_some());
}
