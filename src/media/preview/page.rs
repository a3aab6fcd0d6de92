//! The metadata of a page: OpenGraph, then Twitter's cards, then plain HTML.
//!
//! Invariants: reading takes time and memory in proportion to the page, however its elements are nested; no more than a
//! bounded number of fields of bounded length come out.

mod charset;
mod elements;

use html5ever::{
    buffer_queue::BufferQueue,
    tendril::StrTendril,
    tokenizer::{Tokenizer, TokenizerOpts},
};
use serde_json::{Map, Value};
use url::Url;

use self::elements::{Elements, Found};

/// How many fields of a page are kept.
const MAX_FIELDS: usize = 32;

/// Characters of one field that are kept.
const MAX_CHARS: usize = 1000;

/// Bytes of the name of a field; longer ones are dropped.
const MAX_NAME: usize = 100;

/// How much of a page is read at once, in bytes.
const PORTION: usize = 8 * 1024;

/// How many portions one tag or comment may take. What is behind a longer one is not read: attributes of one tag are compared
/// with each other.
const LONGEST_TAG: usize = 8;

/// The metadata of a page.
#[derive(Debug, Default)]
pub(super) struct Page {
    /// OpenGraph data besides the image.
    pub(super) fields: Map<String, Value>,
    /// The address of its image.
    pub(super) image: Option<Url>,
}

/// Reads a page that came from `url` with this content type.
pub(super) fn read(bytes: &[u8], content_type: &str, url: &Url) -> Page {
    let found = elements(&charset::decode(bytes, content_type));
    let mut page = Page::default();
    for (name, text) in &found.metas {
        if name.starts_with("og:") && !name.starts_with("og:image") {
            page.put(name, text);
        }
    }
    for (field, fallbacks) in [
        ("og:title", &["twitter:title", "dc.title"][..]),
        ("og:description", &["twitter:description", "description"]),
    ] {
        for text in fallbacks.iter().filter_map(|name| found.meta(name)) {
            page.put(field, text);
        }
    }
    for (field, text) in [
        ("og:title", &found.title),
        ("og:title", &found.heading),
        ("og:description", &found.paragraph),
    ] {
        page.put(field, text);
    }
    page.image = image(&found, url);
    page
}

/// The address of the image.
fn image(found: &Found, url: &Url) -> Option<Url> {
    let base = found.base.as_ref().and_then(|base| url.join(base).ok());
    let named =
        ["og:image:secure_url", "og:image", "og:image:url", "twitter:image", "twitter:image:src"];
    let image = named.iter().find_map(|name| found.meta(name));
    let image = image.or(found.linked_image.as_deref()).or(found.image.as_deref())?;
    base.as_ref().unwrap_or(url).join(image.trim()).ok()
}

impl Page {
    /// Puts a field, unless it is there or has no text.
    fn put(&mut self, name: &str, text: &str) {
        let mut words = text.split_whitespace();
        let mut plain = words.next().unwrap_or_default().to_owned();
        for word in words {
            plain.push(' ');
            plain.push_str(word);
        }
        let plain: String = plain.chars().take(MAX_CHARS).collect();
        let is_new = !plain.is_empty() && !self.fields.contains_key(name);
        if is_new && self.fields.len() < MAX_FIELDS && name.len() <= MAX_NAME {
            self.fields.insert(name.to_owned(), plain.into());
        }
    }
}

/// The elements of a page that hold metadata.
fn elements(text: &str) -> Found {
    let tokenizer = Tokenizer::new(Elements::default(), TokenizerOpts::default());
    let queue = BufferQueue::default();
    let (mut rest, mut seen, mut silent) = (text, 0, 0);
    while !rest.is_empty() && silent < LONGEST_TAG {
        let portion = beginning(rest, PORTION);
        queue.push_back(StrTendril::from_slice(portion));
        drop(tokenizer.feed(&queue));
        rest = rest.get(portion.len()..).unwrap_or_default();
        let tokens = tokenizer.sink.tokens();
        silent = if tokens == seen { silent.saturating_add(1) } else { 0 };
        seen = tokens;
    }
    if silent < LONGEST_TAG {
        tokenizer.end();
    }
    tokenizer.sink.into_found()
}

