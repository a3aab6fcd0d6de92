//! Media as HTTP responses: streamed, in full or in part, with the headers that keep a browser from running it.
//!
//! Invariants: every response with media has all of the headers; what a client may do with a file follows from a list, never
//! from the file.

use std::{future::ready, ops::Range, sync::Arc};

use axum::{body::Body, response::Response};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::{
    HeaderMap, HeaderValue, StatusCode,
    header::{
        ACCEPT_RANGES, CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_RANGE,
        CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, HeaderName, IF_NONE_MATCH, IF_RANGE, RANGE,
        REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
    },
};
use ruma::{
    api::error::ErrorKind,
    http_headers::{ContentDisposition, ContentDispositionType},
};
use wick_core::{Error, Result};
use wick_media::Content;
use wick_service::Services;

use crate::{error::into_http, reply::Reply};

/// The content types that a browser may show, by the specification's section "Serving inline content".
const INLINE: [&str; 25] = [
    "text/css",
    "text/plain",
    "text/csv",
    "application/json",
    "application/ld+json",
    "image/jpeg",
    "image/gif",
    "image/png",
    "image/apng",
    "image/webp",
    "image/avif",
    "video/mp4",
    "video/webm",
    "video/ogg",
    "video/quicktime",
    "audio/mp4",
    "audio/webm",
    "audio/aac",
    "audio/mpeg",
    "audio/ogg",
    "audio/wave",
    "audio/wav",
    "audio/x-wav",
    "audio/x-pn-wav",
    "audio/flac",
];

const OCTETS: &str = "application/octet-stream";

const FIXED: [(HeaderName, &str); 7] = [
    (
        CONTENT_SECURITY_POLICY,
        "sandbox; default-src 'none'; script-src 'none'; plugin-types application/pdf; \
         style-src 'unsafe-inline'; object-src 'self';",
    ),
    (HeaderName::from_static("cross-origin-resource-policy"), "cross-origin"),
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("x-robots-tag"), "noindex, nofollow, noarchive, noimageindex"),
    (CACHE_CONTROL, "private, max-age=31536000, immutable"),
    (ACCEPT_RANGES, "bytes"),
];

/// A response whose body is a stream.
pub(crate) struct Streamed(Response);

impl Reply for Streamed {
    fn into_http(self) -> Result<Response> {
        Ok(self.0)
    }
}

/// The response to a request with these headers for a content.
pub(super) async fn download(
    services: &Arc<Services>,
    request: &HeaderMap,
    content: Content,
) -> Result<Streamed> {
    let tag = format!("\"{}\"", content.tag);
    if names(request, IF_NONE_MATCH, &tag) {
        return response(StatusCode::NOT_MODIFIED, &content, &tag, Body::empty());
    }
    let all = 0..content.size;
    match range(request, &tag, content.size) {
        Asked::All => {
            let body = Body::from_stream(services.media.open(&content, all).await?);
            let mut response = response(StatusCode::OK, &content, &tag, body)?;
            response.set(CONTENT_LENGTH, content.size.into());
            Ok(response)
        }
        Asked::Part(part) => {
            let body = Body::from_stream(services.media.open(&content, part.clone()).await?);
            let mut response = response(StatusCode::PARTIAL_CONTENT, &content, &tag, body)?;
            let last = part.end.saturating_sub(1);
            let range = format!("bytes {}-{last}/{}", part.start, content.size);
            response.set(CONTENT_RANGE, value(&range)?);
            response.set(CONTENT_LENGTH, part.end.saturating_sub(part.start).into());
            Ok(response)
        }
        Asked::Beyond => {
            let status = StatusCode::RANGE_NOT_SATISFIABLE.as_u16();
            let message = "the file is not that long";
            let error = Error::refused_with(status, ErrorKind::Unknown, message);
            let mut response = Streamed(into_http(error));
            response.set(CONTENT_RANGE, value(&format!("bytes */{}", content.size))?);
            Ok(response)
        }
    }
}

/// The response to another server: the file after an empty JSON object, as parts of one body.
pub(crate) async fn framed(services: &Arc<Services>, content: Content) -> Result<Streamed> {
    let boundary = services.random.token();
    let content_type = content_type(&content);
    let disposition = disposition(content_type, &content);
    let head = format!(
        "\r\n--{boundary}\r\nContent-Type: application/json\r\n\r\n{{}}\r\n--{boundary}\r\n\
         Content-Type: {content_type}\r\nContent-Disposition: {disposition}\r\n\r\n"
    );
    let end = format!("\r\n--{boundary}--\r\n");
    let frame = u64::try_from(head.len().saturating_add(end.len())).unwrap_or(u64::MAX);
    let size = content.size.saturating_add(frame);
    let file = services.media.open(&content, 0..content.size).await?;
    let part = |text: String| stream::once(ready(Ok(Bytes::from(text))));
    let mut response =
        Streamed(Response::new(Body::from_stream(part(head).chain(file).chain(part(end)))));
    response.set(CONTENT_TYPE, value(&format!("multipart/mixed; boundary={boundary}"))?);
    response.set(CONTENT_LENGTH, size.into());
    Ok(response)
}

impl Streamed {
    fn set(&mut self, name: HeaderName, value: HeaderValue) {
        self.0.headers_mut().insert(name, value);
    }
}

fn response(status: StatusCode, content: &Content, tag: &str, body: Body) -> Result<Streamed> {
    let mut response = Streamed(Response::new(body));
    *response.0.status_mut() = status;
    for (name, fixed) in FIXED {
        response.set(name, HeaderValue::from_static(fixed));
    }
    let content_type = content_type(content);
    response.set(CONTENT_TYPE, value(content_type)?);
    response.set(CONTENT_DISPOSITION, value(&disposition(content_type, content))?);
    response.set(ETAG, value(tag)?);
    Ok(response)
}

