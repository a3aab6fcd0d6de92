//! Reading: how soon a message reaches every long poll, how long a first sync takes, and a later one of a user in many
//! rooms.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    time::Instant,
};

use futures_util::{future, future::join_all};
use serde::{Deserialize, de::IgnoredAny};

use super::{Bench, GRACE};
use crate::{
    Failure, Result,
    cli::Span,
    clock,
    connection::{Call, encode},
    histogram::Histogram,
    matrix::{self, Account},
    report::Measure,
    watcher::Watcher,
    workers::Worker,
};

/// Messages a second when the command line names no rate.
const RATE: u64 = 10;

/// What the sender hands to the watchers.
#[derive(Default)]
struct Board {
    /// When each message was sent, by its number.
    sent: RefCell<Vec<Instant>>,
    over: Cell<Option<Instant>>,
    arrivals: RefCell<Histogram>,
}

impl Board {
    fn arrived(&self, body: &str, moment: Instant) -> bool {
        let number = body.strip_prefix("fanout ").and_then(|number| number.parse::<usize>().ok());
        let sent = number.and_then(|number| self.sent.borrow().get(number).copied());
        if let Some(sent) = sent {
            self.arrivals.borrow_mut().record(moment.saturating_duration_since(sent));
        }
        sent.is_some()
    }
}

pub(super) async fn fanout(bench: &Bench<'_>) -> Result<Vec<Measure>> {
    let sender = bench.account().await?;
    let rooms = bench.rooms(std::slice::from_ref(&sender), 1).await?;
    let accounts = bench.accounts(bench.plan.users).await?;
    bench.join_all(&accounts, &rooms).await?;
    let mut watchers = Vec::with_capacity(accounts.len());
    for account in accounts {
        watchers.push(Watcher::start(bench.connection(), account).await?);
    }
    let mut workers = [Worker { connection: bench.connection(), account: sender, rooms }];
    let board = Board::default();
    let before = bench.usage();
    let begun = clock::now();
    let sending = async {
        let seen = bench.drive(
            &mut workers,
            bench.plan.span,
            bench.plan.rate.or(Some(RATE)),
            async |worker, _| {
                let number = board.sent.borrow().len();
                board.sent.borrow_mut().push(clock::now());
                let content = matrix::message(format!("fanout {number}"));
                let call = matrix::send_call(
                    &worker.account,
                    worker.room(0),
                    &format!("f{number}"),
                    content,
                );
                worker.connection.call(&call).await.map(drop)
            },
        );
        let seen = seen.await;
        board.over.set(Some(clock::now()));
        seen
    };
    let watching = join_all(watchers.iter_mut().map(|watcher| watch(watcher, &board)));
    let (sent, watched) = future::join(sending, watching).await;
    let elapsed = begun.elapsed();
    watched.into_iter().collect::<Result<Vec<()>>>()?;
    let arrivals = board.arrivals.borrow();
    let expected = u64::try_from(watchers.len()).unwrap_or(0) * sent.histogram.total();
    let arrived = Measure::new("send to arrival in /sync", &arrivals, elapsed)
        .with_cost(before, bench.usage())
        .with_errors("missing", expected.saturating_sub(arrivals.total()));
    Ok(vec![arrived, sent.measure("the sender's PUT")])
}

/// Reads until everything that was sent has come, or is overdue.
async fn watch(watcher: &mut Watcher, board: &Board) -> Result<()> {
    let mut seen = 0;
    loop {
        if let Some(over) = board.over.get()
            && (seen >= board.sent.borrow().len() || over.elapsed() > GRACE)
        {
            return Ok(());
        }
        let events = watcher.next(1000).await?;
        let moment = clock::now();
        for body in events.iter().filter_map(|event| event.content.body.as_deref()) {
            seen += usize::from(board.arrived(body, moment));
        }
    }
}

pub(super) async fn initial(bench: &Bench<'_>) -> Result<Measure> {
    let author = bench.account().await?;
    let rooms = bench.rooms(std::slice::from_ref(&author), bench.plan.rooms).await?;
    let mut authors: Vec<Worker> = (0..8)
        .map(|_| Worker {
            connection: bench.connection(),
            account: author.clone(),
            rooms: rooms.clone(),
        })
        .collect();
    let count = bench.plan.messages * u64::try_from(rooms.len()).unwrap_or(0);
    let filled = bench.drive(&mut authors, Span::Count(count), None, async |worker, serial| {
        let content = matrix::message(format!("message {serial}"));
        let call =
            matrix::send_call(&worker.account, worker.room(serial), &format!("i{serial}"), content);
        worker.connection.call(&call).await.map(drop)
    });
    let failed: u64 = filled.await.errors.values().sum();
    let accounts = bench.accounts(bench.plan.users).await?;
    bench.join_all(&accounts, &rooms).await?;
    let mut readers: Vec<Worker> = accounts
        .iter()
        .cycle()
        .take(bench.plan.connections)
        .map(|account| Worker {
            connection: bench.connection(),
            account: account.clone(),
            rooms: Vec::new(),
        })
        .collect();
    let operation = async |worker: &mut Worker, _| {
        worker.connection.call(&sync_call(&worker.account, None)).await.map(drop)
    };
    let measure = bench.measure("initial sync", &mut readers, operation).await;
    Ok(measure.with_errors("history not written", failed))
}

/// Numbers of rooms whose syncs are compared.
const ROOMS: [usize; 3] = [5, 500, 5_000];

#[derive(Deserialize)]
struct Answer {
    next_batch: String,
    #[serde(default)]
    rooms: Rooms,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Rooms {
    join: BTreeMap<String, IgnoredAny>,
}

/// The sync after one message, the same again and again, of a user in more and more rooms.
pub(super) async fn rooms(bench: &Bench<'_>) -> Result<Vec<Measure>> {
    let reader = bench.account().await?;
    let own = std::slice::from_ref(&reader);
    let (mut rooms, mut measures) = (Vec::<String>::new(), Vec::new());
    for (number, size) in ROOMS.map(|size| size.min(bench.plan.rooms)).into_iter().enumerate() {
        rooms.extend(bench.rooms(own, size.saturating_sub(rooms.len())).await?);
        let mut worker = Worker {
            connection: bench.connection(),
            account: reader.clone(),
            rooms: rooms.clone(),
        };
        let before: Answer = worker.connection.call_json(&sync_call(&reader, None)).await?;
        let (txn, content) = (format!("r{number}"), matrix::message("the only news".to_owned()));
        let message = matrix::send_call(&reader, worker.room(0), &txn, content);
        worker.connection.call(&message).await?;
        let operation = async |worker: &mut Worker, _| {
            let call = sync_call(&worker.account, Some(&before.next_batch));
            let answer: Answer = worker.connection.call_json(&call).await?;
            match answer.rooms.join.len() {
                1 => Ok(()),
                _ => Err(Failure::Other("not one changed room".to_owned())),
            }
        };
        let label = format!("sync in {} rooms", rooms.len());
        measures.push(bench.measure(&label, &mut [worker], operation).await);
    }
    Ok(measures)
}

/// A sync that does not wait.
pub(super) fn sync_call<'a>(account: &'a Account, since: Option<&str>) -> Call<'a> {
    let since = since.map_or_else(String::new, |since| format!("?since={}", encode(since)));
    Call::get(format!("/_matrix/client/v3/sync{since}"), &account.access_token)
}
