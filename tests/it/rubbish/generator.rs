//! Requests that no good client sends, made from a seed: some nearly right, some nothing like a request.
//!
//! Invariant: the same seed gives the same requests.

use http::{HeaderName, HeaderValue, Method, Request, header};
use serde_json::Value;
use wick_core::Random;
use wick_harness::{Body, SeededRandom};

use super::{World, exemplar::exemplar};

/// Names that requests have in bodies and queries, so that rubbish gets past the first look.
const KEYS: &str = "
    access_token actions address age algorithm alias allow and app_id append at auth auth_chain
    avatar_url ban base_url before body canonical_alias chunk conditions content country
    creation_content creator data default delay delay_id device device_display_name device_id
    device_keys devices dir display_name displayname domain ephemeral erase event_fields
    event_format event_id event_type events events_default expire_refresh_token filter filter_id
    format from from_token full_state guest_can_join id id_access_token id_server identifier
    include_all_networks inhibit_login initial_device_display_name initial_state invite
    invite_3pid is_direct join_rule key keys kick kind known_room_key lang lazy_load_members limit
    logout_devices m.annotation m.fully_read m.in_reply_to m.mentions m.new_content m.read
    m.read.private m.relates_to m.tz m.will_expire mac max_depth medium membership message
    messages msgtype name new_password new_version next_link not_membership not_rooms not_senders
    not_types notifications only order order_by password pattern power_level_content_override
    presence preset prev_batch profile_tag pushkey reason recurse redacts refresh_token rel_type
    related_by_rel_types room room_alias_name room_events room_id room_id_or_alias room_types
    room_version rooms scope score search_categories search_term sender senders server server_name
    session set_presence since state state_default state_key status_msg suggested_only term
    thread_id threepid timeline timeout token topic ts txn_id type types typing url
    use_state_after user user_id user_ids username users users_default via visibility
    x_show_msisdn org.matrix.msc4140.delay org.matrix.msc4222.use_state_after com.example.unknown
    .
";

/// Words that mean something somewhere.
const WORDS: &str = "
    join leave invite ban knock b f public_chat private_chat trusted_private_chat public private
    m.login.password m.login.dummy m.login.token m.id.user m.id.thirdparty m.room.message
    m.room.member m.room.power_levels m.room.create m.room.redaction m.room.topic m.room.tombstone
    m.room.canonical_alias m.space.child m.reaction m.text m.replace m.thread m.annotation
    m.expire.relationship running expired 1 6 11 12 99 0 s0 s1 s18446744073709551615 s-1 t1_2
    online unavailable refresh end override underride content global device .m.rule.master
    event_match notify displayname avatar_url m.favourite m.fully_read m.read m.direct
    m.push_rules m.ignored_user_list rank recent true false null a AAAA @nobody:localhost @: @a
    !room:localhost ! !nowhere:elsewhere.example #alias:localhost # $event $ mxc://localhost/a
    mxc:// https://example.org/ main all unread 1970 ../.. %00 {} [] a/b a?b#c
";

/// Texts that are more or less than a word.
const ODD: &[&str] = &[
    "",
    "\u{0}",
    "a\u{0}b",
    "ä",
    "\u{1f525}",
    "\u{202e}gnol",
    "\u{feff}",
    "e\u{301}",
    " ",
    "\r\n",
    "\\",
    "'; --",
];

/// Numbers at the edges of the common number types.
const NUMBERS: &str = "
    0 -0 1 -1 2 50 99 100 101 3.5 1e3 1E400 -1e-400 2147483647 2147483648 4294967296
    9007199254740991 9007199254740992 -9007199254740992 9223372036854775807 9223372036854775808
    -9223372036854775808 18446744073709551615 18446744073709551616
    340282366920938463463374607431768211456 0.1 1e2 123456789012345678901234567890 86400 86401
";

/// Parts of a path or query that no encoder makes.
const BROKEN: &[&str] = &[
    "%",
    "%zz",
    "%f",
    "%ff",
    "%c0%80",
    "%00",
    "%0d%0a",
    "%2f",
    "%2e%2e",
    "..",
    ".",
    "",
    "+",
    "%25",
    "%e2%82",
    "%ed%a0%80",
    "&",
    "=",
    "a=b",
    "%7b%7d",
    "\u{e4}",
    "~",
    ";",
    ":",
    "@",
    "%23",
    "%40%3a",
    "!%00:localhost",
    "@%00:localhost",
    "%21",
    "@a:b:c:d",
    "%24",
    "-1",
    "99999999999999999999999",
];

/// The source of all rubbish.
pub(super) struct Rubbish {
    random: SeededRandom,
    keys: Vec<&'static str>,
    words: Vec<&'static str>,
    numbers: Vec<&'static str>,
}

