//! Crashes and failures at every commit: media is there with its file or not at all, and what is left over is swept.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use http::{Method, StatusCode};
use wick_core::config::Period;
use wick_database::{
    FaultAction, Range, Read,
    schema::media::{
        FILE_BY_HASH, HASH_BY_FILE_NAME, MEDIA_BY_ID, MEDIA_COUNT_BY_OWNER, USAGE_BY_OWNER,
    },
};
use wick_harness::{Body, FATES, Options, Strike, TestServer, User};
use wick_media::Action;

use super::{
    CREATE, UPLOAD, V1, act, call, download, files, get, media_of, must_upload, pass_until,
    pictures,
};

const THUMBNAIL: &str = "width=32&height=32&method=crop";

async fn server() -> (TestServer, Arc<Strike>) {
    let strike = Strike::new();
    let options = Options { fault: Some(Arc::clone(&strike) as _), ..Options::lenient() };
    (TestServer::start_from(options).await, strike)
}

/// Rows and files agree: every file that is referred to is there, references and usage are right.
fn assert_sound(server: &TestServer) {
    let read = server.services().database.published();
    let (mut references, mut usage) = (0, 0);
    for row in read.scan(&MEDIA_BY_ID, Range::all()) {
        usage += row.unwrap().1.size;
        references += 1;
    }
    let stored: u64 =
        read.scan(&FILE_BY_HASH, Range::all()).map(|row| row.unwrap().1.references).sum();
    let sum = |table| read.scan(table, Range::all()).map(|row| row.unwrap().1).sum::<u64>();
    let (used, count) = (sum(&USAGE_BY_OWNER), sum(&MEDIA_COUNT_BY_OWNER));
    assert_eq!((stored, used, count), (references, usage, references));
    let names = read.scan(&HASH_BY_FILE_NAME, Range::all()).keys();
    let names: BTreeSet<_> = names.map(|name| name.unwrap()).collect();
    let there: BTreeSet<_> = files(server).into_iter().collect();
    assert!(names.is_subset(&there), "{names:?} {there:?}");
}

/// After more than a day, only files with a row are left.
async fn assert_swept(server: &TestServer) {
    let read = server.services().database.published();
    pass_until(server, read.scan(&HASH_BY_FILE_NAME, Range::all()).count()).await;
    assert_sound(server);
}

/// A request that is to be disturbed, after what `prepare` has made.
type Request = fn(&TestServer, &User, &str) -> (Method, String, Vec<u8>);

/// Disturbs each commit of a request in each way, and repeats the request afterwards.
async fn disturb(name: &str, request: Request, repeated: &[StatusCode]) {
    for fate in FATES {
        for number in 1.. {
            let (mut server, strike) = server().await;
            let user = server.register("alice").await;
            let picture = pictures::png(200, 200);
            let there = must_upload(&server, &user, "image/png", &picture).await;
            let reserved = call(&server, (Method::POST, CREATE, &user.token), &[], "{}").await;
            let reserved = media_of(&reserved.body);
            // The device is noted as seen now, not by the request.
            assert_eq!(download(&server, &user, &there).await.status, StatusCode::OK);
            let which = if name == "put" { &reserved } else { &there };
            let (method, path, body) = request(&server, &user, which);
            strike.at(number, fate);
            let request = (method.clone(), &*path, &*user.token);
            let answer = call(&server, request, &[], body.clone()).await;
            if !strike.has_struck() {
                assert!(number > 1, "{name} commits nothing");
                assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
                break;
            }
            assert_eq!(answer.status.as_u16(), 500, "{name} {fate:?}: {}", answer.body);
            if fate != FaultAction::Fail {
                server.crash().await;
            }
            assert_sound(&server);
            let request = (method, &*path, &*user.token);
            let again = call(&server, request, &[], body).await;
            assert!(repeated.contains(&again.status), "{name} {fate:?}: {}", again.body);
            assert_eq!(download(&server, &user, &there).await.bytes, picture);
            assert_swept(&server).await;
            assert_eq!(download(&server, &user, &there).await.bytes, picture);
        }
    }
}

#[tokio::test]
async fn an_upload_is_there_with_its_file_or_not_at_all() {
    let request: Request = |_, _, _| (Method::POST, UPLOAD.to_owned(), b"file".to_vec());
    disturb("upload", request, &[StatusCode::OK]).await;
    let same: Request = |_, _, _| (Method::POST, UPLOAD.to_owned(), pictures::png(200, 200));
    disturb("upload of a known content", same, &[StatusCode::OK]).await;
}

