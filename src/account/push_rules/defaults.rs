//! The rules every user has from the start.
//!
//! Invariant: they are those of every version of the specification that `/versions` announces. What a
//! later one removed is still there: the rules by which a name in the text is a mention. They do
//! nothing where the event itself lists its mentions.
//!
//! <https://spec.matrix.org/v1.12/client-server-api/#predefined-rules>

use ruma::{
    UserId,
    power_levels::NotificationPowerLevelsKey,
    push::{
        Action, ConditionalPushRule, ConditionalPushRuleInit, EventMatchConditionData,
        HighlightTweakValue, PatternedPushRuleInit, PushCondition, Ruleset,
        SenderNotificationPermissionConditionData, SoundTweakValue, Tweak,
    },
};

/// The server's default rules for a user.
#[expect(deprecated, reason = "a name in the text is deprecated for clients that send it")]
pub(super) fn defaults(user_id: &UserId) -> Ruleset {
    let mut rules = Ruleset::server_default(user_id);
    let name = rule(
        ".m.rule.contains_display_name",
        vec![PushCondition::ContainsDisplayName],
        mention(true),
    );
    let room = rule(
        ".m.rule.roomnotif",
        vec![
            event_match("content.body", "@room"),
            PushCondition::SenderNotificationPermission(
                SenderNotificationPermissionConditionData::new(NotificationPowerLevelsKey::Room),
            ),
        ],
        mention(false),
    );
    for (rule, before) in [(name, ".m.rule.is_room_mention"), (room, ".m.rule.tombstone")] {
        let place = rules.override_.iter().position(|other| other.rule_id == before);
        rules.override_.shift_insert(place.unwrap_or(rules.override_.len()), rule);
    }
    rules.content.insert(
        PatternedPushRuleInit {
            actions: mention(true),
            default: true,
            enabled: true,
            rule_id: ".m.rule.contains_user_name".to_owned(),
            pattern: user_id.localpart().to_owned(),
        }
        .into(),
    );
    rules.override_ = rules.override_.into_iter().map(poll).collect();
    rules.underride = rules.underride.into_iter().map(poll).collect();
    rules
}

fn rule(id: &str, conditions: Vec<PushCondition>, actions: Vec<Action>) -> ConditionalPushRule {
    ConditionalPushRuleInit {
        actions,
        default: true,
        enabled: true,
        rule_id: id.to_owned(),
        conditions,
    }
    .into()
}

fn mention(sound: bool) -> Vec<Action> {
    let mut actions = vec![Action::Notify];
    if sound {
        actions.push(Action::SetTweak(Tweak::Sound(SoundTweakValue::Default)));
    }
    actions.push(Action::SetTweak(Tweak::Highlight(HighlightTweakValue::Yes)));
    actions
}

fn event_match(key: &str, pattern: &str) -> PushCondition {
    PushCondition::EventMatch(EventMatchConditionData::new(key.to_owned(), pattern.to_owned()))
}

/// The rules of polls in the form in which clients look for them: by a pattern, not by equality. A
/// type has no wildcard, so both are true of the same events.
fn poll(mut rule: ConditionalPushRule) -> ConditionalPushRule {
    if rule.rule_id.starts_with(".org.matrix.msc3930.rule.") {
        for condition in &mut rule.conditions {
            if let PushCondition::EventPropertyIs(same) = &*condition
                && let Some(text) = same.value.as_str()
            {
                *condition = event_match(&same.key, text);
            }
        }
    }
    rule
}
