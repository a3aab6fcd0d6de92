//! How long another user waits while one user does what costs the server most, and what memory that takes.
//!
//! The server is filled without limits, and started again for each attack, with the limits of a default
//! configuration; so its memory is that of the attack. Only keys that every wick knows are configured.

use std::{cell::Cell, time::Duration};

use futures_util::future::{join, join_all};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Bench, scale::Rows};
use crate::{
    Failure, Result,
    cli::Span,
    clock,
    connection::{Call, encode},
    histogram::Histogram,
    matrix::{self, Account},
    process::Usage,
    report::Measure,
    server::Allows,
    workers::Worker,
};

/// How often the other user asks, a second, if the command line names no rate.
const RATE: u64 = 20;

/// How long the server is left alone before its memory afterwards is read.
const REST: Duration = Duration::from_secs(3);

/// Invitations in one request: as many as a body may have, or else as many as there may be.
const INVITATIONS: [usize; 2] = [8_000, 100];

/// Pieces of account data of 900 kB each: beyond the user's total they are refused.
const PIECES: usize = 400;

/// Push rules at most.
const RULES: u64 = 550;

/// The path of all that a client requests.
const V3: &str = "/_matrix/client/v3";

/// Makes the request of a number.
type Request = Box<dyn for<'a> Fn(&'a Account, u64) -> Call<'a>>;

/// What one user does, from several connections at once.
struct Attack {
    label: &'static str,
    account: Account,
    connections: usize,
    allows: Allows,
    request: Request,
    /// Users whose syncs wait meanwhile.
    waiting: Vec<Account>,
}

/// What became of the requests of an attack.
#[derive(Default)]
struct Answers {
    given: Histogram,
    refused: u64,
}

pub(super) async fn run(bench: &mut Bench<'_>) -> Result<(Vec<Measure>, Vec<String>)> {
    let victim = bench.account().await?;
    let mut attacks = vec![
        attack("nothing", &victim, |account, _| whoami(account)),
        invitations(bench).await?,
        reactions(bench).await?,
        presence(bench).await?,
        push_rules(bench).await?,
        search(bench).await?,
        account_data(bench).await?,
        public_rooms(bench).await?,
    ];
    attacks.push(log_ins(bench, &victim));
    let (mut rows, mut notes) = (Rows::default(), Vec::new());
    for attack in &attacks {
        let (row, note) = endure(bench, &victim, attack).await?;
        rows.push(row);
        notes.push(note);
    }
    Ok((rows.0, notes))
}

fn attack(
    label: &'static str,
    account: &Account,
    request: impl for<'a> Fn(&'a Account, u64) -> Call<'a> + 'static,
) -> Attack {
    Attack {
        label,
        account: account.clone(),
        connections: 0,
        allows: Allows::Defaults,
        request: Box::new(request),
        waiting: Vec::new(),
    }
}

fn whoami(account: &Account) -> Call<'_> {
    Call::get(format!("{V3}/account/whoami"), &account.access_token)
}

/// The waiting times of the victim during an attack, and the memory that it took.
async fn endure(
    bench: &mut Bench<'_>,
    victim: &Account,
    attack: &Attack,
) -> Result<(Measure, String)> {
    bench.restart(attack.allows).await?;
    let bench = &*bench;
    let mut worker =
        [Worker { connection: bench.connection(), account: victim.clone(), rooms: Vec::new() }];
    let rate = Some(bench.plan.rate.unwrap_or(RATE));
    let ask = async |worker: &mut Worker, _| {
        worker.connection.call(&whoami(&worker.account)).await.map(drop)
    };
    bench.drive(&mut worker, Span::Count(1), None, &ask).await;
    // Numbers of its own, as the victim's requests are timed by theirs.
    let serial = Cell::new(bench.serial.get());
    let (before, over) = (bench.usage(), Cell::new(false));
    let enduring = async {
        let seen = bench.drive(&mut worker, bench.plan.span, rate, &ask).await;
        over.set(true);
        seen
    };
    let attacking =
        join_all((0..attack.connections).map(|_| repeat(bench, attack, (&serial, &over))));
    let waiting = join_all(attack.waiting.iter().map(|account| wait(bench, account, &over)));
    let (seen, (answers, _)) = join(enduring, join(attacking, waiting)).await;
    let mut all = Answers::default();
    for answers in answers {
        all.given.merge(&answers.given);
        all.refused += answers.refused;
    }
    tokio::time::sleep(REST).await;
    let after = bench.usage();
    let row = seen.measure(attack.label).with_cost(before, after);
    Ok((row, note(attack, &all, before.unwrap_or_default(), after.unwrap_or_default())))
}

