//! Gathers the sources of the configuration: file, environment, flags.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
};

use wick_core::config::{Config, Sources};

use crate::{Failure, cli::Cli, telemetry};

/// Read from the working folder if no file is named.
const DEFAULT_FILE: &str = "wick.toml";

/// The configuration, or everything that is wrong with it.
pub(crate) fn load(cli: &Cli) -> Result<Config, Failure> {
    let file = read_file(cli)?;
    let file = file.as_ref().map(|(path, text)| (path.display().to_string(), text.as_str()));
    let sources = Sources {
        file: file.as_ref().map(|(name, text)| (name.as_str(), *text)),
        environment: environment(),
        flags: flags(cli),
    };
    let config = Config::load(&sources).map_err(|problems| {
        let lines: Vec<_> = problems.iter().map(|problem| format!("\n  {problem}")).collect();
        Failure(format!("the configuration has problems:{}", lines.concat()))
    })?;
    telemetry::ensure_filter(&config.logging)?;
    Ok(config)
}

fn read_file(cli: &Cli) -> Result<Option<(PathBuf, String)>, Failure> {
    let named = cli.config.clone().or_else(|| env::var_os("WICK_CONFIG").map(PathBuf::from));
    let path = named.as_deref().unwrap_or(Path::new(DEFAULT_FILE));
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some((path.to_owned(), text))),
        Err(error) if error.kind() == io::ErrorKind::NotFound && named.is_none() => Ok(None),
        Err(error) => {
            Err(Failure::because(format_args!("{} cannot be read", path.display()), error))
        }
    }
}

fn environment() -> Vec<(String, String)> {
    env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

fn flags(cli: &Cli) -> Vec<(String, String)> {
    let mut flags = cli.set.clone();
    if let Some(name) = &cli.server_name {
        flags.push(("server.name".to_owned(), name.clone()));
    }
    if let Some(folder) = &cli.data {
        flags.push(("database.path".to_owned(), folder.clone()));
    }
    if !cli.listen.is_empty() {
        let addresses: Vec<_> = cli.listen.iter().map(|address| format!("{address:?}")).collect();
        flags.push(("listen.tcp".to_owned(), format!("[{}]", addresses.join(", "))));
    }
    flags
}
