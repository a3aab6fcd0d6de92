//! Refresh tokens: derived from the server's secret and the event's id, so that a repeated request is
//! answered the same token and none is stored.
//!
//! Invariants: a token is the timer's key, readable, and 256 bits that only this server can make; the
//! comparison takes constant time; the secret has no `Debug`.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, Mac, digest::KeyInit};
use ruma::EventId;
use sha2::{Digest, Sha256};

const KEY_BYTES: usize = 16;

/// The name of a timer: the beginning of the SHA-256 of its event's id.
pub type Key = [u8; KEY_BYTES];

/// The key of an event's timer.
pub fn key_of(event_id: &EventId) -> Key {
    let digest = Sha256::digest(event_id.as_bytes());
    let mut key = Key::default();
    key.iter_mut().zip(digest).for_each(|(to, from)| *to = from);
    key
}

/// Makes and checks tokens.
pub struct Tokens {
    secret: [u8; 32],
}

impl Tokens {
    /// With the server's secret.
    pub fn new(secret: [u8; 32]) -> Self {
        Self { secret }
    }

    /// The token of a timer; `None` never, as HMAC takes keys of any length.
    pub fn of(&self, key: &Key) -> Option<String> {
        let mut bytes = key.to_vec();
        bytes.extend(self.mac(key)?.finalize().into_bytes());
        Some(URL_SAFE_NO_PAD.encode(bytes))
    }

    /// The timer that a token names; `None` if this server has not made it.
    pub fn read(&self, token: &str) -> Option<Key> {
        let bytes = URL_SAFE_NO_PAD.decode(token).ok()?;
        let (key, mac) = bytes.split_first_chunk::<KEY_BYTES>()?;
        self.mac(key)?.verify_slice(mac).is_ok().then_some(*key)
    }

    fn mac(&self, key: &Key) -> Option<Hmac<Sha256>> {
        let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(&self.secret).ok()?;
        mac.update(key);
        Some(mac)
    }
}

#[cfg(test)]
mod tests {
    use ruma::event_id;

    use super::*;

    #[test]
    fn a_token_names_its_timer_and_is_worth_nothing_to_another_secret() {
        let tokens = Tokens::new([7; 32]);
        let key = key_of(event_id!("$one"));
        assert_ne!(key, key_of(event_id!("$two")));
        let token = tokens.of(&key).unwrap();
        assert_eq!(tokens.of(&key).unwrap(), token, "a repeated request gets the same");
        assert_eq!(tokens.read(&token), Some(key));
        assert_eq!(Tokens::new([8; 32]).read(&token), None);
    }

    #[test]
    fn what_is_no_token_is_refused() {
        let tokens = Tokens::new([7; 32]);
        let token = tokens.of(&key_of(event_id!("$one"))).unwrap();
        let other = tokens.of(&key_of(event_id!("$two"))).unwrap();
        let crossed = format!("{}{}", token.get(..24).unwrap(), other.get(24..).unwrap());
        let shorter = token.get(..token.len() - 1).unwrap();
        for text in ["", "AAAA", "ä", shorter, &crossed, &"A".repeat(64), &format!("{token}A")] {
            assert_eq!(tokens.read(text), None, "{text}");
        }
    }
}
