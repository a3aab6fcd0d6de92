//! How long a user was in a room, where branches of it say different things.

use wick_room::visibility::Viewer;

use super::*;

impl Server {
    /// Whether dave may see an event.
    fn is_shown(&self, room: &RoomBuilder, id: &OwnedEventId) -> bool {
        let read = self.rooms.database().published();
        let short = self.rooms.short(&read, &room.room_id()).expect("names can be read");
        let dave = DAVE.try_into().expect("it is a user id");
        let mut viewer = Viewer::new(&self.rooms, &read, short.expect("it is here"), dave, None)
            .expect("members can be read");
        let event = self.rooms.event_by_id(&read, id).expect("it can be read");
        let (event, pdu) = event.expect("it is here");
        let place = self.rooms.place(&read, event).expect("it can be read").expect("it has one");
        viewer.can_see(&pdu, &place).expect("states can be read")
    }
}

#[tokio::test]
async fn a_second_removal_on_another_branch_makes_no_stay_longer() {
    for version in versions() {
        let mut room = RoomBuilder::public(version.clone(), ALICE, &[BOB, DAVE]);
        let tips = room.tips();
        let before = room.message(&tips, ALICE, "before");
        let kick = room.member(std::slice::from_ref(&before), ALICE, DAVE, "leave");
        let secret = room.message(std::slice::from_ref(&kick), ALICE, "secret");
        let topic = room.state(
            std::slice::from_ref(&secret),
            ALICE,
            "m.room.topic",
            json!({ "topic": "secret" }),
        );
        let ban = room.member(&tips, ALICE, DAVE, "ban");
        let server = Server::with(&room).await;
        assert_eq!(server.state(&room)[&tuple("m.room.member", DAVE)], ban, "{version}");
        assert!(server.is_shown(&room, &before) && server.is_shown(&room, &kick), "{version}");
        assert!(!server.is_shown(&room, &secret), "{version}");
        assert!(!server.is_shown(&room, &topic), "{version}");

        let read = server.rooms.database().published();
        let short = server.rooms.short(&read, &room.room_id()).expect("names can be read");
        let dave = DAVE.try_into().expect("it is a user id");
        let mut viewer = Viewer::new(&server.rooms, &read, short.expect("it is here"), dave, None)
            .expect("members can be read");
        let state = viewer.latest_state().expect("states can be read").expect("dave was there");
        let key = tuple("m.room.topic", "");
        assert!(!server.state_at(state).contains_key(&key), "{version}");
    }
}
