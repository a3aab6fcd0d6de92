"""Two matrix-nio clients against a running homeserver at WICK_URL."""

import asyncio
import json
import os
import time
import unittest
from urllib.parse import quote

from nio import (
    AsyncClient,
    AsyncClientConfig,
    JoinResponse,
    LoginResponse,
    RegisterResponse,
    RoomCreateResponse,
    RoomMessagesResponse,
    RoomSendResponse,
    SyncResponse,
)

URL = os.environ["WICK_URL"]
PASSWORD = "client test only"
PATIENCE = 20.0
# A server that does not answer is a failed test, not a reason to try again.
CONFIG = AsyncClientConfig(max_timeouts=1, max_limit_exceeded=1, request_timeout=30)


class Clients(unittest.IsolatedAsyncioTestCase):
    async def asyncSetUp(self):
        self.alice = await self.start("erin")
        self.bob = await self.start("frank")
        self.seen = {}

    def client(self, user):
        client = AsyncClient(URL, user, config=CONFIG)
        self.addAsyncCleanup(client.close)
        return client

    async def start(self, name):
        """Registers with one client, logs in with another."""
        name = f"{name}{time.time_ns()}"
        registered = await self.client(name).register(name, PASSWORD)
        self.assertIsInstance(registered, RegisterResponse, registered)
        client = self.client(registered.user_id)
        login = await client.login(PASSWORD)
        self.assertIsInstance(login, LoginResponse, login)
        self.assertIsInstance(await client.sync(timeout=0), SyncResponse)
        return client

    async def room(self):
        """A room of alice's that bob was invited to and has joined."""
        created = await self.alice.room_create(invite=[self.bob.user_id])
        self.assertIsInstance(created, RoomCreateResponse, created)
        room = created.room_id
        await self.eventually(self.bob, "the invite", lambda: room in self.bob.invited_rooms)
        self.assertIsInstance(await self.bob.join(room), JoinResponse)
        await self.eventually(self.bob, "the room", lambda: room in self.bob.rooms)
        return room

    async def eventually(self, client, what, find):
        """Syncs until `find` answers something true; every event read is kept."""
        end = time.monotonic() + PATIENCE
        while not (found := find()):
            if time.monotonic() > end:
                self.fail(f"waited {PATIENCE} s in vain: {what}")
            answer = await client.sync(timeout=1000)
            self.assertIsInstance(answer, SyncResponse, answer)
            for room, joined in answer.rooms.join.items():
                events = self.seen.setdefault((client.user_id, room), [])
                events.extend(event.source for event in joined.timeline.events)
        return found

    async def arrives(self, client, room, what, matches):
        def find():
            events = self.seen.get((client.user_id, room), [])
            return next((event for event in events if matches(event)), None)

        return await self.eventually(client, what, find)

    async def put(self, client, path, body, token=None):
        """A request that nio has no method for; answers status and body."""
        headers = {"Content-Type": "application/json"}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        answer = await client.send("PUT", path, json.dumps(body), headers)
        return answer.status, await answer.json()

    async def send_expiring(self, room, seconds):
        path = f"/_matrix/client/v3/rooms/{quote(room)}/send/m.room.message/{time.time_ns()}"
        content = {"msgtype": "m.text", "body": "here", "m.will_expire": seconds}
        status, sent = await self.put(self.alice, path, content, self.alice.access_token)
        self.assertEqual(status, 200, sent)
        self.assertEqual(sent["event_id"], sent["eventId"])
        return sent

    def is_copy(self, original, status):
        def matches(event):
            relation = event["content"].get("m.relates_to", {})
            return event["content"].get("m.will_expire") == status and relation.get("event_id") == original

        return matches

    async def test_two_users_invite_join_and_read_each_others_messages(self):
        room = await self.room()
        for sender, reader, text in [(self.alice, self.bob, "hello"), (self.bob, self.alice, "hello yourself")]:
            sent = await sender.room_send(room, "m.room.message", {"msgtype": "m.text", "body": text})
            self.assertIsInstance(sent, RoomSendResponse, sent)
            read = await self.arrives(reader, room, text, lambda event: event["event_id"] == sent.event_id)
            self.assertEqual(read["content"]["body"], text)
            self.assertEqual(read["sender"], sender.user_id)

    async def test_history_can_be_paged_back(self):
        room = await self.room()
        for number in range(25):
            await self.alice.room_send(room, "m.room.message", {"msgtype": "m.text", "body": f"line {number}"})
        late = self.client(self.bob.user_id)
        await late.login(PASSWORD)
        synced = await late.sync(timeout=0, full_state=True)
        start = synced.rooms.join[room].timeline.prev_batch
        bodies = [event.body for event in reversed(synced.rooms.join[room].timeline.events) if hasattr(event, "body")]
        while start:
            page = await late.room_messages(room, start, limit=10)
            self.assertIsInstance(page, RoomMessagesResponse, page)
            bodies.extend(event.body for event in page.chunk if hasattr(event, "body"))
            start = page.end if page.chunk else None
        self.assertEqual(list(reversed(bodies)), [f"line {number}" for number in range(25)])

    async def test_an_event_that_nobody_keeps_alive_expires(self):
        room = await self.room()
        sent = await self.send_expiring(room, 2)
        running = await self.arrives(
            self.bob, room, "the running event", lambda event: event["event_id"] == sent["event_id"]
        )
        self.assertEqual(running["content"]["m.will_expire"], "running")
        expired = await self.arrives(self.bob, room, "the expired event", self.is_copy(sent["event_id"], "expired"))
        self.assertEqual(expired["content"]["m.relates_to"]["rel_type"], "m.expire.relationship")
        self.assertEqual(expired["sender"], self.alice.user_id)
        self.assertGreaterEqual(expired["origin_server_ts"] - running["origin_server_ts"], 2000)

    async def test_a_kept_alive_event_ends_when_told_to(self):
        room = await self.room()
        sent = await self.send_expiring(room, 2)
        body = {"expire_refresh_token": sent["expire_refresh_token"]}
        for _ in range(3):
            await asyncio.sleep(1)
            status, answer = await self.put(self.bob, "/_matrix/client/v3/expiration/refresh", body)
            self.assertEqual((status, answer), (200, {}))
        status, answer = await self.put(self.bob, "/_matrix/client/v3/expiration/end", body)
        self.assertEqual((status, answer), (200, {}))
        await self.arrives(self.bob, room, "the ended event", self.is_copy(sent["event_id"], "ended"))
        events = self.seen[(self.bob.user_id, room)]
        self.assertFalse([event for event in events if self.is_copy(sent["event_id"], "expired")(event)])
        status, answer = await self.put(self.bob, "/_matrix/client/v3/expiration/refresh", body)
        self.assertEqual((status, answer["errcode"]), (404, "M_NOT_FOUND"))


if __name__ == "__main__":
    unittest.main()
