//! OpenID tokens: proof of a user's id for a third party, good for nothing else. Expired ones are removed by
//! [`upkeep`](crate::upkeep).

use std::time::Duration;

use ruma::OwnedUserId;
use wick_core::Result;
use wick_database::{
    Read,
    schema::users::{OPENID_TOKEN_BY_HASH, OpenIdToken},
};
use wick_runtime::Resources;

use crate::{Session, sessions::hash, users::find};

/// How long a token is proof.
pub const LIFETIME: Duration = Duration::from_secs(3600);

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
        self.resources
            .change(|batch| {
                batch.put(&OPENID_TOKEN_BY_HASH, &hash(&token), &row);
                Ok(())
            })
            .await?;
        Ok(token)
    }

    /// The user a token is proof of, if the account is still active.
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
