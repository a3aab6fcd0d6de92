//! The sender of a request. The type of [`Ruma::sender`](crate::route::Ruma) follows from the endpoint's
//! authentication scheme, so that no handler has to ask whether there is a user.

use std::{future::Future, sync::Arc};

use bytes::Bytes;
use http::Request;
use ruma::{
    OwnedServerName,
    api::{
        auth_scheme::{
            AccessToken, AccessTokenOptional, AppserviceTokenOptional, AuthScheme, NoAccessToken,
            NoAuthentication,
        },
        error::ErrorKind,
    },
};
use ruma_federation_api::authentication::ServerSignatures;
use wick_account::{Requester, Session};
use wick_core::{Error, Result};
use wick_service::Services;

/// An authentication scheme with what its endpoints know of the sender.
pub(crate) trait Scheme: AuthScheme {
    /// What is known of the sender.
    type Sender: Send;

    /// The sender of `request`.
    fn requester(
        services: &Services,
        request: &Request<Bytes>,
    ) -> impl Future<Output = Result<Requester>> + Send;

    /// Admits a requester to an endpoint with this scheme.
    ///
    /// # Errors
    /// `M_MISSING_TOKEN` if the endpoint needs an access token.
    fn admit(requester: Requester) -> Result<Self::Sender>;
}

impl Scheme for AccessToken {
    type Sender = Arc<Session>;

    async fn requester(services: &Services, request: &Request<Bytes>) -> Result<Requester> {
        authenticate(services, request).await
    }

    fn admit(requester: Requester) -> Result<Self::Sender> {
        requester.into_user()
    }
}

impl Scheme for AccessTokenOptional {
    type Sender = Requester;

    async fn requester(services: &Services, request: &Request<Bytes>) -> Result<Requester> {
        authenticate(services, request).await
    }

    fn admit(requester: Requester) -> Result<Self::Sender> {
        Ok(requester)
    }
}

impl Scheme for ServerSignatures {
    type Sender = OwnedServerName;

    async fn requester(services: &Services, request: &Request<Bytes>) -> Result<Requester> {
        services.federation()?.authenticate(request).await.map(Requester::Server)
    }

    fn admit(requester: Requester) -> Result<Self::Sender> {
        match requester {
            Requester::Server(server) => Ok(server),
            Requester::Anonymous | Requester::User(_) => {
                Err(Error::refused(ErrorKind::Unauthorized, "this needs the signature of a server"))
            }
        }
    }
}

/// Schemes whose endpoints take no notice of an access token.
macro_rules! anonymous {
    ($($scheme:ty)*) => {$(
        impl Scheme for $scheme {
            type Sender = ();

            async fn requester(_: &Services, _: &Request<Bytes>) -> Result<Requester> {
                Ok(Requester::Anonymous)
            }

            fn admit(_: Requester) -> Result<()> {
                Ok(())
            }
        }
    )*};
}

anonymous!(NoAccessToken NoAuthentication AppserviceTokenOptional);

async fn authenticate(services: &Services, request: &Request<Bytes>) -> Result<Requester> {
    match token(request) {
        Some(token) => services.sessions.authenticate(&token).await.map(Requester::User),
        None => Ok(Requester::Anonymous),
    }
}

/// The access token: from the header, or from the query as clients before Matrix 1.11 send it.
/// A header of another scheme counts as none.
pub(crate) fn token(request: &Request<Bytes>) -> Option<String> {
    AccessToken::extract_authentication(request).ok().filter(|token| !token.is_empty())
}
