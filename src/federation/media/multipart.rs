//! The parts of a multipart body (RFC 2046, section 5.1), read as the body arrives.
//!
//! Invariant: no more than one piece of the body and the head of one part is held.

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue};
use memchr::memmem;
use mime::Mime;

/// The most bytes of the head of a part.
const MAX_HEAD: usize = 16 << 10;

/// The most bytes of a boundary: by RFC 2046, 70.
const MAX_BOUNDARY: usize = 200;

const LINE_END: &[u8] = b"\r\n";
const HEAD_END: &[u8] = b"\r\n\r\n";

/// What comes next in a body.
#[derive(Debug, PartialEq)]
pub(super) enum Piece {
    /// A part begins, with these headers.
    Head(HeaderMap),
    /// Bytes of the part.
    Bytes(Bytes),
    /// Nothing, before more of the body is fed.
    Starving,
    /// The end of the last part.
    End,
}

/// The body is no multipart body.
#[derive(Debug, PartialEq)]
pub(super) struct Malformed;

#[derive(Clone, Copy, PartialEq)]
enum State {
    /// Before the first part.
    Preamble,
    /// Behind a delimiter.
    Delimited,
    Part,
    Over,
}

/// A multipart body that is being read.
pub(super) struct Multipart {
    delimiter: memmem::Finder<'static>,
    buffer: BytesMut,
    state: State,
}

impl Multipart {
    /// A body with this `Content-Type`.
    pub(super) fn new(content_type: &str) -> Result<Self, Malformed> {
        let content_type: Mime = content_type.parse().map_err(|_| Malformed)?;
        let boundary = content_type.get_param(mime::BOUNDARY).ok_or(Malformed)?;
        let is_sensible = (1..=MAX_BOUNDARY).contains(&boundary.as_str().len());
        if content_type.type_() != mime::MULTIPART || !is_sensible {
            return Err(Malformed);
        }
        Ok(Self {
            delimiter: memmem::Finder::new(format!("\r\n--{boundary}").as_bytes()).into_owned(),
            // The line break before the first delimiter may be missing.
            buffer: BytesMut::from(LINE_END),
            state: State::Preamble,
        })
    }

    /// Adds what comes next of the body.
    pub(super) fn feed(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// What comes next.
    pub(super) fn next(&mut self) -> Result<Piece, Malformed> {
        loop {
            let state = self.state;
            match state {
                State::Over => return Ok(Piece::End),
                State::Delimited => return self.head(),
                State::Preamble | State::Part => {}
            }
            let bytes = self.text();
            if state == State::Part && !bytes.is_empty() {
                return Ok(Piece::Bytes(bytes));
            }
            if self.state != State::Delimited {
                return Ok(Piece::Starving);
            }
        }
    }

    /// Bytes before the next delimiter, which is consumed if it is there.
    fn text(&mut self) -> Bytes {
        let delimiter = self.delimiter.needle().len();
        if let Some(at) = self.delimiter.find(&self.buffer) {
            let text = self.buffer.split_to(at).freeze();
            drop(self.buffer.split_to(delimiter));
            self.state = State::Delimited;
            return text;
        }
        // The last bytes may be the beginning of one.
        let sure = self.buffer.len().saturating_sub(delimiter.saturating_sub(1));
        self.buffer.split_to(sure).freeze()
    }

    fn head(&mut self) -> Result<Piece, Malformed> {
        if self.buffer.starts_with(b"--") {
            self.state = State::Over;
            return Ok(Piece::End);
        }
        let end = memmem::find(&self.buffer, HEAD_END);
        if end.unwrap_or(self.buffer.len()) > MAX_HEAD {
            return Err(Malformed);
        }
        let Some(end) = end else { return Ok(Piece::Starving) };
        let head = self.buffer.split_to(end.saturating_add(HEAD_END.len())).freeze();
        self.state = State::Part;
        Ok(Piece::Head(headers(&head)))
    }
}

/// The headers in the lines of a head; what is none is left out.
fn headers(head: &[u8]) -> HeaderMap {
    let header = |line: &[u8]| {
        let colon = memchr::memchr(b':', line)?;
        let (name, value) = line.split_at_checked(colon)?;
        let name = HeaderName::from_bytes(name.trim_ascii()).ok()?;
        let value = HeaderValue::from_bytes(value.get(1..)?.trim_ascii()).ok()?;
        Some((name, value))
    };
    head.split(|byte| *byte == b'\n').filter_map(header).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &[u8] = b"\r\n--\r\n--boundarx\r\n\r\n--bound";

    fn body() -> Vec<u8> {
        [
            b"a preamble\r\n--boundary\r\nContent-Type: application/json\r\n\r\n{}\r\n--boundary  \r\n",
            &b"content-type:text/plain\r\nnonsense\r\n\r\n"[..],
            FILE,
            b"\r\n--boundary--\r\nan epilogue",
        ]
        .concat()
    }

    /// The parts of a body that arrives in pieces of some bytes each: content type and bytes.
    fn parts(body: &[u8], step: usize) -> Result<Vec<(String, Vec<u8>)>, Malformed> {
        let mut multipart = Multipart::new("multipart/mixed; boundary=\"boundary\"")?;
        let mut parts = Vec::new();
        for bytes in body.chunks(step) {
            multipart.feed(bytes);
            loop {
                match multipart.next()? {
                    Piece::Head(headers) => {
                        let content_type = headers["content-type"].to_str().unwrap().to_owned();
                        parts.push((content_type, Vec::new()));
                    }
                    Piece::Bytes(bytes) => parts.last_mut().unwrap().1.extend_from_slice(&bytes),
                    Piece::Starving => break,
                    Piece::End => return Ok(parts),
                }
            }
        }
        Err(Malformed)
    }

    #[test]
    fn parts_are_the_same_however_the_body_arrives() {
        let expected = vec![
            ("application/json".to_owned(), b"{}".to_vec()),
            ("text/plain".to_owned(), FILE.to_vec()),
        ];
        for step in 1..=body().len() {
            assert_eq!(parts(&body(), step), Ok(expected.clone()), "{step}");
        }
        // Without the line break before the first delimiter.
        let whole = body();
        let (_, start) = whole.split_at(b"a preamble\r\n".len());
        assert_eq!(parts(start, 7), Ok(expected));
    }

    #[test]
    fn a_body_without_an_end_is_not_complete() {
        let whole = body();
        let end = whole.len() - b"--\r\nan epilogue".len();
        assert_eq!(parts(whole.get(..end).unwrap(), 10), Err(Malformed));
    }

    #[test]
    fn a_head_that_is_too_long_and_a_boundary_that_is_none_are_refused() {
        let mut long = b"--boundary\r\n".to_vec();
        long.resize(MAX_HEAD + 20, b'a');
        assert_eq!(parts(&long, 1000), Err(Malformed));
        for content_type in
            ["", "multipart/mixed", "text/plain; boundary=a", "multipart/mixed; boundary=\"\""]
        {
            assert!(Multipart::new(content_type).is_err(), "{content_type}");
        }
        let long = format!("multipart/mixed; boundary={}", "a".repeat(MAX_BOUNDARY + 1));
        assert!(Multipart::new(&long).is_err());
    }
}
