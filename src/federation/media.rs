//! Files of other servers, by the endpoint for servers or, where a server does not have that, the deprecated one. The response
//! can refer to another address, which is asked without a signature.
//!
//! Invariant: of a file one piece is held; a file that arrives slower than [`MIN_RATE`] is given up.
//!
//! <https://spec.matrix.org/v1.19/server-server-api/#content-repository>

mod multipart;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, Request, header};
use ruma::{
    OwnedServerName, ServerName,
    api::error::{ErrorKind, IntoHttpError},
    http_headers::ContentDisposition,
};
use ruma_federation_api::authenticated_media::get_content::v1::Request as GetContent;
use wick_core::{Clock, Error, Monotonic, RemoteReason, Result};
use wick_outbound::{Admitted, Bounds, Failure, Outbound, Response};

use self::multipart::{Malformed, Multipart, Piece};
use crate::{
    Federation,
    transport::{Wait, remote, unreachable},
};

/// What a response has besides the file, in bytes.
const FRAME: u64 = 64 << 10;

/// Bytes in a second on average, behind the time of a request.
const MIN_RATE: u64 = 64 << 10;

/// The longest a file may take.
const MAX_DURATION: Duration = Duration::from_secs(6 * 3600);

/// Leave to fetch a file of a server.
pub struct FileTurn {
    server: OwnedServerName,
    admitted: Admitted,
}

/// A file with what its server says of it.
pub struct RemoteFile {
    /// Its content type.
    pub content_type: Option<String>,
    /// Its name.
    pub file_name: Option<String>,
    turn: FileTurn,
    body: Body,
    clock: Arc<dyn Clock>,
    begun: Monotonic,
    /// The time of a request.
    time: Duration,
    /// Bytes that have arrived.
    arrived: u64,
}

/// Where the bytes of a file are.
enum Body {
    /// They are the body.
    Whole(Response),
    /// They are the rest of a part of the body.
    Part(Box<Multipart>, Response),
}

/// Why there is no more of a file.
enum Broken {
    Failed(Failure),
    Malformed,
}

impl From<Failure> for Broken {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl From<Malformed> for Broken {
    fn from(_: Malformed) -> Self {
        Self::Malformed
    }
}

impl Federation {
    /// Waits until a file of `server` may be fetched: so many are at the same time, of one server and in all.
    ///
    /// # Errors
    /// If the configuration forbids to talk to `server`, or it is in back-off.
    pub async fn file_turn(&self, server: &ServerName) -> Result<FileTurn> {
        let admitted = self.transport.admit_file(server).await?;
        Ok(FileTurn { server: server.to_owned(), admitted })
    }

    /// Begins to fetch a file of at most `most` bytes. `media_id` has only letters, digits, `-` and `_`.
    ///
    /// # Errors
    /// As [`Federation::request`].
    pub async fn file(&self, turn: FileTurn, media_id: &str, most: u64) -> Result<RemoteFile> {
        let bounds = Bounds { bytes: most.saturating_add(FRAME), time: MAX_DURATION };
        let wait = Wait { head: self.transport.timeout(), bounds };
        match self.file_for_servers(&turn, media_id, wait).await {
            Ok((head, body)) => Ok(self.opened(turn, &head, body)),
            Err(error) if is_unrecognized(&error) => {
                let (head, body) = self.file_for_all(&turn, media_id, wait).await?;
                Ok(self.opened(turn, &head, body))
            }
            Err(error) => Err(error),
        }
    }

    fn opened(&self, turn: FileTurn, head: &HeaderMap, body: Body) -> RemoteFile {
        let clock = Arc::clone(self.transport.clock());
        let disposition = head.get(header::CONTENT_DISPOSITION);
        let disposition =
            disposition.and_then(|value| ContentDisposition::try_from(value.as_bytes()).ok());
        RemoteFile {
            content_type: text(head, header::CONTENT_TYPE).map(str::to_owned),
            file_name: disposition.and_then(|disposition| disposition.filename),
            turn,
            body,
            begun: clock.monotonic(),
            clock,
            time: self.transport.timeout(),
            arrived: 0,
        }
    }

    async fn file_for_servers(
        &self,
        turn: &FileTurn,
        media_id: &str,
        wait: Wait,
    ) -> Result<(HeaderMap, Body)> {
        let server = &*turn.server;
        let make = |base: &str| self.sign(server, GetContent::new(media_id.to_owned()), base);
        let mut response = self.transport.open(server, &turn.admitted, wait, make).await?;
        let parts = async {
            let content_type = text(response.headers(), header::CONTENT_TYPE).unwrap_or_default();
            let mut parts = Box::new(Multipart::new(content_type)?);
            // The first part is an object without fields yet.
            next_part(&mut parts, &mut response).await?;
            let head = next_part(&mut parts, &mut response).await?;
            Ok((head, parts))
        };
        let (head, parts) = self.in_time(parts).await.map_err(|broken| lost(server, &broken))?;
        let Some(location) = text(&head, header::LOCATION) else {
            return Ok((head, Body::Part(parts, response)));
        };
        drop(response);
        let response = self.elsewhere(server, location, wait.bounds).await?;
        Ok((response.headers().clone(), Body::Whole(response)))
    }

