//! OpenID tokens: they tell a third party who somebody is, and nothing else.

use std::time::Duration;

use ruma::OwnedUserId;
use wick_core::Result;
use wick_database::{
    Read,
    schema::users::{OPENID_TOKEN_BY_HASH, OpenIdToken},
};

use crate::{Resources, Session, sessions::hash};

/// How long a token proves something.
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
        let expires = self.resources.clock.now().after(LIFETIME);
        let row = OpenIdToken { user_id: session.user_id.clone(), expires };
        self.resources
            .change(|batch| {
                batch.put(&OPENID_TOKEN_BY_HASH, &hash(&token), &row);
                Ok(())
            })
            .await?;
        Ok(token)
    }

    /// Whom a token is proof of.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn user(&self, token: &str) -> Result<Option<OwnedUserId>> {
        let row = self.resources.database.published().get(&OPENID_TOKEN_BY_HASH, &hash(token))?;
        let now = self.resources.clock.now();
        Ok(row.filter(|row| row.expires > now).map(|row| row.user_id))
    }
}
