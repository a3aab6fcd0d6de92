//! Values as bytes that begin with the version of their format.
//!
//! Structs get their encoding from [`postcard_value!`](crate::postcard_value) or, where JSON is
//! what is stored, from [`json_value!`](crate::json_value).

use ruma::{
    OwnedDeviceId, OwnedEventId, OwnedMxcUri, OwnedRoomAliasId, OwnedRoomId, OwnedServerName,
    OwnedTransactionId, OwnedUserId,
    events::{StateEventType, TimelineEventType},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::value::RawValue;
use wick_core::{
    Position, ShortEventId, ShortRoomId, ShortStateKey, ShortUserId, StateRoot, TimerId, Timestamp,
};

use super::CodecError;

/// The value of a table.
pub trait Value: Sized {
    /// The value's bytes. The same value always has the same bytes if its maps are ordered ones.
    fn encode(&self) -> Vec<u8>;

    /// Reads what [`Value::encode`] of this or an earlier version wrote.
    ///
    /// # Errors
    /// If the bytes are of a version this server does not know, or broken.
    fn decode(bytes: &[u8]) -> Result<Self, CodecError>;
}

/// Makes serde types values, stored as postcard. `older` names the types of former versions, each of
/// which converts `Into` the present one.
///
/// Fields of a stored version can never be added, removed or reordered: make a new version.
///
/// ```
/// # use serde::{Deserialize, Serialize};
/// #[derive(Serialize, Deserialize)]
/// struct Size { width: u32, height: u32 }
/// #[derive(Serialize, Deserialize)]
/// struct Width(u32);
/// impl From<Width> for Size {
///     fn from(Width(width): Width) -> Self { Self { width, height: width } }
/// }
/// wick_database::postcard_value!(Size, version = 2, older = [1 => Width]);
/// ```
#[macro_export]
macro_rules! postcard_value {
    ($value:ty, version = $version:literal $(, older = [$($old:literal => $old_type:ty),* $(,)?])?) => {
        impl $crate::Value for $value {
            fn encode(&self) -> Vec<u8> {
                $crate::codec::value::to_postcard($version, self)
            }

            fn decode(bytes: &[u8]) -> Result<Self, $crate::CodecError> {
                match bytes.split_first() {
                    Some(($version, rest)) => $crate::codec::value::from_postcard(rest),
                    $($(Some(($old, rest)) => {
                        $crate::codec::value::from_postcard::<$old_type>(rest).map(Into::into)
                    })*)?
                    other => Err($crate::CodecError::version(other.map(|(version, _)| *version))),
                }
            }
        }
    };
}

/// Makes serde types values, stored as JSON. For types that hold JSON of others or that serde can
/// only read from a self-describing format.
#[macro_export]
macro_rules! json_value {
    ($($value:ty),* $(,)?) => {$(
        impl $crate::Value for $value {
            fn encode(&self) -> Vec<u8> {
                $crate::codec::value::to_json(self)
            }

            fn decode(bytes: &[u8]) -> Result<Self, $crate::CodecError> {
                $crate::codec::value::from_json(bytes)
            }
        }
    )*};
}

const FIRST: u8 = 1;

#[doc(hidden)]
pub fn to_postcard<T: Serialize>(version: u8, value: &T) -> Vec<u8> {
    postcard::to_extend(value, vec![version])
        .expect("a stored type is one that postcard can write, as its first test shows")
}

#[doc(hidden)]
pub fn from_postcard<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    match postcard::take_from_bytes(bytes) {
        Ok((value, [])) => Ok(value),
        Ok(_) => Err(CodecError::new("bytes after the value")),
        Err(error) => Err(CodecError::new(error.to_string())),
    }
}

#[doc(hidden)]
pub fn to_json<T: Serialize>(value: &T) -> Vec<u8> {
    let mut bytes = vec![FIRST];
    serde_json::to_writer(&mut bytes, value)
        .expect("a stored type has text for keys, as its first test shows");
    bytes
}

#[doc(hidden)]
pub fn from_json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    // The category alone: the error's text can quote what is stored.
    serde_json::from_slice(body(bytes)?)
        .map_err(|error| CodecError::new(format!("stored JSON: {:?} error", error.classify())))
}

fn body(bytes: &[u8]) -> Result<&[u8], CodecError> {
    match bytes.split_first() {
        Some((&FIRST, body)) => Ok(body),
        other => Err(CodecError::version(other.map(|(version, _)| *version))),
    }
}

fn with_version(body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(body.len() + 1);
    bytes.push(FIRST);
    bytes.extend_from_slice(body);
    bytes
}

fn fixed<const N: usize>(bytes: &[u8]) -> Result<[u8; N], CodecError> {
    body(bytes)?.try_into().map_err(|_| CodecError::new("a value of the wrong length"))
}

fn utf8(bytes: &[u8]) -> Result<String, CodecError> {
    String::from_utf8(body(bytes)?.to_vec())
        .map_err(|_| CodecError::new("a text that is not UTF-8"))
}

impl Value for () {
    fn encode(&self) -> Vec<u8> {
        vec![FIRST]
    }

    fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        fixed::<0>(bytes).map(|_| ())
    }
}

impl Value for bool {
    fn encode(&self) -> Vec<u8> {
        vec![FIRST, u8::from(*self)]
    }

    fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        fixed(bytes).map(|[byte]| byte != 0)
    }
}

macro_rules! number_values {
    ($($number:ty),*) => {$(
        impl Value for $number {
            fn encode(&self) -> Vec<u8> {
                with_version(&self.to_be_bytes())
            }

            fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
                fixed(bytes).map(Self::from_be_bytes)
            }
        }
    )*};
}

