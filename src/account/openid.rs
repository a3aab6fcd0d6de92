//! OpenID tokens: they tell a third party who somebody is, and nothing else.

use std::time::Duration;

use ruma::OwnedUserId;
use wick_core::Result;
use wick_database::{
    Range, Read,
    schema::users::{OPENID_TOKEN_BY_HASH, OpenIdToken},
};
use wick_runtime::Resources;

use crate::{Session, sessions::hash, users::find};

/// How long a token proves something.
pub const LIFETIME: Duration = Duration::from_secs(3600);

/// How many old tokens are looked at when a new one is made.
const SWEPT: usize = 8;

/// Makes and checks OpenID tokens.
pub struct OpenId {
    resources: Resources,
}

impl OpenId {
    /// Tokens in the database.
    #[must_use]
    pub fn new(resources: Resources) -> Self {
        Self { resources }
    }

    /// A new token for a logged-in user.
    ///
    /// # Errors
    /// If the database refuses.
    pub async fn issue(&self, session: &Session) -> Result<String> {
        let token = self.resources.random.token();
        let now = self.resources.clock.now();
        let row = OpenIdToken { user_id: session.user_id.clone(), expires: now.after(LIFETIME) };
        let mut expired = Vec::new();
        self.resources
            .change(|batch| {
                let hash = hash(&token);
                // Old tokens go a few at a time: which ones, the new one's hash decides.
                for old in batch.scan(&OPENID_TOKEN_BY_HASH, Range::from(&hash)).take(SWEPT) {
                    let (old, row) = old?;
                    if row.expires <= now {
                        expired.push(old);
                    }
                }
                for old in expired.drain(..) {
                    batch.delete(&OPENID_TOKEN_BY_HASH, &old);
                }
                batch.put(&OPENID_TOKEN_BY_HASH, &hash, &row);
                Ok(())
            })
            .await?;
        Ok(token)
    }

    /// Whom a token is proof of: somebody who has an account, also now.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn user(&self, token: &str) -> Result<Option<OwnedUserId>> {
        let read = self.resources.database.published();
        let now = self.resources.clock.now();
        let row = read.get(&OPENID_TOKEN_BY_HASH, &hash(token))?.filter(|row| row.expires > now);
        let Some(OpenIdToken { user_id, .. }) = row else { return Ok(None) };
        let account = find(&read, &self.resources, &user_id)?;
        Ok(account.filter(|(_, account)| account.deactivated.is_none()).map(|_| user_id))
    }
}
