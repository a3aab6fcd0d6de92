//! Sessions: access tokens, refresh tokens, log-out.
//!
//! Invariants: a token that was revoked authenticates nothing from the moment its revocation was
//! written, cached or not; the tokens a refresh replaces live until their successors are used.

mod cache;
#[cfg(test)]
mod tests;
mod tokens;

use std::{
    fmt,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ruma::{OwnedDeviceId, OwnedUserId};
use wick_core::{Error, Random, Result, ShortUserId, Timestamp};
use wick_database::{
    Batch, Durability, Read, Topic,
    schema::{
        devices::{
            DEVICE_BY_ID, SEEN_BY_DEVICE, Seen, TOKEN_BY_HASH, Token, TokenHash, TokenKind,
            TokenPair,
        },
        users::GUEST_BY_USER,
    },
};
use wick_runtime::Resources;

use self::cache::SessionCache;
pub(crate) use self::tokens::{NewTokens, Owner, hash};
use crate::proof::RequestSecret;

/// How exact "last seen" is.
const SEEN_EVERY: Duration = Duration::from_secs(300);

/// A user and a device that an access token authenticates.
pub struct Session {
    /// The user.
    pub user_id: OwnedUserId,
    /// The same, interned.
    pub user: ShortUserId,
    /// The device.
    pub device_id: OwnedDeviceId,
    /// The SHA-256 of the access token.
    pub token_hash: TokenHash,
    /// From when on the access token is no longer good.
    pub expires: Option<Timestamp>,
    /// Whether the user is a guest, for whom only a part of the API is open.
    pub is_guest: bool,
    seen: AtomicU64,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("user_id", &self.user_id)
            .field("device_id", &self.device_id)
            .finish_non_exhaustive()
    }
}

impl Session {
    /// Refuses a session whose access token does not exist any more in `read`: for requests that waited.
    ///
    /// # Errors
    /// `M_UNKNOWN_TOKEN`.
    pub fn ensure_live(&self, read: &impl Read) -> Result<()> {
        if read.contains(&TOKEN_BY_HASH, &self.token_hash)? {
            Ok(())
        } else {
            Err(Error::unknown_token(false))
        }
    }
}

/// A new pair of tokens: answered once and never stored.
pub struct Tokens {
    /// The access token.
    pub access: String,
    /// The refresh token, if the client wanted one.
    pub refresh: Option<String>,
    /// How long the access token is good for.
    pub expires_in: Option<Duration>,
}

impl Tokens {
    /// New tokens, with a refresh token if they have a `lifetime`.
    pub(crate) fn random(random: &dyn Random, lifetime: Option<Duration>) -> Self {
        Self {
            access: random.token(),
            refresh: lifetime.map(|_| random.token()),
            expires_in: lifetime,
        }
    }

    /// The same tokens for the same request, with a refresh token if they have a `lifetime`.
    pub(crate) fn derived(request: &RequestSecret, lifetime: Option<Duration>) -> Result<Self> {
        let token = |purpose| Ok::<_, Error>(URL_SAFE_NO_PAD.encode(request.token(purpose)?));
        Ok(Self {
            access: token("access token")?,
            refresh: lifetime.map(|_| token("refresh token")).transpose()?,
            expires_in: lifetime,
        })
    }
}

/// Checks, renews and ends tokens.
pub struct Sessions {
    resources: Resources,
    cache: SessionCache,
}

impl Sessions {
    /// Sessions of the accounts in the database.
    #[must_use]
    pub fn new(resources: Resources) -> Self {
        Self { resources, cache: SessionCache::new() }
    }

    /// The session that an access token stands for.
    ///
    /// # Errors
    /// `M_UNKNOWN_TOKEN`, with `soft_logout` if the token was good until it expired.
    pub async fn authenticate(&self, access_token: &str) -> Result<Arc<Session>> {
        let hash = hash(access_token);
        let session = match self.cache.get(&hash) {
            Some(session) => session,
            None => self.load(hash).await?,
        };
        if session.expires.is_some_and(|expires| expires <= self.resources.clock.now()) {
            return Err(Error::unknown_token(true));
        }
        Ok(session)
    }

    /// Notes that a session's device was seen, at most every few minutes. The write is not
    /// awaited, and no request fails with it.
    pub fn note_seen(&self, session: &Session, address: Option<IpAddr>) {
        let now = self.resources.clock.now();
        let last = Timestamp(session.seen.load(Ordering::Relaxed));
        if last != Timestamp::default() && now.since(last) < SEEN_EVERY {
            return;
        }
        session.seen.store(now.0, Ordering::Relaxed);
        let seen = Seen { at: now, address: address.map(|address| address.to_string()) };
        let mut batch = self.resources.database.batch();
        batch.put(&SEEN_BY_DEVICE, &(session.user, &session.device_id), &seen);
        match self.resources.database.write(batch, Durability::Logged) {
            Ok(pending) => drop(pending),
            Err(error) => tracing::warn!(%error, "cannot note that a device was seen"),
        }
    }

