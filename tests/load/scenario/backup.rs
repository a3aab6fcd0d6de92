//! What an upload to a key backup costs beside a thousand keys in it, and beside a million.

use serde::Deserialize;
use serde_json::json;

use super::{Bench, scale::Rows, timers::turn};
use crate::{
    Failure, Result,
    cli::Span,
    connection::Call,
    keys,
    matrix::{self, Account},
    report::Measure,
    workers::Worker,
};

/// How many keys each backup holds when it is measured for comparison, how many an upload has, and how many uploads of each
/// user are measured: so few that a backup stays small.
const FEW: u64 = 1_000;
const UPLOAD: u64 = 100;
const MEASURED: u64 = 10;

#[derive(Deserialize)]
struct Created {
    version: String,
}

#[derive(Deserialize)]
struct Contents {
    count: u64,
}

/// A user's backup.
struct Backup {
    owner: Account,
    version: String,
}

pub(super) async fn run(bench: &Bench<'_>) -> Result<(Vec<Measure>, Vec<String>)> {
    let mut workers = bench.askers().await?;
    let (mut backups, mut rows, mut notes) = (Vec::new(), Rows::default(), Vec::new());
    for owner in bench.accounts(bench.plan.users).await? {
        backups.push(create(bench, owner).await?);
    }
    let users = u64::try_from(backups.len()).unwrap_or(1);
    let measured = match bench.plan.span {
        Span::Count(count) => count,
        Span::Time(_) => users * MEASURED,
    };
    let few = FEW.min(bench.plan.messages);
    // A few keys in each of the backups, then many in the first one.
    for (size, backups, before) in
        [(few, &*backups, 0), (bench.plan.messages, backups.get(..1).unwrap_or_default(), few)]
    {
        let all = u64::try_from(backups.len()).unwrap_or(1);
        let missing = size.saturating_sub(before) / UPLOAD * all;
        let fill = format!("fill with {UPLOAD} keys: {size}");
        rows.push(upload(bench, (&fill, missing), &mut workers, backups).await);
        let beside = format!("{UPLOAD} keys beside {size}");
        rows.push(upload(bench, (&beside, measured), &mut workers, backups).await);
        notes.push(bench.size(&format!("{size} keys in a backup")));
    }
    if let Some(first) = backups.first()
        && count(bench, first).await? < bench.plan.messages
    {
        return Err(Failure::Other("keys are missing".to_owned()));
    }
    Ok((rows.0, notes))
}

async fn create(bench: &Bench<'_>, owner: Account) -> Result<Backup> {
    let body = json!({
        "algorithm": "m.megolm_backup.v1.curve25519-aes-sha2", "auth_data": { "public_key": "key", "signatures": {} },
    });
    let call = Call::post("/_matrix/client/v3/room_keys/version", Some(&owner.access_token), body);
    let Created { version } = matrix::patient(&mut bench.connection(), &call).await?;
    Ok(Backup { owner, version })
}

async fn count(bench: &Bench<'_>, backup: &Backup) -> Result<u64> {
    let path = "/_matrix/client/v3/room_keys/version".to_owned();
    let call = Call::get(path, &backup.owner.access_token);
    let Contents { count } = matrix::patient(&mut bench.connection(), &call).await?;
    Ok(count)
}

/// Uploads new keys, each time to the next one of these backups.
async fn upload(
    bench: &Bench<'_>,
    (label, uploads): (&str, u64),
    workers: &mut [Worker],
    backups: &[Backup],
) -> Measure {
    let operation = async |worker: &mut Worker, serial: u64| {
        let backup = backups.get(turn(serial, backups.len()));
        let Backup { owner, version } =
            backup.ok_or_else(|| Failure::Other("there is no backup".to_owned()))?;
        let call = keys::back_up_call(owner, version, serial * UPLOAD..(serial + 1) * UPLOAD);
        worker.connection.call(&call).await.map(drop)
    };
    bench.measure_cold(label, workers, Span::Count(uploads), operation).await
}
