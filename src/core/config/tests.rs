//! The configuration as a whole: sources, precedence, problems, the example file.

use toml::{Table, Value};

use super::*;

fn load(
    file: &str,
    environment: &[(&str, &str)],
    flags: &[(&str, &str)],
) -> Result<Config, Vec<String>> {
    let own = |pairs: &[(&str, &str)]| {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    };
    let sources = Sources {
        file: Some(("wick.toml", file)),
        environment: own(environment),
        flags: own(flags),
    };
    Config::load(&sources).map_err(|problems| problems.iter().map(ToString::to_string).collect())
}

fn keys(table: &Table, prefix: &str, found: &mut Vec<String>) {
    for (name, value) in table {
        let key = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
        match value {
            Value::Table(inner) => keys(inner, &key, found),
            _ => found.push(key),
        }
    }
}

#[test]
fn the_example_file_says_what_the_defaults_are() {
    assert_eq!(load(EXAMPLE, &[], &[]).unwrap(), Config::default());
}

#[test]
fn the_example_file_names_every_key() {
    let (mut expected, mut named) = (Vec::new(), Vec::new());
    keys(&Table::try_from(Config::default()).unwrap(), "", &mut expected);
    keys(&EXAMPLE.parse().unwrap(), "", &mut named);
    expected.sort();
    named.sort();
    assert_eq!(named, expected);
}

#[test]
fn without_any_source_the_defaults_hold_and_are_sound() {
    assert_eq!(Config::load(&Sources::default()).unwrap(), Config::default());
}

#[test]
fn flags_override_the_environment_which_overrides_the_file() {
    let file = "[server]\nname = \"file.test\"\n[sync]\ntimeline_limit = 5\n[rooms]\nallow_creation = false";
    let config = load(
        file,
        &[
            ("WICK_SERVER__NAME", "env.test"),
            ("WICK_SYNC__TIMELINE_LIMIT", "7"),
            ("WICK_LIMITS__MESSAGES__BURST", "3"),
            ("WICK_REGISTRATION__TOKEN", "4711"),
            ("WICK_LISTEN__TCP", "[\"127.0.0.1:1\", \"[::1]:2\"]"),
            ("PATH", "/bin"),
        ],
        &[("server.name", "flag.test")],
    )
    .unwrap();
    assert_eq!(config.server.name, "flag.test");
    assert_eq!(config.sync.timeline_limit, 7);
    assert!(!config.rooms.allow_creation);
    assert_eq!(config.limits.messages.burst, 3);
    assert_eq!(config.limits.messages.per_second, Config::default().limits.messages.per_second);
    assert_eq!(config.registration.token.reveal(), Some("4711"));
    assert_eq!(config.listen.tcp.len(), 2);
}

#[test]
fn all_problems_are_told_at_once_with_where_they_come_from() {
    let file = "nonsense = 1\n[server]\nname = \"not a name\"\ncolour = 'red'\n[expiry]\nmin_duration = 0\n\
                [database]\ndurability = \"hoped\"";
    let problems = load(file, &[("WICK_SYNC__MAX_TIMEOUT", "soon")], &[]).unwrap_err().join("\n");
    for part in [
        "nonsense (from wick.toml): unknown field",
        "server.name (from wick.toml)",
        "server.colour (from wick.toml): unknown field",
        "database.durability (from wick.toml): unknown variant `hoped`",
        "sync.max_timeout (from WICK_SYNC__MAX_TIMEOUT): \"soon\" is no time span",
        "expiry.min_duration must be at least 1",
    ] {
        assert!(problems.contains(part), "no {part:?} in\n{problems}");
    }
}

#[test]
fn a_file_that_is_no_toml_is_a_problem_with_its_line() {
    let problems = load("[server\nname = 1", &[], &[]).unwrap_err().join("\n");
    assert!(problems.starts_with("wick.toml: TOML parse error at line 1"), "{problems}");
}

#[test]
fn values_that_contradict_each_other_are_problems() {
    let file = "[listen]\ntcp = []\n[registration]\nmode = \"token\"\n[expiry]\nmin_duration = 10\n\
                max_duration = 5\n[limits]\njoins = { per_second = 0, burst = 0 }\n[rooms]\ndefault_version = \"99\"\n\
                [turn]\nuris = [\"stun:example.org\"]\nlifetime = \"1s\"";
    let problems = load(file, &[], &[]).unwrap_err().join("\n");
    for key in [
        "listen names no address",
        "registration.token is needed",
        "expiry.max_duration",
        "limits.joins.per_second",
        "limits.joins.burst",
        "rooms.default_version",
        "turn.uris must start",
        "turn.secret and turn.uris",
        "turn.lifetime",
    ] {
        assert!(problems.contains(key), "no {key:?} in\n{problems}");
    }
}

