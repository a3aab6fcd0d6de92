//! Redactions from elsewhere: which field names their target, and which of several takes effect.

use super::*;

impl Server {
    fn content(&self, id: &OwnedEventId) -> String {
        let read = self.rooms.database().published();
        let event = self.rooms.event_by_id(&read, id).expect("events can be read");
        event.expect("the event is here").1.content.get().to_owned()
    }
}

#[tokio::test]
async fn a_redaction_that_its_sender_may_not_send_blocks_no_other_one() {
    for version in versions() {
        let mut room = RoomBuilder::public(version.clone(), ALICE, &[BOB]);
        room.member(&room.tips(), CAROL, CAROL, "join");
        let fork = room.tips();
        let server = Server::with(&room).await;
        let target = room.message(&fork, BOB, "a secret");
        let weak = room.redaction(&fork, CAROL, &target);
        let strong = room.redaction(&fork, ALICE, &target);
        // Both come before their target, the one without effect first.
        for id in [&weak, &strong, &target] {
            assert!(accepted(server.receive(&room, id).await), "{version}");
        }
        assert_eq!(server.content(&target), "{}", "{version}");
        server.check(&room);
    }
}

#[tokio::test]
async fn a_redaction_without_the_right_changes_nothing_whenever_its_target_comes() {
    for version in versions() {
        let mut room = RoomBuilder::public(version.clone(), ALICE, &[BOB]);
        room.member(&room.tips(), CAROL, CAROL, "join");
        let fork = room.tips();
        let server = Server::with(&room).await;
        let target = room.message(&fork, BOB, "a secret");
        let weak = room.redaction(&fork, CAROL, &target);
        for id in [&weak, &target] {
            assert!(accepted(server.receive(&room, id).await), "{version}");
        }
        assert!(server.content(&target).contains("a secret"), "{version}");
        server.check(&room);
    }
}

#[tokio::test]
async fn the_target_of_a_redaction_is_in_the_field_of_the_room_version_alone() {
    for version in versions() {
        let mut room = RoomBuilder::public(version.clone(), ALICE, &[BOB]);
        let target = room.message(&room.tips(), BOB, "a secret");
        let server = Server::with(&room).await;
        let in_content = version.rules().is_some_and(|rules| rules.redaction.content_field_redacts);
        let wrong = room.redaction_in_field(&room.tips(), ALICE, &target, !in_content);
        assert!(accepted(server.receive(&room, &wrong).await), "{version}");
        assert!(server.content(&target).contains("a secret"), "{version}");
        let right = room.redaction_in_field(&room.tips(), ALICE, &target, in_content);
        assert!(accepted(server.receive(&room, &right).await), "{version}");
        assert_eq!(server.content(&target), "{}", "{version}");
    }
}
