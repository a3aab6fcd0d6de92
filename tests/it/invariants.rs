//! The check of the stored rooms finds what is planted, each thing by its name, and nothing where all is well.

use std::sync::Arc;

use ruma::{
    OwnedEventId, OwnedRoomId, OwnedServerName, OwnedUserId, RoomId, RoomVersionId,
    events::StateEventType, server_name,
};
use serde_json::{Value, json};
use tempfile::TempDir;
use wick_core::{
    Draft, Position, ShortEventId, ShortRoomId, ShortStateKey, ShortUserId, TimerId, Timestamp,
};
use wick_database::{
    Batch, Database, Durability, Options, Range, Read,
    schema::{
        delayed::{
            DELAYED_BY_STATE, DelayedRow, FINALISED_BY_OWNER, FINALISED_BY_TIMER, FinalOutcome,
            FinalisedRow, SCHEDULED_BY_TRANSACTION, ScheduledAnswer,
        },
        intern::ROOM_BY_SHORT,
        room::{
            ANSWER_BY_TRANSACTION, CHILD_BY_MISSING, EVENT_BY_POSITION, EVENT_BY_STATE,
            GAP_BY_PLACE, HEAD_BY_ROOM, Head, JOINED_BY_SERVER, MEMBER_BY_ROOM, MEMBER_BY_USER,
            MISSING_BY_CHILD, Membership, PLACE_BY_EVENT, REDACTION_BY_EVENT, RELATION_BY_PARENT,
            RELATION_BY_SENDER, STORED_BY_EVENT, THREAD_BY_ACTIVITY, TimelineGap,
            TransactionAnswer,
        },
        state::STATE_NODE_BY_HASH,
        sticky::STICKY_BY_END,
        stream::EVENT_BY_STREAM,
        timer::{
            EXPIRY_BY_EVENT, ExpiryRow, ExpiryStatus, TIMER_BY_EVENT, TIMER_BY_ID, TimerKind,
            TimerRow,
        },
    },
};
use wick_harness::{MockClock, SeededRandom, room_builder::key_of};
use wick_room::{
    Arm, Effects, Graph, Hooks, NewRoom, TransactionKey, delayed,
    invariants::{self, Class},
};

const DAVE: &str = "@dave:here.example";

/// No event has this number.
const NOTHING: ShortEventId = ShortEventId(999_999);

/// A room with two members, a running message, a running piece of state and a delayed event.
struct Sound {
    rooms: Graph,
    room: ShortRoomId,
    dave: ShortUserId,
    /// A running message.
    message: ShortEventId,
    /// A running state event.
    status: ShortEventId,
    /// The last event.
    last: ShortEventId,
    /// The timer of a delayed topic.
    delayed: TimerId,
    _folder: TempDir,
}

fn dave() -> OwnedUserId {
    DAVE.try_into().expect("it is a user id")
}

fn state(room: &RoomId, event_type: &str, state_key: &str, content: Value) -> Draft {
    let content = serde_json::from_value(content).expect("it is an object");
    Draft::state(room.to_owned(), dave(), event_type.into(), state_key, content)
}

impl Sound {
    async fn make() -> Self {
        let folder = tempfile::tempdir().expect("there is a temporary folder");
        let db = Database::open(folder.path(), Options::default()).expect("the folder is empty");
        let name = OwnedServerName::try_from("here.example").expect("it is a server name");
        let key = key_of(&name);
        let (clock, random) = (Arc::new(MockClock::new()), Arc::new(SeededRandom::new(1)));
        let rooms =
            Graph::open(db, clock, random, (name, Arc::new(key.into())), Hooks::default(), 1 << 20);
        let nowhere = RoomId::parse("!nowhere:here.example").expect("it is a room id");
        let create = state(&nowhere, "m.room.create", "", json!({ "room_version": "11" }));
        let new_room = NewRoom { version: RoomVersionId::V11, create };
        let (room_id, _) = rooms
            .create(new_room, |room| {
                let id = room.room_id().to_owned();
                let join = json!({ "membership": "join" });
                room.append(state(&id, "m.room.member", DAVE, join), Effects::default())?;
                let levels = json!({ "users": { DAVE: 100 } });
                room.append(state(&id, "m.room.power_levels", "", levels), Effects::default())?;
                let invite = json!({ "membership": "invite" });
                let bob = state(&id, "m.room.member", "@bob:here.example", invite);
                room.append(bob, Effects::default())
            })
            .await
            .expect("dave may do all that");
        let read = rooms.database().published();
        let dave = rooms.intern().lookup_user(&read, &dave()).expect("names can be read");
        let room = rooms.intern().lookup_room(&read, &room_id).expect("names can be read");
        let mut sound = Self {
            rooms,
            room: room.expect("the room is here"),
            dave: dave.expect("dave is here"),
            message: NOTHING,
            status: NOTHING,
            last: NOTHING,
            delayed: TimerId(0),
            _folder: folder,
        };
        sound.say(room_id).await;
        sound
    }

