//! `PUT /_matrix/client/*/expiration/{refresh_method}`: keep an event alive, or end it.
//!
//! Invariants: no access token is needed, as knowing the refresh token is the right; an unknown
//! method still parses, so that the server can answer it with `M_UNRECOGNIZED`; the error for a body
//! that has no token in its place does not quote it.

use ruma::{
    api::{auth_scheme::NoAccessToken, metadata, request, response},
    serde::StringEnum,
};

pub use crate::ExpireRefreshToken;
use crate::PrivOwnedStr;

metadata! {
    method: PUT,
    rate_limited: true,
    authentication: NoAccessToken,
    history: {
        unstable => "/_matrix/client/unstable/org.matrix.msc4140/expiration/{refresh_method}",
        stable("org.matrix.msc4140.will_expire") => "/_matrix/client/v3/expiration/{refresh_method}",
    }
}

/// Request type of the endpoint.
#[request]
pub struct Request {
    /// What shall happen to the event.
    #[ruma_api(path)]
    pub refresh_method: RefreshMethod,

    /// The token that was answered when the event was sent.
    #[ruma_api(body)]
    #[serde(with = "token_body")]
    pub expire_refresh_token: ExpireRefreshToken,
}

/// Response type of the endpoint: empty.
#[response]
#[derive(Default)]
pub struct Response {}

impl Request {
    /// A request to do `refresh_method` with the event of `expire_refresh_token`.
    pub fn new(refresh_method: RefreshMethod, expire_refresh_token: ExpireRefreshToken) -> Self {
        Self { refresh_method, expire_refresh_token }
    }
}

impl Response {
    /// An empty response.
    pub fn new() -> Self {
        Self {}
    }
}

/// What shall happen to an event that can expire.
#[derive(Clone, StringEnum)]
#[ruma_enum(rename_all = "lowercase")]
#[non_exhaustive]
pub enum RefreshMethod {
    /// Its duration begins again.
    Refresh,
    /// It ends now.
    End,
    #[doc(hidden)]
    _Custom(PrivOwnedStr),
}

mod token_body {
    //! The body `{ "expire_refresh_token": "…" }`.

    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
    use serde_json::Value as JsonValue;

    use super::ExpireRefreshToken;

    const KEY: &str = "expire_refresh_token";

