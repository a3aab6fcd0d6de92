//! Keys as bytes that compare like the keys themselves.
//!
//! Numbers are big-endian, signed ones with the sign bit flipped. Text and byte strings are escaped
//! (0x00 becomes 0x00 0xff) and end with 0x00 0x00, so that a tuple orders by its first component,
//! then by its second, whatever the lengths. Tuples are their components one after another.
//!
//! Invariant: no encoded key of a table is a prefix of another one of that table.

use std::{cmp, str};

use ruma::{
    ClientSecret, DeviceId, EventId, MxcUri, OneTimeKeyName, OwnedClientSecret, OwnedDeviceId,
    OwnedEventId, OwnedMxcUri, OwnedOneTimeKeyName, OwnedRoomAliasId, OwnedRoomId, OwnedServerName,
    OwnedSessionId, OwnedTransactionId, OwnedUserId, RoomAliasId, RoomId, ServerName, SessionId,
    TransactionId, UserId,
    events::{
        GlobalAccountDataEventType, RoomAccountDataEventType, StateEventType, TimelineEventType,
        ToDeviceEventType, receipt::ReceiptType,
    },
};
use wick_core::{
    Position, ShortEventId, ShortRoomId, ShortStateKey, ShortUserId, StateRoot, TimerId, Timestamp,
};

use super::CodecError;

/// Something that encodes to the same bytes as a `K`: the key itself, a reference to it, or its
/// borrowed form (`str` for `String`, `(ShortRoomId, &UserId)` for `(ShortRoomId, OwnedUserId)`).
pub trait KeyLike<K> {
    /// Appends the key's bytes.
    fn encode(&self, out: &mut Vec<u8>);

    /// The key's bytes.
    fn encoded(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(48);
        self.encode(&mut out);
        out
    }
}

/// The key of a table.
pub trait Key: KeyLike<Self> + Sized {
    /// Takes one key off the front of `bytes`.
    ///
    /// # Errors
    /// If the bytes were not written by [`KeyLike::encode`] of this type.
    fn decode(bytes: &mut &[u8]) -> Result<Self, CodecError>;

    /// Decodes bytes that hold one key and nothing else.
    ///
    /// # Errors
    /// If they hold something else.
    fn decode_all(mut bytes: &[u8]) -> Result<Self, CodecError> {
        let key = Self::decode(&mut bytes)?;
        if bytes.is_empty() { Ok(key) } else { Err(CodecError::new("bytes after the key")) }
    }
}

/// The first components of a tuple key, written as a tuple: `(room,)` for `(ShortRoomId, Position)`.
pub trait PrefixOf<K> {
    /// Appends the prefix's bytes.
    fn encode_prefix(&self, out: &mut Vec<u8>);
}

/// A key component that sorts the other way round: the largest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Descending<T>(pub T);

impl<T: Ord> Ord for Descending<T> {
    fn cmp(&self, other: &Self) -> cmp::Ordering {
        other.0.cmp(&self.0)
    }
}

impl<T: Ord> PartialOrd for Descending<T> {
    fn partial_cmp(&self, other: &Self) -> Option<cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<K, T: KeyLike<K> + ?Sized> KeyLike<K> for &T {
    fn encode(&self, out: &mut Vec<u8>) {
        (**self).encode(out);
    }
}

impl<K, T: KeyLike<K>> KeyLike<Descending<K>> for Descending<T> {
    fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        self.0.encode(out);
        out.iter_mut().skip(start).for_each(|byte| *byte = !*byte);
    }
}

impl<K: Key> Key for Descending<K> {
    fn decode(bytes: &mut &[u8]) -> Result<Self, CodecError> {
        let inverted: Vec<u8> = bytes.iter().map(|byte| !byte).collect();
        let mut rest = inverted.as_slice();
        let key = K::decode(&mut rest)?;
        take(bytes, inverted.len().saturating_sub(rest.len()))?;
        Ok(Self(key))
    }
}

impl<K, T: KeyLike<K>> KeyLike<Option<K>> for Option<T> {
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(u8::from(self.is_some()));
        if let Some(key) = self {
            key.encode(out);
        }
    }
}

impl<K: Key> Key for Option<K> {
    fn decode(bytes: &mut &[u8]) -> Result<Self, CodecError> {
        match u8::decode(bytes)? {
            0 => Ok(None),
            1 => K::decode(bytes).map(Some),
            _ => Err(CodecError::new("an option that is neither there nor absent")),
        }
    }
}

