//! Listeners: TCP, TLS and UNIX sockets, bound before the database is opened.
//!
//! Invariant: a UNIX socket that a process still listens on is never replaced.

use std::{
    fs, io,
    net::SocketAddr,
    os::unix::{fs::PermissionsExt, net::UnixStream},
    path::{Path, PathBuf},
};

use tokio::net::{TcpListener, UnixListener};
use tokio_rustls::TlsAcceptor;
use wick_core::config::Listen;

use crate::{Failure, tls};

/// Something that takes connections.
pub(crate) enum Listener {
    /// Plain HTTP.
    Tcp(TcpListener),
    /// HTTPS.
    Tls(TcpListener, TlsAcceptor),
    /// Plain HTTP from this machine.
    Unix(UnixListener),
}

/// Binds everything that clients connect to.
pub(crate) async fn bind_all(listen: &Listen) -> Result<Vec<Listener>, Failure> {
    let mut listeners = Vec::new();
    for address in &listen.tcp {
        listeners.push(Listener::Tcp(bind_tcp(*address).await?));
    }
    if !listen.tls.is_empty() {
        let acceptor = tls::acceptor(listen)?;
        for address in &listen.tls {
            listeners.push(Listener::Tls(bind_tcp(*address).await?, acceptor.clone()));
        }
    }
    for path in &listen.unix {
        listeners.push(Listener::Unix(bind_unix(path, 0o666)?));
    }
    Ok(listeners)
}

/// Binds a TCP address.
pub(crate) async fn bind_tcp(address: SocketAddr) -> Result<TcpListener, Failure> {
    let listener = TcpListener::bind(address).await.map_err(|error| {
        Failure::because(format_args!("the address {address} cannot be listened on"), error)
    })?;
    // Port 0 asks for any free one: log which it became.
    let address = listener.local_addr().unwrap_or(address);
    tracing::info!(%address, "listening");
    Ok(listener)
}

/// Binds a UNIX socket; its path has the permissions `mode` from its first moment on.
pub(crate) fn bind_unix(path: &Path, mode: u32) -> Result<UnixListener, Failure> {
    let bind = || -> io::Result<UnixListener> {
        if path.exists() && UnixStream::connect(path).is_ok() {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        let mut temporary = path.as_os_str().to_owned();
        temporary.push(".new");
        let temporary = PathBuf::from(temporary);
        if temporary.exists() {
            fs::remove_file(&temporary)?;
        }
        let listener = UnixListener::bind(&temporary)?;
        fs::set_permissions(&temporary, fs::Permissions::from_mode(mode))?;
        fs::rename(&temporary, path)?;
        Ok(listener)
    };
    let listener = bind().map_err(|error| {
        Failure::because(format_args!("the socket {} cannot be listened on", path.display()), error)
    })?;
    tracing::info!(path = %path.display(), "listening");
    Ok(listener)
}