fn value(text: &str) -> Result<HeaderValue> {
    HeaderValue::from_str(text).map_err(|error| Error::internal("a header of media", error))
}

/// The content type as it is sent: what no header can hold is none.
fn content_type(content: &Content) -> &str {
    let given = content.content_type.as_deref();
    given.filter(|given| HeaderValue::from_str(given).is_ok()).unwrap_or(OCTETS)
}

/// How the file is to be shown, and under which name (RFC 6266).
fn disposition(content_type: &str, content: &Content) -> String {
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    // Browsers take the last of several types.
    let is_one = !content_type.contains(',');
    let is_safe = is_one && INLINE.iter().any(|safe| safe.eq_ignore_ascii_case(essence));
    let kind =
        if is_safe { ContentDispositionType::Inline } else { ContentDispositionType::Attachment };
    let name = content.file_name.as_deref().map(plain_name).filter(|name| !name.is_empty());
    ContentDisposition::new(kind).with_filename(name).to_string()
}

/// A file name without folders and control characters, also those that turn the direction of text.
fn plain_name(name: &str) -> String {
    let name = name.rsplit(['/', '\\']).next().unwrap_or_default();
    let hides = |character: char| {
        character.is_control()
            || matches!(character, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    name.chars().filter(|character| !hides(*character)).collect()
}

/// Whether a header names the tag, or any.
fn names(request: &HeaderMap, header: HeaderName, tag: &str) -> bool {
    let values = request.get_all(header).into_iter().filter_map(|value| value.to_str().ok());
    values
        .flat_map(|value| value.split(','))
        .map(|named| named.trim().trim_start_matches("W/"))
        .any(|named| named == tag || named == "*")
}

/// Which bytes are asked for.
#[derive(Debug, PartialEq)]
enum Asked {
    All,
    Part(Range<u64>),
    Beyond,
}

/// Which bytes a request asks for (RFC 9110, section 14). Several ranges at once, and what is no range, get all.
fn range(request: &HeaderMap, tag: &str, size: u64) -> Asked {
    // Only the tag itself says that the client has these bytes (section 13.1.5): no weak one, and no time.
    if request.get(IF_RANGE).is_some_and(|known| known != tag) {
        return Asked::All;
    }
    let range = request.get(RANGE).and_then(|value| value.to_str().ok());
    let Some((first, last)) = range
        .and_then(|range| range.trim().strip_prefix("bytes="))
        .and_then(|range| range.split_once('-'))
    else {
        return Asked::All;
    };
    let (first, last) = (first.trim(), last.trim());
    let part = match (position(first), position(last)) {
        (Some(first), Some(last)) if first > last => return Asked::All,
        (Some(first), Some(last)) => first..last.saturating_add(1).min(size),
        (Some(first), None) if last.is_empty() => first..size,
        (None, Some(length)) if first.is_empty() => {
            size.saturating_sub(length)..if length == 0 { 0 } else { size }
        }
        _ => return Asked::All,
    };
    if part.is_empty() { Asked::Beyond } else { Asked::Part(part) }
}

/// A number in digits. One that is too large is behind the end of any file.
fn position(text: &str) -> Option<u64> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(range: &str, size: u64) -> Asked {
        let headers = HeaderMap::from_iter([(RANGE, HeaderValue::from_str(range).unwrap())]);
        super::range(&headers, "\"a\"", size)
    }

    #[test]
    fn a_range_is_cut_to_the_file_and_one_beyond_it_is_refused() {
        assert_eq!(asked("bytes=0-9", 100), Asked::Part(0..10));
        assert_eq!(asked("bytes=90-200", 100), Asked::Part(90..100));
        assert_eq!(asked("bytes=90-", 100), Asked::Part(90..100));
        assert_eq!(asked("bytes=-10", 100), Asked::Part(90..100));
        assert_eq!(asked("bytes=-1000", 100), Asked::Part(0..100));
        for long in ["0-18446744073709551615", "0-99999999999999999999", "-99999999999999999999"] {
            assert_eq!(asked(&format!("bytes={long}"), 100), Asked::Part(0..100), "{long}");
        }
        for beyond in ["bytes=100-", "bytes=100-200", "bytes=-0", "bytes=99999999999999999999-"] {
            assert_eq!(asked(beyond, 100), Asked::Beyond, "{beyond}");
        }
        for other in ["bytes=0-1,5-6", "bytes=9-0", "bytes=a-b", "lines=0-1", "bytes=-", "bytes"] {
            assert_eq!(asked(other, 100), Asked::All, "{other}");
        }
        for sign in ["bytes=+1-5", "bytes=1-+5", "bytes=-+5", "bytes=--5"] {
            assert_eq!(asked(sign, 100), Asked::All, "{sign}");
        }
        assert_eq!(asked("bytes=0-", 0), Asked::Beyond);
    }

    #[test]
    fn a_file_name_has_no_folders_and_nothing_that_hides_its_ending() {
        assert_eq!(plain_name("../../etc/passwd"), "passwd");
        assert_eq!(plain_name("C:\\a.exe"), "a.exe");
        assert_eq!(plain_name("a\u{202e}gnp.exe\r\n"), "agnp.exe");
        assert_eq!(plain_name("a b;c\"d.png"), "a b;c\"d.png");
        assert_eq!(plain_name("\u{1f414}.txt"), "\u{1f414}.txt");
    }
}
