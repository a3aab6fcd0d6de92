//! A device that runs the matrix-sdk crate, steered by lines of JSON.
//!
//! Each line of standard input, `{"call": "…", "with": {…}}`, is answered by one line of standard output,
//! `{"done": …}` or `{"failed": "…"}`. The process ends with its input.

// The futures of the SDK's sync are nested deeper than the compiler looks by default.
#![recursion_limit = "256"]

mod device;
mod verification;

use anyhow::Result;
use device::Device;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, stdin, stdout};

#[tokio::main]
async fn main() -> Result<()> {
    let mut lines = BufReader::new(stdin()).lines();
    let mut device = None;
    while let Some(line) = lines.next_line().await? {
        let command: Value = serde_json::from_str(&line)?;
        let answer = match run(&mut device, &command).await {
            Ok(done) => json!({ "done": done }),
            Err(error) => json!({ "failed": format!("{error:#}") }),
        };
        stdout().write_all(format!("{answer}\n").as_bytes()).await?;
        stdout().flush().await?;
    }
    Ok(())
}

async fn run(device: &mut Option<Device>, command: &Value) -> Result<Value> {
    let with = &command["with"];
    let call = text(command, "call")?;
    if call == "log_in" {
        let user = text(with, "username")?;
        let new = Device::log_in(text(with, "url")?, user, text(with, "password")?).await?;
        let whoami = new.whoami()?;
        *device = Some(new);
        return Ok(whoami);
    }
    let device = device.as_ref().ok_or_else(|| anyhow::anyhow!("not logged in"))?;
    match call {
        "create_room" => device.create_room(text(with, "invite")?).await,
        "join" => device.join(text(with, "room")?).await,
        "send" => {
            let transaction = with["transaction"].as_str();
            device.send(text(with, "room")?, text(with, "body")?, transaction).await
        }
        "read" => device.read(text(with, "room")?, text(with, "event")?).await,
        "devices" => device.devices(text(with, "user")?).await,
        "verified" => device.verified().await,
        "has_secrets" => device.has_secrets().await,
        "enable_recovery" => device.enable_recovery().await,
        "recover" => device.recover(text(with, "key")?).await,
        "reset_identity" => device.reset_identity(text(with, "password")?).await,
        "request_verification" => device.request_verification(text(with, "device")?).await,
        "accept_verification" => device.accept_verification().await,
        "confirm_verification" => device.confirm_verification().await,
        "log_out" => device.log_out().await,
        other => anyhow::bail!("unknown call: {other}"),
    }
}

fn text<'a>(object: &'a Value, field: &str) -> Result<&'a str> {
    object[field].as_str().ok_or_else(|| anyhow::anyhow!("{field} is missing"))
}
