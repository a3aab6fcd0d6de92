//! Account changes that are disturbed. If the client hangs up, after any number of steps, the account is as
//! it was or as the change leaves it, in memory too, and a restart shows the same. If another change comes
//! between, the outcome is the same.

#![expect(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "the helpers of tests, which clippy does not take for tests"
)]

use std::{sync::Arc, time::Duration};

use http::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::{task::yield_now, time::timeout};
use wick_account::users::Origin;
use wick_core::ShortUserId;
use wick_database::FaultAction;
use wick_harness::{Options, Strike, TestServer, User, hang_up_after};

const PASSWORD: &str = "correct horse battery staple";
const PATIENCE: Duration = Duration::from_secs(60);

/// A user with two devices, one of them with a refresh token, in a room.
struct Account {
    name: String,
    short: ShortUserId,
    first: User,
    second: User,
    refresh_token: String,
    /// An access token that a refresh of `second` made, not used yet.
    refreshed: Option<String>,
    /// A guest, for changes that register.
    guest: Option<User>,
}

/// A request that changes an account.
struct Change {
    name: &'static str,
    method: Method,
    path: &'static str,
    body: fn(&Account) -> Value,
    /// Whose token it has.
    by: By,
}

enum By {
    First,
    Nobody,
    /// The token that a refresh of the second device made.
    Refreshed,
}

fn password(account: &Account) -> Value {
    json!({
        "type": "m.login.password", "password": PASSWORD,
        "identifier": { "type": "m.id.user", "user": account.name },
    })
}

fn login(account: &Account, device: &User) -> Value {
    let mut body = password(account);
    body["device_id"] = device.device_id.as_str().into();
    body
}

fn pusher(_: &Account) -> Value {
    json!({
        "kind": "http", "app_id": "app", "pushkey": "key", "lang": "en", "append": true,
        "app_display_name": "app", "device_display_name": "device",
        "data": { "url": "https://dummy.url/_matrix/push/v1/notify" },
    })
}

fn upgrade(account: &Account) -> Value {
    let guest = account.guest.as_ref().unwrap();
    json!({
        "username": guest.user_id.localpart(), "password": PASSWORD,
        "guest_access_token": guest.token, "auth": { "type": "m.login.dummy" },
    })
}

const USER: &str = "/_matrix/client/v3/user/@NAME:localhost";

/// Every endpoint that changes an account. `NAME`, `FIRST`, `SECOND` and `USER` in a path are replaced.
fn changes() -> Vec<Change> {
    let mut changes = changes_of_sessions();
    changes.extend(changes_of_what_is_stored());
    changes
}

fn change(
    name: &'static str,
    method: Method,
    path: &'static str,
    by: By,
    body: fn(&Account) -> Value,
) -> Change {
    Change { name, method, path, body, by }
}

fn changes_of_sessions() -> Vec<Change> {
    let (put, post, delete) = (Method::PUT, Method::POST, Method::DELETE);
    vec![
        change("logout", post.clone(), "/logout", By::First, |_| Value::Null),
        change("logout_all", post.clone(), "/logout/all", By::First, |_| Value::Null),
        change(
            "password",
            post.clone(),
            "/account/password",
            By::First,
            |account| json!({ "new_password": "another password", "auth": password(account) }),
        ),
        change("login_again", post.clone(), "/login", By::Nobody, |account| {
            login(account, &account.second)
        }),
        change(
            "refresh",
            post.clone(),
            "/refresh",
            By::Nobody,
            |account| json!({ "refresh_token": account.refresh_token }),
        ),
        change("first_use", Method::GET, "/account/whoami", By::Refreshed, |_| Value::Null),
        change(
            "rename",
            put,
            "/devices/FIRST",
            By::First,
            |_| json!({ "display_name": "another name" }),
        ),
        change(
            "delete_device",
            delete,
            "/devices/SECOND",
            By::First,
            |account| json!({ "auth": password(account) }),
        ),
        change("delete_devices", post.clone(), "/delete_devices", By::First, |account| {
            let devices = [&account.first.device_id, &account.second.device_id];
            json!({ "devices": devices, "auth": password(account) })
        }),
        change(
            "deactivate",
            post.clone(),
            "/account/deactivate",
            By::First,
            |account| json!({ "auth": password(account) }),
        ),
        change("upgrade_guest", post.clone(), "/register", By::Nobody, upgrade),
        change("register", post, "/register", By::Nobody, |account| {
            json!({
                "username": format!("{}-new", account.name), "password": PASSWORD,
                "auth": { "type": "m.login.dummy" },
            })
        }),
    ]
}

