//! Words: the terms that texts are indexed and searched by.
//!
//! Scripts that are written without spaces, such as Chinese and Japanese, have no word boundaries that could
//! be found without a dictionary: their texts are indexed by each character and by each pair of neighbours,
//! and searched by pairs.
//!
//! Invariant: a text that contains a term is indexed by all words of [`wanted`] for that term, as far as the
//! term begins and ends with its words.

use std::collections::BTreeSet;

use unicode_segmentation::UnicodeSegmentation;

/// Words of one text that are kept.
const MAX_WORDS: usize = 512;

/// Bytes of a word that are kept; of a longer one its beginning is.
const MAX_BYTES: usize = 64;

/// The words of a text in lower case, each as often as it is there.
pub fn all(text: &str) -> impl Iterator<Item = String> {
    runs(text).flat_map(|run| {
        let pieces = pieces(run);
        let pairs: Vec<String> = pairs(&pieces).collect();
        pieces.into_iter().chain(pairs)
    })
}

/// The words of a text, each once.
#[must_use]
pub fn distinct(text: &str) -> BTreeSet<String> {
    limited(all(text))
}

/// The words that a text must have to be found by `term`.
#[must_use]
pub fn wanted(term: &str) -> BTreeSet<String> {
    limited(runs(term).flat_map(|run| {
        let pieces = pieces(run);
        let pairs: Vec<String> = pairs(&pieces).collect();
        let is_in_pair = |piece: &String| {
            is_single(piece) && pairs.iter().any(|pair| pair.contains(piece.as_str()))
        };
        let alone: Vec<_> = pieces.into_iter().filter(|piece| !is_in_pair(piece)).collect();
        alone.into_iter().chain(pairs)
    }))
}

/// The parts of a text between punctuation and spaces.
fn runs(text: &str) -> impl Iterator<Item = &str> {
    text.split(|character: char| !character.is_alphanumeric()).filter(|run| !run.is_empty())
}

fn pieces(run: &str) -> Vec<String> {
    if run.is_ascii() {
        return vec![shortened(run)];
    }
    run.unicode_words().take(MAX_WORDS).map(shortened).collect()
}

/// Pairs of characters that stand beside each other and are words by themselves.
fn pairs(pieces: &[String]) -> impl Iterator<Item = String> + '_ {
    pieces.windows(2).filter_map(|pair| match pair {
        [one, two] if is_single(one) && is_single(two) => Some(format!("{one}{two}")),
        _ => None,
    })
}

fn is_single(piece: &str) -> bool {
    !piece.is_ascii() && piece.chars().nth(1).is_none()
}

fn shortened(word: &str) -> String {
    let mut lower = word.to_lowercase();
    let end = (0..=MAX_BYTES.min(lower.len())).rev().find(|end| lower.is_char_boundary(*end));
    lower.truncate(end.unwrap_or_default());
    lower
}

fn limited(words: impl Iterator<Item = String>) -> BTreeSet<String> {
    let mut distinct = BTreeSet::new();
    for word in words {
        if distinct.len() == MAX_WORDS {
            break;
        }
        distinct.insert(word);
    }
    distinct
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_what_stands_between_anything_else_whatever_their_case() {
        let words: Vec<_> = distinct("Grüße, an_ALLE: 3×, alle!").into_iter().collect();
        assert_eq!(words, ["3", "alle", "an", "grüße"]);
        assert_eq!(wanted("an_ALLE"), distinct("alle an"));
        let many: String = (0..1000).map(|n| format!("{n} ")).collect();
        assert_eq!(distinct(&many).len(), MAX_WORDS);
    }

    #[test]
    fn a_long_word_is_found_by_itself() {
        for long in ["x".repeat(65), "ü".repeat(100)] {
            let words = distinct(&format!("before {long} after"));
            assert_eq!(words.len(), 3);
            assert!(wanted(&long).is_subset(&words));
        }
    }

    #[test]
    fn parts_of_a_text_without_spaces_are_found() {
        for (text, found, not_found) in [
            ("全文検索の機能を実装しました", "検索", "索検"),
            ("全文検索の機能を実装しました", "機能を実装", "実装を機能"),
            ("我们今天去北京大学看朋友，然后一起吃晚饭，你要不要一起来？", "北京大学", "大京"),
            ("我们今天去北京大学看朋友", "京", "上"),
            ("カタカナとひらがな", "ひらがな", "ながらひ"),
            ("wickは速いです", "wick", "wic"),
        ] {
            let words = distinct(text);
            assert!(wanted(found).is_subset(&words), "{text} {found} {words:?}");
            assert!(!wanted(not_found).is_subset(&words), "{text} {not_found}");
        }
    }
}
