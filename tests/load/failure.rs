//! What can go wrong in a run, coarse enough to be counted by kind in a report.

use std::{fmt, io};

/// A result of this crate.
pub type Result<T> = std::result::Result<T, Failure>;

/// Why a request or the whole run failed.
#[derive(Debug)]
pub enum Failure {
    /// The socket, a file or a process.
    Io(io::Error),
    /// HTTP itself: the connection broke, or what came back was no HTTP.
    Http(hyper::Error),
    /// The homeserver answered with something else than 200.
    Answer {
        /// The HTTP status.
        status: u16,
        /// The Matrix `errcode`, or empty.
        errcode: String,
        /// `retry_after_ms` of the answer, if any.
        retry_after_ms: Option<u64>,
    },
    /// The answer was JSON of another shape than the specification's.
    Json(serde_json::Error),
    /// Anything else, in words.
    Other(String),
}

impl Failure {
    /// The key under which a report counts this failure.
    #[must_use]
    pub fn kind(&self) -> String {
        match self {
            Self::Io(error) => format!("io {:?}", error.kind()),
            Self::Http(_) => "http".to_owned(),
            Self::Answer { status, errcode, .. } => format!("{status} {errcode}"),
            Self::Json(_) => "json".to_owned(),
            Self::Other(text) => text.clone(),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => write!(out, "input or output failed: {error}"),
            Self::Http(error) => write!(out, "http failed: {error}"),
            Self::Answer { status, errcode, .. } => {
                write!(out, "the server answered {status} {errcode}")
            }
            Self::Json(error) => write!(out, "unexpected json: {error}"),
            Self::Other(text) => out.write_str(text),
        }
    }
}

impl std::error::Error for Failure {}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<hyper::Error> for Failure {
    fn from(error: hyper::Error) -> Self {
        Self::Http(error)
    }
}

impl From<serde_json::Error> for Failure {
    fn from(error: serde_json::Error) -> Self {
        Self::Json(error)
    }
}

impl From<http::Error> for Failure {
    fn from(error: http::Error) -> Self {
        Self::Other(format!("bad request: {error}"))
    }
}
