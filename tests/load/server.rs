//! A wick process of our own: fresh folder, generated configuration, killed and restarted on request.
//!
//! Dropping it kills the process and removes its folder.

use std::{
    fs::{self, File},
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use crate::{
    Failure, Result,
    cli::Durability,
    clock,
    connection::Connection,
    livekit::{KEY, SECRET},
    matrix,
};

const PATIENCE: Duration = Duration::from_secs(120);

/// How much a server allows.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Allows {
    /// What a benchmark needs.
    Benchmark,
    /// No limits, and cheap passwords.
    All,
    /// No limits.
    NoLimits,
    /// What a default configuration does.
    Defaults,
}

impl Allows {
    /// The lines of the configuration; but for a benchmark's, in keys that every wick knows.
    fn lines(self) -> &'static str {
        match self {
            Self::Benchmark => BENCHMARK,
            Self::All => {
                "limits.enabled = false\naccounts = { argon2_memory_kilobytes = 64, argon2_iterations = 1 }\n"
            }
            Self::NoLimits => "limits.enabled = false\n",
            Self::Defaults => "",
        }
    }
}

/// A running wick.
pub(crate) struct Server {
    binary: PathBuf,
    folder: PathBuf,
    port: u16,
    child: Child,
}

impl Server {
    /// Starts `binary` in a new folder under `parent` and waits until it answers.
    pub(crate) async fn start(
        binary: &Path,
        parent: &Path,
        (durability, livekit): (Durability, Option<SocketAddr>),
        allows: Allows,
    ) -> Result<Self> {
        let port = free_port()?;
        let folder = parent.join(format!("wick-load-{}-{port}", std::process::id()));
        fs::create_dir_all(&folder)?;
        // It runs in its own folder.
        let binary = std::path::absolute(binary)?;
        let calls = livekit.map(|address| calls(port, address)).unwrap_or_default();
        let configuration = configuration(port, &folder, durability) + &calls + allows.lines();
        fs::write(folder.join("wick.toml"), configuration)?;
        let child = spawn(&binary, &folder)?;
        let mut server = Self { binary, folder, port, child };
        server.ready().await?;
        Ok(server)
    }

    /// Kills the server and starts it again, with another configuration.
    pub(crate) async fn restart_with(
        &mut self,
        durability: Durability,
        allows: Allows,
    ) -> Result<()> {
        self.kill()?;
        let configuration = configuration(self.port, &self.folder, durability) + allows.lines();
        fs::write(self.folder.join("wick.toml"), configuration)?;
        self.restart().await.map(drop)
    }

    pub(crate) fn authority(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// `kill -9`, and waits for the process to be gone.
    pub(crate) fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Starts the killed server again; answers when the process was started, once the first request was answered.
    pub(crate) async fn restart(&mut self) -> Result<Instant> {
        let begun = clock::now();
        self.child = spawn(&self.binary, &self.folder)?;
        self.ready().await?;
        Ok(begun)
    }

    /// What the files of the server take on disk, in bytes.
    pub(crate) fn disk_bytes(&self) -> u64 {
        bytes_under(&self.folder)
    }

    async fn ready(&mut self) -> Result<()> {
        let mut connection = Connection::new(&self.authority());
        let end = clock::now() + PATIENCE;
        // A server that has ended, because of its configuration for one, will not answer any more.
        let hope = || matches!(self.child.try_wait(), Ok(None)) && clock::now() < end;
        matrix::wait_until_ready(&mut connection, hope).await.map_err(|failure| {
            let log = fs::read_to_string(self.folder.join("log")).unwrap_or_default();
            let tail: Vec<&str> = log.lines().rev().take(5).collect();
            Failure::Other(format!(
                "the server did not become ready: {failure}; its last lines: {tail:?}"
            ))
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Best effort on the way out: a process that is gone already, or a folder that stays, changes no figure.
        drop(self.kill());
        drop(fs::remove_dir_all(&self.folder));
    }
}

/// What the configuration of a benchmark adds: no limits, as a few users stand for many, cheap passwords
/// (making accounts is not measured), and long timelines, so that a watcher sees a burst whole.
const BENCHMARK: &str = r"
accounts = { argon2_memory_kilobytes = 64, argon2_iterations = 1 }
limits.enabled = false
connections = { max = 20000, max_per_address = 10000 }
sync.max_timeline_limit = 10000

[push]
allow_http = true

[outbound]
deny_addresses = []

[expiry]
max_running = 100000000

[delayed_events]
max_scheduled = 100000000

[timers]
keep_alive = { per_second = 1000000.0, burst = 1000000 }
invalid = { per_second = 1000000.0, burst = 1000000 }
";

fn configuration(port: u16, folder: &Path, durability: Durability) -> String {
    let path = folder.join("database");
    let durability = durability.name();
    format!(
        r#"
server.name = "localhost"
listen.tcp = ["127.0.0.1:{port}"]
database = {{ path = {path:?}, durability = "{durability}" }}
registration.mode = "open"
logging.filter = "warn"
metrics.enabled = false
admin.enabled = false
"#
    )
}

/// What the configuration has for calls by a LiveKit server.
fn calls(port: u16, livekit: SocketAddr) -> String {
    format!(
        r#"server.well_known_client = "http://127.0.0.1:{port}"
calls = {{ livekit_url = "ws://{livekit}", livekit_key = "{KEY}", livekit_secret = "{SECRET}" }}
"#
    )
}

fn spawn(binary: &Path, folder: &Path) -> Result<Child> {
    let log = File::options().create(true).append(true).open(folder.join("log"))?;
    let child = Command::new(binary)
        .arg("--config")
        .arg(folder.join("wick.toml"))
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()?;
    Ok(child)
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

fn bytes_under(folder: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    entries
        .flatten()
        .map(|entry| match entry.metadata() {
            Ok(about) if about.is_dir() => bytes_under(&entry.path()),
            Ok(about) => about.len(),
            // Compaction removes files while we look.
            Err(_) => 0,
        })
        .sum()
}
