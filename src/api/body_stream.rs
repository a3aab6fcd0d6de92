//! The body of a request as a stream, for endpoints that take more than fits into memory.
//!
//! Invariant: a client that sends too slowly, or nothing, does not hold the request open: waiting for a portion has a time
//! limit. What the server does with the bytes does not count.

use std::{sync::Arc, time::Duration};

use axum::body::Body;
use bytes::Bytes;
use http::StatusCode;
use http_body_util::BodyExt;
use ruma::api::error::ErrorKind;
use wick_core::{Clock, Error, Monotonic, Result};

/// How many bytes have to come within the time limit of bodies.
const PORTION: usize = 64 * 1024;

/// A body that is being received.
pub(crate) struct BodyStream {
    body: Body,
    clock: Arc<dyn Clock>,
    patience: Duration,
    /// How long the rest of the portion may be waited for.
    left: Duration,
    /// How many bytes of the portion have come.
    received: usize,
}

impl BodyStream {
    /// A body of which each portion may take so long.
    pub(crate) fn new(body: Body, clock: Arc<dyn Clock>, patience: Duration) -> Self {
        Self { body, clock, patience, left: patience, received: 0 }
    }

    /// The next bytes; `None` at the end.
    ///
    /// # Errors
    /// 408 if they come too slowly; `M_UNKNOWN`, 400, if the client breaks off.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>> {
        let begin = self.clock.monotonic();
        loop {
            let frame = tokio::select! {
                biased;
                frame = self.body.frame() => frame,
                () = self.clock.sleep_until(begin + self.left) => {
                    let status = StatusCode::REQUEST_TIMEOUT.as_u16();
                    let message = "the body comes too slowly";
                    return Err(Error::refused_with(status, ErrorKind::Unknown, message));
                }
            };
            let Some(frame) = frame else { return Ok(None) };
            let broken = |_| Error::refused(ErrorKind::Unknown, "the body ends too early");
            // Trailers are not read.
            let Ok(bytes) = frame.map_err(broken)?.into_data() else { continue };
            if !bytes.is_empty() {
                self.note(begin, bytes.len());
                return Ok(Some(bytes));
            }
        }
    }

    /// Notes that bytes have come which were waited for since `begin`.
    fn note(&mut self, begin: Monotonic, length: usize) {
        self.left = self.left.saturating_sub(self.clock.monotonic().since(begin));
        self.received = self.received.saturating_add(length);
        if self.received >= PORTION {
            self.received = 0;
            self.left = self.patience;
        }
    }
}
