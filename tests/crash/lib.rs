//! The crash loop: the real binary under load, `kill -9` at random moments, and the proof that nothing that
//! was answered is lost.
//!
//! Invariant: every claim is one-sided (never lost, never twice, never early), so that none depends on how
//! busy the machine is.

mod actor;
mod audit;
mod client;
mod clock;
mod delayed;
mod encryption;
mod outcome;
mod rounds;
mod timer;

pub use self::rounds::{Plan, Summary, run};

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_was_answered_survives_kills_at_random_moments() {
        let plan = Plan { rounds: 10, seed: 1, actors: 4 };
        let summary = run(plan, |_| ()).await.unwrap_or_else(|broken| panic!("{broken}"));
        assert_eq!(summary.kills, 10);
        assert!(summary.timers > 0 && summary.sent_later > 0 && summary.cancelled > 0, "{summary}");
        assert!(summary.keys > 0 && summary.messages > 0, "{summary}");
    }
}
