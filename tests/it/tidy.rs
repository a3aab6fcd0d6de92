//! The house rules that can be read off the source tree. Function length and the like is clippy's job.
//!
//! Every test collects all its findings before it fails, each with file, line and what to do.

mod architecture;
mod manifests;
mod patches;
mod source;
mod tree;

use tree::{Findings, Tree};

fn tree() -> Tree {
    Tree::load().expect("the source tree can be read")
}

/// Fails with the list of everything found.
fn assert_none(findings: &Findings) {
    assert!(findings.is_empty(), "\n{findings}");
}

#[test]
fn every_rust_file_opens_with_its_purpose() {
    assert_none(&source::headers(&tree()));
}

#[test]
fn no_file_is_longer_than_500_lines_before_its_tests() {
    assert_none(&source::file_sizes(&tree()));
}

#[test]
fn no_crate_is_longer_than_10000_lines() {
    assert_none(&source::crate_sizes(&tree()));
}

#[test]
fn modules_are_named_after_what_they_hold() {
    assert_none(&source::module_names(&tree()));
}

#[test]
fn nothing_is_left_undone_ignored_or_allowed() {
    assert_none(&source::leftovers(&tree()));
}

#[test]
fn no_file_names_a_place_on_one_machine() {
    assert_none(&source::machine_paths(&tree()));
}

#[test]
fn only_the_database_crate_names_rocksdb() {
    assert_none(&manifests::storage_engine(&tree()));
}

#[test]
fn every_pin_of_rocksdb_is_of_the_version_in_the_lock_file() {
    assert_none(&manifests::storage_engine_version(&tree()));
}

#[test]
fn the_arrows_between_crates_point_one_way() {
    assert_none(&manifests::arrows(&tree()));
}

#[test]
fn every_crate_takes_versions_and_lints_from_the_workspace() {
    assert_none(&manifests::workspace_inheritance(&tree()));
}

#[test]
fn every_integration_test_file_is_part_of_the_binary() {
    assert_none(&source::unlisted_test_files(&tree()));
}

#[test]
fn the_architecture_page_names_exactly_the_crates_that_exist() {
    assert_none(&architecture::crates(&tree()));
}

#[test]
fn every_test_the_pages_name_exists() {
    assert_none(&architecture::named_tests(&tree()));
}

#[test]
fn every_page_of_the_manual_is_in_its_summary() {
    assert_none(&architecture::summary(&tree()));
}

#[test]
fn a_patch_holds_headers_and_our_added_lines_alone() {
    let tree = tree();
    assert!(tree.files.iter().any(patches::is_patch), "there is a patch to check");
    assert_none(&patches::lines(&tree));
}

#[test]
fn the_folder_of_patches_holds_nothing_else() {
    assert_none(&patches::files(&tree()));
}

/// The rules, tried on small trees: a rule that finds nothing anywhere would pass unnoticed.
mod rules_find_what_they_are_for {
    use super::{architecture, manifests, patches, source, tree::Tree};

    fn rust(text: &str) -> Tree {
        Tree::of(&[("src/core/sample.rs", text)])
    }

    #[test]
    fn a_missing_header_is_found_and_a_present_one_is_not() {
        assert_eq!(source::headers(&rust("fn a() {}\n")).count(), 1);
        assert_eq!(source::headers(&rust("//! A.\n")).count(), 0);
    }

    #[test]
    fn lines_after_the_tests_begin_do_not_count() {
        let body = "//! A.\n".repeat(500);
        let tests = format!("{body}#[cfg(test)]\nmod tests {{\n{body}}}\n");
        assert_eq!(source::file_sizes(&rust(&tests)).count(), 0);
        assert_eq!(source::file_sizes(&rust(&format!("{body}\n"))).count(), 1);
        let import = format!("//! A.\n#[cfg(test)]\nuse std::fs;\n{body}");
        assert_eq!(source::file_sizes(&rust(&import)).count(), 1);
    }

    #[test]
    fn a_crate_over_the_limit_is_found() {
        let half = "//! A.\n".repeat(7_501);
        let tree = Tree::of(&[("src/core/a.rs", &half), ("src/core/b.rs", &half)]);
        assert_eq!(source::crate_sizes(&tree).count(), 1);
    }

    #[test]
    fn empty_module_names_are_found() {
        for path in ["src/core/mod.rs", "src/core/helpers.rs", "src/core/data/rooms.rs"] {
            assert_eq!(source::module_names(&Tree::of(&[(path, "//! A.\n")])).count(), 1, "{path}");
        }
        assert_eq!(source::module_names(&rust("mod utils {\n")).count(), 1);
        assert_eq!(source::module_names(&rust("mod account_data;\n")).count(), 0);
    }

