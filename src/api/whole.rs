//! Requests with their whole body, also what ruma's types have no field for.

use http::{Method, Request};
use ruma::{
    api::{IncomingRequest, Metadata, error::DeserializationError},
    canonical_json::CanonicalJsonObject,
};

/// A request with its body as it came; one without a body has an empty one.
pub(crate) struct Whole<R> {
    /// Ruma's request.
    pub(crate) request: R,
    /// All of its body.
    pub(crate) body: CanonicalJsonObject,
}

impl<R: Metadata> Metadata for Whole<R> {
    const METHOD: Method = R::METHOD;
    const RATE_LIMITED: bool = R::RATE_LIMITED;
    type Authentication = R::Authentication;
    type PathBuilder = R::PathBuilder;
    const PATH_BUILDER: Self::PathBuilder = R::PATH_BUILDER;
}

impl<R: IncomingRequest> IncomingRequest for Whole<R> {
    type EndpointError = R::EndpointError;
    type OutgoingResponse = R::OutgoingResponse;

    fn try_from_http_request_inner(
        request: Request<&[u8]>,
        arguments: &[&str],
    ) -> Result<Self, DeserializationError> {
        let (parts, body) = request.into_parts();
        let body = if body.trim_ascii().is_empty() { b"{}" } else { body };
        let whole = serde_json::from_slice(body)?;
        let request = R::try_from_http_request_inner(Request::from_parts(parts, body), arguments)?;
        Ok(Self { request, body: whole })
    }
}
