//! Push rules: which events notify a user. Clients evaluate them; the server keeps them.
//!
//! Invariant: a user's rules are the account data `m.push_rules`, and always hold the server's
//! default rules, so every change is in the next sync.

mod defaults;

use ruma::{
    RoomId, UserId,
    push::{
        Action, AnyPushRule, InsertPushRuleError, NewPushRule, PushCondition, RemovePushRuleError,
        RuleKind, Ruleset,
    },
};
use serde::{Deserialize, Serialize};
use wick_core::{Error, Result, ShortUserId};
use wick_database::{Batch, Read};
use wick_runtime::Resources;

use crate::{Session, account_data};

/// The account data type.
pub const TYPE: &str = "m.push_rules";

const MAX_BYTES: usize = 262_144;

/// What one rule may have.
const MAX_RULE_ID_BYTES: usize = 255;
/// The longest pattern of a rule, in bytes: each wildcard of it takes memory and time to match.
pub const MAX_PATTERN_BYTES: usize = 512;
const MAX_CONDITIONS: usize = 32;
const MAX_ACTIONS: usize = 32;

#[derive(Serialize, Deserialize)]
struct Content {
    global: Ruleset,
}

/// The push rules of local users.
pub struct PushRules {
    resources: Resources,
}

impl PushRules {
    /// Push rules in the database.
    #[must_use]
    pub fn new(resources: Resources) -> Self {
        Self { resources }
    }

    /// All rules of a user.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn list(&self, user: ShortUserId, user_id: &UserId) -> Result<Ruleset> {
        ruleset(&self.resources.database.published(), user, user_id)
    }

    /// One rule.
    ///
    /// # Errors
    /// `M_NOT_FOUND` if the user has none of that kind and id.
    pub fn get(&self, session: &Session, kind: RuleKind, rule_id: &str) -> Result<AnyPushRule> {
        let rules = self.list(session.user, &session.user_id)?;
        rules.get(kind, rule_id).map(|rule| rule.to_owned()).ok_or_else(no_such_rule)
    }

    /// Makes or replaces a rule, before or after another one of the user's own.
    ///
    /// # Errors
    /// `M_INVALID_PARAM` if the place or the id is not possible, or a part of the rule is too long;
    /// `M_NOT_FOUND` if the other rule is not there; `M_TOO_LARGE` if the user has too many.
    pub async fn set(
        &self,
        session: &Session,
        rule: NewPushRule,
        before: Option<&str>,
        after: Option<&str>,
    ) -> Result<()> {
        ensure_bounded(&rule)?;
        let most = usize::try_from(self.resources.config.accounts.max_push_rules);
        let most = most.unwrap_or(usize::MAX);
        self.change(session, |rules| {
            let count = own_rules(rules);
            insert(rules, rule.clone(), before, after)?;
            let now = own_rules(rules);
            if now > count && now > most {
                return Err(Error::too_large("this user has too many push rules"));
            }
            Ok(())
        })
        .await
    }

    /// Removes a rule of the user's own.
    ///
    /// # Errors
    /// `M_NOT_FOUND` if it is not there, `M_INVALID_PARAM` if it is one of the server's.
    pub async fn delete(&self, session: &Session, kind: RuleKind, rule_id: &str) -> Result<()> {
        self.change(session, |rules| {
            rules.remove(kind.clone(), rule_id).map_err(|error| match error {
                RemovePushRuleError::NotFound => no_such_rule(),
                _ => Error::invalid_param("the server's rules cannot be removed"),
            })
        })
        .await
    }

    /// Switches a rule on or off.
    ///
    /// # Errors
    /// `M_NOT_FOUND` if it is not there.
    pub async fn set_enabled(
        &self,
        session: &Session,
        kind: RuleKind,
        rule_id: &str,
        enabled: bool,
    ) -> Result<()> {
        self.change(session, |rules| {
            rules.set_enabled(kind.clone(), rule_id, enabled).map_err(|_| no_such_rule())
        })
        .await
    }

    /// Changes what a rule does.
    ///
    /// # Errors
    /// `M_NOT_FOUND` if it is not there.
    pub async fn set_actions(
        &self,
        session: &Session,
        kind: RuleKind,
        rule_id: &str,
        actions: Vec<Action>,
    ) -> Result<()> {
        ensure_actions(&actions)?;
        self.change(session, |rules| {
            rules.set_actions(kind.clone(), rule_id, actions.clone()).map_err(|_| no_such_rule())
        })
        .await
    }

    async fn change(
        &self,
        session: &Session,
        mut change: impl FnMut(&mut Ruleset) -> Result<()> + Send,
    ) -> Result<()> {
        self.resources
            .change(|batch| update(session.user, &session.user_id, batch, &mut change))
            .await
    }
}

