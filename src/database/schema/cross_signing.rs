//! Cross-signing keys, and the signatures that were added to keys after their upload.

use serde_json::value::RawValue;
use wick_core::ShortUserId;

tables! {
    /// Cross-signing keys by user and usage (`master`, `self_signing`, `user_signing`), without
    /// `unsigned`. Written by `POST /keys/device_signing/upload`; read by `POST /keys/query` and to
    /// verify signatures; rebuilt from nothing else.
    CROSS_SIGNING_KEY_BY_USAGE: (ShortUserId, String) => Box<RawValue>, Random;

    /// Signatures by the owner of the signed key, the signer, the signed key (a device id or a public
    /// key) and the id of the signing key. Written by `POST /keys/signatures/upload`; read by
    /// `POST /keys/query`; rebuilt from nothing else.
    SIGNATURE_BY_KEY: (ShortUserId, ShortUserId, String, String) => String, Random;
}