number_values!(u32, u64, i64);

macro_rules! number_id_values {
    ($($id:ident),*) => {$(
        impl Value for $id {
            fn encode(&self) -> Vec<u8> {
                self.0.encode()
            }

            fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
                u64::decode(bytes).map(Self)
            }
        }
    )*};
}

number_id_values!(
    Position,
    ShortEventId,
    ShortRoomId,
    ShortStateKey,
    ShortUserId,
    TimerId,
    Timestamp
);

impl Value for StateRoot {
    fn encode(&self) -> Vec<u8> {
        with_version(&self.0)
    }

    fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        fixed(bytes).map(Self)
    }
}

impl<const N: usize> Value for [u8; N] {
    fn encode(&self) -> Vec<u8> {
        with_version(self)
    }

    fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        fixed(bytes)
    }
}

impl Value for Vec<u8> {
    fn encode(&self) -> Vec<u8> {
        with_version(self)
    }

    fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        body(bytes).map(<[u8]>::to_vec)
    }
}

impl Value for Box<RawValue> {
    fn encode(&self) -> Vec<u8> {
        with_version(self.get().as_bytes())
    }

    fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        RawValue::from_string(utf8(bytes)?).map_err(|_| CodecError::new("stored JSON is not JSON"))
    }
}

macro_rules! text_values {
    ($($text:ty),*) => {$(
        impl Value for $text {
            fn encode(&self) -> Vec<u8> {
                let text: &str = self.as_ref();
                with_version(text.as_bytes())
            }

            fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
                utf8(bytes)?
                    .try_into()
                    .map_err(|_| CodecError::new(concat!("not a ", stringify!($text))))
            }
        }
    )*};
}

text_values!(
    String,
    OwnedDeviceId,
    OwnedEventId,
    OwnedMxcUri,
    OwnedRoomAliasId,
    OwnedRoomId,
    OwnedServerName,
    OwnedTransactionId,
    OwnedUserId
);

impl Value for (StateEventType, String) {
    fn encode(&self) -> Vec<u8> {
        to_postcard(FIRST, &(self.0.to_string(), &self.1))
    }

    fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        let (event_type, state_key): (String, String) = from_postcard(body(bytes)?)?;
        Ok((event_type.into(), state_key))
    }
}

impl Value for TimelineEventType {
    fn encode(&self) -> Vec<u8> {
        with_version(self.to_string().as_bytes())
    }

    fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        utf8(bytes).map(Self::from)
    }
}

macro_rules! list_values {
    ($($item:ty),*) => {$(
        postcard_value!(Vec<$item>, version = 1);
    )*};
}

list_values!(
    String,
    u64,
    Position,
    ShortEventId,
    ShortRoomId,
    ShortStateKey,
    ShortUserId,
    TimerId,
    OwnedEventId,
    OwnedRoomId,
    OwnedServerName,
    OwnedUserId
);

#[cfg(test)]
mod tests {
    use std::fmt::Debug;

    use ruma::{owned_event_id, owned_room_id, owned_user_id};
    use serde::Deserialize;

    use super::*;

    fn comes_back<V: Value + PartialEq + Debug>(value: &V) {
        assert_eq!(&V::decode(&value.encode()).unwrap(), value);
        assert!(V::decode(&[]).is_err());
        let mut newer = value.encode();
        newer[0] = 0xee;
        assert!(V::decode(&newer).is_err(), "an unknown format is refused");
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Size {
        width: u32,
        height: u32,
    }

    #[derive(Serialize, Deserialize)]
    struct Width(u32);

    impl From<Width> for Size {
        fn from(Width(width): Width) -> Self {
            Self { width, height: width }
        }
    }

    crate::postcard_value!(Size, version = 2, older = [1 => Width]);

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Named {
        name: String,
        #[serde(flatten)]
        more: std::collections::BTreeMap<String, u64>,
    }

    crate::json_value!(Named);

    #[test]
    fn values_come_back_as_they_were() {
        comes_back(&());
        comes_back(&true);
        comes_back(&u64::MAX);
        comes_back(&i64::MIN);
        comes_back(&"text".to_owned());
        comes_back(&vec![0_u8, 1, 0xff]);
        comes_back(&[7_u8; 16]);
        comes_back(&Position(7));
        comes_back(&StateRoot([3; 16]));
        comes_back(&owned_user_id!("@a:b.c"));
        comes_back(&owned_room_id!("!a:b.c"));
        comes_back(&vec![owned_event_id!("$a"), owned_event_id!("$b")]);
        comes_back(&(StateEventType::RoomMember, "@a:b.c".to_owned()));
        comes_back(&Size { width: 3, height: 4 });
        comes_back(&Named { name: "a".to_owned(), more: [("b".to_owned(), 2)].into() });
    }

    #[test]
    fn an_older_format_becomes_the_present_one() {
        let old = to_postcard(1, &Width(5));
        assert_eq!(Size::decode(&old).unwrap(), Size { width: 5, height: 5 });
    }

    #[test]
    fn signed_json_comes_back_byte_by_byte() {
        let json = r#"{"b":1, "a":"\u0041"}"#;
        let value = RawValue::from_string(json.to_owned()).unwrap();
        assert_eq!(Box::<RawValue>::decode(&value.encode()).unwrap().get(), json);
        assert!(Box::<RawValue>::decode(b"\x01{").is_err());
    }

    #[test]
    fn errors_do_not_quote_what_is_stored() {
        let broken = b"\x01{\"name\":\"secret\",\"secret\":\"secret\"}";
        let error = Named::decode(broken).unwrap_err().to_string();
        assert!(!error.contains("secret"), "{error}");
    }
}
