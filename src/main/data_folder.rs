//! The data folder: made readable by its owner alone, and files put there whole or not at all.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, Permissions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use crate::Failure;

/// Makes a folder for this user alone, or makes the one that is there private.
pub(crate) fn ensure_folder(path: &Path) -> Result<(), Failure> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|error| {
        Failure::because(format_args!("the folder {} cannot be made", path.display()), error)
    })?;
    make_private(path).map_err(|error| {
        let what = format_args!("the folder {} cannot be closed to other users", path.display());
        Failure::because(what, error)
    })
}

fn make_private(path: &Path) -> io::Result<()> {
    let mode = fs::metadata(path)?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        fs::set_permissions(path, Permissions::from_mode(mode & 0o700))?;
        let before = format!("{mode:o}");
        tracing::warn!(path = %path.display(), before, "closed the data folder to other users");
    }
    Ok(())
}

/// Whether something is there.
///
/// # Errors
/// If that cannot be found out, for lack of permission for instance.
pub(crate) fn is_there(path: &Path) -> Result<bool, Failure> {
    path.try_exists().map_err(|error| {
        Failure::because(format_args!("{} cannot be looked at", path.display()), error)
    })
}

/// Writes a new file for this user alone, so that after a crash it is there whole or not at all.
pub(crate) fn write_new(path: &Path, contents: &[u8]) -> io::Result<()> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".new");
    let temporary = PathBuf::from(temporary);
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
    file.write_all(contents)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    match path.parent() {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}
