//! JSON Web Tokens signed with HMAC-SHA-256 (RFC 7519), the only ones that LiveKit takes and makes.
//!
//! Invariant: the secret is in no `Debug` output, error or log.

use std::time::Duration;

use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;
use sha2::{Digest, Sha256};
use wick_core::{Error, Result, Timestamp, config};

/// How far LiveKit's clock and this server's may differ.
const MOST_SKEW: Duration = Duration::from_secs(60);

/// Signs tokens for LiveKit, and checks those that it signed.
pub(crate) struct Signer {
    key: String,
    secret: config::Secret,
}

#[derive(Serialize, Deserialize)]
struct Header {
    alg: String,
    #[serde(default)]
    typ: String,
}

#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    sub: &'a str,
    nbf: u64,
    exp: u64,
    video: &'a Value,
}

/// What LiveKit claims in the token of a web hook.
#[derive(Deserialize)]
struct HookClaims {
    iss: String,
    exp: u64,
    #[serde(default)]
    nbf: u64,
    sha256: String,
}

impl Signer {
    /// Signs with the secret of a key.
    pub(crate) fn new(key: String, secret: config::Secret) -> Self {
        Self { key, secret }
    }

    /// A token for `subject` (none if empty) with LiveKit's grants, valid from `now`.
    ///
    /// # Errors
    /// If it cannot be written as JSON.
    pub(crate) fn sign(
        &self,
        subject: &str,
        grants: &Value,
        (now, lifetime): (Timestamp, Duration),
    ) -> Result<String> {
        let header = Header { alg: "HS256".to_owned(), typ: "JWT".to_owned() };
        let claims = Claims {
            iss: &self.key,
            sub: subject,
            nbf: seconds(now),
            exp: seconds(now.after(lifetime)),
            video: grants,
        };
        let mut token = encode(&header)?;
        token.push('.');
        token.push_str(&encode(&claims)?);
        let signature = self.mac(&token).finalize().into_bytes();
        token.push('.');
        token.push_str(&URL_SAFE_NO_PAD.encode(signature));
        Ok(token)
    }

    /// Whether a token was signed with the same secret for a web hook with this body, and is still valid.
    pub(crate) fn has_signed_hook(&self, token: &str, body: &[u8], now: Timestamp) -> bool {
        let Some(HookClaims { iss, exp, nbf, sha256 }) = self.verified(token) else {
            return false;
        };
        let valid = seconds(now) <= exp.saturating_add(MOST_SKEW.as_secs())
            && seconds(now.after(MOST_SKEW)) >= nbf;
        iss == self.key && valid && sha256 == STANDARD.encode(Sha256::digest(body))
    }

    /// The claims of a token, if its signature is right.
    fn verified<T: DeserializeOwned>(&self, token: &str) -> Option<T> {
        let (signed, signature) = token.rsplit_once('.')?;
        let (header, claims) = signed.split_once('.')?;
        let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
        self.mac(signed).verify_slice(&signature).ok()?;
        let header: Header = decode(header)?;
        if header.alg == "HS256" { decode(claims) } else { None }
    }

    fn mac(&self, signed: &str) -> Hmac<Sha256> {
        let secret = self.secret.reveal().unwrap_or_default();
        let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes())
            .expect("HMAC takes keys of any length");
        mac.update(signed.as_bytes());
        mac
    }
}

fn seconds(time: Timestamp) -> u64 {
    time.0 / 1000
}

fn encode(part: &impl Serialize) -> Result<String> {
    let json = serde_json::to_vec(part).map_err(|error| Error::internal("a token", error))?;
    Ok(URL_SAFE_NO_PAD.encode(json))
}

fn decode<T: DeserializeOwned>(part: &str) -> Option<T> {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NOW: Timestamp = Timestamp(1_790_000_000_000);

    fn signer(secret: &str) -> Signer {
        Signer::new("devkey".to_owned(), secret.to_owned().into())
    }

    /// A token as LiveKit sends it with a web hook.
    fn hook(signer: &Signer, alg: &str, claims: &Value) -> String {
        let header = Header { alg: alg.to_owned(), typ: "JWT".to_owned() };
        let signed = format!("{}.{}", encode(&header).unwrap(), encode(claims).unwrap());
        let signature = signer.mac(&signed).finalize().into_bytes();
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    /// `printf '%s' "$HEADER.$CLAIMS" | openssl dgst -sha256 -hmac secret -binary | basenc --base64url | tr -d =`
    /// gives the same signature.
    #[test]
    fn a_token_is_signed_as_openssl_signs_it() {
        let grants = json!({ "room": "r", "roomJoin": true });
        let token =
            signer("secret").sign("alice", &grants, (NOW, Duration::from_secs(60))).unwrap();
        let (signed, signature) = token.rsplit_once('.').unwrap();
        let (header, claims) = signed.split_once('.').unwrap();
        assert_eq!(header, "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9");
        assert_eq!(
            decode::<Value>(claims).unwrap(),
            json!({
                "iss": "devkey", "sub": "alice", "nbf": 1_790_000_000, "exp": 1_790_000_060,
                "video": { "roomJoin": true, "room": "r" },
            })
        );
        assert_eq!(signature, "Tp5sMXi6IiuRDedqlwJbqKPcJDmylQoVOuwjv3A_XaY");
    }

    #[test]
    fn a_web_hook_needs_the_secret_the_key_the_body_and_a_valid_time() {
        let (own, other) = (signer("secret"), signer("other"));
        let body = b"{}";
        let digest = STANDARD.encode(Sha256::digest(body));
        let claims = |iss: &str, nbf: u64, exp: u64| json!({ "iss": iss, "nbf": nbf, "exp": exp, "sha256": digest });
        let now = seconds(NOW);
        let good = claims("devkey", now, now + 300);
        assert!(own.has_signed_hook(&hook(&own, "HS256", &good), body, NOW));
        for (what, token, body) in [
            ("another secret", hook(&other, "HS256", &good), &b"{}"[..]),
            ("another key", hook(&own, "HS256", &claims("other", now, now + 300)), b"{}"),
            ("another body", hook(&own, "HS256", &good), b"{ }"),
            ("another algorithm", hook(&own, "none", &good), b"{}"),
            ("too late", hook(&own, "HS256", &claims("devkey", now - 400, now - 100)), b"{}"),
            ("too early", hook(&own, "HS256", &claims("devkey", now + 100, now + 400)), b"{}"),
            ("no digest", hook(&own, "HS256", &json!({ "iss": "devkey", "exp": now + 9 })), b"{}"),
            ("no token", String::new(), b"{}"),
            ("no signature", "e30.e30.".to_owned(), b"{}"),
        ] {
            assert!(!own.has_signed_hook(&token, body, NOW), "{what}");
        }
    }
}