fn changes_of_what_is_stored() -> Vec<Change> {
    let (put, post) = (Method::PUT, Method::POST);
    vec![
        change(
            "display_name",
            put.clone(),
            "/profile/@NAME:localhost/displayname",
            By::First,
            |_| json!({ "displayname": "another name" }),
        ),
        change(
            "account_data",
            put.clone(),
            "USER/account_data/org.test",
            By::First,
            |_| json!({ "a": 1 }),
        ),
        change("tag", put.clone(), "USER/rooms/!a:localhost/tags/u.tag", By::First, |_| json!({})),
        change(
            "filter",
            post.clone(),
            "USER/filter",
            By::First,
            |_| json!({ "room": { "timeline": { "limit": 7 } } }),
        ),
        change(
            "push_rule",
            put,
            "/pushrules/global/content/rule",
            By::First,
            |_| json!({ "pattern": "word", "actions": ["notify"] }),
        ),
        change("pusher", post, "/pushers/set", By::First, pusher),
    ]
}

impl Account {
    async fn make(server: &TestServer, name: String, room: &str, change: &Change) -> Self {
        let first = server.register(&name).await;
        let mut body = json!({
            "type": "m.login.password", "password": PASSWORD, "refresh_token": true,
            "identifier": { "type": "m.id.user", "user": name },
        });
        body["initial_device_display_name"] = "second".into();
        let (status, body) = server.post("/_matrix/client/v3/login", "", body).await;
        assert_eq!(status, StatusCode::OK, "{body}");
        let text = |body: &Value, key: &str| body[key].as_str().unwrap_or_default().to_owned();
        let second = User {
            user_id: first.user_id.clone(),
            device_id: text(&body, "device_id").into(),
            token: text(&body, "access_token"),
        };
        let refresh_token = text(&body, "refresh_token");
        let join = format!("/_matrix/client/v3/join/{room}");
        assert_eq!(server.post(&join, &first.token, json!({})).await.0, StatusCode::OK);
        let refreshed = match change.by {
            By::Refreshed => {
                let body = json!({ "refresh_token": refresh_token });
                let (_, body) = server.post("/_matrix/client/v3/refresh", "", body).await;
                Some(text(&body, "access_token"))
            }
            By::First | By::Nobody => None,
        };
        let guest = match change.path {
            "/register" => Some(server.register_guest().await),
            _ => None,
        };
        let services = server.services();
        let short = services.users.get(&first.user_id).unwrap().unwrap().0;
        // Both tokens are in memory.
        for user in [&first, &second] {
            assert!(services.sessions.authenticate(&user.token).await.is_ok());
        }
        Self { name, short, first, second, refresh_token, refreshed, guest }
    }

    async fn request(&self, server: &TestServer, change: &Change) -> (StatusCode, Value) {
        let path = change
            .path
            .replace("USER", USER)
            .replace("NAME", &self.name)
            .replace("FIRST", self.first.device_id.as_str())
            .replace("SECOND", self.second.device_id.as_str());
        let path =
            if path.starts_with("/_matrix") { path } else { format!("/_matrix/client/v3{path}") };
        let token = match change.by {
            By::First => &self.first.token,
            By::Nobody => "",
            By::Refreshed => self.refreshed.as_deref().unwrap_or_default(),
        };
        server.request(change.method.clone(), &path, token, (change.body)(self)).await
    }

    async fn observe_guest(&self, server: &TestServer) -> Option<Value> {
        let guest = self.guest.as_ref()?;
        let services = server.services();
        let session = services.sessions.authenticate(&guest.token).await.unwrap();
        Some(json!({
            "is_guest": session.is_guest,
            "password": has_password(server, guest).await,
            "devices": services.devices.list(session.user).unwrap().len(),
        }))
    }

    /// All that clients can observe of the account, without what is random.
    async fn observe(&self, server: &TestServer, room: &str, observer: &str) -> Value {
        let services = server.services();
        let mut tokens = Vec::new();
        for user in [&self.first, &self.second] {
            tokens.push(services.sessions.authenticate(&user.token).await.is_ok());
        }
        let devices = services.devices.list(self.short).unwrap();
        let mut devices: Vec<_> = devices.into_iter().map(|device| device.display_name).collect();
        devices.sort();
        let (_, account) = services.users.get(&self.first.user_id).unwrap().unwrap();
        let password = has_password(server, &self.first).await;
        let member =
            format!("/_matrix/client/v3/rooms/{room}/state/m.room.member/{}", self.first.user_id);
        let data = |room: Option<&str>, event_type: &str| {
            let room = room.map(|room| ruma::RoomId::parse(room).unwrap());
            services.account_data.get(self.short, room.as_deref(), event_type).unwrap()
        };
        let new = self.first.user_id.as_str().replace(':', "-new:").try_into().unwrap();
        let new: ruma::OwnedUserId = new;
        let observed = json!({
            "tokens": tokens,
            "devices": devices,
            "password": password,
            "deactivated": account.deactivated.is_some(),
            "member": server.get(&member, observer).await.1,
            "profile": services.profiles.get(&self.first.user_id).unwrap(),
            "account_data": data(None, "org.test"),
            "push_rules": data(None, "m.push_rules"),
            "tags": data(Some("!a:localhost"), "m.tag"),
            "pushers": services.pushers.list(self.short).unwrap().len(),
            "new": services.users.get(&new).unwrap().is_some(),
            "guest": self.observe_guest(server).await,
        });
        let text = observed.to_string().replace(&self.name, "NAME");
        serde_json::from_str(&text).unwrap()
    }
}

