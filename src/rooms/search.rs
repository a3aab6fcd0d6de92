//! `/search`: events by their words, in the rooms of the user and those that these were upgraded from.
//!
//! Invariants: an event matches if it has all words; a redacted one has none, nor has one that repeats the
//! content of a redacted one; a request looks at no more than `MAX_FOUND` rows of the index.
//!
//! <https://spec.matrix.org/v1.18/client-server-api/#server-behaviour-18>

mod answer;
mod index;
mod rooms;

use std::{
    cmp::Reverse,
    collections::{BTreeSet, HashMap, HashSet},
    str::FromStr,
    sync::Arc,
};

use ruma::{
    OwnedUserId,
    api::client::search::search_events::v3::{Criteria, EventContext, OrderBy, SearchKeys},
    events::TimelineEventType,
};
use wick_account::{Session, account_data::ignored_users, filters};
use wick_core::words;
use wick_core::{Error, Result, ShortEventId, ShortRoomId, event::pdu::SharedPdu};
use wick_database::{Descending, Range, Read, Snapshot, schema::lookup::EVENT_BY_WORD};
use wick_room::Projection;

pub use self::answer::Found;
use crate::{
    History,
    history::{MAX_SCANNED, Reader},
};

/// Rows of the index that one request looks at, all rooms together.
const MAX_FOUND: usize = 10_000;

/// Words of one text that its rank is computed from.
const MAX_RANKED: usize = 512;

/// Results that one request shows.
const MAX_RESULTS: usize = 100;

/// Results that a request gets that gives no limit.
const DEFAULT_RESULTS: usize = 10;

/// What to look for.
pub struct AskSearch {
    /// The words, where and in which order.
    pub criteria: Criteria,
    /// What to show around each event, if anything.
    pub context: Option<EventContext>,
    /// Where the page before ended.
    pub next_batch: Option<String>,
}

/// Keeps the indexes that events are found by.
#[must_use]
pub fn index() -> Box<dyn Projection> {
    Box::new(index::Index)
}

/// An event that has the words. Without its content: there can be thousands, of which few are shown.
struct Match {
    place: i64,
    room: ShortRoomId,
    event: ShortEventId,
    rank: f64,
}

/// One search and what it has found.
struct Searching<'a> {
    history: &'a History,
    session: &'a Session,
    read: &'a Snapshot,
    criteria: &'a Criteria,
    words: BTreeSet<String>,
    ignored: HashSet<OwnedUserId>,
    readers: HashMap<ShortRoomId, Reader<'a>>,
}

impl History {
    /// The events that match, in pages. Runs on the worker threads, since it ranks up to
    /// `MAX_FOUND` events.
    ///
    /// # Errors
    /// `M_INVALID_PARAM` if the token is none; `M_LIMIT_EXCEEDED` if the user has too many searches running.
    pub async fn search(&self, session: Arc<Session>, ask: AskSearch) -> Result<Found> {
        let (history, user) = (self.clone(), session.user_id.clone());
        self.resources.workers.run(&user, move || history.search_now(&session, &ask)).await
    }

    fn search_now(&self, session: &Session, ask: &AskSearch) -> Result<Found> {
        let read = self.resources.database.published();
        let mut searching = Searching {
            history: self,
            session,
            read: &read,
            criteria: &ask.criteria,
            words: words::wanted(&ask.criteria.search_term),
            ignored: ignored_users(&read, session.user, &session.user_id)?,
            readers: HashMap::new(),
        };
        let mut matches = searching.matches()?;
        let count = matches.len();
        let limit = ask.criteria.filter.limit.map_or(DEFAULT_RESULTS, |limit| {
            usize::try_from(limit).unwrap_or(usize::MAX).min(MAX_RESULTS)
        });
        let recent = ask.criteria.order_by == Some(OrderBy::Recent);
        if !recent {
            matches.sort_by(|one, two| two.rank.total_cmp(&one.rank));
        }
        let from = match &ask.next_batch {
            Some(token) if recent => {
                let place: i64 = number(token, 'r')?;
                matches.partition_point(|found| found.place >= place)
            }
            Some(token) => number(token, 'k')?,
            None => 0,
        };
        let page: Vec<Match> = matches.into_iter().skip(from).take(limit).collect();
        let end = from.saturating_add(page.len());
        // A full page may be the last one; the page after it is empty then.
        let next = page
            .last()
            .filter(|_| page.len() == limit)
            .map(|last| if recent { format!("r{}", last.place) } else { format!("k{end}") });
        searching.answer(ask, page, count, next)
    }
}