    /// Exchanges a refresh token for new tokens. It stays good until one of them is used, so that
    /// a client that lost the answer can ask again.
    ///
    /// # Errors
    /// `M_UNKNOWN_TOKEN`.
    pub async fn refresh(&self, refresh_token: &str) -> Result<Tokens> {
        let hash = hash(refresh_token);
        self.resources.change(|batch| self.build_refresh(hash, batch)).await
    }

    /// Revokes the tokens of a device: deletes their rows, and evicts their sessions once `batch` is
    /// written. Requests of the user that wait for news are woken.
    pub(crate) fn revoke(&self, user: ShortUserId, pair: TokenPair, batch: &mut Batch) {
        let hashes = [Some(pair.access), pair.refresh];
        for hash in hashes.iter().flatten() {
            batch.delete(&TOKEN_BY_HASH, hash);
        }
        self.evict(pair.access, batch);
        batch.wake(Topic::User(user));
    }

    /// Has a session loaded anew once `batch` is written.
    pub(crate) fn evict(&self, access: TokenHash, batch: &mut Batch) {
        let cache = self.cache.clone();
        batch.on_applied(move || cache.evict(&access));
    }

    /// How long access tokens live that have a refresh token.
    pub(crate) fn lifetime(&self) -> Duration {
        self.resources.config.accounts.access_token_lifetime.0
    }

    async fn load(&self, hash: TokenHash) -> Result<Arc<Session>> {
        // What is written counts, published or not: an eviction comes before the publication.
        let evictions = self.cache.evictions();
        let latest = self.resources.database.latest();
        let token = latest.get(&TOKEN_BY_HASH, &hash)?;
        let Some(Token { user, user_id, device_id, kind: TokenKind::Access { expires, unused } }) =
            token
        else {
            return Err(Error::unknown_token(false));
        };
        if unused && expires.is_none_or(|expires| expires > self.resources.clock.now()) {
            self.resources.change(|batch| self.build_first_use(hash, batch)).await?;
        }
        let session = Arc::new(Session {
            user_id,
            user,
            device_id,
            token_hash: hash,
            expires,
            is_guest: latest.contains(&GUEST_BY_USER, &user)?,
            seen: AtomicU64::default(),
        });
        self.cache.insert(Arc::clone(&session), evictions);
        Ok(session)
    }

    fn build_refresh(&self, used: TokenHash, batch: &mut Batch) -> Result<Tokens> {
        let token = batch
            .read_for_update(&TOKEN_BY_HASH, &used)?
            .ok_or_else(|| Error::unknown_token(false))?;
        let Token { user, user_id, device_id, kind: TokenKind::Refresh } = token else {
            return Err(Error::unknown_token(false));
        };
        let key = (user, &device_id);
        let mut device = batch
            .read_for_update(&DEVICE_BY_ID, &key)?
            .ok_or_else(|| Error::unknown_token(false))?;
        if device.tokens.refresh == Some(used) {
            // The newest refresh token is used: what it had replaced itself is over.
            if let Some(previous) = device.previous.replace(device.tokens) {
                self.revoke(user, previous, batch);
            }
        } else {
            // The answer to an earlier refresh was lost: its tokens were never used.
            self.revoke(user, device.tokens, batch);
        }
        let owner = Owner { user, user_id: &user_id, device_id: &device_id };
        let tokens = Tokens::random(&*self.resources.random, Some(self.lifetime()));
        let pair = NewTokens { now: self.resources.clock.now(), replaces: true }
            .put(&tokens, owner, batch);
        device.tokens = pair;
        batch.put(&DEVICE_BY_ID, &key, &device);
        Ok(tokens)
    }

    /// The first use of an access token ends the tokens it replaced.
    fn build_first_use(&self, hash: TokenHash, batch: &mut Batch) -> Result<()> {
        let mut token = batch
            .read_for_update(&TOKEN_BY_HASH, &hash)?
            .ok_or_else(|| Error::unknown_token(false))?;
        let TokenKind::Access { unused, .. } = &mut token.kind else {
            return Err(Error::unknown_token(false));
        };
        if !*unused {
            return Ok(());
        }
        *unused = false;
        let key = (token.user, &token.device_id);
        let mut device = batch
            .read_for_update(&DEVICE_BY_ID, &key)?
            .ok_or_else(|| Error::unknown_token(false))?;
        // A token that a later refresh replaced, but that is still good, ends nothing.
        if device.tokens.access == hash
            && let Some(previous) = device.previous.take()
        {
            self.revoke(token.user, previous, batch);
        }
        batch.put(&DEVICE_BY_ID, &key, &device);
        batch.put(&TOKEN_BY_HASH, &hash, &token);
        Ok(())
    }
}