#[test]
fn registration_is_open_for_local_use_alone() {
    let mode = |file: &str| load(file, &[], &[]).unwrap().registration_mode();
    assert_eq!(mode(""), Mode::Open);
    assert_eq!(mode("[server]\nname = \"example.org\""), Mode::Closed);
    assert_eq!(mode("[listen]\ntcp = [\"0.0.0.0:8008\"]"), Mode::Closed);
    assert_eq!(
        mode("[server]\nname = \"example.org\"\n[registration]\nmode = \"open\""),
        Mode::Open
    );
}

#[test]
fn a_secret_is_not_in_what_is_printed() {
    let file = r#"
        server.well_known_client = "https://a.test"
        registration = { token = "hunter2-a", shared_secret = "hunter2-b" }
        turn = { uris = ["turn:a.test"], secret = "hunter2-c" }
        calls = { livekit_url = "wss://a.test", livekit_key = "key", livekit_secret = "hunter2-d hunter2-d hunter2-d hunter2-d" }
        media.s3 = { endpoint = "https://a.test", bucket = "b", region = "r", access_key_id = "id", secret_access_key = "hunter2-e" }
    "#;
    let config = load(file, &[], &[]).unwrap();
    let secrets = [
        &config.registration.token,
        &config.registration.shared_secret,
        &config.turn.secret,
        &config.calls.livekit_secret,
        &config.media.s3.secret_access_key,
    ];
    assert!(
        secrets.iter().all(|secret| secret.reveal().is_some_and(|text| text.contains("hunter2")))
    );
    assert!(!format!("{config:?}").contains("hunter2"), "{config:?}");
    assert!(!serde_json::to_string(&config).unwrap().contains("hunter2"));
    let problems = load("[registration]\ntoken = 4711", &[], &[]).unwrap_err().join("\n");
    assert!(!problems.contains("4711"), "{problems}");
}

#[test]
fn a_text_of_the_file_can_name_environment_variables() {
    let file = "[server]\nname = \"${HOST}.${DOMAIN}\"\ntrusted_proxies = [\"${PROXY}\"]";
    let environment = [("HOST", "hs1"), ("DOMAIN", "test"), ("PROXY", "10.0.0.1")];
    let config = load(file, &environment, &[]).unwrap();
    assert_eq!(config.server.name, "hs1.test");
    assert_eq!(config.server.trusted_proxies, ["10.0.0.1".parse::<std::net::IpAddr>().unwrap()]);
}

#[test]
fn a_variable_that_is_not_set_is_a_problem_and_a_value_is_not_read_again() {
    let problems = load("[server]\nname = \"${HOST}\"", &[], &[]).unwrap_err();
    assert_eq!(
        problems,
        ["server.name (from wick.toml): names the environment variable \"HOST\", which is not set"]
    );
    let problems = load("[server]\nname = \"${HOST\"", &[("HOST", "a")], &[]).unwrap_err();
    assert_eq!(problems, ["server.name (from wick.toml): has a \"${\" without its \"}\""]);
    let twice = [("A", "${B}"), ("B", "secret")];
    let config = load("[registration]\ntoken = \"${A}\"", &twice, &[]).unwrap();
    assert_eq!(config.registration.token.reveal(), Some("${B}"));
}

#[test]
fn https_needs_a_certificate_and_its_key() {
    let base = "[listen]\ntls = [\"0.0.0.0:8448\"]\n";
    let problems = load(&format!("{base}tls_key = \"a.key\""), &[], &[]).unwrap_err();
    assert_eq!(problems, ["listen.tls_certificate is needed for listen.tls"]);
    let problems = load(&format!("{base}tls_certificate = \"a.pem\""), &[], &[]).unwrap_err();
    assert_eq!(problems, ["listen.tls_key is needed for listen.tls"]);
    let both = format!("{base}tls_certificate = \"a.pem\"\ntls_key = \"a.key\"");
    load(&both, &[], &[]).unwrap();
}