    async fn say(&mut self, room: OwnedRoomId) {
        let content = serde_json::from_value(json!({ "body": "running" })).expect("an object");
        let message = Draft::message(room.clone(), dave(), "m.room.message".into(), content);
        let transaction = TransactionKey {
            user: self.dave,
            device_id: "PHONE".into(),
            path: "/send".to_owned(),
            transaction_id: "1".to_owned(),
        };
        let effects = Effects { transaction: Some(transaction), ..self.armed(1) };
        self.message = self.send(message, effects).await;
        let parent = self.rooms.database().latest().get(&STORED_BY_EVENT, &self.message);
        let parent = parent.expect("events can be read").expect("it was sent").event_id;
        let relation = json!({ "rel_type": "m.annotation", "event_id": parent, "key": "+" });
        let content = serde_json::from_value(json!({ "m.relates_to": relation }));
        let content = content.expect("an object");
        let reaction = Draft::message(room.clone(), dave(), "m.reaction".into(), content);
        self.send(reaction, Effects::default()).await;
        let status = state(&room, "org.example.status", "", json!({ "status": "here" }));
        self.status = self.send(status, self.armed(2)).await;
        let topic = state(&room, "m.room.topic", "", json!({ "topic": "the last" }));
        self.last = self.send(topic, Effects::default()).await;
        self.schedule().await;
    }

    /// Schedules another topic.
    async fn schedule(&mut self) {
        self.delayed = self.rooms.next_timer();
        let event = DelayedRow {
            event_type: "m.room.topic".to_owned(),
            state_key: Some(String::new()),
            content: "{}".to_owned(),
            sticky_duration: None,
            transaction: Some(("PHONE".to_owned(), "/delayed/1".to_owned())),
        };
        let mut batch = self.rooms.database().batch();
        let timer = (self.delayed, &self.timer_row());
        delayed::schedule(&mut batch, self.rooms.intern(), timer, &event).expect("names are free");
        self.rooms.database().commit(batch, Durability::Flushed).await.expect("it can be written");
    }

    fn timer_row(&self) -> TimerRow {
        TimerRow {
            deadline: Timestamp(10_000),
            duration: 10_000,
            kind: TimerKind::Send,
            owner: self.dave,
            room: self.room,
            nonce: 7,
            renewals: 0,
        }
    }

    async fn send(&self, draft: Draft, effects: Effects) -> ShortEventId {
        self.rooms.send(draft, effects).await.expect("dave may").short
    }

    fn armed(&self, nonce: u64) -> Effects {
        let timer = self.rooms.next_timer();
        let arm = Arm { timer, nonce, duration: 10_000, deadline: Timestamp(10_000) };
        Effects { arm: Some(arm), ..Effects::default() }
    }

    fn head(&self) -> Head {
        let head = self.rooms.database().latest().get(&HEAD_BY_ROOM, &self.room);
        head.expect("heads can be read").expect("the room has a head")
    }

    fn key(&self, event_type: &str) -> ShortStateKey {
        let event_type = StateEventType::from(event_type);
        let read = self.rooms.database().latest();
        let key = self.rooms.intern().lookup_state_key(&read, &event_type, "");
        key.expect("names can be read").expect("the room has such state")
    }

    fn timer(&self, event: ShortEventId) -> TimerId {
        let timer = self.rooms.database().latest().get(&TIMER_BY_EVENT, &event);
        timer.expect("timers can be read").expect("the event is running")
    }

    /// The key of the one relation.
    fn relation(&self) -> (ShortEventId, String, i64) {
        let first = self.rooms.database().latest().first(&RELATION_BY_PARENT, Range::all());
        first.expect("relations can be read").expect("there is one").0
    }

