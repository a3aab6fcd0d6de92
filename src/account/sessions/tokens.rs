//! Making and dropping token rows.

use std::time::Duration;

use ruma::{DeviceId, UserId};
use sha2::{Digest, Sha256};
use wick_core::{Random, ShortUserId, Timestamp};
use wick_database::{
    Batch,
    schema::devices::{TOKEN_BY_HASH, Token, TokenHash, TokenKind, TokenPair},
};

use super::Tokens;

/// Whom tokens speak for.
#[derive(Clone, Copy)]
pub(crate) struct Owner<'a> {
    pub(crate) user: ShortUserId,
    pub(crate) user_id: &'a UserId,
    pub(crate) device_id: &'a DeviceId,
}

/// How new tokens are made.
pub(crate) struct NewTokens<'a> {
    pub(crate) random: &'a dyn Random,
    pub(crate) now: Timestamp,
    /// How long the access token is good for; with it comes a refresh token.
    pub(crate) lifetime: Option<Duration>,
    /// Whether their first use ends others.
    pub(crate) replaces: bool,
}

impl NewTokens<'_> {
    /// Puts the rows of a new pair.
    pub(crate) fn put(&self, owner: Owner<'_>, batch: &mut Batch) -> (Tokens, TokenPair) {
        let access = self.random.token();
        let refresh = self.lifetime.map(|_| self.random.token());
        let pair = TokenPair { access: hash(&access), refresh: refresh.as_deref().map(hash) };
        let row = |kind| Token {
            user: owner.user,
            user_id: owner.user_id.to_owned(),
            device_id: owner.device_id.to_owned(),
            kind,
        };
        let expires = self.lifetime.map(|lifetime| self.now.after(lifetime));
        let kind = TokenKind::Access { expires, unused: self.replaces };
        batch.put(&TOKEN_BY_HASH, &pair.access, &row(kind));
        if let Some(refresh) = &pair.refresh {
            batch.put(&TOKEN_BY_HASH, refresh, &row(TokenKind::Refresh));
        }
        (Tokens { access, refresh, expires_in: self.lifetime }, pair)
    }
}

/// Deletes the rows of a pair and notes which tokens that revokes.
pub(crate) fn drop_pair(pair: TokenPair, revoked: &mut Vec<TokenHash>, batch: &mut Batch) {
    for hash in [Some(pair.access), pair.refresh].into_iter().flatten() {
        batch.delete(&TOKEN_BY_HASH, &hash);
        revoked.push(hash);
    }
}

/// What is stored of a token.
pub(crate) fn hash(token: &str) -> TokenHash {
    Sha256::digest(token.as_bytes()).into()
}
