//! TLS for the listeners that have it.

use std::sync::Arc;

use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use tokio_rustls::TlsAcceptor;
use wick_core::config::Listen;

use crate::Failure;

/// What takes TLS connections, with the configured certificate.
pub(crate) fn acceptor(listen: &Listen) -> Result<TlsAcceptor, Failure> {
    let certificate = CertificateDer::pem_file_iter(&listen.tls_certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| {
            let path = listen.tls_certificate.display();
            Failure::because(format_args!("the certificate {path} cannot be read"), error)
        })?;
    let key = PrivateKeyDer::from_pem_file(&listen.tls_key).map_err(|error| {
        let path = listen.tls_key.display();
        Failure::because(format_args!("the private key {path} cannot be read"), error)
    })?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(certificate, key))
        .map_err(|error| Failure::because("the certificate cannot be used", error))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}