    fn position(&self, event: ShortEventId) -> i64 {
        let place = self.rooms.database().latest().get(&PLACE_BY_EVENT, &event);
        let place = place.expect("places can be read").expect("the event has a place");
        place.position.expect("it is in the timeline")
    }

    /// Breaks one rule.
    fn plant(&self, class: Class, batch: &mut Batch) {
        let mut head = self.head();
        let expired = ExpiryRow { status: ExpiryStatus::Expired, terminal: None };
        match class {
            Class::NoExtremity => head.extremities.clear(),
            Class::ExtremityMissing => head.extremities.push(NOTHING),
            Class::ExtremityReferenced => head.extremities.push(self.message),
            Class::MemberCountDiffers => head.counts.joined += 1,
            Class::TimelineRowWithoutEvent => {
                batch.put(&EVENT_BY_POSITION, &(self.room, 1 << 40), &self.last);
            }
            Class::EventWithoutTimelineRow => {
                batch.delete(&EVENT_BY_POSITION, &(self.room, self.position(self.last)));
            }
            Class::ThreadIndexDiffers => {
                batch.put(&THREAD_BY_ACTIVITY, &(self.room, self.position(self.last)), &self.last);
            }
            Class::RelationIndexDiffers => {
                let relation = self.relation();
                batch.delete(&RELATION_BY_PARENT, &relation);
            }
            Class::PlaceWithoutEvent => batch.delete(&STORED_BY_EVENT, &self.message),
            Class::StateNodeMissing => batch.delete(&STATE_NODE_BY_HASH, &head.state.0),
            Class::StateEventMissing => batch.delete(&STORED_BY_EVENT, &self.last),
            Class::CurrentStateDiffers => {
                batch.delete(&EVENT_BY_STATE, &(self.room, self.key("m.room.topic")));
            }
            Class::MemberOfRoomDiffers => {
                batch.delete(&MEMBER_BY_ROOM, &(self.room, Membership::Join as u8, self.dave));
            }
            Class::MemberOfUserDiffers => batch.delete(&MEMBER_BY_USER, &(self.dave, self.room)),
            Class::ServerOfRoomDiffers => {
                batch.put(&JOINED_BY_SERVER, &(self.room, server_name!("other.test")), &1);
            }
            Class::TimerWithoutEvent => {
                let timer = self.timer(self.message);
                let row = batch.get(&TIMER_BY_ID, &timer).expect("timers can be read");
                let mut row = row.expect("the timer runs");
                row.kind = TimerKind::Expire(NOTHING);
                batch.put(&TIMER_BY_ID, &timer, &row);
            }
            Class::TimerIndexDiffers => batch.delete(&TIMER_BY_EVENT, &self.message),
            Class::TimerOfRedactedEvent => {
                batch.put(&REDACTION_BY_EVENT, &self.message, &self.last);
            }
            Class::TimerOfReplacedState => {
                let row = (self.room, self.key("org.example.status"));
                batch.put(&EVENT_BY_STATE, &row, &self.last);
            }
            Class::StatusWithoutEvent => batch.put(&EXPIRY_BY_EVENT, &NOTHING, &expired),
            Class::StatusDiffers => batch.put(&EXPIRY_BY_EVENT, &self.message, &expired),
            Class::TransactionWithoutEvent => {
                let event = OwnedEventId::try_from("$nothing").expect("it is an event id");
                let key = (self.dave, "PHONE".to_owned(), "/send/2".to_owned());
                batch.put(&ANSWER_BY_TRANSACTION, &key, &TransactionAnswer { event, timer: None });
            }
            Class::DelayedTimerDiffers
            | Class::DelayedEventAdrift
            | Class::DelayedStateDiffers
            | Class::ScheduledAnswerDiffers => self.plant_delayed(class, batch),
            Class::StreamDiffers => {
                let position = Position(self.position(self.last).unsigned_abs());
                batch.delete(&EVENT_BY_STREAM, &position);
            }
            Class::StickyDiffers => {
                let place = self.position(self.last);
                batch.put(&STICKY_BY_END, &(Timestamp(1), self.room, place), &());
            }
            Class::PrevEventMissing => batch.delete(&STORED_BY_EVENT, &self.message),
            Class::AuthEventMissing => batch.delete(&STORED_BY_EVENT, &head.create),
            Class::MissingEventIsHere | Class::MissingIndexDiffers | Class::GapDiffers => {
                self.plant_missing(class, batch);
            }
            Class::NameDiffers => batch.delete(&ROOM_BY_SHORT, &self.room),
        }
        batch.put(&HEAD_BY_ROOM, &self.room, &head);
    }

