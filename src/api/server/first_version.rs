//! Endpoints whose request is that of a later version of theirs, for which alone ruma has a type.

use http::{Method, Request};
use ruma::api::{IncomingRequest, Metadata, error::DeserializationError, path_builder::SinglePath};

/// A request of the first version of an endpoint.
pub(super) struct FirstVersion<R>(pub(super) R);

/// Where the first version is.
pub(super) trait FirstVersionPath {
    /// Its path.
    const PATH: &'static str;
}

impl<R: Metadata + FirstVersionPath> Metadata for FirstVersion<R> {
    const METHOD: Method = R::METHOD;
    const RATE_LIMITED: bool = R::RATE_LIMITED;
    type Authentication = R::Authentication;
    type PathBuilder = SinglePath;
    const PATH_BUILDER: SinglePath = SinglePath::new(R::PATH);
}

impl<R: IncomingRequest + FirstVersionPath> IncomingRequest for FirstVersion<R> {
    type EndpointError = R::EndpointError;
    type OutgoingResponse = R::OutgoingResponse;

    fn try_from_http_request_inner(
        request: Request<&[u8]>,
        arguments: &[&str],
    ) -> Result<Self, DeserializationError> {
        R::try_from_http_request_inner(request, arguments).map(Self)
    }
}
