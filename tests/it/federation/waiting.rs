//! Waiting for what a server does by itself.

use std::panic::Location;

use ruma::RoomId;
use tokio::time::timeout;
use wick_harness::{TestServer, User};

use crate::expiry::call::PATIENCE;

/// Waits until something is so.
#[track_caller]
pub(super) fn until(so: impl Fn() -> bool) -> impl Future<Output = ()> {
    let at = Location::caller();
    async move {
        let met = async {
            while !so() {
                tokio::task::yield_now().await;
            }
        };
        assert!(timeout(PATIENCE, met).await.is_ok(), "what is waited for at {at} does not come");
    }
}

/// Waits until a user has a membership in a room, as a member at this server sees it.
pub(super) async fn until_member(
    server: &TestServer,
    (viewer, room): (&User, &RoomId),
    (user, membership): (&User, &str),
) {
    let path = format!("/_matrix/client/v3/rooms/{room}/state/m.room.member/{}", user.user_id);
    let met = async {
        while server.get(&path, &viewer.token).await.1["membership"] != membership {
            tokio::task::yield_now().await;
        }
    };
    assert!(timeout(PATIENCE, met).await.is_ok(), "{} gets no {membership}", user.user_id);
}