    /// Breaks a rule about events that are missing.
    fn plant_missing(&self, class: Class, batch: &mut Batch) {
        match class {
            Class::MissingEventIsHere => {
                let last = self.rooms.intern().event_id(batch, self.last);
                let last = last.expect("names can be read").expect("the event has an id");
                batch.put(&CHILD_BY_MISSING, &(self.room, last.clone()), &1);
                batch.put(&MISSING_BY_CHILD, &(self.room, 1, last), &());
            }
            Class::MissingIndexDiffers => {
                let missing = OwnedEventId::try_from("$nothing").expect("it is an event id");
                batch.put(&MISSING_BY_CHILD, &(self.room, 1, missing), &());
            }
            Class::GapDiffers => {
                let last = self.position(self.last);
                let gap = TimelineGap { floor: last - 2, lowest: last + 1 };
                batch.put(&GAP_BY_PLACE, &(self.room, last + 1), &gap);
            }
            other => unreachable!("{other:?} is no rule about events that are missing"),
        }
    }

    /// Breaks a rule about delayed events.
    fn plant_delayed(&self, class: Class, batch: &mut Batch) {
        match class {
            Class::DelayedTimerDiffers => {
                let row = self.timer_row();
                let outcome = FinalOutcome::Cancelled;
                let finalised = FinalisedRow { timer: row, at: Timestamp(1), outcome };
                batch.put(&FINALISED_BY_TIMER, &self.delayed, &finalised);
                batch.put(&FINALISED_BY_OWNER, &(self.dave, Timestamp(1), self.delayed), &());
            }
            Class::DelayedEventAdrift => batch.delete(&TIMER_BY_ID, &self.delayed),
            Class::DelayedStateDiffers => {
                batch.delete(
                    &DELAYED_BY_STATE,
                    &(self.room, self.key("m.room.topic"), self.delayed),
                );
            }
            Class::ScheduledAnswerDiffers => {
                let key = (self.dave, "PHONE".to_owned(), "/delayed/2".to_owned());
                let answer = ScheduledAnswer { timer: TimerId(999), nonce: 1 };
                batch.put(&SCHEDULED_BY_TRANSACTION, &key, &answer);
            }
            _ => {}
        }
    }
}

#[tokio::test]
async fn nothing_is_found_in_rooms_where_all_is_well() {
    let sound = Sound::make().await;
    let read = sound.rooms.database().published();
    assert_eq!(invariants::check(&read).expect("everything can be read"), []);
}

#[tokio::test]
async fn a_relation_that_is_in_one_index_alone_is_found_whichever_it_is() {
    for of_parent in [true, false] {
        let sound = Sound::make().await;
        let db = sound.rooms.database();
        let mut batch = db.batch();
        let (parent, rel_type, place) = sound.relation();
        if of_parent {
            batch.delete(&RELATION_BY_PARENT, &(parent, rel_type, place));
        } else {
            batch.delete(&RELATION_BY_SENDER, &(parent, sound.dave, rel_type, place));
        }
        db.commit(batch, Durability::Flushed).await.expect("the batch can be written");
        let found = invariants::check(&db.published()).expect("everything can be read");
        let classes: Vec<_> = found.iter().map(|violation| violation.class).collect();
        assert_eq!(classes, [Class::RelationIndexDiffers], "of the parent: {of_parent}");
    }
}

#[tokio::test]
async fn whatever_is_planted_is_found_by_its_name() {
    let mut names = std::collections::BTreeSet::new();
    for class in Class::ALL {
        assert!(names.insert(class.name()), "two rules are called {}", class.name());
        let sound = Sound::make().await;
        let db = sound.rooms.database();
        let mut batch = db.batch();
        sound.plant(*class, &mut batch);
        db.commit(batch, Durability::Flushed).await.expect("the batch can be written");
        let found = invariants::check(&db.published()).expect("everything can be read");
        let told = found.iter().find(|violation| violation.class == *class);
        let told = told.unwrap_or_else(|| panic!("{}: found {found:?}", class.name()));
        assert!(told.to_string().starts_with(class.name()));
    }
}