/// The content of a token: the place of the last result, or how many results there were before.
fn number<N: FromStr>(token: &str, kind: char) -> Result<N> {
    token
        .strip_prefix(kind)
        .and_then(|number| number.parse().ok())
        .ok_or_else(|| Error::invalid_param("this is no token of such a search"))
}

impl Searching<'_> {
    /// The events that have all words and are visible, the newest first.
    fn matches(&mut self) -> Result<Vec<Match>> {
        let mut candidates = Vec::new();
        let rooms = self.rooms()?;
        for room in rooms {
            if candidates.len() >= MAX_FOUND {
                break;
            }
            candidates.extend(self.candidates(room)?);
        }
        candidates.sort_by_key(|(place, ..)| Reverse(*place));
        let mut matches = Vec::new();
        for (place, room, event) in candidates {
            matches.extend(self.judge(place, room, event)?);
        }
        Ok(matches)
    }

    /// The newest events of a room that have the longest word, which is the rarest as a rule, and all
    /// the others.
    fn candidates(&self, room: ShortRoomId) -> Result<Vec<(i64, ShortRoomId, ShortEventId)>> {
        let Some(longest) = self.words.iter().max_by_key(|word| word.len()) else {
            return Ok(Vec::new());
        };
        let mut candidates = Vec::new();
        let rows = self.read.scan(&EVENT_BY_WORD, Range::prefix((room, longest.clone())));
        for row in rows.take(MAX_SCANNED) {
            let ((.., Descending(place)), event) = row?;
            let mut says_all = true;
            for word in self.words.iter().filter(|word| *word != longest) {
                let key = (room, word.clone(), Descending(place));
                says_all = says_all && self.read.contains(&EVENT_BY_WORD, &key)?;
            }
            if says_all {
                candidates.push((place, room, event));
            }
        }
        Ok(candidates)
    }

    fn judge(
        &mut self,
        place: i64,
        room: ShortRoomId,
        event: ShortEventId,
    ) -> Result<Option<Match>> {
        let pdu = self.history.graph.load_event(self.read, event)?;
        // A redaction takes the words of the newest edits alone out of the index.
        let intern = self.history.graph.intern();
        if !self.is_wanted(&pdu) || index::is_redacted(self.read, intern, (event, &pdu))? {
            return Ok(None);
        }
        let Some(at) = self.history.graph.place(self.read, event)? else { return Ok(None) };
        let Some(reader) = self.readers.get_mut(&room) else { return Ok(None) };
        if !reader.viewer.can_see(&pdu, &at)? {
            return Ok(None);
        }
        let rank = self.rank(&pdu);
        Ok(Some(Match { place, room, event, rank }))
    }

    fn is_wanted(&self, pdu: &SharedPdu) -> bool {
        let key = match pdu.event_type {
            TimelineEventType::RoomName => SearchKeys::ContentName,
            TimelineEventType::RoomTopic => SearchKeys::ContentTopic,
            _ => SearchKeys::ContentBody,
        };
        let ignored = pdu.state_key.is_none() && self.ignored.contains(&pdu.sender);
        !ignored
            && self.criteria.keys.as_ref().is_none_or(|keys| keys.contains(&key))
            && filters::allows_event(&self.criteria.filter, pdu)
    }

    /// Which part of the text, or of its beginning, the words are.
    fn rank(&self, pdu: &SharedPdu) -> f64 {
        let text = index::text(pdu).unwrap_or_default();
        let (mut all, mut matching) = (0_u32, 0_u32);
        for word in words::all(&text).take(MAX_RANKED) {
            all = all.saturating_add(1);
            matching = matching.saturating_add(u32::from(self.words.contains(&word)));
        }
        f64::from(matching) / f64::from(all.max(1))
    }
}
