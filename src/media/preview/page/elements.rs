//! The elements of a page that hold metadata, found without building its tree.
//!
//! Invariant: what is kept of a page is bounded.

use std::cell::{Cell, RefCell};

use html5ever::tokenizer::{
    Tag, TagKind, Token, TokenSink, TokenSinkResult,
    states::RawKind::{Rawtext, Rcdata, ScriptData},
};

use super::{MAX_CHARS, beginning};

/// How many `meta` elements are looked at.
const MAX_METAS: usize = 1000;

/// Bytes of an attribute or a text that are looked at.
const MAX_TEXT: usize = 4 * MAX_CHARS;

/// Elements that end a paragraph when they begin.
const BLOCKS: [&str; 26] = [
    "address",
    "article",
    "aside",
    "blockquote",
    "body",
    "dl",
    "div",
    "footer",
    "form",
    "h1",
    "h2",
    "h3",
    "h4",
    "h5",
    "h6",
    "header",
    "hr",
    "main",
    "nav",
    "ol",
    "p",
    "pre",
    "section",
    "table",
    "ul",
    "figure",
];

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Names, in lower case, and contents of the `meta` elements that have both.
    pub(super) metas: Vec<(String, String)>,
    /// The text of the first `title` that has any; empty if none has.
    pub(super) title: String,
    /// The same of `h1`.
    pub(super) heading: String,
    /// The same of `p`.
    pub(super) paragraph: String,
    /// The base of relative addresses.
    pub(super) base: Option<String>,
    /// The image that a `link` names.
    pub(super) linked_image: Option<String>,
    /// The address of the first `img`.
    pub(super) image: Option<String>,
}

impl Found {
    /// The content of the first `meta` element of this name.
    pub(super) fn meta(&self, name: &str) -> Option<&str> {
        self.metas.iter().find(|(given, _)| given == name).map(|(_, text)| &**text)
    }
}

/// An element whose text is collected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Collected {
    Title,
    Heading,
    Paragraph,
}

/// Takes the tokens of a page.
#[derive(Default)]
pub(super) struct Elements {
    found: RefCell<Found>,
    collected: Cell<Option<Collected>>,
    /// Whether the text is that of an element which does not show it.
    is_hidden: Cell<bool>,
    tokens: Cell<u64>,
}

impl Elements {
    /// How many tokens there were.
    pub(super) fn tokens(&self) -> u64 {
        self.tokens.get()
    }

    pub(super) fn into_found(self) -> Found {
        self.found.into_inner()
    }

    fn start(&self, tag: &Tag) -> TokenSinkResult<()> {
        let name = &*tag.name;
        let found = &mut *self.found.borrow_mut();
        if self.collected.get() == Some(Collected::Paragraph) && BLOCKS.contains(&name) {
            self.collected.set(None);
        }
        let first = |place: &mut Option<String>, value: Option<&str>| {
            if place.is_none() {
                *place = value.map(str::to_owned);
            }
        };
        match name {
            "meta" if found.metas.len() < MAX_METAS => found.metas.extend(meta(tag)),
            "base" => first(&mut found.base, attribute(tag, "href")),
            "img" => first(&mut found.image, attribute(tag, "src")),
            "link"
                if attribute(tag, "rel")
                    .is_some_and(|rel| rel.eq_ignore_ascii_case("image_src")) =>
            {
                first(&mut found.linked_image, attribute(tag, "href"));
            }
            "title" => self.collect(Collected::Title, found),
            "h1" => self.collect(Collected::Heading, found),
            "p" => self.collect(Collected::Paragraph, found),
            _ => {}
        }
        let raw = match name {
            "title" => return TokenSinkResult::RawData(Rcdata),
            "textarea" => TokenSinkResult::RawData(Rcdata),
            "style" | "xmp" | "iframe" | "noembed" | "noframes" => {
                TokenSinkResult::RawData(Rawtext)
            }
            "script" => TokenSinkResult::RawData(ScriptData),
            "plaintext" => TokenSinkResult::Plaintext,
            _ => return TokenSinkResult::Continue,
        };
        self.is_hidden.set(true);
        raw
    }

    /// Collects the text of an element, unless there is some of an earlier one.
    fn collect(&self, element: Collected, found: &mut Found) {
        let text = text_of(element, found);
        if text.trim().is_empty() {
            text.clear();
            self.collected.set(Some(element));
        }
    }

    fn end_of(&self, name: &str) {
        self.is_hidden.set(false);
        let ended = match name {
            "title" => Collected::Title,
            "h1" => Collected::Heading,
            "p" => Collected::Paragraph,
            _ => return,
        };
        if self.collected.get() == Some(ended) {
            self.collected.set(None);
        }
    }

    fn text(&self, text: &str) {
        let Some(element) = self.collected.get() else { return };
        if self.is_hidden.get() {
            return;
        }
        let found = &mut *self.found.borrow_mut();
        let collected = text_of(element, found);
        collected.push_str(beginning(text, MAX_TEXT.saturating_sub(collected.len())));
        if collected.len() >= MAX_TEXT {
            self.collected.set(None);
        }
    }
}

impl TokenSink for Elements {
    type Handle = ();

    fn process_token(&self, token: Token, _line: u64) -> TokenSinkResult<()> {
        self.tokens.set(self.tokens.get().saturating_add(1));
        match token {
            Token::TagToken(tag) if tag.kind == TagKind::StartTag => return self.start(&tag),
            Token::TagToken(tag) => self.end_of(&tag.name),
            Token::CharacterTokens(text) => self.text(&text),
            _ => {}
        }
        TokenSinkResult::Continue
    }
}

fn text_of(element: Collected, found: &mut Found) -> &mut String {
    match element {
        Collected::Title => &mut found.title,
        Collected::Heading => &mut found.heading,
        Collected::Paragraph => &mut found.paragraph,
    }
}

fn meta(tag: &Tag) -> Option<(String, String)> {
    let name = attribute(tag, "property").or_else(|| attribute(tag, "name"))?;
    let text = attribute(tag, "content")?.trim();
    (!text.is_empty()).then(|| (name.trim().to_ascii_lowercase(), text.to_owned()))
}

/// The beginning of an attribute.
fn attribute<'a>(tag: &'a Tag, name: &str) -> Option<&'a str> {
    let attribute = tag.attrs.iter().find(|attribute| &*attribute.name.local == name)?;
    Some(beginning(&attribute.value, MAX_TEXT))
}
