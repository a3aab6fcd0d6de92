//! Previews of pages.

mod pages;

use std::{
    net::IpAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use http::StatusCode;
use serde_json::{Value, json};
use wick_core::{Config, config::Rate};
use wick_database::{
    FaultAction, Range, Read,
    schema::{
        media::MEDIA_BY_ID,
        previews::{PREVIEW_BY_EXPIRY, PREVIEW_BY_URL, PREVIEW_TOTAL},
    },
};
use wick_harness::{Answer, FATES, Options, Strike, TestServer, User};
use wick_outbound::{Resolve, Resolving};

use self::pages::Pages;
use super::{
    V1, crashes::disturb_job, download, errcode, files, get, must_upload, pass_until, patiently,
    pictures,
};

fn previewing(change: impl FnOnce(&mut Config)) -> Options {
    let mut options = Options::lenient();
    options.config.previews.domains = vec!["127.0.0.1".to_owned()];
    change(&mut options.config);
    options
}

async fn server(change: impl FnOnce(&mut Config)) -> TestServer {
    TestServer::start_from(previewing(change)).await
}

async fn preview(server: &TestServer, user: &User, url: &str) -> Answer {
    get(server, user, &format!("{V1}/preview_url?url={url}")).await
}

async fn must_preview(server: &TestServer, user: &User, url: &str) -> Value {
    let answer = preview(server, user, url).await;
    assert_eq!(answer.status, StatusCode::OK, "{url}: {}", answer.body);
    answer.body
}

async fn assert_unreachable(server: &TestServer, user: &User, url: &str) {
    let answer = preview(server, user, url).await;
    let expected = (StatusCode::BAD_GATEWAY, "M_UNKNOWN", "the page cannot be fetched");
    let message = answer.body["error"].as_str().unwrap_or_default();
    assert_eq!((answer.status, errcode(&answer), message), expected, "{url}");
}

#[tokio::test]
async fn a_page_is_previewed_with_its_image_and_fetched_once() {
    let (server, pages) = (server(|_| {}).await, Pages::serve().await);
    let (user, other) = (server.register("alice").await, server.register("bob").await);
    let answer = must_preview(&server, &user, &pages.url("page")).await;
    let picture = pictures::png(120, 80);
    let mut body = answer.clone();
    let image = body.as_object_mut().unwrap().remove("og:image").unwrap();
    let expected = json!({
        "og:title": "A title", "og:description": "Some text", "og:image:type": "image/png",
        "og:image:width": 120, "og:image:height": 80, "matrix:image:size": picture.len(),
    });
    assert_eq!(body, expected);
    let image = image.as_str().unwrap().strip_prefix("mxc://").unwrap();
    assert_eq!(download(&server, &other, image).await.bytes, picture);
    assert_eq!(pages.asked(), 2);
    assert_eq!(must_preview(&server, &other, &pages.url("page%23part")).await, answer);
    let deprecated = format!("/_matrix/media/v3/preview_url?url={}", pages.url("page"));
    assert_eq!(get(&server, &user, &deprecated).await.body, answer);
    assert_eq!(pages.asked(), 2);
}

#[tokio::test]
async fn a_page_that_many_ask_for_at_once_is_fetched_once() {
    let (server, pages) = (server(|_| {}).await, Pages::serve().await);
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let url = pages.url("page");
    let (one, two, three) = tokio::join!(
        must_preview(&server, &alice, &url),
        must_preview(&server, &bob, &url),
        must_preview(&server, &alice, &url),
    );
    assert_eq!((&one, &one), (&two, &three));
    assert_eq!((pages.asked(), files(&server).len()), (2, 1));
}

#[tokio::test]
async fn a_preview_expires_with_its_image() {
    let (server, pages) = (server(|_| {}).await, Pages::serve().await);
    let user = server.register("alice").await;
    must_preview(&server, &user, &pages.url("page")).await;
    assert_eq!(files(&server).len(), 1);
    server.clock.advance(Duration::from_secs(86_400)).await;
    pass_until(&server, 0).await;
    must_preview(&server, &user, &pages.url("page")).await;
    assert_eq!((pages.asked(), files(&server).len()), (4, 1));
}

#[tokio::test]
async fn only_so_many_previews_are_kept() {
    let server = server(|config| config.previews.max_kept = 1).await;
    let pages = Pages::serve().await;
    let user = server.register("alice").await;
    for path in ["page", "broken", "page"] {
        must_preview(&server, &user, &pages.url(path)).await;
    }
    assert_eq!((pages.asked(), files(&server).len()), (6, 1));
}

#[tokio::test]
async fn what_has_no_preview_says_so() {
    let pages = Pages::serve().await;
    let server = server(|config| config.previews.max_page_kilobytes = 64).await;
    let user = server.register("alice").await;
    for (path, body) in [
        ("file", json!({})),
        ("broken", json!({ "og:title": "t" })),
        ("long", json!({ "og:title": "long" })),
        ("latin", json!({ "og:title": "für" })),
        ("mislabelled", json!({ "og:title": "f\u{fffd}r" })),
        ("nested", json!({ "og:title": "deep" })),
    ] {
        assert_eq!(must_preview(&server, &user, &pages.url(path)).await, body, "{path}");
    }
    assert_eq!(must_preview(&server, &user, &pages.url("image.png")).await["og:image:width"], 120);
    let many = must_preview(&server, &user, &pages.url("many")).await;
    assert_eq!(many.as_object().unwrap().len(), 32);
    for path in ["nothing", "error", "loop"] {
        assert_unreachable(&server, &user, &pages.url(path)).await;
    }
    assert_unreachable(&server, &user, "http://127.0.0.1:1/").await;
    let elsewhere = pages.url("page").replace("127.0.0.1", "localhost");
    for (url, status, code) in [
        (elsewhere, StatusCode::FORBIDDEN, "M_FORBIDDEN"),
        (pages.url("elsewhere"), StatusCode::FORBIDDEN, "M_FORBIDDEN"),
        ("file:///etc/passwd".to_owned(), StatusCode::BAD_REQUEST, "M_INVALID_PARAM"),
        ("nonsense".to_owned(), StatusCode::BAD_REQUEST, "M_INVALID_PARAM"),
        ("http:".to_owned(), StatusCode::BAD_REQUEST, "M_INVALID_PARAM"),
    ] {
        let answer = preview(&server, &user, &url).await;
        assert_eq!((answer.status, errcode(&answer)), (status, code), "{url}: {}", answer.body);
    }
}

#[tokio::test]
async fn a_page_without_an_end_is_read_to_a_bound_and_an_image_without_one_is_left_out() {
    let pages = Pages::serve().await;
    let server = server(|config| config.previews.max_image_megabytes = 1).await;
    let user = server.register("alice").await;
    let answer = must_preview(&server, &user, &pages.url("endless")).await;
    assert_eq!(answer, json!({ "og:title": "endless" }));
    assert_eq!(files(&server), [""; 0]);
    // The body of one that declares its length is not read.
    assert_unreachable(&server, &user, &pages.url("huge")).await;
}

#[tokio::test]
async fn a_page_that_says_nothing_is_given_up() {
    let (server, pages) = (server(|_| {}).await, Pages::serve().await);
    let user = server.register("alice").await;
    let url = pages.url("silent");
    let answer = patiently(&server, preview(&server, &user, &url)).await;
    assert_eq!((answer.status, errcode(&answer)), (StatusCode::BAD_GATEWAY, "M_UNKNOWN"));
}

fn denying(config: &mut Config) {
    config.previews.domains = vec!["*".to_owned()];
    config.outbound.deny_addresses = vec!["127.0.0.2".parse().unwrap()];
}

#[tokio::test]
async fn pages_of_denied_addresses_are_not_previewed_whatever_leads_there() {
    let pages = Pages::serve().await;
    let private = server(|config| {
        config.outbound.deny_addresses = Config::default().outbound.deny_addresses;
    })
    .await;
    let user = private.register("alice").await;
    assert_unreachable(&private, &user, &pages.url("page")).await;
    assert_eq!(pages.asked(), 0);
    let server = server(denying).await;
    let user = server.register("alice").await;
    assert_unreachable(&server, &user, &pages.url("away")).await;
    assert_unreachable(&server, &user, "http://127.0.0.2:1/").await;
    assert_unreachable(&server, &user, "http://0x7f000002/").await;
    assert_eq!(pages.asked(), 1);
    // Neither is its image taken from there.
    let answer = must_preview(&server, &user, &pages.url("image-away")).await;
    assert_eq!(answer, json!({ "og:title": "away" }));
    // A redirect to where requests may go is followed.
    let answer = must_preview(&server, &user, &pages.url("moved")).await;
    assert_eq!((&answer["og:title"], &answer["og:image:width"]), (&json!("A title"), &json!(120)));
}

/// Resolves every name to one address after another.
struct Rebinding(Mutex<Vec<IpAddr>>);

impl Resolve for Rebinding {
    fn resolve(&self, _: &str) -> Resolving {
        let address = self.0.lock().unwrap().pop();
        Box::pin(async move { Ok(address.into_iter().collect()) })
    }
}

#[tokio::test]
async fn a_name_that_resolves_to_a_denied_address_later_leads_to_no_request_there() {
    let pages = Pages::serve().await;
    let addresses = ["127.0.0.2", "127.0.0.2", "127.0.0.1"];
    let addresses = addresses.map(|address| address.parse().unwrap()).to_vec();
    let resolver = Arc::new(Rebinding(Mutex::new(addresses)));
    let options = Options { resolver: Some(resolver), ..previewing(denying) };
    let server = TestServer::start_from(options).await;
    let user = server.register("alice").await;
    let url = pages.url("page").replace("127.0.0.1", "rebinding.test");
    // The page has been fetched when the name leads elsewhere: its image is not.
    let answer = must_preview(&server, &user, &url).await;
    assert_eq!(answer, json!({ "og:title": "A title", "og:description": "Some text" }));
    assert_unreachable(&server, &user, &format!("{url}?again")).await;
    assert_eq!(pages.asked(), 1);
}

#[tokio::test]
async fn previews_are_off_unless_domains_are_named_and_limited_for_each_user() {
    let plain = TestServer::start().await;
    let user = plain.register("alice").await;
    let answer = preview(&plain, &user, "http://127.0.0.1/").await;
    assert_eq!((answer.status, errcode(&answer)), (StatusCode::NOT_FOUND, "M_UNRECOGNIZED"));
    let pages = Pages::serve().await;
    let limited = server(|config| {
        config.limits.enabled = true;
        config.limits.previews = Rate { per_second: 0.1, burst: 1 };
    })
    .await;
    let (alice, bob) = (limited.register("alice").await, limited.register("bob").await);
    must_preview(&limited, &alice, &pages.url("page")).await;
    let answer = preview(&limited, &alice, &pages.url("file")).await;
    let expected = (StatusCode::TOO_MANY_REQUESTS, "M_LIMIT_EXCEEDED");
    assert_eq!((answer.status, errcode(&answer)), expected);
    // One that is kept costs nothing.
    must_preview(&limited, &alice, &pages.url("page")).await;
    assert_eq!(must_preview(&limited, &bob, &pages.url("file")).await, json!({}));
}

#[tokio::test]
async fn a_user_has_four_pages_fetched_at_the_same_time() {
    let (server, pages) = (server(|_| {}).await, Pages::serve().await);
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let urls: Vec<_> = (0..5).map(|number| pages.url(&format!("silent?{number}"))).collect();
    let waiting = async {
        let [one, two, three, four, five] =
            [0, 1, 2, 3, 4].map(|n| preview(&server, &alice, &urls[n]));
        tokio::join!(one, two, three, four, five)
    };
    let (_, _, _, _, fifth) = patiently(&server, waiting).await;
    assert_eq!(fifth.status, StatusCode::TOO_MANY_REQUESTS, "{}", fifth.body);
    must_preview(&server, &bob, &pages.url("page")).await;
}

#[tokio::test]
async fn a_user_without_space_gets_a_preview_without_its_image_and_others_get_both() {
    let pages = Pages::serve().await;
    let server = server(|config| config.media.max_user_files = 1).await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    must_upload(&server, &alice, "a/b", b"file").await;
    let plain = json!({ "og:title": "A title", "og:description": "Some text" });
    assert_eq!(must_preview(&server, &alice, &pages.url("page")).await, plain);
    let whole = must_preview(&server, &bob, &pages.url("page")).await;
    assert_eq!(whole["og:image:width"], 120);
    assert_eq!(must_preview(&server, &alice, &pages.url("page")).await, whole);
    assert_eq!(files(&server).len(), 2);
}

/// Previews and their images belong together, and their indexes agree.
fn assert_sound(server: &TestServer) {
    let read = server.services().database.published();
    let previews = read.scan(&PREVIEW_BY_URL, Range::all()).map(|row| row.unwrap().1);
    let mut images: Vec<_> = previews.filter_map(|preview| preview.image).collect();
    let mut media: Vec<_> =
        read.scan(&MEDIA_BY_ID, Range::all()).keys().map(|key| key.unwrap()).collect();
    images.sort();
    media.sort();
    assert_eq!(images, media);
    let count = read.scan(&PREVIEW_BY_EXPIRY, Range::all()).keys().count();
    let total = read.get(&PREVIEW_TOTAL, &()).unwrap().unwrap_or_default();
    assert_eq!((read.scan(&PREVIEW_BY_URL, Range::all()).count(), total), (count, count as u64));
}

#[tokio::test]
async fn a_preview_is_kept_with_its_image_or_not_at_all_and_goes_with_it() {
    let pages = Pages::serve().await;
    for fate in FATES {
        for number in 1.. {
            let strike = Strike::new();
            let options = Options {
                fault: Some(Arc::clone(&strike) as _),
                ..previewing(|config| config.previews.max_kept = 1)
            };
            let mut server = TestServer::start_from(options).await;
            let user = server.register("alice").await;
            must_preview(&server, &user, &pages.url("image.png")).await;
            strike.at(number, fate);
            // It takes the place of the other one.
            let answer = preview(&server, &user, &pages.url("page")).await;
            if !strike.has_struck() {
                assert_eq!((number > 1, answer.status), (true, StatusCode::OK));
                break;
            }
            assert_eq!(answer.status.as_u16(), 500, "{}", answer.body);
            if fate != FaultAction::Fail {
                server.crash().await;
            }
            assert_sound(&server);
            must_preview(&server, &user, &pages.url("page")).await;
            assert_sound(&server);
            pass_until(&server, 0).await;
            assert_sound(&server);
        }
    }
}

#[tokio::test]
async fn the_end_of_previews_that_is_disturbed_at_any_commit_goes_on_and_takes_their_images_along()
{
    let pages = Pages::serve().await;
    let prepare = async |server: &TestServer, user: &User| {
        // More than one batch removes.
        for page in 0..101 {
            must_preview(server, user, &pages.url(&format!("image.png?{page}"))).await;
        }
        assert_eq!(count(server), 101);
    };
    let assert_sound = |server: &TestServer| {
        assert_sound(server);
        // They have one image together.
        assert!(!files(server).is_empty() || count(server) == 0);
    };
    disturb_job(|| previewing(|_| {}), prepare, assert_sound).await;
}

fn count(server: &TestServer) -> usize {
    server.services().database.published().scan(&PREVIEW_BY_URL, Range::all()).count()
}
