//! The encoding of a page: by a byte order mark, its content type, or its own declaration.
//! <https://html.spec.whatwg.org/multipage/parsing.html#determining-the-character-encoding>

use std::borrow::Cow;

use encoding_rs::{Encoding, UTF_8, UTF_16BE, UTF_16LE};

/// Where a page may name its encoding, in bytes.
const PRESCAN: usize = 1024;

/// The text of a page. What is no text in its encoding is replaced.
pub(super) fn decode<'a>(bytes: &'a [u8], content_type: &str) -> Cow<'a, str> {
    // A byte order mark comes before all else.
    let (text, _, _) = encoding(bytes, content_type).decode(bytes);
    text
}

fn encoding(bytes: &[u8], content_type: &str) -> &'static Encoding {
    named(content_type).unwrap_or_else(|| {
        let beginning = bytes.get(..PRESCAN).unwrap_or(bytes);
        let beginning = String::from_utf8_lossy(beginning).to_ascii_lowercase();
        match named(&beginning) {
            // It could not be read to this point if it were that.
            Some(encoding) if encoding == UTF_16BE || encoding == UTF_16LE => UTF_8,
            encoding => encoding.unwrap_or(UTF_8),
        }
    })
}

/// The first encoding that a text names in the way of a content type, in lower case.
fn named(text: &str) -> Option<&'static Encoding> {
    text.split("charset").skip(1).find_map(|behind| {
        let label = behind.trim_start().strip_prefix('=')?.trim_start();
        let label = label.trim_start_matches(['"', '\'']);
        let label = label.split(|c: char| !(c.is_ascii_alphanumeric() || "-_:.".contains(c)));
        Encoding::for_label(label.into_iter().next()?.as_bytes())
    })
}
