//! What keeps calls from working, for administrators.

use std::time::Duration;

use serde_json::Value;
use tokio::sync::Notify;

use crate::{Calls, Failure};

/// How long LiveKit may take for the web hook about a new room.
const HOOK_PATIENCE: Duration = Duration::from_secs(5);

/// When the last web hook was received.
#[derive(Default)]
pub(crate) struct HookTrace {
    came: Notify,
}

impl HookTrace {
    /// A web hook came.
    pub(crate) fn note(&self) {
        self.came.notify_waiters();
    }
}

impl Calls {
    /// Every reason why calls do not work, a line each. Makes a room at LiveKit, which reports that with a web hook.
    pub async fn diagnose(&self) -> Vec<String> {
        let (problem, announcement) =
            tokio::join!(self.problem_of_livekit(), self.livekit.client());
        let announcement = match announcement {
            Ok(served) => self.problem_of(&served),
            Err(Failure::Unexpected(answer)) => Some(format!("it is not served ({answer})")),
            Err(Failure::Unreachable(reason)) => Some(format!("it cannot be reached: {reason}")),
            Err(Failure::Denied(_)) => Some("it is not public".to_owned()),
        };
        let announcement = announcement.map(|problem| {
            let name = &self.resources.config.server.name;
            format!("clients do not learn of calls from https://{name}/.well-known/matrix/client: {problem}")
        });
        problem.into_iter().chain(announcement).collect()
    }

    async fn problem_of_livekit(&self) -> Option<String> {
        let config = &self.resources.config;
        // Room names that hash slots have 43 characters, so this one is no call's.
        let room = format!("wick-check-{:016x}", self.resources.random.number());
        let hook = self.hooks.came.notified();
        tokio::pin!(hook);
        hook.as_mut().enable();
        if let Err(failure) = self.livekit.create_room(&room).await {
            return Some(explain(&failure, &config.calls.livekit_url));
        }
        let clock = &self.resources.clock;
        tokio::select! {
            () = hook => None,
            () = clock.sleep_until(clock.monotonic() + HOOK_PATIENCE) => Some(self.missing_hook()),
        }
    }

    /// What is wrong with what is served as `/.well-known/matrix/client`.
    fn problem_of(&self, served: &Value) -> Option<String> {
        let config = &self.resources.config;
        let trimmed = |url: &str| url.trim_end_matches('/').to_owned();
        let own = trimmed(&config.server.well_known_client);
        let base = served.pointer("/m.homeserver/base_url").and_then(Value::as_str);
        if base.map(trimmed).as_ref() != Some(&own) {
            return Some(format!("m.homeserver.base_url is not {own}"));
        }
        let service = config.token_service_url().unwrap_or_default();
        let foci = served.get("org.matrix.msc4143.rtc_foci").and_then(Value::as_array);
        let names = |focus: &Value| {
            focus.get("livekit_service_url").and_then(Value::as_str) == Some(service.as_str())
        };
        let is_named = foci.is_some_and(|foci| foci.iter().any(names));
        (!is_named).then(|| format!("org.matrix.msc4143.rtc_foci has no {service}"))
    }

    fn missing_hook(&self) -> String {
        let config = &self.resources.config;
        let base = config.token_service_url().unwrap_or_default();
        format!(
            "no web hook of livekit arrived: its configuration needs `webhook: {{ api_key: {}, urls: \
             [{base}/sfu_webhook] }}`, and it must reach that URL",
            config.calls.livekit_key
        )
    }
}

fn explain(failure: &Failure, url: &str) -> String {
    match failure {
        Failure::Unreachable(reason) => format!("livekit cannot be reached at {url}: {reason}"),
        Failure::Denied(Some(skew)) if skew.as_secs() > 30 => {
            format!("livekit refuses this server: the clocks differ by {} s", skew.as_secs())
        }
        Failure::Denied(_) => {
            "livekit refuses calls.livekit_key or calls.livekit_secret: its configuration must have both \
             under `keys`"
                .to_owned()
        }
        Failure::Unexpected(answer) => {
            format!("at {url} is something else than livekit: it answers {answer}")
        }
    }
}
