//! Words: what texts are searched by.

use std::collections::BTreeSet;

/// Words of one text that are kept.
const MAX_WORDS: usize = 256;

/// Bytes of the longest word that is kept.
const MAX_BYTES: usize = 64;

/// The words of a text in lower case, each as often as it is there.
pub fn all(text: &str) -> impl Iterator<Item = String> {
    text.split(|character: char| !character.is_alphanumeric())
        .filter(|word| !word.is_empty() && word.len() <= MAX_BYTES)
        .map(str::to_lowercase)
}

/// The words of a text, each once.
pub fn distinct(text: &str) -> BTreeSet<String> {
    let mut words = BTreeSet::new();
    for word in all(text) {
        if words.len() == MAX_WORDS {
            break;
        }
        words.insert(word);
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_what_stands_between_anything_else_whatever_their_case() {
        let words: Vec<_> = distinct("Grüße, an_ALLE: 3×, alle!").into_iter().collect();
        assert_eq!(words, ["3", "alle", "an", "grüße"]);
        assert!(distinct(&"x".repeat(65)).is_empty());
        let many: String = (0..1000).map(|n| format!("{n} ")).collect();
        assert_eq!(distinct(&many).len(), 256);
    }
}
