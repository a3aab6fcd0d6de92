//! Waiting for what a server does by itself.

use std::panic::Location;

use tokio::time::timeout;

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
