//! Errors as HTTP: status, errcode, body.
//!
//! Invariants: an internal error is logged here, once, and the client learns nothing of it; another
//! server's status never becomes ours; the log has no text that quotes a request.

use std::{borrow::Cow, collections::BTreeMap, time::Duration};

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use http::{
    HeaderValue, StatusCode,
    header::{CONTENT_TYPE, RETRY_AFTER},
};
use ruma::api::error::{
    DeserializationError, ErrorKind, LimitExceededErrorData, RetryAfter, StandardErrorBody,
};
use serde::Serialize;
use serde_json::Value;
use wick_core::{Error, Refusal, clock::millis};

/// The response for `error`.
pub(crate) fn into_http(error: Error) -> Response {
    match error {
        Error::Refused(refusal) => refused(*refusal),
        Error::Remote(failure) => {
            tracing::info!(%failure, "another server failed a request");
            standard(StatusCode::BAD_GATEWAY, ErrorKind::Unknown, "the other server failed".into())
        }
        Error::Internal(report) => {
            tracing::error!(error = %report, "a request failed");
            metrics::counter!("wick_internal_errors_total").increment(1);
            internal()
        }
    }
}

/// 500 `M_UNKNOWN`.
pub(crate) fn internal() -> Response {
    standard(
        StatusCode::INTERNAL_SERVER_ERROR,
        ErrorKind::Unknown,
        "internal server error".to_owned(),
    )
}

/// `M_UNRECOGNIZED`: no endpoint has this path, or none with this method.
pub(crate) fn unrecognized(status: StatusCode) -> Error {
    let message = if status == StatusCode::METHOD_NOT_ALLOWED {
        "this endpoint has no such method"
    } else {
        "there is no such endpoint"
    };
    Error::refused_with(status.as_u16(), ErrorKind::Unrecognized, message)
}

/// A request that ruma cannot read.
pub(crate) fn unreadable(error: DeserializationError) -> Error {
    match error {
        DeserializationError::Json(error) if error.is_data() => Error::bad_json(error.to_string()),
        DeserializationError::Json(_) => not_json("the body is no JSON"),
        DeserializationError::Query(error) => {
            let message = error.to_string();
            let kind = if message.starts_with("missing field") {
                ErrorKind::MissingParam
            } else {
                ErrorKind::InvalidParam
            };
            Error::refused(kind, message)
        }
        DeserializationError::Header(error) => {
            Error::refused(ErrorKind::MissingParam, error.to_string())
        }
        other => Error::invalid_param(other.to_string()),
    }
}

/// `M_NOT_JSON`, 400.
pub(crate) fn not_json(message: &'static str) -> Error {
    Error::refused(ErrorKind::NotJson, message)
}

fn refused(refusal: Refusal) -> Response {
    let Refusal { kind, message, status, fields } = refusal;
    let status = status
        .and_then(|status| StatusCode::from_u16(status).ok())
        .unwrap_or_else(|| usual_status(&kind));
    // A text that was made for this request can quote a password or a key of it.
    let reason = match &message {
        Cow::Borrowed(message) => message,
        Cow::Owned(_) => "in the answer",
    };
    tracing::debug!(errcode = %kind.errcode(), reason, "refused");
    let wait = match &kind {
        ErrorKind::LimitExceeded(LimitExceededErrorData {
            retry_after: Some(RetryAfter::Delay(wait)),
            ..
        }) => Some(*wait),
        _ => None,
    };
    let mut response = extended(status, kind, message.into_owned(), fields);
    if let Some(wait) = wait {
        response.headers_mut().insert(RETRY_AFTER, whole_seconds(wait).into());
    }
    response
}

/// Rounded up: a retry after it is not too early.
fn whole_seconds(wait: Duration) -> u64 {
    millis(wait).div_ceil(1000)
}

fn standard(status: StatusCode, kind: ErrorKind, message: String) -> Response {
    extended(status, kind, message, Vec::new())
}

