//! Forward extremities stay few.

use wick_room::visibility::{DUMMY_EVENT, Viewer};

use super::*;

#[tokio::test]
async fn many_forward_extremities_are_joined_by_an_event_that_users_do_not_see() {
    for version in versions() {
        let mut talk = server_in(joined_room(version), |room| {
            let root = room.tips();
            for n in 0..45 {
                room.message(&root, BOB, &n.to_string());
            }
        })
        .await;
        let events = json_of(&talk.room, &talk.said);
        talk.server.send(events).await;
        assert!(talk.said.iter().all(|id| talk.server.is_in_timeline(id)));
        let left = talk.server.extremities(&talk.room).len();
        assert!(left <= 10, "{left}");

        let graph = &talk.server.graph;
        let read = graph.database().published();
        let room = graph.short(&read, &talk.room.room_id()).expect("names can be read");
        let dave = DAVE.try_into().expect("it is a user id");
        let mut viewer = Viewer::new(graph, &read, room.expect("it is here"), dave, None)
            .expect("dave is a member");
        let mut dummies = 0;
        for id in talk.server.timeline() {
            let (short, pdu) =
                graph.event_by_id(&read, &id).expect("it can be read").expect("here");
            let place = graph.place(&read, short).expect("it can be read").expect("it has one");
            let is_dummy = pdu.event_type.to_string() == DUMMY_EVENT;
            dummies += usize::from(is_dummy);
            assert_eq!(viewer.can_see(&pdu, &place).expect("it can be read"), !is_dummy);
        }
        assert!(dummies > 0);
        talk.server.sound();
    }
}
