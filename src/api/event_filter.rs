//! Requests with a filter of events in their query, of which ruma's type does not know all fields.

use std::sync::Arc;

use http::Method;
use ruma::{
    api::{
        IncomingRequest, Metadata,
        client::filter::{EventFormat, RoomEventFilter},
        error::DeserializationError,
    },
    exports::serde_html_form,
};
use serde::Deserialize;
use wick_rooms::history::{EventFilter, Format};

/// A request with how the events must relate to others (MSC3874), and in which form they are wanted.
pub(crate) struct Filtered<R> {
    /// What ruma knows of it.
    pub(crate) request: R,
    more: More,
}

#[derive(Default, Deserialize)]
struct More {
    #[serde(alias = "org.matrix.msc3874.rel_types")]
    rel_types: Option<Vec<String>>,
    #[serde(default, alias = "org.matrix.msc3874.not_rel_types")]
    not_rel_types: Vec<String>,
    event_fields: Option<Vec<String>>,
    #[serde(default)]
    event_format: EventFormat,
}

#[derive(Deserialize)]
struct Query {
    filter: Option<String>,
}

impl<R> Filtered<R> {
    /// The request, and what makes its filter whole.
    pub(crate) fn split(self) -> (R, impl FnOnce(RoomEventFilter) -> EventFilter) {
        let More { rel_types, not_rel_types, event_fields, event_format } = self.more;
        let federation = event_format == EventFormat::Federation;
        let format = Arc::new(Format::new(event_fields.as_deref(), federation));
        (self.request, |events| EventFilter { events, rel_types, not_rel_types, format })
    }
}

impl<R: Metadata> Metadata for Filtered<R> {
    const METHOD: Method = R::METHOD;
    const RATE_LIMITED: bool = R::RATE_LIMITED;
    type Authentication = R::Authentication;
    type PathBuilder = R::PathBuilder;
    const PATH_BUILDER: Self::PathBuilder = R::PATH_BUILDER;
}

impl<R: IncomingRequest> IncomingRequest for Filtered<R> {
    type EndpointError = R::EndpointError;
    type OutgoingResponse = R::OutgoingResponse;

    fn try_from_http_request_inner(
        request: http::Request<&[u8]>,
        arguments: &[&str],
    ) -> Result<Self, DeserializationError> {
        let query = request.uri().query().unwrap_or_default();
        let Query { filter } = serde_html_form::from_str(query)?;
        let more = match filter.as_deref() {
            Some(filter) if !filter.is_empty() => serde_json::from_str(filter)?,
            _ => More::default(),
        };
        Ok(Self { request: R::try_from_http_request_inner(request, arguments)?, more })
    }
}
