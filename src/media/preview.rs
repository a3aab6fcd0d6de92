//! Previews of pages: fetched by the server, so that the readers of a message stay unknown to the page.
//! <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv1mediapreview_url>
//!
//! Invariants: only pages of the configured domains are previewed, and no request leaves but through the guard of
//! `wick_outbound`; what is read of a page and of its image is bounded, as is how many are read at the same time; a page is
//! fetched once at a time; an image is kept in the batch of its preview, and goes in the batch that removes it.

mod fetch;
mod kept;
mod page;
mod places;

use std::sync::Arc;

use ruma::{OwnedUserId, api::error::ErrorKind};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use url::Url;
use wick_core::{Error, Result};
use wick_database::schema::previews::UrlHash;
use wick_outbound::{Failure, Outbound};
use wick_runtime::Limit;

use self::{fetch::Picture, places::Places};
use crate::{Description, MediaRepository, Upload, Uploader};

/// The longest URL, in bytes.
const MAX_URL: usize = 4096;

/// Makes previews of pages.
pub struct Previews {
    media: Arc<MediaRepository>,
    outbound: Arc<Outbound>,
    places: Places,
}

/// The client that requests a preview.
#[derive(Clone, Debug)]
pub struct Client {
    /// Its device, whose user will own the image.
    pub uploader: Uploader,
    /// The same user, spelled out.
    pub user_id: OwnedUserId,
}

/// What was fetched.
struct Fetched {
    fields: Map<String, Value>,
    picture: Option<Picture>,
}

impl Previews {
    /// Previews that keep their images in this repository.
    #[must_use]
    pub fn new(media: Arc<MediaRepository>, outbound: Arc<Outbound>) -> Self {
        Self { media, outbound, places: Places::default() }
    }

    /// Whether any page is previewed.
    #[must_use]
    pub fn is_enabled(&self) -> bool {
        !self.media.resources.config.previews.domains.is_empty()
    }

    /// The OpenGraph data of a page, JSON.
    ///
    /// # Errors
    /// `M_INVALID_PARAM` if this is no URL of a page; `M_FORBIDDEN` if its domain is not previewed;
    /// `M_LIMIT_EXCEEDED`; 502 `M_UNKNOWN` if it cannot be fetched, for whatever reason.
    pub async fn preview(self: &Arc<Self>, client: Client, url: &str) -> Result<String> {
        let mut url = page_url(url)?;
        url.set_fragment(None);
        self.ensure_allowed(&url)?;
        let key: UrlHash = Sha256::digest(url.as_str()).into();
        if let Some(json) = self.media.kept_preview(&key)? {
            return Ok(json);
        }
        let _place = self.places.of_user(client.uploader.user)?;
        let _page = self.places.of_page(key).await?;
        if let Some(json) = self.media.kept_preview(&key)? {
            return Ok(json);
        }
        self.media.resources.limits.ensure(Limit::Previews, &client.user_id)?;
        let fetched = {
            let _place = self.places.any().await?;
            self.fetch(&client, &url).await?
        };
        let media = Arc::clone(&self.media);
        let keep = async move { keep(&media, client.uploader, &key, fetched).await };
        self.media.supervisor.complete("preview", keep).await
    }

    fn ensure_allowed(&self, url: &Url) -> Result<()> {
        let domains = &self.media.resources.config.previews.domains;
        let host = url.host_str().unwrap_or_default();
        if domains.iter().any(|domain| is_within(host, domain)) {
            return Ok(());
        }
        Err(Error::forbidden("pages of this domain are not previewed"))
    }
}

/// Keeps a preview with its image. One whose image the user may not store is not kept, and has none.
async fn keep(
    media: &Arc<MediaRepository>,
    uploader: Uploader,
    key: &UrlHash,
    fetched: Fetched,
) -> Result<String> {
    let Fetched { mut fields, picture } = fetched;
    let Some(picture) = picture else {
        let json = Value::Object(fields).to_string();
        media.keep_preview(key, &json).await?;
        return Ok(json);
    };
    let plain = Value::Object(fields.clone()).to_string();
    let kept = async {
        let upload = upload(media, uploader, &picture).await?;
        picture.describe(&mut fields, media.uri(upload.media_id()).as_str());
        let json = Value::Object(fields).to_string();
        let content_type = Some(picture.content_type.to_owned());
        let description = Description { content_type, file_name: None };
        media.keep_preview_with(key, &json, (upload, description)).await?;
        Ok(json)
    };
    match kept.await {
        Err(error) if is_refusal(&error) => {
            tracing::debug!(%error, "the image of a preview is left out");
            Ok(plain)
        }
        result => result,
    }
}

fn is_refusal(error: &Error) -> bool {
    error.kind().is_some_and(|kind| !matches!(kind, ErrorKind::UnknownToken(_)))
}

async fn upload(
    media: &Arc<MediaRepository>,
    uploader: Uploader,
    picture: &Picture,
) -> Result<Upload> {
    let length = u64::try_from(picture.bytes.len()).unwrap_or(u64::MAX);
    let mut upload = media.begin_upload(uploader, Some(length)).await?;
    upload.write(picture.bytes.clone()).await?;
    Ok(upload)
}

fn page_url(url: &str) -> Result<Url> {
    let is_page = |url: &Url| matches!(url.scheme(), "http" | "https") && url.has_host();
    let url = (url.len() <= MAX_URL).then(|| Url::parse(url).ok()).flatten();
    url.filter(is_page).ok_or_else(no_page)
}

fn no_page() -> Error {
    Error::invalid_param("this is no URL of a page")
}

/// Whether a host is a domain or below it.
fn is_within(host: &str, domain: &str) -> bool {
    let domain = domain.trim_start_matches("*.");
    domain == "*"
        || host.eq_ignore_ascii_case(domain)
        || host.len().checked_sub(domain.len()).is_some_and(|start| {
            host.get(start..).is_some_and(|end| end.eq_ignore_ascii_case(domain))
                && host.get(..start).is_some_and(|before| before.ends_with('.'))
        })
}

/// 502: the page cannot be fetched. The response does not contain the reason, which would reveal which addresses the server can
/// reach.
fn failed(failure: &Failure) -> Error {
    if *failure == Failure::InvalidUrl {
        return no_page();
    }
    tracing::debug!(%failure, "a page cannot be fetched");
    Error::refused_with(502, ErrorKind::Unknown, "the page cannot be fetched")
}

/// The fields of a page, JSON.
#[cfg(test)]
pub(crate) fn page_json(bytes: &[u8], content_type: &str, url: &Url) -> String {
    Value::Object(page::read(bytes, content_type, url).fields).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_domain_is_previewed_with_what_is_below_it() {
        for (host, domain, expected) in [
            ("example.org", "example.org", true),
            ("WWW.Example.org", "example.org", true),
            ("www.example.org", "*.example.org", true),
            ("anything.test", "*", true),
            ("notexample.org", "example.org", false),
            ("example.org.evil.test", "example.org", false),
            ("org", "example.org", false),
        ] {
            assert_eq!(is_within(host, domain), expected, "{host} {domain}");
        }
    }

    #[test]
    fn only_pages_have_previews() {
        for url in ["", "example.org", "file:///etc/passwd", "ftp://a.test/", "data:text/html,a"] {
            assert!(page_url(url).is_err(), "{url}");
        }
        assert!(page_url(&format!("https://a.test/{}", "b".repeat(MAX_URL))).is_err());
        assert!(page_url("https://a.test/b?c#d").is_ok());
    }
}
