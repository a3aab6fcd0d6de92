//! Proof that a change of an account may be made, spent by the batch of the change.
//!
//! Invariant: a proof is spent once. Its row is read for update and changed or removed in the batch of the
//! change, so of two requests with the same proof one fails, whatever they race with.

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest as _, Sha256};
use wick_core::{Error, Result};
use wick_database::{
    Batch,
    schema::confirmations::{
        Digest, EXPIRY_BY_REGISTRATION_NONCE, FinishedRequest, UIA_SESSION_BY_HASH, UiaOutcome,
        UiaSession,
    },
};

/// Proof that a change may be made.
pub struct Proof(pub(crate) Kind);

pub(crate) enum Kind {
    /// A session of user-interactive authentication whose stages are complete.
    Session { session: Digest, request: RequestSecret },
    /// A nonce that signed the request.
    Nonce(Digest),
    /// Complete stages without a session: nothing is remembered.
    Stages,
}

impl Proof {
    /// Of a change that the server itself makes.
    #[must_use]
    pub fn not_needed() -> Self {
        Self(Kind::Stages)
    }

    /// Records in `batch` that the change is made, with `outcome`.
    ///
    /// # Errors
    /// `M_FORBIDDEN` or `M_INVALID_PARAM` if the proof is spent.
    pub fn spend(&self, outcome: UiaOutcome, batch: &mut Batch) -> Result<()> {
        match &self.0 {
            Kind::Session { session, request } => {
                let open = batch.read_for_update(&UIA_SESSION_BY_HASH, session)?;
                let open = open.filter(|open| open.finished.is_none()).ok_or_else(is_spent)?;
                let finished = Some(FinishedRequest { request: request.digest(), outcome });
                batch.put(&UIA_SESSION_BY_HASH, session, &UiaSession { finished, ..open });
            }
            Kind::Nonce(nonce) => {
                batch
                    .read_for_update(&EXPIRY_BY_REGISTRATION_NONCE, nonce)?
                    .ok_or_else(|| Error::invalid_param("unknown nonce"))?;
                batch.delete(&EXPIRY_BY_REGISTRATION_NONCE, nonce);
            }
            Kind::Stages => {}
        }
        Ok(())
    }

    /// What tokens are derived from that a repeated request is answered again.
    pub(crate) fn request(&self) -> Option<&RequestSecret> {
        match &self.0 {
            Kind::Session { request, .. } => Some(request),
            Kind::Nonce(_) | Kind::Stages => None,
        }
    }
}

/// Something that only a request with a session's id can be known by: neither the id nor the request
/// alone gives it, and the database holds a digest of it.
#[derive(Clone)]
pub(crate) struct RequestSecret(Digest);

impl RequestSecret {
    /// The secret of the request with this digest in the session with this id.
    pub(crate) fn new(session_id: &str, request: &Digest) -> Result<Self> {
        mac(session_id.as_bytes(), request).map(Self)
    }

    pub(crate) fn digest(&self) -> Digest {
        Sha256::digest(self.0).into()
    }

    /// A token that is the same each time.
    pub(crate) fn token(&self, purpose: &str) -> Result<Digest> {
        mac(&self.0, purpose.as_bytes())
    }
}

fn mac(key: &[u8], message: &[u8]) -> Result<Digest> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key)
        .map_err(|error| Error::internal("request secret", error.to_string()))?;
    mac.update(message);
    Ok(mac.finalize().into_bytes().into())
}

fn is_spent() -> Error {
    Error::forbidden("this session is over")
}
