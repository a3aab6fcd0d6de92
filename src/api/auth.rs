//! Who sends a request. The type of [`Ruma::sender`](crate::route::Ruma) follows from the endpoint's
//! authentication scheme, so that no handler has to ask whether there is a user.

use std::{future::Future, sync::Arc};

use bytes::Bytes;
use http::Request;
use ruma::api::{
    auth_scheme::{
        AccessToken, AccessTokenOptional, AppserviceTokenOptional, AuthScheme, NoAccessToken,
        NoAuthentication,
    },
    error::ErrorKind,
};
use wick_account::Session;
use wick_core::{Error, Result};
use wick_service::Services;

/// An authentication scheme with what it tells about the sender.
pub(crate) trait Scheme: AuthScheme {
    /// What is known of the sender.
    type Sender: Send;

    /// Finds out who sent `request`.
    fn sender(
        services: &Services,
        request: &Request<Bytes>,
    ) -> impl Future<Output = Result<Self::Sender>> + Send;

    /// The session among it, if there is one.
    fn session(sender: &Self::Sender) -> Option<&Session>;
}

impl Scheme for AccessToken {
    type Sender = Arc<Session>;

    async fn sender(services: &Services, request: &Request<Bytes>) -> Result<Self::Sender> {
        let token = token(request)
            .ok_or_else(|| Error::refused(ErrorKind::MissingToken, "this needs an access token"))?;
        services.sessions.authenticate(&token).await
    }

    fn session(sender: &Self::Sender) -> Option<&Session> {
        Some(sender)
    }
}

impl Scheme for AccessTokenOptional {
    type Sender = Option<Arc<Session>>;

    async fn sender(services: &Services, request: &Request<Bytes>) -> Result<Self::Sender> {
        match token(request) {
            Some(token) => services.sessions.authenticate(&token).await.map(Some),
            None => Ok(None),
        }
    }

    fn session(sender: &Self::Sender) -> Option<&Session> {
        sender.as_deref()
    }
}

macro_rules! anonymous {
    ($($scheme:ty)*) => {$(
        impl Scheme for $scheme {
            type Sender = ();

            async fn sender(_: &Services, _: &Request<Bytes>) -> Result<()> {
                Ok(())
            }

            fn session((): &()) -> Option<&Session> {
                None
            }
        }
    )*};
}

anonymous!(NoAccessToken NoAuthentication AppserviceTokenOptional);

/// The access token: from the header, or from the query as clients before Matrix 1.11 send it.
/// A header of another scheme counts as none.
pub(crate) fn token(request: &Request<Bytes>) -> Option<String> {
    AccessToken::extract_authentication(request).ok().filter(|token| !token.is_empty())
}
