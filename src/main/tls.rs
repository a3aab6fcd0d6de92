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
    let (certificate, key) = read(listen)?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(certificate, key))
        .map_err(|error| Failure::because("the certificate cannot be used", error))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

fn read(
    listen: &Listen,
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), Failure> {
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
    Ok((certificate, key))
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use rustls::{ClientConfig, RootCertStore, pki_types};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio_rustls::TlsConnector;

    use super::*;

    /// Writes a certificate for `localhost` and its key.
    fn listen_in(folder: &Path) -> (Listen, CertificateDer<'static>) {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let listen = Listen {
            tls_certificate: folder.join("certificate.pem"),
            tls_key: folder.join("key.pem"),
            ..Listen::default()
        };
        fs::write(&listen.tls_certificate, made.cert.pem()).unwrap();
        fs::write(&listen.tls_key, made.signing_key.serialize_pem()).unwrap();
        (listen, made.cert.der().clone())
    }

    /// Sends a request through TLS to a server named `name` whose certificate `root` has signed.
    async fn greet(acceptor: TlsAcceptor, root: CertificateDer<'static>, name: &'static str) {
        let mut roots = RootCertStore::empty();
        roots.add(root).unwrap();
        let client = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let connector = TlsConnector::from(Arc::new(client));
        let (here, there) = tokio::io::duplex(10_000);
        let name = pki_types::ServerName::try_from(name).unwrap();
        let (server, client) = tokio::join!(acceptor.accept(there), connector.connect(name, here));
        let (mut server, mut client) = (server.unwrap(), client.unwrap());
        client.write_all(b"hello").await.unwrap();
        client.shutdown().await.unwrap();
        let mut heard = String::new();
        server.read_to_string(&mut heard).await.unwrap();
        assert_eq!(heard, "hello");
    }

    #[tokio::test]
    async fn a_client_that_trusts_the_certificate_gets_through() {
        let folder = tempfile::tempdir().unwrap();
        let (listen, certificate) = listen_in(folder.path());
        let acceptor = acceptor(&listen).unwrap();
        greet(acceptor, certificate, "localhost").await;
    }

    #[test]
    fn a_certificate_that_cannot_be_used_is_told_by_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let (listen, _) = listen_in(folder.path());
        let error_of = |listen: &Listen| acceptor(listen).err().unwrap().0;
        let other = tempfile::tempdir().unwrap();
        let (stranger, _) = listen_in(other.path());
        let mixed = Listen { tls_key: stranger.tls_key, ..listen.clone() };
        assert!(
            error_of(&mixed).starts_with("the certificate cannot be used"),
            "{}",
            error_of(&mixed)
        );
        fs::write(&listen.tls_key, "nonsense").unwrap();
        assert!(error_of(&listen).contains("key.pem cannot be read"), "{}", error_of(&listen));
        fs::remove_file(&listen.tls_certificate).unwrap();
        assert!(
            error_of(&listen).contains("certificate.pem cannot be read"),
            "{}",
            error_of(&listen)
        );
    }
}
