//! Handles of timers, which are refresh tokens and delay ids: derived, not stored, so that a repeated
//! request is answered the same handle while the database holds only what is needed to check one.
//!
//! Invariant: a handle is the timer's id, readable, and 256 bits that only this server can make. One
//! feature's handle is invalid for the other.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use wick_core::TimerId;
use wick_database::schema::timer::Feature;
use zeroize::Zeroizing;

const ID_BYTES: usize = 8;
const MAC_BYTES: usize = 32;

/// Makes and checks handles.
pub(super) struct Handles {
    secret: Zeroizing<[u8; 32]>,
}

/// A handle that has the form of one.
pub struct Shown {
    /// The timer that it names, checked or not.
    pub timer: TimerId,
    feature: Feature,
    mac: [u8; MAC_BYTES],
}

impl Handles {
    pub(super) fn new(secret: [u8; 32]) -> Self {
        Self { secret: Zeroizing::new(secret) }
    }

    /// The handle of a timer.
    pub(super) fn of(&self, feature: Feature, timer: TimerId, nonce: u64) -> String {
        let mut bytes = Vec::with_capacity(ID_BYTES + MAC_BYTES);
        bytes.extend(timer.0.to_be_bytes());
        if let Some(mac) = self.mac(feature, timer, nonce) {
            bytes.extend(mac.finalize().into_bytes());
        }
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// Whether a handle is the timer's, in constant time.
    pub(super) fn check(&self, shown: &Shown, nonce: u64) -> bool {
        self.mac(shown.feature, shown.timer, nonce)
            .is_some_and(|mac| mac.verify_slice(&shown.mac).is_ok())
    }

    fn mac(&self, feature: Feature, timer: TimerId, nonce: u64) -> Option<Hmac<Sha256>> {
        // HMAC takes keys of any length, so there always is one.
        let mut mac = Hmac::<Sha256>::new_from_slice(&*self.secret).ok()?;
        mac.update(match feature {
            Feature::Expiry => b"",
            Feature::Delay => b"delay",
        });
        mac.update(&timer.0.to_be_bytes());
        mac.update(&nonce.to_be_bytes());
        Some(mac)
    }
}

/// Takes a handle apart; `None` if it does not have the form of one.
pub(super) fn parse(feature: Feature, handle: &str) -> Option<Shown> {
    let bytes = URL_SAFE_NO_PAD.decode(handle).ok()?;
    let (id, mac) = bytes.split_first_chunk::<ID_BYTES>()?;
    Some(Shown { timer: TimerId(u64::from_be_bytes(*id)), feature, mac: mac.try_into().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handle_is_its_timers_alone() {
        let handles = Handles::new([7; 32]);
        for (feature, other) in
            [(Feature::Expiry, Feature::Delay), (Feature::Delay, Feature::Expiry)]
        {
            let handle = handles.of(feature, TimerId(5), 9);
            let shown = parse(feature, &handle).unwrap();
            assert_eq!(shown.timer, TimerId(5));
            assert!(handles.check(&shown, 9));
            assert!(!handles.check(&shown, 10));
            assert!(!Handles::new([8; 32]).check(&shown, 9));
            assert!(!handles.check(&Shown { timer: TimerId(6), ..shown }, 9));
            assert!(!handles.check(&parse(other, &handle).unwrap(), 9));
        }
    }

    #[test]
    fn what_is_no_handle_is_refused() {
        for text in ["", "x", "AAAA", "ä", &"A".repeat(200)] {
            assert!(parse(Feature::Delay, text).is_none(), "{text}");
        }
    }
}
