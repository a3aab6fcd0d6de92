//! The server's error, sorted by its cause. `api::error` maps it to a status and a body.
//!
//! Invariant: making an error never logs; an `Internal` is logged once, at the boundary.

use std::{
    borrow::Cow,
    fmt,
    time::{Duration, SystemTime},
};

use ruma::api::error::{ErrorKind, LimitExceededErrorData, RetryAfter, UnknownTokenErrorData};

use crate::Timestamp;

/// A result whose error is [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a use case did not happen.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The caller may not, or asked for something that makes no sense.
    #[error(transparent)]
    Refused(#[from] Box<Refusal>),
    /// Another server refused or broke. Its own status never reaches a client unchecked.
    #[error(transparent)]
    Remote(#[from] RemoteFailure),
    /// Internal. The client sees `M_UNKNOWN` and nothing else.
    #[error(transparent)]
    Internal(#[from] InternalError),
}

/// A refusal: the Matrix errcode with a message for the client.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// The errcode with its extra fields.
    pub kind: ErrorKind,
    /// The body's `error`.
    pub message: Cow<'static, str>,
    /// The HTTP status, where it is not the errcode's usual one.
    pub status: Option<u16>,
    /// More fields of the body, which the errcode does not have by itself.
    pub fields: Vec<(&'static str, serde_json::Value)>,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind.errcode(), self.message)
    }
}

impl std::error::Error for Refusal {}

/// The failure of another server.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{server}: {message}")]
pub struct RemoteFailure {
    /// The other server.
    pub server: String,
    /// Its answer, or what went wrong on the way.
    pub message: String,
    /// The kind of failure, for what follows from it.
    pub reason: RemoteReason,
}

/// The kinds of [`RemoteFailure`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RemoteReason {
    /// The configuration forbids to talk to it.
    Forbidden,
    /// It is not asked at present, because it did not answer before.
    BackingOff,
    /// No connection, or no whole response in time.
    Unreachable,
    /// A response without success.
    Refused {
        /// Its HTTP status.
        status: u16,
        /// Its errcode, if it has one, with the fields that belong to it.
        kind: Option<Box<ErrorKind>>,
    },
    /// A response that is not what was asked for.
    Unreadable,
    /// A response of more bytes than are taken.
    TooLarge,
}

impl RemoteFailure {
    /// The HTTP status, if the server answered.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        match self.reason {
            RemoteReason::Refused { status, .. } => Some(status),
            _ => None,
        }
    }

    /// When the server may be asked again, as it says itself while it limits the rate of requests.
    #[must_use]
    pub fn retry_at(&self, now: Timestamp) -> Option<Timestamp> {
        let RemoteReason::Refused { kind: Some(kind), .. } = &self.reason else { return None };
        let ErrorKind::LimitExceeded(data) = &**kind else { return None };
        retry_time(data.retry_after?, now)
    }
}

/// The time that a `Retry-After` means in a response that came `now`; `None` before 1970.
#[must_use]
pub fn retry_time(retry_after: RetryAfter, now: Timestamp) -> Option<Timestamp> {
    match retry_after {
        RetryAfter::Delay(wait) => Some(now.after(wait)),
        RetryAfter::DateTime(at) => {
            let since_epoch = at.duration_since(SystemTime::UNIX_EPOCH).ok()?;
            Some(Timestamp(0).after(since_epoch))
        }
    }
}

/// An internal fault with its causes.
#[derive(Debug)]
pub struct InternalError {
    context: Cow<'static, str>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl fmt::Display for InternalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.context)?;
        if let Some(source) = &self.source {
            write!(f, ": {source}")?;
        }
        Ok(())
    }
}

impl std::error::Error for InternalError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

impl Error {
    /// A refusal with the errcode's usual status.
    pub fn refused(kind: ErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        Self::Refused(Box::new(Refusal {
            kind,
            message: message.into(),
            status: None,
            fields: Vec::new(),
        }))
    }

    /// A refusal with a status of its own.
    pub fn refused_with(
        status: u16,
        kind: ErrorKind,
        message: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self::Refused(Box::new(Refusal {
            kind,
            message: message.into(),
            status: Some(status),
            fields: Vec::new(),
        }))
    }

    /// `M_FORBIDDEN`, 403.
    pub fn forbidden(message: impl Into<Cow<'static, str>>) -> Self {
        Self::refused(ErrorKind::Forbidden, message)
    }

    /// `M_NOT_FOUND`, 404.
    pub fn not_found(message: impl Into<Cow<'static, str>>) -> Self {
        Self::refused(ErrorKind::NotFound, message)
    }

    /// `M_INVALID_PARAM`, 400.
    pub fn invalid_param(message: impl Into<Cow<'static, str>>) -> Self {
        Self::refused(ErrorKind::InvalidParam, message)
    }

    /// `M_BAD_JSON`, 400.
    pub fn bad_json(message: impl Into<Cow<'static, str>>) -> Self {
        Self::refused(ErrorKind::BadJson, message)
    }

    /// `M_TOO_LARGE`, 413.
    pub fn too_large(message: impl Into<Cow<'static, str>>) -> Self {
        Self::refused(ErrorKind::TooLarge, message)
    }

    /// `M_LIMIT_EXCEEDED`, 429, with the time to wait.
    pub fn limit_exceeded(retry_after: Duration) -> Self {
        let mut data = LimitExceededErrorData::new();
        data.retry_after = Some(RetryAfter::Delay(retry_after));
        Self::refused(ErrorKind::LimitExceeded(data), "too many requests")
    }

    /// `M_UNKNOWN_TOKEN`, 401; with `soft_logout` for an access token that was good until it expired.
    pub fn unknown_token(soft_logout: bool) -> Self {
        let mut data = UnknownTokenErrorData::new();
        data.soft_logout = soft_logout;
        let message = if soft_logout { "the access token has expired" } else { "unknown token" };
        Self::refused(ErrorKind::UnknownToken(data), message)
    }

    /// A refusal with more fields in its body.
    #[must_use]
    pub fn with_fields(
        mut self,
        fields: impl IntoIterator<Item = (&'static str, serde_json::Value)>,
    ) -> Self {
        if let Self::Refused(refusal) = &mut self {
            refusal.fields.extend(fields);
        }
        self
    }

    /// A fault of ours that has a cause.
    pub fn internal(
        context: impl Into<Cow<'static, str>>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self::Internal(InternalError { context: context.into(), source: Some(source.into()) })
    }

    /// Stored data contradicts itself: something that must exist is not there.
    pub fn corrupt(context: impl Into<Cow<'static, str>>) -> Self {
        Self::Internal(InternalError { context: context.into(), source: None })
    }

    /// Whether it is internal, rather than the fault of a client or of another server.
    #[must_use]
    pub fn is_internal(&self) -> bool {
        matches!(self, Self::Internal(_))
    }

    /// The errcode, if this is a refusal.
    #[must_use]
    pub fn kind(&self) -> Option<&ErrorKind> {
        match self {
            Self::Refused(refusal) => Some(&refusal.kind),
            Self::Remote(_) | Self::Internal(_) => None,
        }
    }
}