    /// The response at the address that a server refers to.
    async fn elsewhere(&self, server: &ServerName, url: &str, bounds: Bounds) -> Result<Response> {
        let outbound: &Outbound = self.transport.by_port();
        let get = async {
            let response = outbound.get(url, HeaderMap::new(), bounds).await?;
            Ok(response.success()?)
        };
        match self.in_time(get).await {
            Ok(response) => Ok(response),
            Err(Broken::Failed(Failure::Status { status, .. })) => {
                let reason = RemoteReason::Refused { status: status.as_u16(), kind: None };
                Err(remote(server, reason, "the file is not where the server refers to"))
            }
            Err(broken) => Err(lost(server, &broken)),
        }
    }

    /// The outcome of what takes no longer than a request.
    async fn in_time<T>(
        &self,
        future: impl Future<Output = Result<T, Broken>>,
    ) -> Result<T, Broken> {
        let clock = self.transport.clock();
        tokio::select! {
            biased;
            outcome = future => outcome,
            () = clock.sleep_until(clock.monotonic() + self.transport.timeout()) => {
                Err(Failure::TimedOut.into())
            }
        }
    }

    async fn file_for_all(
        &self,
        turn: &FileTurn,
        media_id: &str,
        wait: Wait,
    ) -> Result<(HeaderMap, Body)> {
        let server = &*turn.server;
        let path = format!("/_matrix/media/v3/download/{server}/{media_id}?allow_remote=false");
        let make = |base: &str| {
            let request = Request::get(format!("{base}{path}")).body(Vec::new());
            request.map_err(IntoHttpError::authentication)
        };
        let response = self.transport.open(server, &turn.admitted, wait, make).await?;
        Ok((response.headers().clone(), Body::Whole(response)))
    }
}

impl RemoteFile {
    /// The next piece of the file; `None` at its end.
    ///
    /// # Errors
    /// [`Error::Remote`] if the connection breaks, the file is larger than was asked for, or it arrives too slowly.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>> {
        let deadline = self.begun + self.time + Duration::from_secs(self.arrived / MIN_RATE);
        let chunk = tokio::select! {
            biased;
            chunk = self.body.chunk() => chunk,
            () = self.clock.sleep_until(deadline) => Err(Failure::TimedOut.into()),
        };
        let chunk = chunk.map_err(|broken| lost(&self.turn.server, &broken))?;
        let length = chunk.as_ref().map_or(0, Bytes::len);
        self.arrived = self.arrived.saturating_add(u64::try_from(length).unwrap_or(u64::MAX));
        Ok(chunk)
    }
}

impl Body {
    async fn chunk(&mut self) -> Result<Option<Bytes>, Broken> {
        match self {
            Self::Whole(response) => Ok(response.chunk().await?),
            Self::Part(parts, response) => match next(parts, response).await? {
                Piece::Bytes(bytes) => Ok(Some(bytes)),
                _ => Ok(None),
            },
        }
    }
}

/// The headers of the next part.
async fn next_part(parts: &mut Multipart, response: &mut Response) -> Result<HeaderMap, Broken> {
    let mut skipped = 0_u64;
    loop {
        match next(parts, response).await? {
            Piece::Head(head) => return Ok(head),
            Piece::Bytes(bytes) => {
                skipped = skipped.saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
                if skipped > FRAME {
                    return Err(Broken::Malformed);
                }
            }
            Piece::End | Piece::Starving => return Err(Broken::Malformed),
        }
    }
}

/// The next piece of a multipart body.
async fn next(parts: &mut Multipart, response: &mut Response) -> Result<Piece, Broken> {
    loop {
        match parts.next()? {
            Piece::Starving => match response.chunk().await? {
                Some(bytes) => parts.feed(&bytes),
                None => return Err(Broken::Malformed),
            },
            piece => return Ok(piece),
        }
    }
}

fn text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

fn lost(server: &ServerName, broken: &Broken) -> Error {
    match broken {
        Broken::Failed(failure) => unreachable(server, failure),
        Broken::Malformed => {
            remote(server, RemoteReason::Unreadable, "the response is not what was asked for")
        }
    }
}

/// Whether the server does not have the endpoint. One that never heard of it need not know its errcodes either.
fn is_unrecognized(error: &Error) -> bool {
    let Error::Remote(failure) = error else { return false };
    let RemoteReason::Refused { status, kind } = &failure.reason else { return false };
    let is_other = !matches!(kind.as_deref(), None | Some(ErrorKind::Unrecognized));
    matches!(status, 400 | 404 | 405 | 501) && !is_other
}
