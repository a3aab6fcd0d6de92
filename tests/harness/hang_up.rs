//! A client that hangs up: the server drops the future of its request.

use std::{future::Future, pin::pin, task::Poll};

/// Polls `future` at most `polls` times and drops it then. Returns its result if it has one by then.
pub async fn hang_up_after<T>(polls: usize, future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    let mut polled = 0;
    std::future::poll_fn(|context| {
        if polled == polls {
            return Poll::Ready(None);
        }
        polled += 1;
        let result = future.as_mut().poll(context).map(Some);
        if result.is_pending() && polled == polls { Poll::Ready(None) } else { result }
    })
    .await
}
