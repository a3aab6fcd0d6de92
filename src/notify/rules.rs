//! A user's push rules, ready to be matched against events.
//!
//! Invariants: rules are tried in the order of the specification, and the first that applies decides; no
//! pattern of a user reaches any matcher but [`Pattern`]; the cache is good for the position of the row in
//! `ACCOUNT_DATA_BY_TYPE` that it was made from.
//!
//! <https://spec.matrix.org/v1.18/client-server-api/#push-rules>

use std::sync::Arc;

use futures_util::FutureExt;
use quick_cache::{Weighter, sync::Cache};
use ruma::{
    OwnedRoomId, OwnedUserId,
    push::{Action, ConditionalPushRule, PushCondition, PushConditionRoomCtx, Ruleset},
};
use wick_account::push_rules;
use wick_core::{Position, Result, ShortRoomId, ShortUserId};
use wick_database::{Read, schema::account_data::ACCOUNT_DATA_BY_TYPE};

use crate::{
    Recipient,
    flattened::Flattened,
    pattern::{Pattern, Within},
};

/// How much memory the cached rules may take, by [`Rules::weight`].
const CACHED_BYTES: u64 = 32 << 20;

/// What a compiled pattern takes of memory for each of its bytes, at most about.
const COMPILED_PER_BYTE: u64 = 200;

/// The text that a pattern of a content rule, or of a condition on `content.body`, is matched against.
pub(crate) const BODY: &str = "content.body";

/// The rules that an event with `m.mentions` switches off.
const OLD_MENTIONS: [&str; 3] =
    [".m.rule.contains_display_name", ".m.rule.roomnotif", ".m.rule.contains_user_name"];

/// The enabled rules of a user, in order.
pub(crate) struct Rules(Vec<Rule>);

struct Rule {
    actions: Vec<Action>,
    /// Not for events with `m.mentions`.
    is_old_mention: bool,
    conditions: Vec<Condition>,
}

enum Condition {
    Matches(String, Pattern),
    IsRoom(OwnedRoomId),
    IsSender(OwnedUserId),
    ContainsDisplayName,
    /// One on the power level of the sender.
    SenderMayNotify(PushCondition),
    /// Another one without a pattern.
    Plain(PushCondition),
}

/// An event as rules see it.
pub(crate) struct Candidate<'a> {
    pub(crate) event: &'a Flattened,
    /// The room, without its power levels.
    pub(crate) context: &'a PushConditionRoomCtx,
    /// The room with its power levels.
    pub(crate) with_power_levels: &'a dyn Fn() -> Result<&'a PushConditionRoomCtx>,
    /// The user's display name in the room.
    pub(crate) name: &'a Pattern,
}

impl Rules {
    pub(crate) fn new(rules: &Ruleset) -> Self {
        let conditional = |rule: &ConditionalPushRule| {
            let conditions = rule.conditions.iter().map(Condition::new).collect();
            Rule::new(rule.enabled, &rule.rule_id, &rule.actions, conditions)
        };
        let content = rules.content.iter().map(|rule| {
            let pattern = Pattern::glob(&rule.pattern, Within::Words);
            let conditions = vec![Condition::Matches(BODY.to_owned(), pattern)];
            Rule::new(rule.enabled, &rule.rule_id, &rule.actions, conditions)
        });
        let room = rules.room.iter().map(|rule| {
            let conditions = vec![Condition::IsRoom(rule.rule_id.clone())];
            Rule::new(rule.enabled, rule.rule_id.as_str(), &rule.actions, conditions)
        });
        let sender = rules.sender.iter().map(|rule| {
            let conditions = vec![Condition::IsSender(rule.rule_id.clone())];
            Rule::new(rule.enabled, rule.rule_id.as_str(), &rule.actions, conditions)
        });
        let ordered = rules.override_.iter().map(conditional);
        let ordered = ordered.chain(content).chain(room).chain(sender);
        Self(ordered.chain(rules.underride.iter().map(conditional)).flatten().collect())
    }

    /// The actions of the first rule that applies; none if none does. Adds what it took to `cost`.
    ///
    /// # Errors
    /// If the power levels of the room cannot be read.
    pub(crate) fn actions(&self, candidate: &Candidate<'_>, cost: &mut usize) -> Result<&[Action]> {
        let has_mentions = candidate.event.fields.contains_mentions();
        for rule in self.0.iter().filter(|rule| !(rule.is_old_mention && has_mentions)) {
            if rule.applies(candidate, cost)? {
                return Ok(&rule.actions);
            }
        }
        Ok(&[])
    }

