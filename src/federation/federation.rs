//! What use cases see of other servers.

use std::sync::Arc;

use http::Request;
use ruma::{
    OwnedServerName, ServerName,
    api::{
        IncomingResponseExt, OutgoingRequest, OutgoingRequestExt,
        auth_scheme::{AuthScheme, NoAuthentication},
        error::IntoHttpError,
        path_builder::SinglePath,
    },
};
use ruma_federation_api::authentication::{ServerSignatures, XMatrixSigningInput};
use tokio::sync::broadcast;
use wick_core::{Error, RemoteReason, Result, SigningKeys, Timestamp, signing::KeyStore};
use wick_outbound::{Bounds, Resolve};
use wick_runtime::Resources;

use crate::{
    Deliveries, Services,
    keys::ServerKeys,
    running::Running,
    transport::{BackOff, Transport, remote},
};

/// The most bytes of a response, unless a request has other bounds.
const MAX_RESPONSE: u64 = 16 << 20;

/// What names are resolved by.
#[derive(Clone)]
pub struct Network {
    /// Resolves host names to addresses.
    pub hosts: Arc<dyn Resolve>,
    /// Looks up SRV records.
    pub services: Arc<dyn Services>,
}

/// The other servers.
pub struct Federation {
    /// Their signing keys, and ours.
    pub keys: Arc<ServerKeys>,
    /// How far this server's events have got on their way.
    pub deliveries: Deliveries,
    pub(crate) transport: Arc<Transport>,
    pub(crate) own_name: OwnedServerName,
    pub(crate) running: Running,
    pub(crate) max_running: u32,
    signing: Arc<SigningKeys>,
}

impl Federation {
    /// Makes requests as the configuration wants them, signed with `signing`, whose new keys go to `store`.
    ///
    /// # Errors
    /// If the configured certificates cannot be read.
    pub fn new(
        resources: &Resources,
        (signing, store): (Arc<SigningKeys>, Arc<dyn KeyStore>),
        network: &Network,
    ) -> Result<Self> {
        let transport = Arc::new(Transport::new(resources.clone(), network)?);
        let keys = ServerKeys::new(
            resources.clone(),
            Arc::clone(&transport),
            (Arc::clone(&signing), store),
        );
        let own_name = resources.config.server.name.clone();
        Ok(Self {
            keys: Arc::new(keys),
            deliveries: Deliveries::default(),
            transport,
            own_name,
            running: Running::default(),
            max_running: resources.config.federation.max_requests_per_server,
            signing,
        })
    }

    /// Makes a request to `server`, signed by this server, and reads the response. It takes no longer than
    /// `federation.timeout`, and the response has at most 16 MiB.
    ///
    /// # Errors
    /// [`Error::Remote`] with a [`RemoteReason`] if there is no such response: the server must not or cannot be reached, it
    /// refuses the request, or it answers something else.
    pub async fn request<R>(&self, server: &ServerName, request: R) -> Result<R::IncomingResponse>
    where
        R: OutgoingRequest<Authentication = ServerSignatures, PathBuilder = SinglePath>,
    {
        self.request_within(server, request, self.bounds()).await
    }

    /// The bounds of a request that has no others: `federation.timeout` and 16 MiB.
    #[must_use]
    pub fn bounds(&self) -> Bounds {
        Bounds { bytes: MAX_RESPONSE, time: self.transport.timeout() }
    }

    /// The same within other bounds.
    ///
    /// # Errors
    /// As [`Federation::request`].
    pub async fn request_within<R>(
        &self,
        server: &ServerName,
        request: R,
        bounds: Bounds,
    ) -> Result<R::IncomingResponse>
    where
        R: OutgoingRequest<Authentication = ServerSignatures, PathBuilder = SinglePath>,
    {
        read::<R>(server, &self.response(server, request, bounds, BackOff::Heed).await?)
    }

    /// The same whether or not the server is to be asked yet. If it does not answer, no other request waits for that:
    /// the caller has waits of its own.
    ///
    /// # Errors
    /// As [`Federation::request`].
    pub async fn request_apart<R>(
        &self,
        server: &ServerName,
        request: R,
        bounds: Bounds,
    ) -> Result<R::IncomingResponse>
    where
        R: OutgoingRequest<Authentication = ServerSignatures, PathBuilder = SinglePath>,
    {
        read::<R>(server, &self.response(server, request, bounds, BackOff::Apart).await?)
    }

