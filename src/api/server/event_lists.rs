//! Responses that are lists of events, such as the state of a room: read from the database as they are sent.
//!
//! Invariant: of the events of a response no more than a portion is held, however large the room is and however slowly the
//! other server reads.

use std::collections::VecDeque;

use axum::{body::Body, response::Response};
use bytes::Bytes;
use futures_util::stream;
use http::{HeaderValue, header::CONTENT_TYPE};
use ruma::OwnedServerName;
use serde::Serialize;
use wick_core::{Error, Result, ShortEventId};
use wick_inbound::Answers;
use wick_service::Services;

use crate::reply::Reply;

/// How many events are read at once.
const PORTION: usize = 100;

/// A JSON object with lists of events.
pub(super) struct EventLists {
    answers: Answers,
    server: OwnedServerName,
    pieces: VecDeque<Piece>,
}

/// What comes next in the body.
enum Piece {
    Text(String),
    Events(Vec<ShortEventId>),
}

impl EventLists {
    /// The lists by name, for a server.
    ///
    /// # Errors
    /// If this server does not federate.
    pub(super) fn new(
        services: &Services,
        server: OwnedServerName,
        lists: impl IntoIterator<Item = (&'static str, Vec<ShortEventId>)>,
    ) -> Result<Self> {
        let mut pieces = VecDeque::new();
        let mut before = "{";
        for (name, events) in lists {
            pieces.push_back(Piece::Text(format!("{before}\"{name}\":[")));
            for (number, portion) in events.chunks(PORTION).enumerate() {
                if number > 0 {
                    pieces.push_back(Piece::Text(",".to_owned()));
                }
                pieces.push_back(Piece::Events(portion.to_vec()));
            }
            before = "],";
        }
        pieces.push_back(Piece::Text("]}".to_owned()));
        let answers = services.federated()?.answers.clone();
        Ok(Self { answers, server, pieces })
    }

    /// The same with further fields: those of an object that has at least one.
    ///
    /// # Errors
    /// If they cannot be written.
    pub(super) fn with(mut self, fields: &impl Serialize) -> Result<Self> {
        let text = serde_json::to_string(fields)
            .map_err(|error| Error::internal("a response cannot be written", error))?;
        self.pieces.pop_back();
        self.pieces.push_back(Piece::Text(format!("],{}", text.trim_start_matches('{'))));
        Ok(self)
    }

    /// The same between two texts.
    pub(super) fn between(mut self, before: &str, behind: &str) -> Self {
        self.pieces.push_front(Piece::Text(before.to_owned()));
        self.pieces.push_back(Piece::Text(behind.to_owned()));
        self
    }

    async fn next(mut self) -> Result<Option<(Bytes, Self)>> {
        let text = match self.pieces.pop_front() {
            Some(Piece::Text(text)) => text,
            Some(Piece::Events(events)) => {
                let events = self.answers.portion(&self.server, events).await?;
                let texts: Vec<_> = events.iter().map(|event| event.get()).collect();
                texts.join(",")
            }
            None => return Ok(None),
        };
        Ok(Some((text.into(), self)))
    }
}

impl Reply for EventLists {
    fn into_http(self) -> Result<Response> {
        let mut response = Response::new(Body::from_stream(stream::try_unfold(self, Self::next)));
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        Ok(response)
    }
}
