//! History from before the join.

use super::*;

#[tokio::test]
async fn history_is_fetched_back_to_the_beginning() {
    for version in versions() {
        let mut room = RoomBuilder::public(version, ALICE, &[BOB]);
        for n in 0..30 {
            room.message(&room.tips(), BOB, &n.to_string());
            room.state(&room.tips(), BOB, "m.room.topic", json!({ "topic": n }));
        }
        room.member(&room.tips(), DAVE, DAVE, "join");
        let talk = server_in(room, |_| ()).await;
        let (room, id) = (&talk.room, talk.room.room_id());
        let state = talk.server.state(room);
        let mut fetched = 0;
        loop {
            let came = talk.server.inbound.backfill(&id, None, 20).await.expect("it can be asked");
            talk.server.sound();
            if came == 0 {
                break;
            }
            fetched += came;
        }
        assert_eq!(fetched + 1, room.order().len());
        assert_eq!(talk.server.timeline(), room.order());
        assert_eq!(talk.server.state(room), state);
        assert_eq!(talk.server.extremities(room), room.tips().into_iter().collect());
    }
}

#[tokio::test]
async fn history_is_fetched_from_a_server_in_reach_however_many_are_dead() {
    let mut room = RoomBuilder::public(RoomVersionId::V12, ALICE, &[BOB]);
    let dead: Vec<_> = (0..10).map(|n| format!("dead{n}.example")).collect();
    for server in &dead {
        let user = format!("@user:{server}");
        room.member(&room.tips(), &user, &user, "join");
    }
    room.member(&room.tips(), DAVE, DAVE, "join");
    let talk = server_in(room, |_| ()).await;
    talk.others.world().dead = dead.into_iter().collect();
    let came = talk.server.inbound.backfill(&talk.room.room_id(), None, 20).await;
    assert!(came.expect("it can be asked") > 0);
}
