//! The pure parts of what `patches/` adds to other servers, compiled and tested here, and the script that
//! applies it. The rest is compiled in those servers alone.

#![expect(unreachable_pub, reason = "other crates of those servers use what is public")]

#[path = "../../patches/expiring/config.rs"]
mod config;
#[path = "../../patches/expiring/contract.rs"]
mod contract;
#[path = "../../patches/expiring/rates.rs"]
mod rates;
#[path = "../../patches/expiring/requests.rs"]
mod requests;
#[path = "../../patches/expiring/timers.rs"]
mod timers;
#[path = "../../patches/expiring/tokens.rs"]
mod tokens;
#[path = "../../patches/expiring/unsigned.rs"]
mod unsigned;

/// wick's own schema, which the modules have a copy of beside them when they are applied.
mod wire {
    pub(super) use wick_ruma::{
        EXPIRE_RELATION, ExpireRelation, ExpireStatus, ExpireUnsigned, InvalidExpiry,
        RequestedExpiry, TerminalContent, WILL_EXPIRE,
    };
}

mod script {
    //! `patches/apply`, tried on a small tree with a patch made up for it.

    #![expect(clippy::unwrap_used, reason = "a test that cannot prepare its tree fails")]

    use std::{
        fs,
        path::{Path, PathBuf},
        process::{Command, Output},
    };

    use tempfile::TempDir;

    const BEFORE: &str = "mod a;\nmod b;\n";
    const AFTER: &str = "mod a;\nmod ours;\nmod b;\n";

    /// The folder of patches with one patch, for `server/src/a.rs`, and a tree that it fits.
    struct Case {
        folder: TempDir,
    }

    impl Case {
        fn new() -> Self {
            let case = Self { folder: TempDir::new().unwrap() };
            let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
            for folder in ["patches/expiring", "src/ruma"] {
                fs::create_dir_all(case.path(folder)).unwrap();
                for entry in fs::read_dir(top.join(folder)).unwrap() {
                    let entry = entry.unwrap();
                    if entry.file_type().unwrap().is_file() {
                        let to = case.path(folder).join(entry.file_name());
                        fs::copy(entry.path(), to).unwrap();
                    }
                }
            }
            fs::copy(top.join("patches/apply"), case.path("patches/apply")).unwrap();
            fs::write(case.path("patches/expiring/server.rs"), "// What differs.\n").unwrap();
            fs::create_dir_all(case.path("server/src/service")).unwrap();
            fs::write(case.path("server/src/a.rs"), BEFORE).unwrap();
            let patch = format!(
                "diff --git a/src/a.rs b/src/a.rs\nindex {}..{} 100644\n--- a/src/a.rs\n+++ b/src/a.rs\n\
                 @@ -1,0 +2 @@\n+mod ours;\n",
                case.blob_id(BEFORE),
                case.blob_id(AFTER),
            );
            fs::write(case.path("patches/server-v1.patch"), patch).unwrap();
            case
        }

        fn path(&self, path: &str) -> PathBuf {
            self.folder.path().join(path)
        }

        fn blob_id(&self, text: &str) -> String {
            fs::write(self.path("blob"), text).unwrap();
            let command = ["hash-object", "--no-filters", "blob"];
            let output =
                Command::new("git").args(command).current_dir(&self.folder).output().unwrap();
            String::from_utf8(output.stdout).unwrap().trim().to_owned()
        }

        /// Runs the script; whether it succeeded.
        fn apply(&self, options: &[&str]) -> bool {
            let mut command = Command::new(self.path("patches/apply"));
            let Output { status, .. } =
                command.args(options).arg(self.path("server")).output().unwrap();
            status.success()
        }

        fn tree(&self) -> (String, bool) {
            let modules = self.path("server/src/service/expiring/wire/will_expire.rs").exists();
            (fs::read_to_string(self.path("server/src/a.rs")).unwrap(), modules)
        }
    }

    #[test]
    fn a_patch_is_applied_once_and_taken_back() {
        let case = Case::new();
        assert!(case.apply(&["--check"]));
        assert_eq!(case.tree(), (BEFORE.to_owned(), false), "a check changes nothing");
        assert!(!case.apply(&["--reverse"]), "there is nothing to take back");
        assert!(case.apply(&[]));
        assert_eq!(case.tree(), (AFTER.to_owned(), true));
        assert!(!case.apply(&[]) && !case.apply(&["--check"]), "it has been applied");
        assert_eq!(case.tree(), (AFTER.to_owned(), true));
        assert!(case.apply(&["--reverse"]));
        assert_eq!(case.tree(), (BEFORE.to_owned(), false));
        assert!(!case.path("server/src/service/expiring").exists());
    }

    #[test]
    fn a_tree_of_another_release_is_left_alone() {
        let case = Case::new();
        let other = format!("// Another release.\n{BEFORE}");
        fs::write(case.path("server/src/a.rs"), &other).unwrap();
        for options in [&[][..], &["--check"], &["--reverse"]] {
            assert!(!case.apply(options), "{options:?}");
            assert_eq!(case.tree(), (other.clone(), false));
        }
    }

    #[test]
    fn a_file_in_the_way_of_a_module_is_left_alone() {
        let case = Case::new();
        let theirs = case.path("server/src/service/expiring.rs");
        fs::write(&theirs, "theirs").unwrap();
        assert!(!case.apply(&[]));
        assert_eq!(fs::read_to_string(&theirs).unwrap(), "theirs");
        assert_eq!(case.tree(), (BEFORE.to_owned(), false));
    }
}