impl Rubbish {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            random: SeededRandom::new(seed),
            keys: KEYS.split_whitespace().collect(),
            words: WORDS.split_whitespace().chain(ODD.iter().copied()).collect(),
            numbers: NUMBERS.split_whitespace().collect(),
        }
    }

    /// A number below `end`.
    fn below(&self, end: usize) -> usize {
        let end = u64::try_from(end.max(1)).expect("it fits");
        usize::try_from(self.random.number() % end).expect("it was below a usize")
    }

    /// Whether something that happens once in `times` happens now.
    fn once_in(&self, times: usize) -> bool {
        self.below(times) == 0
    }

    fn pick<'a>(&self, from: &[&'a str]) -> &'a str {
        from[self.below(from.len())]
    }

    /// A request for the endpoint with this method and this pattern of a path.
    pub(super) fn request(&self, method: &Method, pattern: &str, world: &World) -> Request<Body> {
        loop {
            let mut uri = self.path(pattern, world);
            if !self.once_in(3) {
                uri.push('?');
                uri.push_str(&self.query_of(pattern, world));
            }
            let mut request = Request::builder().method(self.method(method)).uri(uri);
            let headers = request.headers_mut();
            if let Some(headers) = headers {
                for (name, value) in self.headers(world) {
                    headers.append(name, value);
                }
            }
            // What is no URI never reaches a server.
            if let Ok(request) = request.body(Body::from(self.body_of(pattern, world))) {
                return request;
            }
        }
    }

    fn method(&self, method: &Method) -> Method {
        if !self.once_in(20) {
            return method.clone();
        }
        let others = [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::DELETE];
        others[self.below(others.len())].clone()
    }

    fn path(&self, pattern: &str, world: &World) -> String {
        let segment = |segment: &str| match segment.strip_prefix('{') {
            None if self.once_in(100) => self.pick(BROKEN).to_owned(),
            None => segment.to_owned(),
            Some(name) => self.argument(name.trim_matches(['}', '*']), world),
        };
        let mut path = pattern.split('/').map(segment).collect::<Vec<_>>().join("/");
        if self.once_in(50) {
            path.push_str(self.pick(&["/", "//", "/.", "/%20", "/a"]));
        }
        if path.starts_with('/') { path } else { format!("/{path}") }
    }

    /// What could be meant by a variable part of a path.
    fn argument(&self, name: &str, world: &World) -> String {
        match self.below(6) {
            0 => self.pick(BROKEN).to_owned(),
            1 => encode(&self.text(world)),
            _ => encode(&world.named(name).unwrap_or_else(|| self.pick(&self.words).to_owned())),
        }
    }

    /// Half of the time a good query with some values exchanged.
    fn query_of(&self, pattern: &str, world: &World) -> String {
        let Some(good) = exemplar(pattern).filter(|_| self.once_in(2)) else {
            return self.query(world);
        };
        let parts = good.query.split('&').filter_map(|part| part.split_once('='));
        let parts = parts.map(|(key, value)| match self.below(6) {
            0 => format!("{key}={}", encode(&self.text(world))),
            1 => format!("{key}={}", self.pick(&self.numbers)),
            _ => format!("{key}={}", encode(&world.fill(value))),
        });
        parts.collect::<Vec<_>>().join("&")
    }

    /// Half of the time a good body with some values exchanged.
    fn body_of(&self, pattern: &str, world: &World) -> Vec<u8> {
        match exemplar(pattern) {
            Some(good) if !good.body.is_empty() && self.once_in(2) => {
                let good = serde_json::from_str(&world.fill(good.body));
                let good = good.expect("a good body is JSON");
                self.spoilt(&good, world, true).into_bytes()
            }
            _ => self.body(world),
        }
    }

    /// JSON with a value here and there exchanged, left out or added.
    fn spoilt(&self, value: &Value, world: &World, outermost: bool) -> String {
        if !outermost && self.once_in(12) {
            return self.json(world, 2);
        }
        match value {
            Value::Object(object) => {
                let kept = object.iter().filter(|_| !self.once_in(20));
                let mut fields: Vec<_> = kept
                    .map(|(key, value)| {
                        format!("{}:{}", quote(key), self.spoilt(value, world, false))
                    })
                    .collect();
                if self.once_in(10) {
                    let key = self.pick(&self.keys);
                    fields.push(format!("{}:{}", quote(key), self.json(world, 2)));
                }
                format!("{{{}}}", fields.join(","))
            }
            Value::Array(items) => {
                let items = items.iter().map(|item| self.spoilt(item, world, false));
                format!("[{}]", items.collect::<Vec<_>>().join(","))
            }
            other => other.to_string(),
        }
    }

    fn query(&self, world: &World) -> String {
        let mut parts = Vec::new();
        for _ in 0..self.below(6) {
            let key = if self.once_in(20) { self.pick(BROKEN) } else { self.pick(&self.keys) };
            let value = match self.below(5) {
                0 => self.pick(BROKEN).to_owned(),
                1 => self.pick(&self.numbers).to_owned(),
                2 => encode(&self.json(world, 2)),
                _ => encode(&self.known(key, world)),
            };
            parts.push(if self.once_in(20) { key.to_owned() } else { format!("{key}={value}") });
        }
        parts.join(if self.once_in(20) { "&&" } else { "&" })
    }

    fn headers(&self, world: &World) -> Vec<(HeaderName, HeaderValue)> {
        let mut headers = Vec::new();
        let mut add = |name, value: &[u8]| {
            // What is no header value never reaches a server.
            if let Ok(value) = HeaderValue::from_bytes(value) {
                headers.push((name, value));
            }
        };
        match self.below(12) {
            0 => {}
            1 => add(header::AUTHORIZATION, self.text(world).as_bytes()),
            2 => add(header::AUTHORIZATION, b"Bearer \xff\xfe"),
            3 => add(header::AUTHORIZATION, b"Bearer "),
            _ => add(header::AUTHORIZATION, format!("Bearer {}", world.user.token).as_bytes()),
        }
        if self.once_in(20) {
            add(header::AUTHORIZATION, b"Basic YTpi");
        }
        if self.once_in(3) {
            let types = ["application/json", "text/plain", "application/json; charset=utf-16", ""];
            add(header::CONTENT_TYPE, self.pick(&types).as_bytes());
        }
        let odd = ["x-forwarded-for", "content-encoding", "accept", "range", "if-none-match"];
        if self.once_in(4) {
            let value = [self.text(world).into_bytes(), b"\x80\xff".to_vec()].concat();
            add(HeaderName::from_static(odd[self.below(odd.len())]), &value);
        }
        headers
    }

    fn body(&self, world: &World) -> Vec<u8> {
        match self.below(40) {
            0 => Vec::new(),
            1 => b"{".to_vec(),
            2 => b"\xff\xfe{}".to_vec(),
            3 => b"{\"type\":\"\xc3\x28\"}".to_vec(),
            4 => "{\"content\":".repeat(20_000).into_bytes(),
            5 => "[".repeat(20_000).into_bytes(),
            6 => [vec![b'{'; 3], self.object(world, 3).into_bytes()].concat(),
            7 => format!("{} {}", self.object(world, 2), self.object(world, 2)).into_bytes(),
            8 => format!("\u{feff}{}", self.object(world, 2)).into_bytes(),
            9 => self.json(world, 3).into_bytes(),
            10 => format!("{{\"body\":\"{}\"}}", "a".repeat(70_000)).into_bytes(),
            11 => {
                let mut body = self.object(world, 3).into_bytes();
                body.truncate(self.below(body.len()));
                body
            }
            12 => {
                let mut body = self.object(world, 3).into_bytes();
                let place = self.below(body.len());
                body[place] = u8::try_from(self.below(256)).expect("it is below 256");
                body
            }
            13 => format!("{{\"a\":{}1{}}}", "[".repeat(100), "]".repeat(100)).into_bytes(),
            14..20 => b"{}".to_vec(),
            _ => self.object(world, 4).into_bytes(),
        }
    }

    fn object(&self, world: &World, depth: usize) -> String {
        let mut fields = Vec::new();
        for _ in 0..self.below(8) {
            let key =
                if self.once_in(15) { self.text(world) } else { self.pick(&self.keys).to_owned() };
            let value = if self.once_in(2) {
                quote(&self.known(&key, world))
            } else {
                self.json(world, depth)
            };
            fields.push(format!("{}:{value}", quote(&key)));
        }
        format!("{{{}}}", fields.join(","))
    }

    fn json(&self, world: &World, depth: usize) -> String {
        let kinds = if depth == 0 { 6 } else { 9 };
        match self.below(kinds) {
            0 => self.pick(&["null", "true", "false"]).to_owned(),
            1 => self.pick(&self.numbers).to_owned(),
            2 => self
                .pick(&[r#""\ud800""#, r#""\u0000""#, r#""\udc00\ud800""#, r#""\x""#])
                .to_owned(),
            3..6 => quote(&self.text(world)),
            6 => {
                let items: Vec<_> =
                    (0..self.below(4)).map(|_| self.json(world, depth - 1)).collect();
                format!("[{}]", items.join(","))
            }
            _ => self.object(world, depth - 1),
        }
    }

    /// What could be meant by a field, or something else.
    fn known(&self, key: &str, world: &World) -> String {
        match world.named(key) {
            Some(known) if !self.once_in(4) => known,
            _ => self.text(world),
        }
    }

    fn text(&self, world: &World) -> String {
        match self.below(12) {
            0 => world.named("room_id").unwrap_or_default(),
            1 => world.named("event_id").unwrap_or_default(),
            2 => world.named("user_id").unwrap_or_default(),
            3 => "x".repeat(self.below(600)),
            4 => self.random.token(),
            _ => self.pick(&self.words).to_owned(),
        }
    }
}

/// Percent-encodes all but what is harmless.
fn encode(text: &str) -> String {
    text.bytes().fold(String::new(), |mut encoded, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~@:$!".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
        encoded
    })
}

fn quote(text: &str) -> String {
    Value::from(text).to_string()
}