#[tokio::test]
async fn an_upload_to_a_reserved_media_id_can_be_repeated_or_has_happened() {
    let request: Request =
        |_, _, media| (Method::PUT, format!("/_matrix/media/v3/upload/{media}"), b"file".to_vec());
    disturb("put", request, &[StatusCode::OK, StatusCode::CONFLICT]).await;
}

#[tokio::test]
async fn a_thumbnail_is_there_with_its_file_or_made_again() {
    let request: Request =
        |_, _, media| (Method::GET, format!("{V1}/thumbnail/{media}?{THUMBNAIL}"), Vec::new());
    disturb("thumbnail", request, &[StatusCode::OK]).await;
}

#[tokio::test]
async fn a_deletion_that_is_disturbed_at_any_commit_leaves_no_row_without_a_file() {
    for fate in FATES {
        for number in 1.. {
            let (mut server, strike) = server().await;
            let user = server.register("alice").await;
            let picture = pictures::png(200, 200);
            let one = must_upload(&server, &user, "image/png", &picture).await;
            let thumbnail = format!("{V1}/thumbnail/{one}?{THUMBNAIL}");
            assert_eq!(get(&server, &user, &thumbnail).await.status, StatusCode::OK);
            let short = server.services().users.get(&user.user_id).unwrap().unwrap().0;
            strike.at(number, fate);
            let result = server.services().media.delete_all_of(short).await;
            if !strike.has_struck() {
                assert_eq!((number > 1, result.unwrap()), (true, 1));
                break;
            }
            result.unwrap_err();
            if fate != FaultAction::Fail {
                server.crash().await;
            }
            assert_sound(&server);
            let deleted = act(&server, Action::Delete, &one).await.unwrap();
            assert!(deleted || fate == FaultAction::StopAfter);
            assert_swept(&server).await;
            assert_eq!(files(&server), [""; 0]);
        }
    }
}

/// Disturbs each commit of an hourly job that deletes all files, in each way: it goes on, and `assert_sound` holds.
pub(super) async fn disturb_job(
    options: impl Fn() -> Options,
    prepare: impl AsyncFn(&TestServer, &User),
    assert_sound: impl Fn(&TestServer),
) {
    for fate in FATES {
        for number in 1.. {
            let strike = Strike::new();
            let options = Options { fault: Some(Arc::clone(&strike) as _), ..options() };
            let mut server = TestServer::start_from(options).await;
            let user = server.register("alice").await;
            prepare(&server, &user).await;
            strike.at(number, fate);
            while !strike.has_struck() && !files(&server).is_empty() {
                server.clock.advance(Duration::from_secs(3600)).await;
            }
            let has_struck = strike.has_struck();
            if fate != FaultAction::Fail && has_struck {
                server.crash().await;
                assert_sound(&server);
            }
            pass_until(&server, 0).await;
            assert_sound(&server);
            if !has_struck {
                assert!(number > 2, "it is one commit");
                break;
            }
        }
    }
}

#[tokio::test]
async fn retention_that_is_disturbed_at_any_commit_goes_on_and_leaves_no_row_without_a_file() {
    let options = || {
        let mut options = Options::lenient();
        options.config.media.retention_age = Period::from_secs(2 * 86_400);
        options
    };
    let prepare = async |server: &TestServer, user: &User| {
        // More than one batch deletes.
        for file in 0..101_u32 {
            must_upload(server, user, "a/b", &file.to_be_bytes()).await;
        }
        server.clock.advance(Duration::from_secs(47 * 3600)).await;
        assert_eq!(files(server).len(), 101);
    };
    disturb_job(options, prepare, assert_sound).await;
}

#[tokio::test]
async fn what_a_kill_in_the_middle_of_an_upload_leaves_is_swept() {
    let mut server = TestServer::start().await;
    let user = server.register("alice").await;
    must_upload(&server, &user, "a/b", b"file").await;
    let [kept] = &*files(&server) else { panic!("one file") };
    let folder = server.folder().join("data/media").join(kept.get(..2).unwrap());
    // As the name of a file, but of one that no row knows.
    let mut orphan = kept.clone();
    orphan.replace_range(2..4, if kept.get(2..4) == Some("00") { "01" } else { "00" });
    std::fs::write(folder.join(&orphan), "left over").unwrap();
    std::fs::write(folder.join(format!("{orphan}.new")), "half").unwrap();
    std::fs::write(folder.join("README"), "not ours").unwrap();
    server.restart().await;
    assert_eq!(files(&server).len(), 4, "they may be uploads that another server receives");
    pass_until(&server, 2).await;
    let user = server.log_in(&user).await;
    let empty: Body = Body::empty();
    assert_eq!(
        call(&server, (Method::GET, V1, &user.token), &[], empty).await.status.as_u16(),
        404
    );
}
