//! The real binary as a process of its own, for what an in-process server cannot show: signals,
//! kills, the command line, sockets.
//!
//! Invariants: the binary is built before it is used, so that no stale one is tested; ports are
//! given by the system; nothing waits by sleeping; a process does not outlive its handle.

use std::{
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::{LazyLock, mpsc},
    thread,
};

use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

/// The path of the binary.
static BINARY: LazyLock<PathBuf> = LazyLock::new(|| {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    build
        .args(["build", "--quiet", "--workspace", "--bins"])
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."));
    // The variables that cargo sets for a test would make some build scripts run again.
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        if ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_CRATE_", "CARGO_PRIMARY_", "CARGO_BIN_"]
            .iter()
            .any(|prefix| name.starts_with(prefix))
        {
            build.env_remove(&*name);
        }
    }
    let built = build.status().expect("cargo runs");
    assert!(built.success(), "the binary cannot be built");
    // A test binary lies in target/<profile>/deps, another one beside this one.
    let own = std::env::current_exe().expect("a binary has a path");
    let folder = own.parent().expect("it lies in a folder");
    let folder = if folder.ends_with("deps") { folder.parent() } else { Some(folder) };
    folder.expect("it lies two folders deep").join("wick")
});

/// A running server.
pub struct Process {
    child: Child,
    address: SocketAddr,
    log: mpsc::Receiver<String>,
    seen: Vec<String>,
}

/// The path of the binary, for what starts it itself.
#[must_use]
pub fn binary() -> &'static Path {
    &BINARY
}

/// Runs the binary with `arguments` until it ends, in `folder`.
#[must_use]
pub fn run(folder: &Path, arguments: &[&str]) -> Output {
    command(folder, arguments).output().expect("the binary runs")
}

/// Starts a server in `folder` without waiting for anything; its log is piped. The caller ends it.
#[must_use]
pub fn spawn(folder: &Path, arguments: &[&str]) -> Child {
    start(command(folder, &SMALL).args(arguments))
}

/// What every server of a test is started with.
const SMALL: [&str; 6] = [
    "--listen",
    "127.0.0.1:0",
    "--set",
    "metrics.enabled=false",
    "--set",
    "accounts.argon2_memory_kilobytes=8",
];

fn start(command: &mut Command) -> Child {
    command.stdout(Stdio::piped()).spawn().expect("the binary runs")
}

/// The binary with these limits, soft and hard, of file descriptors.
fn limited(folder: &Path, (soft, hard): (u32, u32)) -> Command {
    let mut shell = Command::new("sh");
    let script = format!("ulimit -Sn {soft} && ulimit -Hn {hard} && exec \"$0\" \"$@\"");
    shell.current_dir(folder).args(["-c", &script]).arg(&*BINARY);
    shell
}

impl Process {
    /// Starts a server in `folder`, with its data in `folder/wick-data`, and waits until it is ready.
    #[must_use]
    pub fn start(folder: &Path, arguments: &[&str]) -> Self {
        Self::of(spawn(folder, arguments))
    }

    /// The same with these limits, soft and hard, of file descriptors.
    #[must_use]
    pub fn start_with_descriptors(folder: &Path, arguments: &[&str], limits: (u32, u32)) -> Self {
        Self::of(start(limited(folder, limits).args(SMALL).args(arguments)))
    }

    /// Runs the server with these limits of file descriptors until it ends by itself.
    #[must_use]
    pub fn run_with_descriptors(folder: &Path, limits: (u32, u32)) -> Output {
        limited(folder, limits).args(SMALL).output().expect("the binary runs")
    }

    fn of(mut child: Child) -> Self {
        let lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        let (send, log) = mpsc::channel();
        thread::spawn(move || {
            // The other end goes first when a test is done with the log.
            lines.map_while(Result::ok).try_for_each(|line| send.send(line))
        });
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut process = Self { child, address, log, seen: Vec::new() };
        let listening = process.wait_for("listening address=");
        let (_, address) = listening.rsplit_once('=').expect("the line names an address");
        process.address = address.parse().expect("it is an address");
        process.wait_for("ready");
        process
    }

    /// The id of the process.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The next log line with `text` in it; waits for it.
    #[expect(clippy::panic, reason = "a test fails by panicking")]
    pub fn wait_for(&mut self, text: &str) -> String {
        while let Ok(line) = self.log.recv() {
            self.seen.push(line);
            if let Some(line) = self.seen.last().filter(|line| line.contains(text)) {
                return line.clone();
            }
        }
        panic!("the server ended and never logged {text:?}:\n{}", self.seen.join("\n"));
    }

    /// The log lines that were waited for, and those before them.
    #[must_use]
    pub fn log_so_far(&self) -> &[String] {
        &self.seen
    }

    /// All its log lines; waits until it has ended.
    pub fn whole_log(&mut self) -> &[String] {
        self.seen.extend(self.log.iter());
        &self.seen
    }

    /// A request on a connection of its own; an empty token and a null body are left out.
    pub async fn request(
        &self,
        method: Method,
        path: &str,
        token: &str,
        body: Value,
    ) -> (StatusCode, Value) {
        let stream = TcpStream::connect(self.address).await.expect("the server listens");
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.expect("the server speaks http");
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, "localhost")
            .header(header::CONNECTION, "close");
        if !token.is_empty() {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let request = request.body(Full::new(Bytes::from(body))).expect("it is well-formed");
        let exchange = async {
            let response = sender.send_request(request).await.expect("the server answers");
            let status = response.status();
            let body = response.into_body().collect().await.expect("the answer ends").to_bytes();
            (status, serde_json::from_slice(&body).unwrap_or(Value::Null))
        };
        let (answer, ended) = tokio::join!(exchange, connection);
        ended.expect("the connection ends in order");
        answer
    }

    /// Asks it to stop, as a service manager does.
    pub fn terminate(&self) {
        let sent = Command::new("kill").arg("-TERM").arg(self.child.id().to_string()).status();
        assert!(sent.expect("kill runs").success());
    }

    /// Waits until it has ended.
    pub fn ended(&mut self) -> ExitStatus {
        self.child.wait().expect("it was started")
    }

    /// `kill -9`.
    pub fn kill(mut self) {
        self.child.kill().expect("it runs");
        self.ended();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already; then there is nothing to kill.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn command(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(&*BINARY);
    command.current_dir(folder).args(arguments);
    command
}
