//! Fetches a page and its image.

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, header};
use serde_json::{Map, Value};
use url::Url;
use wick_core::Result;
use wick_outbound::{Failure, Response};

use super::{Client, Fetched, Previews, failed, page, page_url};
use crate::thumbnail::measure;

/// How large a page may be of which only the beginning is read, in bytes.
const MAX_PAGE: u64 = 64 << 20;

/// An image.
pub(super) struct Picture {
    pub(super) bytes: Bytes,
    /// As found from the bytes.
    pub(super) content_type: &'static str,
    width: u32,
    height: u32,
}

impl Picture {
    /// Adds the fields of a preview's image, which is at `uri`.
    pub(super) fn describe(&self, fields: &mut Map<String, Value>, uri: &str) {
        for (name, value) in [
            ("og:image", uri.into()),
            ("og:image:type", self.content_type.into()),
            ("og:image:width", self.width.into()),
            ("og:image:height", self.height.into()),
            ("matrix:image:size", self.bytes.len().into()),
        ] {
            fields.insert(name.to_owned(), value);
        }
    }
}

impl Previews {
    pub(super) async fn fetch(&self, client: &Client, url: &Url) -> Result<Fetched> {
        let response = self.get(url, MAX_PAGE).await?;
        // A redirect must not lead to where no preview could begin.
        let url = page_url(response.url())?;
        self.ensure_allowed(&url)?;
        let content_type = content_type(&response);
        if content_type.starts_with("image/") {
            let picture = self.picture_of(client, response).await?;
            return Ok(Fetched { fields: Map::new(), picture });
        }
        if !matches!(essence(&content_type), "text/html" | "application/xhtml+xml") {
            return Ok(Fetched { fields: Map::new(), picture: None });
        }
        let most = u64::from(self.media.resources.config.previews.max_page_kilobytes) << 10;
        let beginning = beginning(response, most).await?;
        let read = move || Ok(page::read(&beginning, &content_type, &url));
        let page = self.media.resources.workers.run(&client.user_id, read).await?;
        let picture = match &page.image {
            // A preview without its image is better than none.
            Some(image) => self.picture(client, image).await.unwrap_or_else(|error| {
                tracing::debug!(%error, "the image of a page is left out");
                None
            }),
            None => None,
        };
        Ok(Fetched { fields: page.fields, picture })
    }

    async fn get(&self, url: &Url, bytes: u64) -> Result<Response> {
        let accept = HeaderValue::from_static("text/html,application/xhtml+xml,image/*;q=0.8");
        let headers = HeaderMap::from_iter([(header::ACCEPT, accept)]);
        let response = self.outbound.get(url.as_str(), headers, self.outbound.short(bytes)).await;
        response.and_then(Response::success).map_err(|failure| failed(&failure))
    }

    async fn picture(&self, client: &Client, url: &Url) -> Result<Option<Picture>> {
        let response = self.get(url, self.max_image()).await?;
        self.picture_of(client, response).await
    }

    fn max_image(&self) -> u64 {
        u64::from(self.media.resources.config.previews.max_image_megabytes) << 20
    }

    /// The image of a response; `None` if it is none that thumbnails can be made of.
    async fn picture_of(&self, client: &Client, response: Response) -> Result<Option<Picture>> {
        let bytes = whole(response, self.max_image()).await?;
        let max_pixels = self.media.max_pixels();
        let measured = bytes.clone();
        let measure = move || Ok(measure(&measured, max_pixels).ok());
        let image = self.media.resources.workers.run(&client.user_id, measure).await?;
        Ok(image.map(|image| Picture {
            bytes,
            content_type: image.content_type,
            width: image.width,
            height: image.height,
        }))
    }
}

fn content_type(response: &Response) -> String {
    let value = response.headers().get(header::CONTENT_TYPE);
    value.and_then(|value| value.to_str().ok()).unwrap_or_default().to_ascii_lowercase()
}

/// A content type without its parameters.
fn essence(content_type: &str) -> &str {
    content_type.split(';').next().unwrap_or_default().trim()
}

/// The first bytes of a response.
async fn beginning(mut response: Response, most: u64) -> Result<Bytes> {
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    let mut bytes = BytesMut::new();
    while bytes.len() < most
        && let Some(chunk) = response.chunk().await.map_err(|failure| failed(&failure))?
    {
        bytes.extend_from_slice(&chunk);
    }
    bytes.truncate(most);
    Ok(bytes.freeze())
}

/// All bytes of a response of at most so many.
async fn whole(response: Response, most: u64) -> Result<Bytes> {
    let bytes = beginning(response, most.saturating_add(1)).await?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length <= most) {
        return Ok(bytes);
    }
    Err(failed(&Failure::TooLarge))
}
