"""What users of one server see of those of the other besides events: typing, receipts, presence, keys and messages of devices."""

import unittest

from servers import synapse, wick
from users import Refused, User, quoted, until


class Checks:
    def setUp(self):
        self.one = User(self.home(), "one")
        self.other = User(self.away(), "other")
        self.room = self.one.create()
        self.other.join(self.room, via=self.home())
        until("the join", lambda: self.one.membership(self.room, self.other) == "join")
        self.one.sync()
        self.other.sync()

    def ephemeral(self, user, kind):
        return user.ephemeral.get(self.room, {}).get(kind, {})

    def test_typing_is_seen_and_ends(self):
        path = f"/typing/{quoted(self.one.id)}"
        users = lambda: self.ephemeral(self.other, "m.typing").get("user_ids")
        self.one.room("PUT", self.room, path, {"typing": True, "timeout": 30000})
        self.other.wait("typing", lambda: users() == [self.one.id])
        self.one.room("PUT", self.room, path, {"typing": False})
        self.other.wait("the end of typing", lambda: users() == [])

    def test_a_receipt_is_seen(self):
        event_id = self.other.send(self.room, "to be read")
        self.one.wait_for_text(self.room, "to be read")
        self.one.room("POST", self.room, f"/receipt/m.read/{quoted(event_id)}", {})
        readers = lambda: self.ephemeral(self.other, "m.receipt").get(event_id, {}).get("m.read", {})
        self.other.wait("the receipt", lambda: self.one.id in readers())

    def test_presence_is_seen(self):
        path = f"/presence/{quoted(self.one.id)}/status"
        self.one.request("PUT", path, {"presence": "online", "status_msg": "at work"})
        status = lambda: self.other.presence.get(self.one.id, {}).get("status_msg")
        self.other.wait("the status", lambda: status() == "at work")

    def upload_keys(self, user):
        keys = {
            "user_id": user.id,
            "device_id": user.device_id,
            "algorithms": ["m.megolm.v1.aes-sha2"],
            "keys": {f"curve25519:{user.device_id}": "c" * 43, f"ed25519:{user.device_id}": "e" * 43},
            "signatures": {user.id: {f"ed25519:{user.device_id}": "s" * 86}},
        }
        once = {"signed_curve25519:AAAA": {"key": "k" * 43, "signatures": keys["signatures"]}}
        user.request("POST", "/keys/upload", {"device_keys": keys, "one_time_keys": once})
        return keys, once

    def test_keys_of_devices_are_found_and_their_change_is_seen(self):
        keys, once = self.upload_keys(self.one)
        self.other.wait("the changed devices", lambda: self.one.id in self.other.changed_devices)
        asked = {"device_keys": {self.one.id: []}}
        devices = lambda: self.other.request("POST", "/keys/query", asked)["device_keys"].get(self.one.id, {})
        found = until("the keys", lambda: devices().get(self.one.device_id))
        self.assertEqual(found["keys"], keys["keys"])
        asked = {"one_time_keys": {self.one.id: {self.one.device_id: "signed_curve25519"}}}
        claimed = self.other.request("POST", "/keys/claim", asked)["one_time_keys"]
        self.assertEqual(claimed[self.one.id][self.one.device_id], once)

    def test_a_message_to_a_device_arrives_once(self):
        body = {"messages": {self.other.id: {self.other.device_id: {"text": "to the device"}}}}
        for _ in range(2):
            self.one.request("PUT", "/sendToDevice/org.example.test/1", body)
        self.other.wait("the message", lambda: self.other.to_device)
        self.one.send(self.room, "after it")
        self.other.wait_for_text(self.room, "after it")
        self.assertEqual([event["content"]["text"] for event in self.other.to_device], ["to the device"])


class PeopleOfWick(Checks, unittest.TestCase):
    home, away = staticmethod(wick), staticmethod(synapse)

    def test_an_event_that_expires_is_seen_to_run_and_to_end(self):
        path = "/send/org.example.here/1"
        event_id = self.one.room("PUT", self.room, path, {"m.will_expire": 5})["event_id"]
        events = lambda: self.other.timelines.get(self.room, [])
        running = self.other.wait("the event", lambda: [event for event in events() if event["event_id"] == event_id])
        self.assertEqual(running[0]["content"]["m.will_expire"], "running")
        ended = lambda: [event for event in events() if event["content"].get("m.will_expire") == "expired"]
        self.other.wait("its end", ended)

    def keeps_alive(self, token):
        try:
            self.one.request("PUT", "/expiration/refresh", {"expire_refresh_token": token})
        except Refused as refused:
            self.assertEqual((refused.status, refused.code), (404, "M_NOT_FOUND"))
            return False
        return True

    def test_state_that_expires_is_ended_by_hand(self):
        path = "/state/org.example.here/"
        token = self.one.room("PUT", self.room, path, {"m.will_expire": 3600})["expire_refresh_token"]
        status = lambda: self.other.states.get(self.room, {}).get(("org.example.here", ""), {}).get("content", {}).get("m.will_expire")
        self.other.wait("the state", lambda: status() == "running")
        self.one.request("PUT", "/expiration/end", {"expire_refresh_token": token})
        self.other.wait("its end", lambda: status() == "ended")
        self.assertFalse(self.keeps_alive(token))

    def test_a_redaction_and_a_newer_state_of_the_other_server_stop_the_timer(self):
        levels = self.one.room("GET", self.room, "/state/m.room.power_levels")
        levels["users"][self.other.id] = 100
        self.one.set_state(self.room, "m.room.power_levels", levels)
        until("the level", lambda: self.other.id in self.other.room("GET", self.room, "/state/m.room.power_levels")["users"])
        message = self.one.room("PUT", self.room, "/send/org.example.here/1", {"m.will_expire": 3600})
        state = self.one.room("PUT", self.room, "/state/org.example.here/", {"m.will_expire": 3600})
        for sent in (message, state):
            self.assertTrue(self.keeps_alive(sent["expire_refresh_token"]))
        here = lambda: [event["event_id"] for event in self.other.timelines.get(self.room, [])]
        self.other.wait("the events", lambda: {message["event_id"], state["event_id"]} <= set(here()))
        self.other.room("PUT", self.room, f"/redact/{quoted(message['event_id'])}/{next(self.other.numbers)}", {})
        self.other.set_state(self.room, "org.example.here", {})
        for sent in (message, state):
            until("the end of the timer", lambda: not self.keeps_alive(sent["expire_refresh_token"]))

    def test_an_event_that_was_scheduled_arrives_when_it_is_due(self):
        path = "/send/m.room.message/1?org.matrix.msc4140.delay=1500"
        self.one.room("PUT", self.room, path, {"msgtype": "m.text", "body": "later"})
        self.other.wait_for_text(self.room, "later")


class PeopleOfSynapse(Checks, unittest.TestCase):
    home, away = staticmethod(synapse), staticmethod(wick)


if __name__ == "__main__":
    unittest.main()
