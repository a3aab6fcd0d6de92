//! `wick backup`: a folder that a server can be started on, from a running server or without one.

use std::{
    fs,
    path::{self, Path},
};

use http::Method;
use serde_json::json;
use wick_core::{Config, config};
use wick_database::Database;
use wick_service::database_options;

use crate::{
    Failure,
    admin_socket::{Reply, ask},
    cli,
    data_folder::{ensure_folder, is_there, write_new},
    keys,
};

/// Copies the database and the keys into `folder`, which must not exist.
pub(crate) fn run(config: &Config, folder: &Path) -> Result<(), Failure> {
    let refuse =
        |error| Failure::because(format_args!("{} cannot be used", folder.display()), error);
    let folder = path::absolute(folder).map_err(refuse)?;
    if is_there(&folder)? {
        return Err(Failure(format!("{} exists already", folder.display())));
    }
    ensure_folder(&folder)?;
    let copied = copy(config, &folder);
    if copied.is_err() {
        // Half a backup is none. If it cannot be removed either, the first failure is reported.
        drop(fs::remove_dir_all(&folder));
    }
    copied?;
    cli::print(&format!("backed up to {}", folder.display()))
}

fn copy(config: &Config, folder: &Path) -> Result<(), Failure> {
    for name in keys::names(&config.database.path)? {
        fs::read(config.database.path.join(&name))
            .and_then(|key| write_new(&folder.join(&name), &key))
            .map_err(|error| Failure::because(format_args!("{name} cannot be copied"), error))?;
    }
    let store = config::Database::store_in(folder);
    let body = json!({ "folder": store });
    match ask(config, Method::POST, "/backup", Some(&body))? {
        Reply::Done(_) => Ok(()),
        Reply::NotRunning => {
            Database::open(&config.database.store(), database_options(&config.database))
                .and_then(|database| database.backup(&store))
                .map_err(|error| Failure::because("the database cannot be copied", error))
        }
    }
}
