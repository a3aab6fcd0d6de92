//! The real randomness: the only place that draws it.

use rand::Rng;
use wick_core::Random;

/// The thread's cryptographic generator, seeded by the system.
pub(crate) struct SystemRandom;

impl Random for SystemRandom {
    #[expect(clippy::disallowed_methods, reason = "this is the source that all else is given")]
    fn fill(&self, bytes: &mut [u8]) {
        rand::rng().fill_bytes(bytes);
    }
}