    /// As [`Federation::request_within`], for a response that holds events as they were signed. How deep each is nested is checked with the event,
    /// so that one spoils no others.
    ///
    /// # Errors
    /// As [`Federation::request`].
    pub async fn request_events<R>(
        &self,
        server: &ServerName,
        request: R,
        bounds: Bounds,
    ) -> Result<R::IncomingResponse>
    where
        R: OutgoingRequest<Authentication = ServerSignatures, PathBuilder = SinglePath>,
    {
        parse::<R>(server, &self.response(server, request, bounds, BackOff::Heed).await?)
    }

    async fn response<R>(
        &self,
        server: &ServerName,
        request: R,
        bounds: Bounds,
        back_off: BackOff,
    ) -> Result<http::Response<bytes::Bytes>>
    where
        R: OutgoingRequest<Authentication = ServerSignatures, PathBuilder = SinglePath>,
    {
        let make = |base: &str| self.sign(server, request, base);
        self.transport.send(server, bounds, back_off, make).await
    }

    /// The request with this server's signature over what will be sent.
    pub(crate) fn sign<R>(
        &self,
        server: &ServerName,
        request: R,
        base: &str,
    ) -> Result<Request<Vec<u8>>, IntoHttpError>
    where
        R: OutgoingRequest<Authentication = ServerSignatures, PathBuilder = SinglePath>,
    {
        let key = self.signing.current();
        let input = || XMatrixSigningInput::new(self.own_name.clone(), server.to_owned(), &key);
        let mut request = request.try_into_http_request::<Vec<u8>>(base, input(), ())?;
        let sent = wick_outbound::as_sent(request.uri()).map_err(IntoHttpError::authentication)?;
        if sent != *request.uri() {
            *request.uri_mut() = sent;
            ServerSignatures::add_authentication(&mut request, input())
                .map_err(IntoHttpError::authentication)?;
        }
        Ok(request)
    }
}

/// Makes a request that is not signed.
pub(crate) async fn request_unsigned<R>(
    transport: &Transport,
    server: &ServerName,
    request: R,
    bounds: Bounds,
    back_off: BackOff,
) -> Result<R::IncomingResponse>
where
    R: OutgoingRequest<Authentication = NoAuthentication, PathBuilder = SinglePath>,
{
    let make = |base: &str| request.try_into_http_request::<Vec<u8>>(base, (), ());
    let response = transport.send(server, bounds, back_off, make).await?;
    read::<R>(server, &response)
}

fn read<R: OutgoingRequest>(
    server: &ServerName,
    response: &http::Response<bytes::Bytes>,
) -> Result<R::IncomingResponse> {
    let body = response.body();
    wick_core::json::ensure_shallow(body)
        .map_err(|_| remote(server, RemoteReason::Unreadable, "the response is nested too deep"))?;
    parse::<R>(server, response)
}

/// Reads a response, however deep its JSON is nested.
pub(crate) fn parse<R: OutgoingRequest>(
    server: &ServerName,
    response: &http::Response<bytes::Bytes>,
) -> Result<R::IncomingResponse> {
    let body = response.body();
    let mut borrowed = http::Response::new(&**body);
    *borrowed.status_mut() = response.status();
    *borrowed.headers_mut() = response.headers().clone();
    R::IncomingResponse::try_from_http_response(borrowed).map_err(|_| {
        // Ruma's error can quote the response.
        remote(server, RemoteReason::Unreadable, "the response is not what was asked for")
    })
}

impl Federation {
    /// Fails if the configuration forbids to talk to `server`.
    ///
    /// # Errors
    /// [`Error::Remote`] with [`RemoteReason::Forbidden`].
    pub fn ensure_allowed(&self, server: &ServerName) -> Result<(), Error> {
        self.transport.ensure_allowed(server)
    }

    /// When a server may be asked again that did not answer; `None` if it did.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn retry_at(&self, server: &ServerName) -> Result<Option<Timestamp>> {
        self.transport.destinations.retry_at(server)
    }

    /// The servers that come out of back-off before its end, from now on: a request of theirs, or to them, succeeded.
    #[must_use]
    pub fn revivals(&self) -> broadcast::Receiver<OwnedServerName> {
        self.transport.destinations.revivals()
    }
}