/// A standard body with more fields.
fn extended(
    status: StatusCode,
    kind: ErrorKind,
    message: String,
    fields: Vec<(&'static str, Value)>,
) -> Response {
    #[derive(Serialize)]
    struct Extended {
        #[serde(flatten)]
        standard: StandardErrorBody,
        #[serde(flatten)]
        fields: BTreeMap<&'static str, Value>,
    }
    let standard = StandardErrorBody::new(kind, message);
    let body = Extended { standard, fields: fields.into_iter().collect() };
    let Ok(body) = serde_json::to_vec(&body) else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// The status that goes with an errcode unless the error names another one. An errcode that is not here is
/// an ordinary mistake of the client's.
fn usual_status(kind: &ErrorKind) -> StatusCode {
    match kind {
        ErrorKind::MissingToken
        | ErrorKind::UnknownToken(_)
        | ErrorKind::UserLocked
        | ErrorKind::Unauthorized
        | ErrorKind::ThreepidAuthFailed => StatusCode::UNAUTHORIZED,
        ErrorKind::Forbidden
        | ErrorKind::GuestAccessForbidden
        | ErrorKind::InviteBlocked
        | ErrorKind::CannotLeaveServerNoticeRoom
        | ErrorKind::ResourceLimitExceeded(_)
        | ErrorKind::ServerNotTrusted
        | ErrorKind::ThreepidDenied
        | ErrorKind::UserDeactivated
        | ErrorKind::UserSuspended
        | ErrorKind::WrongRoomKeysVersion(_) => StatusCode::FORBIDDEN,
        ErrorKind::NotFound | ErrorKind::Unrecognized => StatusCode::NOT_FOUND,
        ErrorKind::CannotOverwriteMedia => StatusCode::CONFLICT,
        ErrorKind::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        ErrorKind::LimitExceeded(_) => StatusCode::TOO_MANY_REQUESTS,
        ErrorKind::BadStatus(_) | ErrorKind::ConnectionFailed => StatusCode::BAD_GATEWAY,
        ErrorKind::ConnectionTimeout | ErrorKind::NotYetUploaded => StatusCode::GATEWAY_TIMEOUT,
        _ => StatusCode::BAD_REQUEST,
    }
}

#[cfg(test)]
mod tests {
    use axum::body::to_bytes;
    use serde_json::json;
    use wick_core::{RemoteFailure, RemoteReason};

    use super::*;

    async fn answered(error: Error) -> (u16, Option<String>, Value) {
        let response = into_http(error);
        let header = response.headers().get(RETRY_AFTER).map(|v| v.to_str().unwrap().to_owned());
        let status = response.status().as_u16();
        let body = to_bytes(response.into_body(), 10_000).await.unwrap();
        (status, header, serde_json::from_slice(&body).unwrap())
    }

    #[tokio::test]
    async fn a_refusal_has_its_errcode_and_the_usual_status() {
        let answer = answered(Error::not_found("no such thing")).await;
        let body = json!({ "errcode": "M_NOT_FOUND", "error": "no such thing" });
        assert_eq!(answer, (404, None, body));
    }

    #[tokio::test]
    async fn a_limit_says_in_both_ways_when_to_come_back() {
        let (status, header, body) =
            answered(Error::limit_exceeded(Duration::from_millis(1200))).await;
        assert_eq!((status, header.as_deref()), (429, Some("2")));
        assert_eq!(body["errcode"], "M_LIMIT_EXCEEDED");
        assert_eq!(body["retry_after_ms"], 1200);
    }

    #[tokio::test]
    async fn a_refusal_can_say_more_than_its_errcode_does() {
        let error = Error::invalid_param("too far").with_fields([("limit", json!(7))]);
        let body = json!({ "errcode": "M_INVALID_PARAM", "error": "too far", "limit": 7 });
        assert_eq!(answered(error).await, (400, None, body));
    }

    #[tokio::test]
    async fn details_of_an_internal_error_are_not_in_the_answer() {
        let (status, _, body) = answered(Error::internal("the table", "of secrets")).await;
        assert_eq!(status, 500);
        assert_eq!(body, json!({ "errcode": "M_UNKNOWN", "error": "internal server error" }));
    }

    #[tokio::test]
    async fn another_servers_401_is_not_ours() {
        let reason = RemoteReason::Refused { status: 401, kind: None };
        let failure = RemoteFailure { server: "a.test".into(), message: "401".into(), reason };
        assert_eq!(answered(Error::Remote(failure)).await.0, 502);
    }
}
