//! The rows of tokens.

use ruma::{DeviceId, UserId};
use sha2::{Digest, Sha256};
use wick_core::{ShortUserId, Timestamp};
use wick_database::{
    Batch,
    schema::devices::{TOKEN_BY_HASH, Token, TokenHash, TokenKind, TokenPair},
};

use super::Tokens;

/// The user and device that tokens authenticate.
#[derive(Clone, Copy)]
pub(crate) struct Owner<'a> {
    pub(crate) user: ShortUserId,
    pub(crate) user_id: &'a UserId,
    pub(crate) device_id: &'a DeviceId,
}

/// How new tokens are stored.
pub(crate) struct NewTokens {
    pub(crate) now: Timestamp,
    /// Whether their first use ends others.
    pub(crate) replaces: bool,
}

impl NewTokens {
    /// Puts the rows of a new pair.
    pub(crate) fn put(&self, tokens: &Tokens, owner: Owner<'_>, batch: &mut Batch) -> TokenPair {
        let refresh = tokens.refresh.as_deref().map(hash);
        let pair = TokenPair { access: hash(&tokens.access), refresh };
        let row = |kind| Token {
            user: owner.user,
            user_id: owner.user_id.to_owned(),
            device_id: owner.device_id.to_owned(),
            kind,
        };
        let expires = tokens.expires_in.map(|lifetime| self.now.after(lifetime));
        let kind = TokenKind::Access { expires, unused: self.replaces };
        batch.put(&TOKEN_BY_HASH, &pair.access, &row(kind));
        if let Some(refresh) = &pair.refresh {
            batch.put(&TOKEN_BY_HASH, refresh, &row(TokenKind::Refresh));
        }
        pair
    }
}

/// What is stored of a token.
pub(crate) fn hash(token: &str) -> TokenHash {
    Sha256::digest(token.as_bytes()).into()
}