    #[test]
    fn leftovers_are_found_and_words_that_contain_them_are_not() {
        for text in [
            concat!("    to", "do!()"),
            concat!("    // FIX", "ME: later"),
            concat!("#[ign", "ore]"),
            concat!("#[all", "ow(dead_code)]"),
            concat!("#![all", "ow(dead_code)]"),
        ] {
            assert_eq!(source::leftovers(&rust(text)).count(), 1, "{text}");
        }
        assert_eq!(
            source::leftovers(&rust("// MASTODON, #[expect(x, reason = \"y\")]")).count(),
            0
        );
    }

    #[test]
    fn machine_paths_are_found_and_routes_are_not() {
        assert_eq!(source::machine_paths(&rust(concat!("\"/ro", "ot/.cargo\""))).count(), 1);
        assert_eq!(source::machine_paths(&rust("\"/_matrix/work/item\"")).count(), 0);
    }

    #[test]
    fn a_pin_of_another_rocksdb_is_found() {
        let lock = "name = \"librocksdb-sys\"\nversion = \"0.19.0+11.8.1\"\n";
        let of = |pins: &str, demand: &str| {
            let demand = format!("const BUILT_FOR: &str = \"{demand}\";\n");
            let tree = Tree::of(&[
                ("Cargo.lock", lock),
                (".ci/rocksdb.pins", pins),
                ("src/database/engine/version.rs", &demand),
            ]);
            manifests::storage_engine_version(&tree).count()
        };
        assert_eq!(of("# comment\n11.8.1 a b c\n", "11.8.1"), 0);
        assert_eq!(of("11.8.1 a b c\n11.8.0 d e f\n", "11.8.1"), 1);
        assert_eq!(of("# comment\n", "11.8.0"), 2);
        assert_eq!(manifests::storage_engine_version(&Tree::of(&[])).count(), 1);
    }

    #[test]
    fn an_arrow_that_points_up_is_found() {
        let manifest = "[package]\nname = \"wick-room\"\n[dev-dependencies]\nwick-api = { workspace = true }\n";
        assert_eq!(manifests::arrows(&Tree::of(&[("src/room/Cargo.toml", manifest)])).count(), 1);
        let engine = "[dependencies]\nrocksdb = { workspace = true }\n";
        assert_eq!(
            manifests::storage_engine(&Tree::of(&[("src/api/Cargo.toml", engine)])).count(),
            1
        );
        assert_eq!(
            manifests::storage_engine(&Tree::of(&[("src/database/Cargo.toml", engine)])).count(),
            0
        );
    }

    #[test]
    fn a_line_of_theirs_in_a_patch_is_found() {
        let id = "0123456789abcdef0123456789abcdef01234567";
        let header =
            format!("diff --git a/x.rs b/x.rs\nindex {id}..{id} 100644\n--- a/x.rs\n+++ b/x.rs\n");
        let found = |hunks: &str| {
            let text = format!("{header}{hunks}");
            patches::lines(&Tree::of(&[("patches/sample.patch", &text)])).count()
        };
        assert_eq!(found("@@ -5,0 +6 @@\n+ours\n@@ -9,0 +11,2 @@\n+ours\n++++ ours\n"), 0);
        for theirs in [
            "@@ -5,0 +6 @@ fn theirs() {\n+ours\n",
            "@@ -5 +5 @@\n",
            "@@ -5,0 +6,2 @@\n+ours\n theirs\n",
            "@@ -5,0 +6,2 @@\n-theirs\n+ours\n",
            "@@ -5,0 +6 @@\n+ours\n-theirs\n",
            "@@ -5,0 +6 @@\n+ours\n theirs\n",
            "@@ -5,0 +6 @@\n",
            "theirs\n",
        ] {
            assert_ne!(found(theirs), 0, "{theirs}");
        }
        let elsewhere = Tree::of(&[("patches/theirs.rs", "//! A.\n")]);
        assert_eq!(patches::files(&elsewhere).count(), 1);
    }

    #[test]
    fn a_named_test_that_does_not_exist_is_found() {
        let body = "//! A.\n#[tokio::test]\nasync fn it_holds() {}\nfn it_helps() {}\n";
        let named = |page: &str| {
            let files = [
                ("ARCHITECTURE.md", page),
                ("tests/it/expiry.rs", body),
                ("src/room/commit/event.rs", body),
            ];
            architecture::named_tests(&Tree::of(&files)).count()
        };
        assert_eq!(named("`test:it::expiry::it_holds` and `test:room::commit::it_holds`"), 0);
        assert_eq!(named("`test:it::expiry::it_helps`"), 1);
        assert_eq!(named("`test:it::sync::it_holds`"), 1);
        assert_eq!(named("`test:nowhere`"), 1);
    }
}