impl KeyLike<()> for () {
    fn encode(&self, _out: &mut Vec<u8>) {}
}

impl Key for () {
    fn decode(_bytes: &mut &[u8]) -> Result<Self, CodecError> {
        Ok(())
    }
}

macro_rules! unsigned_keys {
    ($($number:ty),*) => {$(
        impl KeyLike<$number> for $number {
            fn encode(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_be_bytes());
            }
        }

        impl Key for $number {
            fn decode(bytes: &mut &[u8]) -> Result<Self, CodecError> {
                Ok(Self::from_be_bytes(take_array(bytes)?))
            }
        }
    )*};
}

unsigned_keys!(u8, u16, u32, u64);

impl KeyLike<i64> for i64 {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&(self.cast_unsigned() ^ (1 << 63)).to_be_bytes());
    }
}

impl Key for i64 {
    fn decode(bytes: &mut &[u8]) -> Result<Self, CodecError> {
        Ok((u64::decode(bytes)? ^ (1 << 63)).cast_signed())
    }
}

impl KeyLike<bool> for bool {
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(u8::from(*self));
    }
}

impl Key for bool {
    fn decode(bytes: &mut &[u8]) -> Result<Self, CodecError> {
        match u8::decode(bytes)? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(CodecError::new("a truth value that is neither true nor false")),
        }
    }
}

impl<const N: usize> KeyLike<[u8; N]> for [u8; N] {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self);
    }
}

impl<const N: usize> Key for [u8; N] {
    fn decode(bytes: &mut &[u8]) -> Result<Self, CodecError> {
        take_array(bytes)
    }
}

impl KeyLike<StateRoot> for StateRoot {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0);
    }
}

impl Key for StateRoot {
    fn decode(bytes: &mut &[u8]) -> Result<Self, CodecError> {
        take_array(bytes).map(Self)
    }
}

macro_rules! number_id_keys {
    ($($id:ident),*) => {$(
        impl KeyLike<$id> for $id {
            fn encode(&self, out: &mut Vec<u8>) {
                self.0.encode(out);
            }
        }

        impl Key for $id {
            fn decode(bytes: &mut &[u8]) -> Result<Self, CodecError> {
                u64::decode(bytes).map(Self)
            }
        }
    )*};
}

number_id_keys!(
    Position,
    ShortEventId,
    ShortRoomId,
    ShortStateKey,
    ShortUserId,
    TimerId,
    Timestamp
);

macro_rules! byte_keys {
    ($($bytes:ty),*) => {$(
        impl KeyLike<Vec<u8>> for $bytes {
            fn encode(&self, out: &mut Vec<u8>) {
                escape(self, out);
            }
        }
    )*};
}

byte_keys!(Vec<u8>, [u8]);

impl Key for Vec<u8> {
    fn decode(bytes: &mut &[u8]) -> Result<Self, CodecError> {
        unescape(bytes)
    }
}

macro_rules! text_keys {
    ($($owned:ty $(, $borrowed:ty)?;)*) => {$(
        impl KeyLike<$owned> for $owned {
            fn encode(&self, out: &mut Vec<u8>) {
                let text: &str = self.as_ref();
                escape(text.as_bytes(), out);
            }
        }

        $(impl KeyLike<$owned> for $borrowed {
            fn encode(&self, out: &mut Vec<u8>) {
                let text: &str = self.as_ref();
                escape(text.as_bytes(), out);
            }
        })?

        impl Key for $owned {
            fn decode(bytes: &mut &[u8]) -> Result<Self, CodecError> {
                text(bytes)?
                    .try_into()
                    .map_err(|_| CodecError::new(concat!("not a ", stringify!($owned))))
            }
        }
    )*};
}

text_keys! {
    String, str;
    OwnedUserId, UserId;
    OwnedRoomId, RoomId;
    OwnedEventId, EventId;
    OwnedRoomAliasId, RoomAliasId;
    OwnedServerName, ServerName;
    OwnedDeviceId, DeviceId;
    OwnedTransactionId, TransactionId;
    OwnedMxcUri, MxcUri;
    OwnedSessionId, SessionId;
    OwnedClientSecret, ClientSecret;
    OwnedOneTimeKeyName, OneTimeKeyName;
}

