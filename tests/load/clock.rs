//! The one place where this crate reads a clock: it measures the real one, so there is nothing to fake.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The monotonic clock.
#[expect(clippy::disallowed_methods, reason = "a load tool measures real time")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Wall-clock milliseconds since 1970, comparable with `origin_server_ts` of a server on the same machine.
#[expect(clippy::disallowed_methods, reason = "compared with origin_server_ts")]
pub(crate) fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Sleeps until `moment`, or not at all if it has passed.
pub(crate) async fn sleep_until(moment: Instant) {
    tokio::time::sleep_until(moment.into()).await;
}
