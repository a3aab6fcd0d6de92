//! Authentication of requests from other servers.
//!
//! Invariants: what was signed is the request as it came: method, path and query, body, and for whom; a request is good only
//! if its key is one of the origin's now. Nothing of it is used before that.
//!
//! <https://spec.matrix.org/v1.19/server-server-api/#request-authentication>

use http::Request;
use ruma::{
    OwnedServerName,
    api::{auth_scheme::AuthScheme, error::ErrorKind},
    signatures::{PublicKeyMap, VerificationError},
};
use ruma_federation_api::authentication::{ServerSignatures, XMatrix, XMatrixVerificationError};
use wick_core::{Error, Result};

use crate::Federation;

impl Federation {
    /// The server that made and signed `request`.
    ///
    /// # Errors
    /// 401 `M_UNAUTHORIZED` if it is not signed, not signed well, for another server, or by one that this server does not
    /// talk to; `M_NOT_JSON` if its body is none.
    pub async fn authenticate<T: AsRef<[u8]>>(
        &self,
        request: &Request<T>,
    ) -> Result<OwnedServerName> {
        let signature = ServerSignatures::extract_authentication(request)
            .map_err(|error| unauthorized(error.to_string()))?;
        if signature.destination.as_ref().is_some_and(|to| *to != self.own_name) {
            return Err(unauthorized("the request is for another server"));
        }
        if self.ensure_allowed(&signature.origin).is_err() {
            return Err(unauthorized("this server does not talk to the origin"));
        }
        let key = self.keys.for_request(&signature.origin, &signature.key).await?;
        let key = key.ok_or_else(|| unauthorized("the origin has no such key at present"))?;
        let set = [(signature.key.to_string(), key)].into();
        let keys = PublicKeyMap::from([(signature.origin.to_string(), set)]);
        verify(&signature, request, &self.own_name, &keys)?;
        self.transport.destinations.note_life(&signature.origin).await?;
        Ok(signature.origin)
    }
}

fn verify<T: AsRef<[u8]>>(
    signature: &XMatrix,
    request: &Request<T>,
    own_name: &ruma::ServerName,
    keys: &PublicKeyMap,
) -> Result<()> {
    signature.verify_http_request(request, own_name, keys).map_err(|error| match error {
        XMatrixVerificationError::Signature(VerificationError::Json(_)) => {
            Error::refused(ErrorKind::NotJson, "the body is no canonical JSON")
        }
        _ => unauthorized("the signature of the request is wrong"),
    })
}

fn unauthorized(message: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::refused(ErrorKind::Unauthorized, message)
}