macro_rules! event_type_keys {
    ($($event_type:ty),*) => {$(
        impl KeyLike<$event_type> for $event_type {
            fn encode(&self, out: &mut Vec<u8>) {
                escape(self.to_string().as_bytes(), out);
            }
        }

        impl Key for $event_type {
            fn decode(bytes: &mut &[u8]) -> Result<Self, CodecError> {
                text(bytes).map(Self::from)
            }
        }
    )*};
}

event_type_keys!(
    StateEventType,
    TimelineEventType,
    GlobalAccountDataEventType,
    RoomAccountDataEventType,
    ToDeviceEventType,
    ReceiptType
);

macro_rules! tuple_keys {
    ($($key:ident $like:ident $index:tt),*) => {
        impl<$($key, $like: KeyLike<$key>),*> KeyLike<($($key,)*)> for ($($like,)*) {
            fn encode(&self, out: &mut Vec<u8>) {
                $(self.$index.encode(out);)*
            }
        }

        impl<$($key: Key),*> Key for ($($key,)*) {
            fn decode(bytes: &mut &[u8]) -> Result<Self, CodecError> {
                Ok(($($key::decode(bytes)?,)*))
            }
        }
    };
}

tuple_keys!(K1 T1 0);
tuple_keys!(K1 T1 0, K2 T2 1);
tuple_keys!(K1 T1 0, K2 T2 1, K3 T3 2);
tuple_keys!(K1 T1 0, K2 T2 1, K3 T3 2, K4 T4 3);
tuple_keys!(K1 T1 0, K2 T2 1, K3 T3 2, K4 T4 3, K5 T5 4);

macro_rules! tuple_prefixes {
    ($(($($like:ident $key:ident $index:tt),*) of ($($all:ident),*);)*) => {$(
        impl<$($all,)* $($like: KeyLike<$key>),*> PrefixOf<($($all,)*)> for ($($like,)*) {
            fn encode_prefix(&self, out: &mut Vec<u8>) {
                $(self.$index.encode(out);)*
            }
        }
    )*};
}

tuple_prefixes! {
    (T1 K1 0) of (K1, K2);
    (T1 K1 0) of (K1, K2, K3);
    (T1 K1 0, T2 K2 1) of (K1, K2, K3);
    (T1 K1 0) of (K1, K2, K3, K4);
    (T1 K1 0, T2 K2 1) of (K1, K2, K3, K4);
    (T1 K1 0, T2 K2 1, T3 K3 2) of (K1, K2, K3, K4);
    (T1 K1 0) of (K1, K2, K3, K4, K5);
    (T1 K1 0, T2 K2 1) of (K1, K2, K3, K4, K5);
    (T1 K1 0, T2 K2 1, T3 K3 2) of (K1, K2, K3, K4, K5);
    (T1 K1 0, T2 K2 1, T3 K3 2, T4 K4 3) of (K1, K2, K3, K4, K5);
}

fn escape(bytes: &[u8], out: &mut Vec<u8>) {
    out.reserve(bytes.len() + 2);
    let mut parts = bytes.split(|byte| *byte == 0);
    out.extend_from_slice(parts.next().unwrap_or_default());
    for part in parts {
        out.extend_from_slice(&[0x00, 0xff]);
        out.extend_from_slice(part);
    }
    out.extend_from_slice(&[0x00, 0x00]);
}

fn unescape(bytes: &mut &[u8]) -> Result<Vec<u8>, CodecError> {
    let mut text = Vec::with_capacity(bytes.len());
    loop {
        let zero = bytes.iter().position(|byte| *byte == 0).ok_or_else(CodecError::short)?;
        text.extend_from_slice(take(bytes, zero)?);
        match take_array(bytes)? {
            [0x00, 0x00] => return Ok(text),
            [0x00, 0xff] => text.push(0),
            _ => return Err(CodecError::new("broken escape in a key")),
        }
    }
}

fn text(bytes: &mut &[u8]) -> Result<String, CodecError> {
    String::from_utf8(unescape(bytes)?).map_err(|_| CodecError::new("a key that is not UTF-8"))
}

fn take<'a>(bytes: &mut &'a [u8], count: usize) -> Result<&'a [u8], CodecError> {
    let (taken, rest) = bytes.split_at_checked(count).ok_or_else(CodecError::short)?;
    *bytes = rest;
    Ok(taken)
}

