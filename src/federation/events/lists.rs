//! A JSON object some of whose fields are lists, read item by item as its text arrives.
//!
//! Invariant: no more than one piece of the text and one item of at most [`MAX_ITEM`] bytes is held; a larger one is
//! passed over. What an item is, is not looked at: how deep it is nested is checked with the event.

use bytes::Bytes;
use serde_json::value::RawValue;

/// The most bytes of an item: those of an event with more `unsigned` than any server adds.
const MAX_ITEM: usize = 256 << 10;

/// Which fields of an object are read.
#[derive(Clone, Copy, Debug)]
pub struct Fields {
    /// Those that are lists.
    pub lists: &'static [&'static str],
    /// Those that are read whole.
    pub values: &'static [&'static str],
}

/// What was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// An item of the list with this name.
    Item(&'static str),
    /// The value of the field with this name.
    Value(&'static str),
}

/// The text is no JSON object with such lists.
#[derive(Debug, PartialEq)]
pub(super) struct Malformed;

/// Where in the object the text is.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Place {
    /// Before the object.
    Before,
    /// In the name of a field, or before it.
    Name,
    /// Before a value.
    Value(Wanted),
    /// In a value.
    InValue(Wanted),
    /// In a list, between its brackets.
    InList(&'static str),
    /// Behind a list, before what separates it from the next field.
    BehindList,
    /// Behind the object.
    Behind,
}

/// What a value is read as.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Wanted {
    List(&'static str),
    Whole(&'static str),
    Nothing,
}

/// An object that is being read.
pub(super) struct Lists {
    fields: Fields,
    place: Place,
    piece: Bytes,
    /// What was read of the present name, value or item.
    text: Vec<u8>,
    /// Whether that is larger than it may be.
    is_too_large: bool,
    /// Whether the present list had an item.
    has_items: bool,
    /// How many brackets are open in the name, value or item.
    depth: usize,
    in_string: bool,
    is_escaped: bool,
}

impl Lists {
    pub(super) fn new(fields: Fields) -> Self {
        Self {
            fields,
            place: Place::Before,
            piece: Bytes::new(),
            text: Vec::new(),
            is_too_large: false,
            has_items: false,
            depth: 0,
            in_string: false,
            is_escaped: false,
        }
    }

    /// Adds the next piece of the text, of which nothing is left to be read.
    pub(super) fn feed(&mut self, piece: Bytes) {
        self.piece = piece;
    }

    /// Whether the object is at its end.
    pub(super) fn is_whole(&self) -> bool {
        self.place == Place::Behind
    }

    /// The next item or value; `None` before more of the text is fed.
    pub(super) fn next(&mut self) -> Result<Option<(Part, Box<RawValue>)>, Malformed> {
        let mut piece = std::mem::take(&mut self.piece);
        let mut found = None;
        let mut read = 0;
        for byte in &piece {
            read += 1;
            found = self.take(*byte)?;
            if found.is_some() {
                break;
            }
        }
        drop(piece.split_to(read));
        self.piece = piece;
        Ok(found)
    }

    fn take(&mut self, byte: u8) -> Result<Option<(Part, Box<RawValue>)>, Malformed> {
        let is_separator = !self.in_string && self.depth == 0;
        match (self.place, byte) {
            (Place::Before | Place::BehindList | Place::Behind, b' ' | b'\t' | b'\r' | b'\n') => {}
            (Place::Before, b'{') => self.place = Place::Name,
            (Place::BehindList, b',') => self.place = Place::Name,
            (Place::BehindList, b'}') => self.place = Place::Behind,
            (Place::Before | Place::BehindList | Place::Behind, _) => return Err(Malformed),
            (Place::Name, b':') if is_separator => {
                let name = self.taken().ok_or(Malformed)?;
                let name = serde_json::from_slice::<String>(&name).map_err(|_| Malformed)?;
                self.place = Place::Value(self.wanted(&name));
            }
            // An object without fields, or one with a comma behind the last field.
            (Place::Name, b'}') if is_separator => {
                if !self.is_blank() {
                    return Err(Malformed);
                }
                self.place = Place::Behind;
            }
            (Place::Value(_), b' ' | b'\t' | b'\r' | b'\n') => {}
            (Place::Value(Wanted::List(name)), b'[') => {
                self.place = Place::InList(name);
                self.has_items = false;
            }
            (Place::Value(Wanted::List(_)), _) => return Err(Malformed),
            (Place::Value(wanted), _) => {
                self.place = Place::InValue(wanted);
                self.note(byte, wanted != Wanted::Nothing)?;
            }
            (Place::InValue(wanted), b',' | b'}') if is_separator => {
                self.place = if byte == b',' { Place::Name } else { Place::Behind };
                let Wanted::Whole(name) = wanted else {
                    self.text.clear();
                    return Ok(None);
                };
                return Ok(self.value()?.map(|value| (Part::Value(name), value)));
            }
            (Place::InList(name), b',' | b']') if is_separator => {
                if byte == b']' {
                    self.place = Place::BehindList;
                    if !self.has_items && self.is_blank() {
                        self.text.clear();
                        return Ok(None);
                    }
                }
                self.has_items = true;
                return Ok(self.value()?.map(|value| (Part::Item(name), value)));
            }
            (Place::InValue(wanted), _) => self.note(byte, wanted != Wanted::Nothing)?,
            (Place::Name | Place::InList(_), _) => self.note(byte, true)?,
        }
        Ok(None)
    }

    /// Notes a byte of the present name, value or item.
    fn note(&mut self, byte: u8, is_kept: bool) -> Result<(), Malformed> {
        match byte {
            _ if self.is_escaped => self.is_escaped = false,
            b'\\' if self.in_string => self.is_escaped = true,
            b'"' => self.in_string = !self.in_string,
            _ if self.in_string => {}
            b'{' | b'[' => self.depth += 1,
            b'}' | b']' => self.depth = self.depth.checked_sub(1).ok_or(Malformed)?,
            _ => {}
        }
        if self.text.len() >= MAX_ITEM {
            self.is_too_large = true;
        } else if is_kept {
            self.text.push(byte);
        }
        Ok(())
    }

    fn wanted(&self, name: &str) -> Wanted {
        let among = |names: &[&'static str]| names.iter().find(|known| **known == name).copied();
        if let Some(name) = among(self.fields.lists) {
            return Wanted::List(name);
        }
        among(self.fields.values).map_or(Wanted::Nothing, Wanted::Whole)
    }

    fn is_blank(&self) -> bool {
        self.text.iter().all(u8::is_ascii_whitespace)
    }

    /// The bytes of the name, value or item that is at its end; `None` if they are too many.
    fn taken(&mut self) -> Option<Vec<u8>> {
        let text = std::mem::take(&mut self.text);
        (!std::mem::take(&mut self.is_too_large)).then_some(text)
    }

    fn value(&mut self) -> Result<Option<Box<RawValue>>, Malformed> {
        let Some(text) = self.taken() else { return Ok(None) };
        serde_json::from_slice(&text).map(Some).map_err(|_| Malformed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIELDS: Fields = Fields { lists: &["state", "auth_chain"], values: &["event"] };

    type Found = Vec<(Part, String)>;

    /// What is read of a text that comes in pieces of this length.
    fn read(text: &[u8], length: usize) -> Result<Found, Malformed> {
        let (mut lists, mut all) = (Lists::new(FIELDS), Vec::new());
        for piece in text.chunks(length) {
            lists.feed(Bytes::copy_from_slice(piece));
            while let Some((part, json)) = lists.next()? {
                all.push((part, json.get().to_owned()));
            }
        }
        if lists.is_whole() { Ok(all) } else { Err(Malformed) }
    }

    fn items(name: &'static str, items: &[&str]) -> Found {
        items.iter().map(|item| (Part::Item(name), (*item).to_owned())).collect()
    }

    #[test]
    fn items_are_read_one_by_one_wherever_the_text_is_cut() {
        let text = r#" { "origin" : "a.test", "state" : [ {"a":[1,"],}"]} , {"b\"]":{}}],
            "members_omitted":false, "event": {"c" : [{}]} , "auth_chain":[],"x":[[1],[{"state":[2]}]] } "#;
        let mut wanted = items("state", &[r#"{"a":[1,"],}"]}"#, r#"{"b\"]":{}}"#]);
        wanted.push((Part::Value("event"), r#"{"c" : [{}]}"#.to_owned()));
        for length in 1..text.len() {
            assert_eq!(read(text.as_bytes(), length).as_ref(), Ok(&wanted), "{length}");
        }
    }

    #[test]
    fn the_name_of_a_field_may_be_written_with_escapes() {
        assert_eq!(read(br#"{"st\u0061te":[1]}"#, 3), Ok(items("state", &["1"])));
        assert_eq!(read(b"{}", 1), Ok(Vec::new()));
    }

    #[test]
    fn an_item_that_is_too_large_is_passed_over_and_not_held() {
        let large = format!("{{\"a\":\"{}\"}}", "a".repeat(3 * MAX_ITEM));
        let text = format!("{{\"x\":{large},\"state\":[1,{large},2],\"event\":{large}}}");
        let mut lists = Lists::new(FIELDS);
        let mut all = Vec::new();
        for piece in text.as_bytes().chunks(1000) {
            lists.feed(Bytes::copy_from_slice(piece));
            while let Some((part, json)) = lists.next().unwrap() {
                all.push((part, json.get().to_owned()));
            }
            assert!(lists.text.len() <= MAX_ITEM);
        }
        assert_eq!(all, items("state", &["1", "2"]));
        assert!(lists.is_whole());
    }

    #[test]
    fn what_is_no_object_with_lists_is_malformed() {
        for text in [
            "",
            "[]",
            "<html>",
            "{\"state\":[1]",
            "{\"state\":[1}",
            "{\"state\":[1,]}",
            "{\"state\":[,1]}",
            "{\"state\":[1]]}",
            "{\"state\":[1]1}",
            "{\"state\":{\"a\":1}}",
            "{\"state\":null}",
            "{\"state\":[{\"a\"}]}",
            "{\"state\":[1]}}",
            "{\"state\" [1]}",
            "{state:[1]}",
            "{\"state\":[1] \"event\":{}}",
            "{\"event\":}",
        ] {
            assert_eq!(read(text.as_bytes(), 4), Err(Malformed), "{text}");
        }
        assert_eq!(read(b"{\"state\":[\"\xff\"]}", 4), Err(Malformed));
    }

    #[test]
    fn deep_nesting_is_no_matter_here() {
        let deep = format!("{}{}", "[".repeat(50_000), "]".repeat(50_000));
        let text = format!("{{\"state\":[{deep}]}}");
        assert_eq!(read(text.as_bytes(), 999), Ok(items("state", &[&deep])));
    }
}