    #[derive(Serialize)]
    struct Body<'a> {
        expire_refresh_token: &'a ExpireRefreshToken,
    }

    pub(super) fn serialize<S: Serializer>(
        expire_refresh_token: &ExpireRefreshToken,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        Body { expire_refresh_token }.serialize(serializer)
    }

    // Not derived: to a body that is the bare token, serde's error would be "invalid type: string",
    // and then the token.
    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<ExpireRefreshToken, D::Error> {
        let body = JsonValue::deserialize(deserializer)?;
        match body.get(KEY) {
            Some(JsonValue::String(token)) => Ok(ExpireRefreshToken::new(token.as_str())),
            Some(_) => Err(D::Error::custom("expire_refresh_token must be a string")),
            None => Err(D::Error::missing_field(KEY)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use ruma::api::{
        IncomingRequestExt as _, IncomingResponseExt as _, MatrixVersion, Metadata as _,
        OutgoingRequestExt as _, OutgoingResponseExt as _, SupportedVersions,
        auth_scheme::SendAccessToken,
        error::{DeserializationError, FromHttpRequestError},
        path_builder::PathBuilder as _,
    };
    use serde_json::{Value as JsonValue, json};

    use super::*;
    use crate::capability::UNSTABLE_FEATURE;

    /// Sends a request as a client of a server that announces `features`.
    fn to_http(method: RefreshMethod, features: &[&str]) -> http::Request<Vec<u8>> {
        let supported = SupportedVersions {
            versions: [MatrixVersion::V1_15].into(),
            features: features.iter().map(|&feature| feature.into()).collect(),
        };
        Request::new(method, ExpireRefreshToken::new("secret"))
            .try_into_http_request(
                "https://example.org",
                SendAccessToken::IfRequired("access"),
                Cow::Owned(supported),
            )
            .unwrap()
    }

    fn from_http(
        method: &str,
        path_arg: &str,
        body: &str,
    ) -> Result<Request, FromHttpRequestError> {
        let request = http::Request::builder().method(method).body(body.as_bytes()).unwrap();
        Request::try_from_http_request(request, &[path_arg])
    }

    #[test]
    fn request_passes_from_client_to_server_without_access_token() {
        for (method, name) in [(RefreshMethod::Refresh, "refresh"), (RefreshMethod::End, "end")] {
            let (parts, body) = to_http(method.clone(), &[UNSTABLE_FEATURE]).into_parts();
            assert_eq!(parts.method, http::Method::PUT);
            assert_eq!(parts.uri.path(), format!("/_matrix/client/v3/expiration/{name}"));
            assert!(!parts.headers.contains_key(http::header::AUTHORIZATION));
            assert_eq!(
                serde_json::from_slice::<JsonValue>(&body).unwrap(),
                json!({ "expire_refresh_token": "secret" })
            );

            let request = http::Request::from_parts(parts, &*body);
            let request = Request::try_from_http_request(request, &[name]).unwrap();
            assert_eq!(request.refresh_method, method);
            assert_eq!(request.expire_refresh_token.as_str(), "secret");
        }
    }

    #[test]
    fn server_that_announces_nothing_is_asked_under_the_unstable_prefix() {
        assert_eq!(
            to_http(RefreshMethod::End, &[]).uri().path(),
            "/_matrix/client/unstable/org.matrix.msc4140/expiration/end"
        );
    }

    #[test]
    fn both_paths_are_there_for_a_server_to_route() {
        assert_eq!(
            Request::PATH_BUILDER.all_paths().collect::<Vec<_>>(),
            [
                "/_matrix/client/unstable/org.matrix.msc4140/expiration/{refresh_method}",
                "/_matrix/client/v3/expiration/{refresh_method}",
            ]
        );
    }

    #[test]
    fn unknown_method_is_kept() {
        let request = from_http("PUT", "pause", r#"{"expire_refresh_token":"secret"}"#).unwrap();
        assert_eq!(request.refresh_method, RefreshMethod::from("pause"));
        assert_eq!(request.refresh_method.as_str(), "pause");
    }

    #[test]
    fn other_http_methods_do_not_parse() {
        assert!(from_http("POST", "end", r#"{"expire_refresh_token":"secret"}"#).is_err());
    }

    #[test]
    fn body_that_is_no_json_is_told_from_json_without_a_token() {
        let json_error = |body: &str| match from_http("PUT", "end", body) {
            Err(FromHttpRequestError::Deserialization(DeserializationError::Json(error))) => error,
            other => panic!("{other:?}"),
        };
        for body in ["{", "secret", r#"{"expire_refresh_token":"secret""#] {
            assert!(!json_error(body).is_data(), "{body}");
        }
        for body in [
            "",
            "{}",
            "null",
            r#""secret""#,
            r#"["secret"]"#,
            r#"{"token":"secret"}"#,
            r#"{"expire_refresh_token":null}"#,
            r#"{"expire_refresh_token":["secret"]}"#,
        ] {
            assert!(json_error(body).is_data(), "{body}");
        }
    }

    #[test]
    fn error_never_quotes_what_may_be_a_token() {
        for body in [
            "secret",
            r#""secret""#,
            r#"["secret"]"#,
            r#"{"secret":1}"#,
            r#"{"expire_refresh_token":["secret"]}"#,
            r#"{"expire_refresh_token":"secret""#,
        ] {
            let error = from_http("PUT", "end", body).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("secret"), "{error}");
        }
    }

    #[test]
    fn response_is_an_empty_object() {
        let response = Response::new().try_into_http_response::<Vec<u8>>().unwrap();
        assert_eq!(response.status(), http::StatusCode::OK);
        assert_eq!(response.body(), b"{}");
        let response = response.map(|_| &b"{}"[..]);
        assert!(Response::try_from_http_response(response).is_ok());
    }

    #[test]
    fn request_never_shows_its_token() {
        let request = Request::new(RefreshMethod::End, ExpireRefreshToken::new("secret"));
        assert!(!format!("{request:?}").contains("secret"));
    }
}
