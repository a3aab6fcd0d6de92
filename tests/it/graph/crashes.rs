//! Receiving events when commits fail or the process crashes: whatever happened is sound, and the same events
//! again lead where they would have led.

use wick_database::{Fault, FaultAction};

use super::*;

/// Strikes at one commit.
struct Strike(u64, FaultAction);

impl Fault for Strike {
    fn before_commit(&self, number: u64) -> FaultAction {
        if number == self.0 { self.1 } else { FaultAction::Proceed }
    }
}

impl Server {
    /// Delivers everything in order, each event a second time if the first fails; gives how often that was.
    async fn deliver_all(&self, room: &RoomBuilder) -> usize {
        let mut failed = 0;
        for id in room.order() {
            if !self.deliver(room, id).await {
                failed += 1;
                self.deliver(room, id).await;
            }
        }
        failed
    }

    /// Whether an event was taken, now or before.
    async fn deliver(&self, room: &RoomBuilder, id: &OwnedEventId) -> bool {
        let (json, keys) = (room.event(id).json(), room.keys());
        let received = self.receive_json(room, json, &keys).await;
        if received.is_err() && *id == room.order()[0] {
            return self.rooms.receive_create(room.version(), json, &keys).await.is_ok();
        }
        matches!(received, Ok(received) if !matches!(received, Received::Missing(_)))
    }
}

#[tokio::test]
async fn a_room_received_through_a_failure_at_any_commit_ends_as_without_one() {
    let room = eventful(RoomVersionId::V12);
    let reference = Server::start();
    assert_eq!(reference.deliver_all(&room).await, 0);
    let commits = room.order().len() as u64;
    for fate in [FaultAction::Fail, FaultAction::StopBefore, FaultAction::StopAfter] {
        for commit in 1..=commits {
            let fault: Arc<dyn Fault> = Arc::new(Strike(commit, fate));
            let options = Options { fault: Some(fault), ..Options::default() };
            let folder = tempfile::tempdir().expect("there is a temporary folder");
            let mut server = Server::open(folder, options);
            let failed = server.deliver_all(&room).await;
            assert!(failed > 0, "{fate:?} at commit {commit} was not noticed");
            if fate != FaultAction::Fail {
                let Server { rooms, folder } = server;
                drop(rooms);
                server = Server::open(folder, Options::default());
            }
            server.sound();
            assert_eq!(server.deliver_all(&room).await, 0, "{fate:?} at commit {commit}");
            server.check(&room);
            assert_eq!(server.extremities(&room), reference.extremities(&room));
            assert_eq!(server.state(&room), reference.state(&room));
        }
    }
}