/// Whether a user logs in by the password of these tests.
async fn has_password(server: &TestServer, user: &User) -> bool {
    let users = &server.services().users;
    let account = users.check_password(Some(&user.user_id), PASSWORD, Origin::Address(None)).await;
    account.unwrap().is_some()
}

/// Waits until no more than `tasks` run and all that was written is published.
pub(crate) async fn settle(server: &TestServer, tasks: usize) {
    let services = server.services();
    timeout(PATIENCE, async {
        while services.supervisor.tasks() > tasks {
            yield_now().await;
        }
        let batch = services.database.batch();
        services.database.commit(batch, wick_database::Durability::Synced).await.unwrap();
    })
    .await
    .expect("the change ends");
}

async fn room(server: &TestServer, observer: &User) -> String {
    let body = json!({ "preset": "public_chat" });
    let (status, body) = server.post("/_matrix/client/v3/createRoom", &observer.token, body).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    body["room_id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn an_account_change_happens_wholly_or_not_at_all_if_the_client_hangs_up() {
    for change in changes() {
        let mut server = TestServer::start_with(|config| config.registration.guests = true).await;
        let observer = server.register("observer").await;
        let room = room(&server, &observer).await;
        let mut states = Vec::new();
        let (mut before, mut after) = (Value::Null, Value::Null);
        for polls in 0.. {
            let name = format!("user{polls}");
            let account = Account::make(&server, name, &room, &change).await;
            before = account.observe(&server, &room, &observer.token).await;
            let tasks = server.idle_tasks().await;
            let answer = hang_up_after(polls, account.request(&server, &change)).await;
            settle(&server, tasks).await;
            let state = account.observe(&server, &room, &observer.token).await;
            states.push((account, state.clone()));
            if let Some((status, body)) = answer {
                assert_eq!(status, StatusCode::OK, "{}: {body}", change.name);
                after = state;
                break;
            }
        }
        server.restart().await;
        for (polls, (account, state)) in states.iter().enumerate() {
            let name = change.name;
            assert!(*state == before || *state == after, "{name} after {polls} polls: {state:#}");
            let restarted = account.observe(&server, &room, &observer.token).await;
            assert_eq!(*state, restarted, "{name} after {polls} polls, and after a restart");
        }
    }
}

#[tokio::test]
async fn an_account_change_has_the_same_outcome_after_a_conflict_at_any_of_its_commits() {
    for change in changes() {
        let strike = Strike::new();
        let mut options = Options { fault: Some(Arc::clone(&strike) as _), ..Options::lenient() };
        options.config.registration.guests = true;
        let server = TestServer::start_from(options).await;
        let observer = server.register("observer").await;
        let room = room(&server, &observer).await;
        let (mut commits, mut outcome) = (0, Value::Null);
        for conflict in 0.. {
            let name = format!("user{conflict}");
            let account = Account::make(&server, name, &room, &change).await;
            let tasks = server.idle_tasks().await;
            let before = strike.commits();
            if conflict > 0 {
                strike.at(conflict, FaultAction::Conflict);
            }
            let (status, body) = account.request(&server, &change).await;
            assert_eq!(status, StatusCode::OK, "{} at {conflict}: {body}", change.name);
            let committed = strike.commits() - before;
            settle(&server, tasks).await;
            let state = account.observe(&server, &room, &observer.token).await;
            if conflict == 0 {
                assert!(committed > 0, "{} writes nothing", change.name);
                (commits, outcome) = (committed, state);
                continue;
            }
            assert!(strike.has_struck(), "{} at {conflict}: commit never came", change.name);
            assert_eq!(state, outcome, "{} with a conflict at commit {conflict}", change.name);
            if conflict == commits {
                break;
            }
        }
    }
}