/// The rules of a new account.
pub(crate) fn put_default(user: ShortUserId, user_id: &UserId, batch: &mut Batch) -> Result<()> {
    account_data::put(user, None, TYPE, Some(serialize(defaults::defaults(user_id))?), batch)
}

/// Gives a room the rules that a user has for the room it replaces, unless it has its own.
pub fn follow(
    user: ShortUserId,
    user_id: &UserId,
    (old, new): (&RoomId, &RoomId),
    batch: &mut Batch,
) -> Result<()> {
    update(user, user_id, batch, |rules| {
        let known = |room: &RoomId| rules.room.iter().find(|rule| rule.rule_id == room).cloned();
        if let (Some(mut rule), None) = (known(old), known(new)) {
            rule.rule_id = new.to_owned();
            rules.room.insert(rule);
        }
        Ok(())
    })
}

/// The rules of a user: the server's defaults with what the user made of them.
///
/// # Errors
/// If the database cannot be read.
pub fn ruleset(read: &impl Read, user: ShortUserId, user_id: &UserId) -> Result<Ruleset> {
    parse(account_data::content(read, user, None, TYPE)?.as_deref(), user_id)
}

fn parse(content: Option<&str>, user_id: &UserId) -> Result<Ruleset> {
    let defaults = defaults::defaults(user_id);
    let Some(content) = content else { return Ok(defaults) };
    let Content { global: mut rules } = serde_json::from_str(content)
        .map_err(|error| Error::internal("stored push rules", error))?;
    rules.update_with_server_default(defaults);
    Ok(rules)
}

fn update(
    user: ShortUserId,
    user_id: &UserId,
    batch: &mut Batch,
    change: impl FnOnce(&mut Ruleset) -> Result<()>,
) -> Result<()> {
    account_data::update(user, None, TYPE, batch, |content| {
        let mut rules = parse(content, user_id)?;
        change(&mut rules)?;
        serialize(rules).map(Some)
    })
}

fn serialize(rules: Ruleset) -> Result<String> {
    let content = serde_json::to_string(&Content { global: rules })
        .map_err(|error| Error::internal("push rules", error))?;
    if content.len() > MAX_BYTES {
        return Err(Error::too_large("too many push rules"));
    }
    Ok(content)
}

fn insert(
    rules: &mut Ruleset,
    rule: NewPushRule,
    before: Option<&str>,
    after: Option<&str>,
) -> Result<()> {
    let (kind, rule_id) = (rule.kind(), rule.rule_id().to_owned());
    if before == Some(&*rule_id) || after == Some(&*rule_id) {
        return Err(Error::not_found("a rule cannot be placed by itself"));
    }
    let known = rules.get(kind.clone(), &rule_id).map(|known| known.enabled());
    if known.is_some() && (before.is_some() || after.is_some()) {
        // A rule that moves is placed among the others: it is not one of its own neighbours.
        rules
            .remove(kind.clone(), &rule_id)
            .map_err(|_| Error::invalid_param("the server's rules keep their place"))?;
    }
    rules.insert(rule, after, before).map_err(|error| match error {
        InsertPushRuleError::UnknownRuleId => {
            Error::not_found("the rule to place this one by does not exist")
        }
        error => Error::invalid_param(error.to_string()),
    })?;
    if let Some(enabled) = known {
        rules.set_enabled(kind, &rule_id, enabled).map_err(|_| no_such_rule())?;
    }
    Ok(())
}

/// How many rules of the user's own there are.
fn own_rules(rules: &Ruleset) -> usize {
    rules.iter().filter(|rule| !rule.is_server_default()).count()
}

/// Refuses a rule that is costly to evaluate or to keep.
fn ensure_bounded(rule: &NewPushRule) -> Result<()> {
    let (actions, conditions) = match rule {
        NewPushRule::Override(rule) | NewPushRule::Underride(rule) => {
            (&rule.actions, &*rule.conditions)
        }
        NewPushRule::Content(rule) => {
            ensure_pattern(&rule.pattern)?;
            (&rule.actions, &[][..])
        }
        NewPushRule::Room(rule) => (&rule.actions, &[][..]),
        NewPushRule::Sender(rule) => (&rule.actions, &[][..]),
        _ => return Err(Error::invalid_param("unknown kind of push rule")),
    };
    if rule.rule_id().len() > MAX_RULE_ID_BYTES {
        return Err(Error::invalid_param("a rule id has at most 255 bytes"));
    }
    if conditions.len() > MAX_CONDITIONS {
        return Err(Error::invalid_param("a push rule has at most 32 conditions"));
    }
    for condition in conditions {
        if let PushCondition::EventMatch(condition) = condition {
            ensure_pattern(&condition.pattern)?;
        }
    }
    ensure_actions(actions)
}