    /// How much memory it takes, about.
    fn weight(&self) -> u64 {
        let conditions = self.0.iter().flat_map(|rule| &rule.conditions);
        let bytes = conditions.map(|condition| match condition {
            Condition::Matches(_, pattern) => pattern.len(),
            _ => 1,
        });
        u64::try_from(bytes.sum::<usize>()).unwrap_or(u64::MAX).saturating_mul(COMPILED_PER_BYTE)
    }
}

impl Rule {
    fn new(
        enabled: bool,
        id: &str,
        actions: &[Action],
        conditions: Vec<Condition>,
    ) -> Option<Self> {
        let is_old_mention = OLD_MENTIONS.contains(&id);
        enabled.then(|| Self { actions: actions.to_vec(), is_old_mention, conditions })
    }

    fn applies(&self, candidate: &Candidate<'_>, cost: &mut usize) -> Result<bool> {
        for condition in &self.conditions {
            if !condition.applies(candidate, cost)? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

impl Condition {
    #[expect(
        deprecated,
        reason = "clients still have the rule, and events without mentions need it"
    )]
    fn new(condition: &PushCondition) -> Self {
        match condition {
            PushCondition::EventMatch(data) => {
                let within = if data.key == BODY { Within::Words } else { Within::Value };
                Self::Matches(data.key.clone(), Pattern::glob(&data.pattern, within))
            }
            PushCondition::ContainsDisplayName => Self::ContainsDisplayName,
            PushCondition::SenderNotificationPermission { .. } => {
                Self::SenderMayNotify(condition.clone())
            }
            plain => Self::Plain(plain.clone()),
        }
    }

    fn applies(&self, candidate: &Candidate<'_>, cost: &mut usize) -> Result<bool> {
        let Candidate { event, context, name, .. } = candidate;
        let (fields, body) = (&event.fields, event.body.as_deref());
        let mut matches = |pattern: &Pattern, value: Option<&str>| {
            value.is_some_and(|value| {
                *cost = cost.saturating_add(pattern.cost(value));
                pattern.matches(value)
            })
        };
        // None of these waits for anything.
        let plain = |condition: &PushCondition, context| {
            condition.applies(fields, context).now_or_never().unwrap_or_default()
        };
        Ok(match self {
            Self::Matches(key, pattern) => match &**key {
                BODY => matches(pattern, body),
                "room_id" => matches(pattern, Some(&context.room_id.as_str().to_lowercase())),
                key => matches(pattern, fields.get_str(key).map(str::to_lowercase).as_deref()),
            },
            Self::IsRoom(room_id) => context.room_id == *room_id,
            Self::IsSender(user_id) => fields.get_str("sender") == Some(user_id.as_str()),
            Self::ContainsDisplayName => matches(name, body),
            Self::SenderMayNotify(condition) => plain(condition, (candidate.with_power_levels)()?),
            Self::Plain(condition) => plain(condition, context),
        })
    }
}

#[derive(Clone)]
struct Weight;

impl Weighter<ShortUserId, (Position, Arc<Rules>)> for Weight {
    fn weight(&self, _: &ShortUserId, (_, rules): &(Position, Arc<Rules>)) -> u64 {
        rules.weight()
    }
}

/// The rules of recently active users.
pub(crate) struct RulesCache(Cache<ShortUserId, (Position, Arc<Rules>), Weight>);

impl Default for RulesCache {
    fn default() -> Self {
        Self(Cache::with_weighter(1_000, CACHED_BYTES, Weight))
    }
}

impl RulesCache {
    /// The rules of a user.
    pub(crate) fn get(&self, read: &impl Read, of: Recipient<'_>) -> Result<Arc<Rules>> {
        let user = of.user;
        let key = (user, None::<ShortRoomId>, push_rules::TYPE);
        let row = read.get(&ACCOUNT_DATA_BY_TYPE, &key)?;
        let position = row.map_or(Position::MIN, |row| row.position);
        if let Some((at, rules)) = self.0.get(&user)
            && at == position
        {
            return Ok(rules);
        }
        let rules = push_rules::ruleset(read, user, of.user_id)?;
        let rules = Arc::new(Rules::new(&rules));
        self.0.insert(user, (position, Arc::clone(&rules)));
        Ok(rules)
    }
}
