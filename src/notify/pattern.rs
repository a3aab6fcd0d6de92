//! The patterns of push rules, compiled once and matched in linear time.
//!
//! <https://spec.matrix.org/v1.18/client-server-api/#conditions-1>

use std::{fmt::Write, sync::OnceLock};

use regex::{Regex, RegexBuilder};
use wick_account::push_rules::MAX_PATTERN_BYTES;

/// How large a compiled pattern may be: enough for the longest one of wildcards alone.
const MAX_COMPILED_BYTES: usize = 1 << 20;

/// What a pattern is matched against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Within {
    /// The whole value.
    Value,
    /// Any words of the value, for `content.body`.
    Words,
}

/// A pattern, matched against text in lower case: case does not count. One that is too long matches nothing.
pub(crate) enum Pattern {
    /// The whole value, as it stands.
    Exact(String),
    /// An expression, compiled when it is first needed.
    Expression(Expression),
}

/// An expression and the text without which it cannot match. Looking for that text costs a small part of compiling:
/// of all the members' names, hardly one occurs in a message.
pub(crate) struct Expression {
    /// Occurs in every value that matches.
    required: String,
    source: String,
    compiled: OnceLock<Option<Regex>>,
}

impl Expression {
    fn matches(&self, value: &str) -> bool {
        value.contains(&self.required)
            && self
                .compiled
                .get_or_init(|| compile(&self.source))
                .as_ref()
                .is_some_and(|regex| regex.is_match(value))
    }
}

impl Pattern {
    /// A pattern in which `*` stands for any characters and `?` for one.
    pub(crate) fn glob(glob: &str, within: Within) -> Self {
        if within == Within::Value && !glob.contains(['*', '?']) {
            return Self::Exact(glob.to_lowercase());
        }
        if glob.len() > MAX_PATTERN_BYTES {
            return Self::nothing();
        }
        let glob = glob.to_lowercase();
        let mut expression = String::new();
        let mut literal = [0; 4];
        for character in glob.chars() {
            match character {
                '*' if expression.ends_with(".*") => {}
                '*' => expression.push_str(".*"),
                '?' => expression.push('.'),
                other => expression.push_str(&regex::escape(other.encode_utf8(&mut literal))),
            }
        }
        let longest = glob.split(['*', '?']).max_by_key(|text| text.len());
        Self::expression(longest.unwrap_or_default(), &expression, within)
    }

    /// A text, as it stands, among the words of a value. The empty text matches nothing.
    pub(crate) fn words(text: &str) -> Self {
        if text.is_empty() || text.len() > MAX_PATTERN_BYTES {
            return Self::nothing();
        }
        let text = text.to_lowercase();
        Self::expression(&text, &regex::escape(&text), Within::Words)
    }

    fn nothing() -> Self {
        Self::Expression(Expression {
            required: String::new(),
            source: String::new(),
            compiled: OnceLock::from(None),
        })
    }

    fn expression(required: &str, inner: &str, within: Within) -> Self {
        let mut source = String::new();
        // A String takes whatever is written to it.
        let _written = match within {
            Within::Value => write!(source, r"\A(?:{inner})\z"),
            Within::Words => write!(source, r"(?:\A|[^a-z0-9_])(?:{inner})(?:\z|[^a-z0-9_])"),
        };
        Self::Expression(Expression {
            required: required.to_owned(),
            source,
            compiled: OnceLock::new(),
        })
    }

    /// Whether the value, in lower case, matches.
    pub(crate) fn matches(&self, value: &str) -> bool {
        match self {
            Self::Exact(text) => value == text,
            Self::Expression(expression) => expression.matches(value),
        }
    }

    /// The cost of matching it against a value, in bytes of text looked at.
    pub(crate) fn cost(&self, value: &str) -> usize {
        match self {
            Self::Exact(_) => 0,
            Self::Expression(_) => value.len(),
        }
    }

    /// How large it is, in bytes of text.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Exact(text) => text.len(),
            Self::Expression(expression) => expression.source.len(),
        }
    }
}

fn compile(expression: &str) -> Option<Regex> {
    RegexBuilder::new(expression)
        .dot_matches_new_line(true)
        .size_limit(MAX_COMPILED_BYTES)
        .build()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs_match_whole_values_and_words() {
        for (glob, within, value, expected) in [
            ("m.room.*", Within::Value, "m.room.topic", true),
            ("m.room.*", Within::Value, "xm.room.topic", false),
            ("m.room.topic", Within::Value, "M.Room.Topic", true),
            ("m?room", Within::Value, "m.room", true),
            ("m.room", Within::Value, "m.rooms", false),
            ("cake", Within::Words, "I like CAKE!", true),
            ("cake", Within::Words, "pancakes", false),
            ("cake*", Within::Words, "cakes and more", true),
            ("c?ke", Within::Words, "coke, cake", true),
            ("c?ke", Within::Words, "cooke", false),
            ("a.b", Within::Words, "axb", false),
            ("*", Within::Words, "anything\nat all", true),
            ("caf\u{e9}", Within::Words, "CAF\u{c9} au lait", true),
            ("\u{1f382}", Within::Words, "a \u{1f382}", true),
            ("k", Within::Words, "a\u{212a}", false),
        ] {
            assert_eq!(
                Pattern::glob(glob, within).matches(&value.to_lowercase()),
                expected,
                "{glob} {value}"
            );
        }
    }

    #[test]
    fn a_text_is_matched_as_it_stands() {
        for (text, value, expected) in [
            ("*", "hello", false),
            ("*", "a * b", true),
            ("Who?", "whom", false),
            ("Who?", "who? me", true),
            ("bob", "hello Bob.", true),
            ("bob", "bobby", false),
            ("a a", "xa a a", true),
            ("", "", false),
        ] {
            assert_eq!(
                Pattern::words(text).matches(&value.to_lowercase()),
                expected,
                "{text} {value}"
            );
        }
    }

    #[test]
    fn the_longest_pattern_of_wildcards_works_and_a_longer_one_matches_nothing() {
        let longest = "?".repeat(MAX_PATTERN_BYTES);
        let value = "x".repeat(MAX_PATTERN_BYTES);
        assert!(Pattern::glob(&longest, Within::Words).matches(&value));
        let longer = "?".repeat(100_000);
        for within in [Within::Value, Within::Words] {
            assert!(!Pattern::glob(&longer, within).matches(&"x".repeat(100_000)));
        }
    }
}
