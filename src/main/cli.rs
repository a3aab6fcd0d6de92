//! The command line: subcommands, flags, and output.

use std::{
    io::{self, Write},
    path::PathBuf,
};

use clap::{CommandFactory, Parser, Subcommand};
use clap_complete::Shell;

use crate::Failure;

/// A Matrix homeserver in which events can expire. Without a command it serves.
#[derive(Debug, Parser)]
#[command(name = "wick", version, arg_required_else_help = false)]
pub(crate) struct Cli {
    /// The configuration file [default: wick.toml in the working folder, if it is there]
    #[arg(short, long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// The server's name
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) server_name: Option<String>,
    /// An address for plain HTTP; may be repeated
    #[arg(long, global = true, value_name = "ADDRESS")]
    pub(crate) listen: Vec<String>,
    /// The folder of the database and the keys
    #[arg(long, global = true, value_name = "FOLDER")]
    pub(crate) data: Option<String>,
    /// Any key of the configuration, such as expiry.max_running=5; may be repeated
    #[arg(long, global = true, value_name = "KEY=VALUE", value_parser = key_and_value)]
    pub(crate) set: Vec<(String, String)>,
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the server (this is what happens without a command)
    Serve,
    /// Read the configuration and report everything that is wrong with it
    Check {
        /// Check the stored rooms as well; the server must not run
        #[arg(long)]
        rooms: bool,
        /// Check the stored media as well; the server must not run
        #[arg(long)]
        media: bool,
        /// Give up what follows the damage in the database's logs, so that the server starts again; the
        /// server must not run
        #[arg(long)]
        salvage: bool,
    },
    /// Copy the database and the keys, while the server runs or not
    Backup {
        /// The folder to make; it must not exist
        folder: PathBuf,
    },
    /// Query or control the running server
    Admin {
        #[command(subcommand)]
        what: Admin,
    },
    /// Write a file to standard output
    Generate {
        #[command(subcommand)]
        what: Generate,
    },
}

/// Commands to the running server.
#[derive(Debug, Subcommand)]
pub(crate) enum Admin {
    /// How the server is
    Status,
    /// Timers of events that expire or are sent later
    #[command(subcommand)]
    Timers(Timers),
    /// Calls by LiveKit
    #[command(subcommand)]
    Calls(Calls),
    /// Guests: when each registered and when it sent the last request
    Guests {
        /// How many at most
        #[arg(long, default_value_t = 100)]
        limit: usize,
    },
    /// Other servers
    #[command(subcommand)]
    Federation(Federation),
    /// Uploaded files
    #[command(subcommand)]
    Media(Media),
    /// Reports of users about events, rooms and users, the newest first
    Reports {
        /// How many at most
        #[arg(long, default_value_t = 100)]
        limit: usize,
    },
}

/// What to do with files. Those of other servers are named `SERVER/MEDIA_ID`.
#[derive(Debug, Subcommand)]
pub(crate) enum Media {
    /// By media id, with owner, time, size, content type and name
    List {
        /// Only those of this user, with the bytes they take together
        #[arg(long, value_name = "USER_ID")]
        user: Option<String>,
        /// Those that events of this room refer to, as far as they are not encrypted
        #[arg(long, value_name = "ROOM_ID", conflicts_with = "user")]
        room: Option<String>,
        /// Those of another server that are kept here
        #[arg(long, value_name = "SERVER", conflicts_with_all = ["user", "room"])]
        server: Option<String>,
        /// Those of all other servers that are kept here
        #[arg(long, conflicts_with_all = ["user", "room", "server"])]
        remote: bool,
        /// Only those after this media id; in a room, after this place
        #[arg(long, value_name = "MEDIA_ID", allow_hyphen_values = true)]
        after: Option<String>,
        /// How many at most
        #[arg(long, default_value_t = 100)]
        limit: usize,
    },
    /// Delete one
    Delete {
        /// Which
        #[arg(allow_hyphen_values = true)]
        media_id: String,
    },
    /// Delete all of a user, of a room, or of another server
    DeleteAll {
        /// A user, a room or a server
        of: String,
    },
    /// Stop serving the content of one, from any upload of it
    Quarantine {
        /// Which
        #[arg(allow_hyphen_values = true)]
        media_id: String,
    },
    /// Stop serving the contents of all of a user, of a room, or of another server
    QuarantineAll {
        /// A user, a room or a server
        of: String,
    },
    /// Serve it again
    Release {
        /// Which
        #[arg(allow_hyphen_values = true)]
        media_id: String,
    },
    /// Serve all of a user, of a room, or of another server again
    ReleaseAll {
        /// A user, a room or a server
        of: String,
    },
}

/// What to ask or do about other servers.
#[derive(Debug, Subcommand)]
pub(crate) enum Federation {
    /// Resolve a server's name, connect, verify its keys and make a signed request, and say what came of each step
    Check {
        /// Its name
        server: String,
    },
    /// How requests to other servers went, by name: last answer, failures since, next attempt, last failure
    Destinations {
        /// Only those after this name
        #[arg(long, value_name = "SERVER")]
        after: Option<String>,
        /// How many at most
        #[arg(long, default_value_t = 100)]
        limit: usize,
    },
    /// Let the next request to a server that did not answer be made at once
    Reset {
        /// Its name
        server: String,
    },
    /// Make a new signing key, which is used from now on; the former one is published as an old key
    RotateKey,
}

/// What to do with timers.
#[derive(Debug, Subcommand)]
pub(crate) enum Timers {
    /// The running ones
    List {
        /// Only those of this room
        #[arg(long, value_name = "ROOM_ID")]
        room: Option<String>,
        /// Only those of this user
        #[arg(long, value_name = "USER_ID")]
        user: Option<String>,
    },
    /// End one as its owner could: an event that expires ends, a delayed one is never sent
    End {
        /// Its number in the list
        timer: u64,
    },
}

/// What to ask about calls.
#[derive(Debug, Subcommand)]
pub(crate) enum Calls {
    /// Report what keeps calls from working
    Check,
}

/// What to write.
#[derive(Debug, Subcommand)]
pub(crate) enum Generate {
    /// The configuration file with every key and its default
    Config,
    /// Completions for a shell
    Completions {
        /// Which shell
        shell: Shell,
    },
}

fn key_and_value(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("this is not KEY=VALUE")?;
    Ok((key.trim().to_owned(), value.trim().to_owned()))
}

/// A line on standard output.
pub(crate) fn print(line: &str) -> Result<(), Failure> {
    writeln!(io::stdout().lock(), "{line}")
        .map_err(|error| Failure::because("standard output cannot be written", error))
}

/// A line on standard error. A failure to write it is ignored.
pub(crate) fn complain(failure: &Failure) {
    drop(writeln!(io::stderr().lock(), "wick: {failure}"));
}

/// Writes completions to standard output.
pub(crate) fn completions(shell: Shell) -> Result<(), Failure> {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "wick", &mut text);
    print(String::from_utf8_lossy(&text).trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_makes_sense() {
        Cli::command().debug_assert();
    }

    #[test]
    fn flags_come_before_or_after_the_command() {
        let cli = Cli::parse_from(["wick", "check", "--set", "sync.timeline_limit = 5"]);
        assert_eq!(cli.set, [("sync.timeline_limit".to_owned(), "5".to_owned())]);
        assert!(Cli::try_parse_from(["wick", "--set", "nonsense"]).is_err());
    }
}