/// At most so many bytes of a text.
fn beginning(text: &str, most: usize) -> &str {
    let ends = (0..=most.min(text.len())).rev();
    ends.into_iter().find_map(|end| text.get(..end)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(html: &str) -> Page {
        super::read(html.as_bytes(), "text/html", &Url::parse("https://a.test/b/c").unwrap())
    }

    fn field(page: &Page, name: &str) -> String {
        page.fields.get(name).and_then(Value::as_str).unwrap_or_default().to_owned()
    }

    fn image_of(html: &str) -> String {
        read(html).image.map(String::from).unwrap_or_default()
    }

    const PLAIN: &str =
        "<title> A\n title </title><meta name=description content=words><img src=d.png>";
    const CARD: &str = "<meta name='twitter:title' content='Card'>\
                        <meta name='twitter:image' content='/e.png'>";
    const GRAPH: &str = "<meta property='og:title' content='Graph &amp; more'>\
                         <meta property='og:image' content='//f.test/g.png'>\
                         <meta property='og:image:width' content='7'>\
                         <META PROPERTY='og:type' CONTENT='article'>";

    #[test]
    fn opengraph_comes_before_cards_and_those_before_plain_html() {
        let page = read(PLAIN);
        assert_eq!(field(&page, "og:title"), "A title");
        assert_eq!(field(&page, "og:description"), "words");
        assert_eq!(image_of(PLAIN), "https://a.test/b/d.png");
        let card = format!("{PLAIN}{CARD}");
        assert_eq!(field(&read(&card), "og:title"), "Card");
        assert_eq!(image_of(&card), "https://a.test/e.png");
        let graph = format!("{card}{GRAPH}");
        let page = read(&graph);
        assert_eq!(field(&page, "og:title"), "Graph & more");
        assert_eq!(field(&page, "og:type"), "article");
        assert_eq!(image_of(&graph), "https://f.test/g.png");
        assert!(!page.fields.contains_key("og:image:width"));
    }

    #[test]
    fn without_a_title_or_a_description_the_first_heading_and_paragraph_are_taken() {
        let page = read(
            "<style>p { color: red }</style><h1> </h1><p></p><h1>The <b>heading</b></h1>\
             <p>Some <i>text</i><script>'</p>hidden'</script><div>more</div><p>Other",
        );
        assert_eq!(field(&page, "og:title"), "The heading");
        assert_eq!(field(&page, "og:description"), "Some text");
    }

    #[test]
    fn what_is_in_scripts_and_comments_is_not_markup() {
        let page = read(
            "<script>\"<meta property='og:title' content='no'>\"</script><!-- <title>no</title> -->\
             <textarea><title>no</title></textarea><title>yes</title>",
        );
        assert_eq!(field(&page, "og:title"), "yes");
    }

    #[test]
    fn an_image_is_found_relative_to_the_base_of_the_page() {
        let page = "<base href='/files/'><img src='a.png'>";
        assert_eq!(image_of(page), "https://a.test/files/a.png");
        let page =
            "<link rel='stylesheet' href=s.css><link rel='image_src' href='b.png'><img src=a>";
        assert_eq!(image_of(page), "https://a.test/b/b.png");
        assert_eq!(image_of("<img src='http://['>"), "");
    }

    #[test]
    fn the_encoding_is_that_of_the_header_or_of_the_page() {
        let url = Url::parse("https://a.test/").unwrap();
        let title = |bytes: &[u8], content_type: &str| {
            field(&super::read(bytes, content_type, &url), "og:title")
        };
        let latin = b"<title>f\xfcr</title>";
        assert_eq!(title(latin, "text/html; charset=iso-8859-1"), "für");
        assert_eq!(title(latin, "text/html; charset=\"ISO-8859-1\""), "für");
        assert_eq!(title(b"<meta charset='windows-1252'><title>f\xfcr</title>", ""), "für");
        let other = b"<!-- charset? --><meta http-equiv=content-type content='text/html; \
                      charset=koi8-r'><title>\xc1</title>";
        assert_eq!(title(other, "text/html"), "а");
        assert_eq!(title("<title>für</title>".as_bytes(), "text/html"), "für");
        assert_eq!(title("<title>für</title>".as_bytes(), "text/html; charset=nonsense"), "für");
        // A page that can be read to this point is not UTF-16, whatever it declares.
        assert_eq!(title("<meta charset=utf-16><title>für</title>".as_bytes(), ""), "für");
        assert_eq!(title(b"\xff\xfe<\0t\0i\0t\0l\0e\0>\0\xfc\0", "text/html"), "ü");
        // A wrong one is read as far as it goes.
        assert_eq!(title(latin, "text/html; charset=utf-8"), "f\u{fffd}r");
    }

    #[test]
    fn a_page_says_only_so_much_and_rubbish_says_nothing() {
        let many: String = (0..10_000)
            .map(|n| {
                format!(
                    "<meta property='og:x{n}' content='{}'>",
                    "y".repeat(if n < 50 { 2000 } else { 20 })
                )
            })
            .collect();
        let page = read(&many);
        assert_eq!(page.fields.len(), MAX_FIELDS);
        assert!(page.fields.values().all(|text| text.as_str().unwrap().len() <= MAX_CHARS));
        for rubbish in ["", "\0\0\0", "<<<<", "<html", "<title>", "&#xd800;&"] {
            let page = read(rubbish);
            assert!(page.fields.is_empty() && page.image.is_none(), "{rubbish}");
        }
    }

    #[test]
    fn deep_nesting_and_endless_tags_take_no_longer_than_other_pages() {
        let title = "<title>t</title>";
        for part in ["<div>", "<b><a>", "<table><tr><td>", "<svg><math>", "<p><form>", "</p>"] {
            let page = read(&format!("{title}{}", part.repeat(50_000)));
            assert_eq!(field(&page, "og:title"), "t", "{part}");
        }
        let attributes: String = (0..200_000).map(|n| format!(" a{n}")).collect();
        let page = read(&format!("{title}<p{attributes}><meta property=og:type content=late>"));
        assert_eq!(
            (field(&page, "og:title"), field(&page, "og:type")),
            ("t".into(), String::new())
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
            super::read(&bytes, "", &Url::parse("https://a.test/").unwrap());
        }

        #[test]
        fn a_damaged_page_is_read_within_the_bounds(
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..40),
            cut in any::<prop::sample::Index>(),
            content_type in "text/html(; ?charset=[a-z0-9-]{0,12})?",
        ) {
            let mut page = format!("<!doctype html><meta charset=utf-8>{PLAIN}{CARD}{GRAPH}<p>Text")
                .repeat(3).into_bytes();
            for (place, byte) in changes {
                let place = place.index(page.len());
                page[place] = byte;
            }
            page.truncate(cut.index(page.len()) + 1);
            let page = super::read(&page, &content_type, &Url::parse("https://a.test/").unwrap());
            prop_assert!(page.fields.len() <= MAX_FIELDS);
            for (name, text) in &page.fields {
                prop_assert!(name.starts_with("og:") && name.len() <= MAX_NAME);
                let text = text.as_str().unwrap();
                prop_assert!(!text.is_empty() && text.chars().count() <= MAX_CHARS);
            }
        }
    }
}
