//! The server's side of end-to-end encryption, over HTTP.

mod backups;
