//! What is asked of a LiveKit server.

use std::{fmt, future::Future, pin::Pin, time::Duration};

use serde_json::Value;
use wick_core::Error;

/// A participant of a LiveKit room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Participant {
    /// The identity, from the token.
    pub identity: String,
    /// The id of this session. Another session with the same identity has another one.
    pub sid: String,
}

/// What came of a question to a participant's client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// The client answered.
    Answer,
    /// LiveKit sent the question, and no answer came.
    Silence,
    /// It was not sent, or this LiveKit cannot ask.
    Unknown,
}

/// Why LiveKit did not do what was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// There was no answer.
    Unreachable(String),
    /// The key or the secret is wrong, or the clocks differ: by this much, if the answer has a date.
    Denied(Option<Duration>),
    /// Another answer than expected.
    Unexpected(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(reason) => write!(f, "livekit cannot be reached: {reason}"),
            Self::Denied(_) => f.write_str("livekit refuses the key, the secret or the time"),
            Self::Unexpected(answer) => write!(f, "livekit answers {answer}"),
        }
    }
}

impl std::error::Error for Failure {}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        Self::internal("the media server", failure)
    }
}

/// An answer of LiveKit's that is waited for.
pub type Answering<'a, T> = Pin<Box<dyn Future<Output = Result<T, Failure>> + Send + 'a>>;

/// What clients read before they ask for a token.
pub trait WellKnown: Send + Sync {
    /// What the server's name serves as `/.well-known/matrix/client`.
    fn client(&self) -> Answering<'_, Value>;
}

/// The requests to LiveKit's room service. <https://docs.livekit.io/reference/other/roomservice-api/>
pub trait LiveKit: WellKnown {
    /// Makes a room; does nothing if it is there.
    fn create_room<'a>(&'a self, room: &'a str) -> Answering<'a, ()>;

    /// The participants of a room; none if there is no such room.
    fn participants<'a>(&'a self, room: &'a str) -> Answering<'a, Vec<Participant>>;

    /// Removes a participant from a room; does nothing if there is none.
    fn remove<'a>(&'a self, room: &'a str, identity: &'a str) -> Answering<'a, ()>;

    /// Asks a participant's client for a sign of life, by its media connection. `within` is how long the client may take, at
    /// most 2 seconds.
    fn ask<'a>(
        &'a self,
        room: &'a str,
        identity: &'a str,
        within: Duration,
    ) -> Answering<'a, Reply>;
}
