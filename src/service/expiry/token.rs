//! Refresh tokens: derived, not stored, so that a repeated request is answered the same token while
//! the database holds only what is needed to check one.
//!
//! Invariant: a token is the timer's id, readable, and 256 bits that only this server can make.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use wick_core::TimerId;
use wick_ruma::ExpireRefreshToken;
use zeroize::Zeroizing;

const ID_BYTES: usize = 8;
const MAC_BYTES: usize = 32;

/// Makes and checks tokens.
pub(super) struct Tokens {
    secret: Zeroizing<[u8; 32]>,
}

/// A token that has the form of one.
pub(super) struct Shown {
    pub(super) timer: TimerId,
    mac: [u8; MAC_BYTES],
}

impl Tokens {
    pub(super) fn new(secret: [u8; 32]) -> Self {
        Self { secret: Zeroizing::new(secret) }
    }

    /// The token of a timer.
    pub(super) fn of(&self, timer: TimerId, nonce: u64) -> ExpireRefreshToken {
        let mut bytes = Vec::with_capacity(ID_BYTES + MAC_BYTES);
        bytes.extend(timer.0.to_be_bytes());
        if let Some(mac) = self.mac(timer, nonce) {
            bytes.extend(mac.finalize().into_bytes());
        }
        ExpireRefreshToken::new(URL_SAFE_NO_PAD.encode(bytes))
    }

    /// Whether a token is the timer's, in constant time.
    pub(super) fn check(&self, shown: &Shown, nonce: u64) -> bool {
        self.mac(shown.timer, nonce).is_some_and(|mac| mac.verify_slice(&shown.mac).is_ok())
    }

    fn mac(&self, timer: TimerId, nonce: u64) -> Option<Hmac<Sha256>> {
        // HMAC takes keys of any length, so there always is one.
        let mut mac = Hmac::<Sha256>::new_from_slice(&*self.secret).ok()?;
        mac.update(&timer.0.to_be_bytes());
        mac.update(&nonce.to_be_bytes());
        Some(mac)
    }
}

/// Takes a token apart; `None` if it does not have the form of one.
pub(super) fn parse(token: &ExpireRefreshToken) -> Option<Shown> {
    let bytes = URL_SAFE_NO_PAD.decode(token.as_str()).ok()?;
    let (id, mac) = bytes.split_first_chunk::<ID_BYTES>()?;
    Some(Shown { timer: TimerId(u64::from_be_bytes(*id)), mac: mac.try_into().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_its_timers_alone() {
        let tokens = Tokens::new([7; 32]);
        let token = tokens.of(TimerId(5), 9);
        let shown = parse(&token).unwrap();
        assert_eq!(shown.timer, TimerId(5));
        assert!(tokens.check(&shown, 9));
        assert!(!tokens.check(&shown, 10));
        assert!(!Tokens::new([8; 32]).check(&shown, 9));
        assert!(!tokens.check(&Shown { timer: TimerId(6), mac: shown.mac }, 9));
    }

    #[test]
    fn what_is_no_token_is_refused() {
        for text in ["", "x", "AAAA", "ä", &"A".repeat(200)] {
            assert!(parse(&ExpireRefreshToken::new(text)).is_none(), "{text}");
        }
    }
}
