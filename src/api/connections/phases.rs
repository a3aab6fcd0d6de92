//! What a connection is doing, as far as the time it may take depends on it.
//!
//! Phases: until the first request (TLS handshake excluded), idle between requests, reading a head
//! (HTTP/1), answering, and blocked in a write. While a request is answered only writes are limited: its
//! body has a limit in [`dispatch`](crate::dispatch), its answer in [`answers`](super::answers).

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use http::Version;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use wick_core::{Clock, Monotonic, config};

/// Why a connection is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closed {
    /// The client or the protocol ended it, or the server stops.
    Ended,
    /// No request came in time after it was opened.
    NoRequest,
    /// The head of a request came too slowly.
    SlowHead,
    /// No request came for too long.
    Idle,
    /// The client read nothing of what was written.
    SlowReader,
}

impl Closed {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Ended => "ended",
            Self::NoRequest => "no request",
            Self::SlowHead => "slow head",
            Self::Idle => "idle",
            Self::SlowReader => "slow reader",
        }
    }
}

/// What is due.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// Nothing before this time.
    Later(Monotonic),
    /// The connection is to be closed.
    Close(Closed),
}

/// The phase of one connection.
pub(super) struct Phases {
    clock: Arc<dyn Clock>,
    header: Duration,
    idle: Duration,
    write: Duration,
    state: Mutex<State>,
}

struct State {
    /// Requests whose answers are not sent.
    open: usize,
    /// Whether there was a request.
    used: bool,
    /// Whether requests share the connection (HTTP/2).
    multiplexed: bool,
    /// Since when no request is open.
    quiet: Monotonic,
    /// When the first byte of the next head came.
    head: Option<Monotonic>,
    /// Since when a write makes no progress.
    blocked: Option<Monotonic>,
}

impl Phases {
    /// A connection that was opened now.
    pub(super) fn new(clock: Arc<dyn Clock>, config: &config::Connections) -> Self {
        let state = State {
            open: 0,
            used: false,
            multiplexed: false,
            quiet: clock.monotonic(),
            head: None,
            blocked: None,
        };
        Self {
            clock,
            header: config.header_timeout.0,
            idle: config.idle_timeout.0,
            write: config.write_timeout.0,
            state: Mutex::new(state),
        }
    }

    /// How long nothing new can become due.
    pub(super) fn interval(&self) -> Duration {
        self.header.min(self.idle).min(self.write)
    }

    /// A request is there; it is open until the result is dropped.
    pub(super) fn begin(phases: &Arc<Self>, version: Version) -> Open {
        let mut state = phases.state();
        state.open = state.open.saturating_add(1);
        state.used = true;
        state.multiplexed = version == Version::HTTP_2;
        state.head = None;
        Open(Arc::clone(phases))
    }

    /// What is due at `now`.
    pub(super) fn due(&self, now: Monotonic) -> Due {
        let state = self.state();
        let quiet = state.open == 0;
        let limits = [
            state.blocked.map(|since| (since + self.write, Closed::SlowReader)),
            (quiet && !state.used).then(|| (state.quiet + self.header, Closed::NoRequest)),
            state
                .head
                .filter(|_| quiet && state.used && !state.multiplexed)
                .map(|since| (since + self.header, Closed::SlowHead)),
            (quiet && state.used).then(|| (state.quiet + self.idle, Closed::Idle)),
        ];
        let first = limits.into_iter().flatten().min_by_key(|(at, _)| *at);
        match first {
            Some((at, why)) if at <= now => Due::Close(why),
            Some((at, _)) => Due::Later(at.min(now + self.interval())),
            None => Due::Later(now + self.interval()),
        }
    }

    fn note_read(&self) {
        let mut state = self.state();
        if state.open == 0 && state.head.is_none() {
            state.head = Some(self.clock.monotonic());
        }
    }

    fn note_write<T>(&self, result: &Poll<io::Result<T>>) {
        let mut state = self.state();
        if result.is_ready() {
            state.blocked = None;
        } else if state.blocked.is_none() {
            state.blocked = Some(self.clock.monotonic());
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request that is being answered.
pub(super) struct Open(Arc<Phases>);

impl Open {
    /// The clock of the connection.
    pub(super) fn clock(&self) -> &Arc<dyn Clock> {
        &self.0.clock
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let now = self.0.clock.monotonic();
        let mut state = self.0.state();
        state.open = state.open.saturating_sub(1);
        if state.open == 0 {
            state.quiet = now;
        }
    }
}

/// A stream that notes when it is read and when its writes are blocked.
pub(super) struct Watched<S> {
    stream: S,
    phases: Arc<Phases>,
}

impl<S> Watched<S> {
    pub(super) fn new(stream: S, phases: Arc<Phases>) -> Self {
        Self { stream, phases }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let result = Pin::new(&mut self.stream).poll_read(context, buffer);
        if buffer.filled().len() > before {
            self.phases.note_read();
        }
        result
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.phases.note_write(&result);
        result
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write_vectored(context, parts);
        self.phases.note_write(&result);
        result
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.stream).poll_flush(context);
        self.phases.note_write(&result);
        result
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