fn take_array<const N: usize>(bytes: &mut &[u8]) -> Result<[u8; N], CodecError> {
    let (taken, rest) = bytes.split_first_chunk().ok_or_else(CodecError::short)?;
    *bytes = rest;
    Ok(*taken)
}

#[cfg(test)]
mod tests {
    use std::fmt::Debug;

    use proptest::prelude::*;
    use ruma::{owned_user_id, user_id};

    use super::*;

    fn ordered_and_whole<K: Key + Ord + Debug>(one: &K, two: &K) {
        assert_eq!(one.encoded().cmp(&two.encoded()), one.cmp(two), "{one:?} and {two:?}");
        assert_eq!(&K::decode_all(&one.encoded()).unwrap(), one);
    }

    fn short_text() -> impl Strategy<Value = String> {
        // Few different characters, so that one text is often the beginning of another.
        proptest::collection::vec(
            prop_oneof![Just('\0'), Just('\u{1}'), Just('a'), Just('\u{ff}'), Just('\u{10ffff}')],
            0..6,
        )
        .prop_map(|characters| characters.into_iter().collect())
    }

    fn short_bytes() -> impl Strategy<Value = Vec<u8>> {
        proptest::collection::vec(prop_oneof![Just(0), Just(1), Just(0xfe), Just(0xff)], 0..6)
    }

    proptest! {
        #[test]
        fn encoded_text_orders_like_the_text(
            one in (short_text(), any::<i64>()), two in (short_text(), any::<i64>()),
        ) {
            ordered_and_whole(&one, &two);
            ordered_and_whole(&(one.1, one.0), &(two.1, two.0));
        }

        #[test]
        fn encoded_bytes_order_like_the_bytes(
            one in (short_bytes(), any::<Option<u8>>(), short_bytes()),
            two in (short_bytes(), any::<Option<u8>>(), short_bytes()),
        ) {
            ordered_and_whole(&one, &two);
        }

        #[test]
        fn encoded_numbers_order_like_the_numbers(
            one in (any::<u64>(), any::<i64>(), any::<bool>(), any::<u16>(), any::<[u8; 3]>()),
            two in (any::<u64>(), any::<i64>(), any::<bool>(), any::<u16>(), any::<[u8; 3]>()),
        ) {
            ordered_and_whole(&one, &two);
            ordered_and_whole(&one.1, &(one.1.wrapping_add(1)));
        }

        #[test]
        fn descending_components_order_the_other_way_round(
            one in (short_text(), short_text(), any::<i64>()),
            two in (short_text(), short_text(), any::<i64>()),
        ) {
            let descending = |(one, two, three)| (one, Descending(two), Descending(three));
            ordered_and_whole(&descending(one), &descending(two));
        }

        #[test]
        fn no_key_is_the_beginning_of_another(one in short_text(), two in short_text()) {
            prop_assert!(one == two || !KeyLike::<String>::encoded(&one).starts_with(&KeyLike::<String>::encoded(&two)));
        }

        #[test]
        fn broken_keys_are_refused(bytes in short_bytes()) {
            // Whatever decodes encodes to the same bytes again; the rest is an error, never a panic.
            if let Ok(key) = <(Vec<u8>, Option<bool>, u8)>::decode_all(&bytes) {
                prop_assert_eq!(key.encoded(), bytes);
            }
        }
    }

    #[test]
    fn borrowed_keys_encode_like_owned_ones() {
        let owned = (ShortRoomId(3), owned_user_id!("@a:b.c"), "text".to_owned());
        let borrowed = (ShortRoomId(3), user_id!("@a:b.c"), "text");
        assert_eq!(
            KeyLike::<(ShortRoomId, OwnedUserId, String)>::encoded(&borrowed),
            owned.encoded(),
        );
    }

    #[test]
    fn ids_are_checked_when_they_are_read() {
        let not_a_user = KeyLike::<String>::encoded("not a user id");
        assert!(OwnedUserId::decode_all(&not_a_user).is_err());
        assert!(String::decode_all(&[b'a', 0, 0, 7]).is_err());
        assert!(String::decode_all(&[b'a', 0, 1]).is_err());
        assert!(String::decode_all(b"a").is_err());
    }
}
