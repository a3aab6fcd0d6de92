//! How large the parts of a JSON text are that lie at given paths.
//!
//! Invariant: the text is read once, whatever the number of paths, and nothing of it is copied.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor},
};

/// How large a part is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Size {
    /// The entries of a list or an object.
    pub(super) entries: usize,
    /// The bytes of a text.
    pub(super) bytes: usize,
}

impl Size {
    /// The larger size of each kind.
    fn max(self, other: Self) -> Self {
        Self { entries: self.entries.max(other.entries), bytes: self.bytes.max(other.bytes) }
    }

    /// Both together.
    fn plus(self, other: Self) -> Self {
        Self {
            entries: self.entries.saturating_add(other.entries),
            bytes: self.bytes.saturating_add(other.bytes),
        }
    }
}

/// For each path the largest size of a part there, or the size of all together where it has a `+`; zero if
/// there is none, or if the text is no JSON. A path is the fields that lead to the part, with dots between them; `*` and `+`
/// are any field. A field that an object has twice counts twice.
pub(super) fn sizes(json: &[u8], paths: &[&str]) -> Vec<Size> {
    let mut json = serde_json::Deserializer::from_slice(json);
    let part = Part(paths.iter().map(|path| Some(*path)).collect());
    let found = part.deserialize(&mut json).and_then(|found| json.end().map(|()| found));
    found.unwrap_or_else(|_| vec![Size::default(); paths.len()])
}

/// A part of the text, with what is left of each path that leads into it; `None` where it ends.
struct Part<'p>(Vec<Option<&'p str>>);

/// A path that goes on from a part: which one it is, its next field, and what is left of it then.
type Onward<'p> = (usize, &'p str, Option<&'p str>);

impl<'p> Part<'p> {
    fn onward(&self) -> Vec<Onward<'p>> {
        let paths = self.0.iter().enumerate();
        paths
            .filter_map(|(index, path)| {
                let path = (*path)?;
                let (field, left) =
                    path.split_once('.').map_or((path, None), |(field, left)| (field, Some(left)));
                Some((index, field, left))
            })
            .collect()
    }

    /// What was found, with the size of this part itself for the paths that end here.
    fn with_own(&self, mut found: Vec<Size>, own: Size) -> Vec<Size> {
        for (found, _) in found.iter_mut().zip(&self.0).filter(|(_, path)| path.is_none()) {
            *found = own;
        }
        found
    }

    fn own(&self, own: Size) -> Vec<Size> {
        self.with_own(vec![Size::default(); self.0.len()], own)
    }
}

impl<'de> DeserializeSeed<'de> for Part<'_> {
    type Value = Vec<Size>;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Vec<Size>, D::Error> {
        json.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Part<'_> {
    type Value = Vec<Size>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Vec<Size>, A::Error> {
        let onward = self.onward();
        let mut found = vec![Size::default(); self.0.len()];
        let mut entries = 0_usize;
        while let Some(Name(name)) = object.next_key()? {
            entries = entries.saturating_add(1);
            let leads = |field: &str| matches!(field, "*" | "+") || name == field;
            let into: Vec<_> = onward.iter().filter(|(_, field, _)| leads(field)).collect();
            if into.is_empty() {
                object.next_value::<IgnoredAny>()?;
                continue;
            }
            let part = Part(into.iter().map(|(_, _, left)| *left).collect());
            for ((index, field, _), size) in into.into_iter().zip(object.next_value_seed(part)?) {
                let Some(found) = found.get_mut(*index) else { continue };
                *found = if *field == "+" { found.plus(size) } else { found.max(size) };
            }
        }
        Ok(self.with_own(found, Size { entries, bytes: 0 }))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<Size>, A::Error> {
        let mut entries = 0_usize;
        while list.next_element::<IgnoredAny>()?.is_some() {
            entries = entries.saturating_add(1);
        }
        Ok(self.own(Size { entries, bytes: 0 }))
    }

    fn visit_str<E>(self, text: &str) -> Result<Vec<Size>, E> {
        Ok(self.own(Size { entries: 0, bytes: text.len() }))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Vec<Size>, E> {
        Ok(self.own(Size::default()))
    }

    fn visit_i64<E>(self, _: i64) -> Result<Vec<Size>, E> {
        Ok(self.own(Size::default()))
    }

    fn visit_u64<E>(self, _: u64) -> Result<Vec<Size>, E> {
        Ok(self.own(Size::default()))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Vec<Size>, E> {
        Ok(self.own(Size::default()))
    }

    fn visit_unit<E>(self) -> Result<Vec<Size>, E> {
        Ok(self.own(Size::default()))
    }
}

/// The name of a field.
#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(json: &str, paths: &[&str]) -> Vec<usize> {
        sizes(json.as_bytes(), paths).into_iter().map(|size| size.entries).collect()
    }

    #[test]
    fn the_largest_part_counts_or_all_together() {
        let json =
            r#"{"a":{"x":[1,2],"y":{"p":1,"q":2,"r":"}"}},"b":null,"c":[{"x":[1]}],"d":"text"}"#;
        assert_eq!(entries(json, &["a", "b", "c", "d", "e"]), [2, 0, 1, 0, 0]);
        assert_eq!(
            entries(json, &["a.*", "a.+", "a.x", "*", "+", "*.*", "c.x"]),
            [3, 5, 2, 2, 3, 3, 0]
        );
        assert_eq!(sizes(json.as_bytes(), &["d"]), [Size { entries: 0, bytes: 4 }]);
    }

    #[test]
    fn a_field_that_is_there_twice_counts_twice() {
        assert_eq!(entries(r#"{"a":[1],"\u0061":[1,2]}"#, &["+", "*", "a"]), [3, 2, 2]);
    }

    #[test]
    fn of_what_is_no_json_nothing_is_counted() {
        for text in ["", "{\"a\":[1,2]", "{\"a\":[1,2]} x", "[", "7"] {
            assert_eq!(entries(text, &["a"]), [0], "{text}");
        }
    }
}
