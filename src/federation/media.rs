//! Files of other servers, by the endpoint for servers or, where a server does not have that, the deprecated one.
//!
//! <https://spec.matrix.org/v1.19/server-server-api/#content-repository>

use http::{Request, header};
use ruma::{
    ServerName,
    api::error::{ErrorKind, IntoHttpError},
    http_headers::ContentDisposition,
};
use ruma_federation_api::authenticated_media::{
    FileOrLocation, get_content::v1::Request as GetContent,
};
use wick_core::{Error, RemoteReason, Result};
use wick_outbound::Bounds;

use crate::{
    Federation,
    federation::parse,
    transport::{BackOff, remote},
};

/// A file with what its server says of it.
#[derive(Clone, Debug)]
pub struct RemoteFile {
    /// The file.
    pub bytes: Vec<u8>,
    /// Its content type.
    pub content_type: Option<String>,
    /// Its name.
    pub file_name: Option<String>,
}

impl Federation {
    /// Fetches a file of `server`. `media_id` has only letters, digits, `-` and `_`.
    ///
    /// # Errors
    /// As [`Federation::request`].
    pub async fn file(
        &self,
        server: &ServerName,
        media_id: &str,
        bounds: Bounds,
    ) -> Result<RemoteFile> {
        match self.file_for_servers(server, media_id, bounds).await {
            Err(error) if is_unrecognized(&error) => {
                self.file_for_all(server, media_id, bounds).await
            }
            result => result,
        }
    }

    async fn file_for_servers(
        &self,
        server: &ServerName,
        media_id: &str,
        bounds: Bounds,
    ) -> Result<RemoteFile> {
        let make = |base: &str| self.sign(server, GetContent::new(media_id.to_owned()), base);
        let response = self.transport.send(server, bounds, BackOff::Heed, make).await?;
        // It is no JSON, whose depth would matter.
        match parse::<GetContent>(server, &response)?.content {
            FileOrLocation::File(file) => Ok(RemoteFile {
                bytes: file.file,
                content_type: file.content_type,
                file_name: file.content_disposition.and_then(|disposition| disposition.filename),
            }),
            _ => Err(remote(server, RemoteReason::Unreadable, "the file is at another address")),
        }
    }

    async fn file_for_all(
        &self,
        server: &ServerName,
        media_id: &str,
        bounds: Bounds,
    ) -> Result<RemoteFile> {
        let path = format!("/_matrix/media/v3/download/{server}/{media_id}?allow_remote=false");
        let make = |base: &str| {
            let request = Request::get(format!("{base}{path}")).body(Vec::new());
            request.map_err(IntoHttpError::authentication)
        };
        let response = self.transport.send(server, bounds, BackOff::Heed, make).await?;
        let text = |name| response.headers().get(name).and_then(|value| value.to_str().ok());
        let disposition = text(header::CONTENT_DISPOSITION);
        let disposition = disposition.and_then(|text| text.parse::<ContentDisposition>().ok());
        Ok(RemoteFile {
            content_type: text(header::CONTENT_TYPE).map(str::to_owned),
            file_name: disposition.and_then(|disposition| disposition.filename),
            bytes: response.body().to_vec(),
        })
    }
}

/// Whether the server does not have the endpoint.
fn is_unrecognized(error: &Error) -> bool {
    let Error::Remote(failure) = error else { return false };
    let RemoteReason::Refused { status, kind } = &failure.reason else { return false };
    let is_other = !matches!(kind.as_deref(), None | Some(ErrorKind::Unrecognized));
    matches!(status, 404 | 405) && !is_other
}