fn note(attack: &Attack, answers: &Answers, before: Usage, after: Usage) -> String {
    format!(
        "{}: {} requests answered (p50 {} ms, max {} ms), {} refused; rss before {} MiB, peak {} MiB, after {} MiB",
        attack.label,
        answers.given.total(),
        answers.given.quantile_us(0.5) / 1000,
        answers.given.max_us() / 1000,
        answers.refused,
        before.rss_kib / 1024,
        after.peak_kib / 1024,
        after.rss_kib / 1024,
    )
}

/// Makes one request of an attack after the other.
async fn repeat(
    bench: &Bench<'_>,
    attack: &Attack,
    (serial, over): (&Cell<u64>, &Cell<bool>),
) -> Answers {
    let (mut connection, mut answers) = (bench.connection(), Answers::default());
    while !over.get() {
        let number = serial.get();
        serial.set(number + 1);
        let begun = clock::now();
        match connection.call(&(attack.request)(&attack.account, number)).await {
            Ok(_) => answers.given.record(begun.elapsed()),
            Err(_) => {
                answers.refused += 1;
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
    answers
}

/// Reads one long poll after the other.
async fn wait(bench: &Bench<'_>, account: &Account, over: &Cell<bool>) {
    #[derive(Deserialize)]
    struct Answer {
        next_batch: String,
    }
    let (mut connection, mut since) = (bench.connection(), None);
    while !over.get() {
        let query = since.as_deref().map(|since| format!("?timeout=1000&since={}", encode(since)));
        let path = format!("{V3}/sync{}", query.unwrap_or_default());
        match connection.call_json::<Answer>(&Call::get(path, &account.access_token)).await {
            Ok(answer) => since = Some(answer.next_batch),
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

/// Makes so many requests, at once from several connections. Returns how many were answered with 200.
async fn fill(
    bench: &Bench<'_>,
    account: &Account,
    count: u64,
    request: impl Fn(u64) -> Call<'static>,
) -> u64 {
    let mut workers: Vec<Worker> = (0..super::PREPARING)
        .map(|_| Worker {
            connection: bench.connection(),
            account: account.clone(),
            rooms: Vec::new(),
        })
        .collect();
    let send = async |worker: &mut Worker, serial| {
        let Call { method, path, body, .. } = request(serial);
        let token = Some(worker.account.access_token.as_str());
        worker.connection.call(&Call { method, path, body, token }).await.map(drop)
    };
    bench.drive(&mut workers, Span::Count(count), None, send).await.histogram.total()
}

async fn own_room(bench: &Bench<'_>) -> Result<(Account, String)> {
    let account = bench.account().await?;
    let room = matrix::create_room(&mut bench.connection(), &account).await?;
    Ok((account, room))
}

fn create_call(account: &Account, invitations: usize) -> Call<'_> {
    let invite: Vec<_> = (0..invitations).map(|user| format!("@u{user}:localhost")).collect();
    let path = format!("{V3}/createRoom");
    Call::post(&path, Some(&account.access_token), json!({ "invite": invite }))
}

async fn invitations(bench: &Bench<'_>) -> Result<Attack> {
    let (account, mut connection) = (bench.account().await?, bench.connection());
    for size in INVITATIONS {
        if connection.call(&create_call(&account, size)).await.is_ok() {
            let body = create_call(&account, size).body;
            let attack = attack("createRoom, most invitations", &account, move |account, _| {
                let path = format!("{V3}/createRoom");
                let token = Some(account.access_token.as_str());
                Call { body: body.clone(), ..Call::post(&path, token, Value::Null) }
            });
            // The limits would let few of them through.
            let allows = Allows::NoLimits;
            return Ok(Attack { connections: bench.plan.connections, allows, ..attack });
        }
    }
    Err(Failure::Other("no number of invitations is allowed".to_owned()))
}

fn reaction(room: &str, target: &str, serial: u64) -> (String, Value) {
    let path = format!("{V3}/rooms/{}/send/m.reaction/r{serial}", encode(room));
    let relation =
        json!({ "rel_type": "m.annotation", "event_id": target, "key": format!("k{serial}") });
    (path, json!({ "m.relates_to": relation }))
}

async fn reactions(bench: &Bench<'_>) -> Result<Attack> {
    #[derive(Deserialize)]
    struct Sent {
        event_id: String,
    }
    let (account, room) = own_room(bench).await?;
    let call = matrix::send_call(&account, &room, "target", matrix::message("target".to_owned()));
    let target = bench.connection().call_json::<Sent>(&call).await?.event_id;
    fill(bench, &account, bench.plan.messages, |serial| {
        let (path, body) = reaction(&room, &target, serial);
        Call::put(path, None, body)
    })
    .await;
    let attack = attack("reactions on one event", &account, move |account, serial| {
        let (path, body) = reaction(&room, &target, serial);
        Call::put(path, Some(&account.access_token), body)
    });
    Ok(Attack { connections: bench.plan.connections, ..attack })
}

async fn presence(bench: &Bench<'_>) -> Result<Attack> {
    let (account, room) = own_room(bench).await?;
    let waiting = bench.accounts(bench.plan.users).await?;
    bench.join_all(&waiting, &[room]).await?;
    let attack = attack("changes of presence", &account, |account, serial| {
        let path = format!("{V3}/presence/{}/status", encode(&account.user_id));
        let state = if serial % 2 == 0 { "online" } else { "unavailable" };
        let body = json!({ "presence": state, "status_msg": format!("s{serial}") });
        Call::put(path, Some(&account.access_token), body)
    });
    Ok(Attack { connections: bench.plan.connections, waiting, ..attack })
}

async fn push_rules(bench: &Bench<'_>) -> Result<Attack> {
    let (account, room) = own_room(bench).await?;
    let other = bench.account().await?;
    bench.join_all(std::slice::from_ref(&other), std::slice::from_ref(&room)).await?;
    for rule in 0..RULES.min(bench.plan.messages) {
        let path = format!("{V3}/pushrules/global/content/r{rule}");
        let body = json!({ "pattern": format!("a*a*a*a*a*a*b{rule}"), "actions": ["notify"] });
        let call = Call::put(path, Some(&account.access_token), body);
        if bench.connection().call(&call).await.is_err() {
            break;
        }
    }
    fill(bench, &other, bench.plan.messages, |serial| {
        let path = format!("{V3}/rooms/{}/send/m.room.message/n{serial}", encode(&room));
        Call::put(path, None, matrix::message("a ".repeat(2_000)))
    })
    .await;
    let attack = attack("notifications by globs", &account, |account, _| {
        Call::get(format!("{V3}/notifications?limit=1000"), &account.access_token)
    });
    Ok(Attack { connections: bench.plan.connections, ..attack })
}

async fn search(bench: &Bench<'_>) -> Result<Attack> {
    let (account, room) = own_room(bench).await?;
    let text: String = (0..9_000).map(|word| format!("w{word} ")).collect();
    let text = format!("needle {}", text.get(..57_000).unwrap_or(&text));
    fill(bench, &account, bench.plan.messages, |serial| {
        let path = format!("{V3}/rooms/{}/send/m.room.message/s{serial}", encode(&room));
        Call::put(path, None, matrix::message(text.clone()))
    })
    .await;
    let attack = attack("search, ranked", &account, |account, _| {
        let criteria = json!({ "search_term": "needle", "order_by": "rank" });
        let body = json!({ "search_categories": { "room_events": criteria } });
        Call::post(&format!("{V3}/search"), Some(&account.access_token), body)
    });
    Ok(Attack { connections: bench.plan.connections, ..attack })
}

async fn account_data(bench: &Bench<'_>) -> Result<Attack> {
    let (account, mut connection) = (bench.account().await?, bench.connection());
    let text = "x".repeat(900_000);
    for piece in 0..PIECES {
        let user = encode(&account.user_id);
        let path = format!("{V3}/user/{user}/account_data/org.example.piece{piece}");
        let call = Call::put(path, Some(&account.access_token), json!({ "text": text }));
        if connection.call(&call).await.is_err() {
            break;
        }
    }
    let attack = attack("first syncs, most account data", &account, |account, _| {
        Call::get(format!("{V3}/sync"), &account.access_token)
    });
    // Each answer can be hundreds of megabytes.
    Ok(Attack { connections: 2, ..attack })
}

async fn public_rooms(bench: &Bench<'_>) -> Result<Attack> {
    let account = bench.account().await?;
    let rooms = u64::try_from(bench.plan.rooms).unwrap_or(u64::MAX);
    fill(bench, &account, rooms, |serial| {
        let body = json!({
            "preset": "public_chat", "visibility": "public", "name": format!("room {serial}"),
        });
        Call::post(&format!("{V3}/createRoom"), None, body)
    })
    .await;
    let attack = attack("public rooms", &account, |account, _| {
        Call::get(format!("{V3}/publicRooms?limit=100"), &account.access_token)
    });
    Ok(Attack { connections: bench.plan.connections, ..attack })
}

/// Wrong passwords, without limits: their memory is what is looked at.
fn log_ins(bench: &Bench<'_>, victim: &Account) -> Attack {
    let attack = attack("log-ins at once", victim, |account, serial| {
        let body = json!({
            "type": "m.login.password", "password": format!("wrong {serial}"),
            "identifier": { "type": "m.id.user", "user": format!("{}-none", account.user_id) },
        });
        Call::post(&format!("{V3}/login"), None, body)
    });
    Attack { connections: bench.plan.devices, allows: Allows::NoLimits, ..attack }
}