fn ensure_pattern(pattern: &str) -> Result<()> {
    if pattern.len() > MAX_PATTERN_BYTES {
        return Err(Error::invalid_param("a pattern has at most 512 bytes"));
    }
    Ok(())
}

fn ensure_actions(actions: &[Action]) -> Result<()> {
    if actions.len() > MAX_ACTIONS {
        return Err(Error::invalid_param("a push rule has at most 32 actions"));
    }
    Ok(())
}

fn no_such_rule() -> Error {
    Error::not_found("there is no such push rule")
}

#[cfg(test)]
mod tests {
    use ruma::{
        push::{NewPatternedPushRule, PatternedPushRule},
        user_id,
    };
    use wick_database::Durability;

    use super::*;
    use crate::{devices::NewDevice, fixture::Fixture};

    fn rules_with(ids: &[&str]) -> Ruleset {
        let mut rules = Ruleset::server_default(user_id!("@a:b"));
        for id in ids {
            insert(&mut rules, rule(id), None, None).unwrap();
        }
        rules
    }

    fn rule(id: &str) -> NewPushRule {
        NewPushRule::Content(NewPatternedPushRule::new(id.to_owned(), "x".to_owned(), Vec::new()))
    }

    fn order(rules: &Ruleset) -> Vec<&str> {
        rules.content.iter().map(|rule: &PatternedPushRule| rule.rule_id.as_str()).collect()
    }

    #[tokio::test]
    async fn a_rule_that_is_made_between_the_read_and_the_write_of_another_stays() {
        let fixture = Fixture::new();
        let tokens = fixture.register("alice", NewDevice::default()).await;
        let session = fixture.session(&tokens).await;
        let database = &fixture.resources.database;
        let mut between = Some(rules_with(&["between"]));
        fixture
            .push_rules
            .change(&session, |rules| {
                if let Some(rules) = between.take() {
                    let mut batch = database.batch();
                    let content = Some(serialize(rules).unwrap());
                    account_data::put(session.user, None, TYPE, content, &mut batch).unwrap();
                    drop(database.write(batch, Durability::Synced).unwrap());
                }
                insert(rules, rule("last"), None, None)
            })
            .await
            .unwrap();
        let rules = fixture.push_rules.list(session.user, &session.user_id).unwrap();
        assert_eq!(order(&rules)[..2], ["last", "between"]);
    }

    #[test]
    fn a_new_rule_goes_before_the_others_of_its_kind() {
        assert_eq!(order(&rules_with(&["c", "b", "a"])), ["a", "b", "c"]);
    }

    #[test]
    fn a_rule_can_be_moved_behind_the_last_one() {
        let mut rules = rules_with(&["c", "b", "a"]);
        rules.set_enabled(RuleKind::Content, "a", false).unwrap();
        insert(&mut rules, rule("a"), None, Some("c")).unwrap();
        assert_eq!(order(&rules), ["b", "c", "a"]);
        assert!(!rules.get(RuleKind::Content, "a").unwrap().enabled());
    }

    #[test]
    fn a_rule_can_be_moved_before_another_one() {
        let mut rules = rules_with(&["c", "b", "a"]);
        insert(&mut rules, rule("c"), Some("b"), None).unwrap();
        assert_eq!(order(&rules), ["a", "c", "b"]);
    }

    #[test]
    fn a_rule_cannot_be_placed_by_itself_or_by_one_that_is_not_there() {
        for other in ["a", "z"] {
            let error = insert(&mut rules_with(&["a"]), rule("a"), None, Some(other)).unwrap_err();
            assert!(error.to_string().starts_with("M_NOT_FOUND"), "{error}");
        }
    }

    #[test]
    fn a_rule_cannot_take_the_name_or_the_place_of_one_of_the_servers() {
        let mut rules = rules_with(&["a"]);
        assert!(insert(&mut rules, rule(".m.rule.mine"), None, None).is_err());
        assert!(insert(&mut rules, rule("b"), Some(".m.rule.contains_user_name"), None).is_err());
    }
}
