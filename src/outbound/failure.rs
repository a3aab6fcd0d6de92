//! Why a request has no usable response.
//!
//! Invariant: no URL, header or body is part of it, since each of them can hold a secret.

use std::error::Error;

use http::StatusCode;
use ruma::api::error::RetryAfter;

/// Why a request has no usable response.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The URL is none that a request can be made to.
    #[error("not an http or https url with a host")]
    InvalidUrl,
    /// The host, or one that a redirect leads to, has no address that requests may go to.
    #[error("the address is denied")]
    DeniedAddress,
    /// No connection, or a connection that broke.
    #[error("unreachable: {0}")]
    Unreachable(&'static str),
    /// The time was up before the response was complete.
    #[error("timed out")]
    TimedOut,
    /// The response is larger than what was asked for.
    #[error("the response is too large")]
    TooLarge,
    /// More redirects than are followed.
    #[error("too many redirects")]
    TooManyRedirects,
    /// A response without success.
    #[error("status {status}")]
    Status {
        /// Its status.
        status: StatusCode,
        /// Its `Retry-After`.
        retry_after: Option<RetryAfter>,
    },
}

impl From<reqwest::Error> for Failure {
    fn from(error: reqwest::Error) -> Self {
        let mut source = error.source();
        while let Some(cause) = source {
            if let Some(failure) = cause.downcast_ref::<Self>() {
                return failure.clone();
            }
            source = cause.source();
        }
        if error.is_timeout() {
            Self::TimedOut
        } else if error.is_builder() {
            Self::InvalidUrl
        } else if error.is_connect() {
            Self::Unreachable("no connection")
        } else {
            Self::Unreachable("the connection broke")
        }
    }
}
