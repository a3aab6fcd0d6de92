"""Rooms that users of wick and of Synapse share: each check once in a room that wick's user made, once in one of Synapse's."""

import unittest

from servers import synapse, wick
from users import Refused, User, quoted, same_state, until


class Checks:
    """`host` makes the room, `guest` is a user of the other server."""

    versions = versions_redacted = ("10", "11", "12")

    def setUp(self):
        self.host = User(self.home(), "host")
        self.guest = User(self.away(), "guest")

    def shared(self, **options):
        room = self.host.create(**options)
        self.guest.join(room, via=self.home())
        until("the join", lambda: self.host.membership(room, self.guest) == "join")
        return room

    def invited(self, room):
        self.host.change(room, "invite", self.guest)
        self.guest.wait_for_membership(room, "invite")

    def test_a_room_of_each_version_is_joined_and_messages_go_both_ways(self):
        for version in self.versions:
            with self.subTest(version=version):
                room = self.shared(version=version)
                self.host.send(room, "from the host")
                self.guest.wait_for_text(room, "from the host")
                self.guest.send(room, "from the guest")
                self.host.wait_for_text(room, "from the guest")
                same_state(room, self.host, self.guest)

    def test_a_room_is_joined_by_its_alias(self):
        alias = f"#{self.host.localpart}:{self.home().name}"
        room = self.host.create(room_alias_name=self.host.localpart)
        self.assertEqual(self.guest.request("GET", f"/directory/room/{quoted(alias)}")["room_id"], room)
        self.assertEqual(self.guest.request("POST", f"/join/{quoted(alias)}", {})["room_id"], room)
        until("the join", lambda: self.host.membership(room, self.guest) == "join")

    def test_the_public_rooms_of_the_other_server_are_listed(self):
        room = self.host.create(visibility="public", name="listed")
        rooms = self.guest.request("POST", f"/publicRooms?server={self.home().name}", {"limit": 100})["chunk"]
        self.assertIn(room, [listed["room_id"] for listed in rooms])

    def test_an_invite_is_seen_and_accepted(self):
        for version in self.versions:
            with self.subTest(version=version):
                room = self.host.create(version=version, preset="private_chat", name="a name")
                self.invited(room)
                name = self.guest.states[room]["m.room.name", ""]
                self.assertEqual(name["content"]["name"], "a name")
                self.guest.join(room, via=self.home())
                self.guest.send(room, "here")
                self.host.wait_for_text(room, "here")

    def test_an_invite_is_rejected(self):
        room = self.host.create(preset="private_chat")
        self.invited(room)
        self.guest.change(room, "leave")
        until("the rejection", lambda: self.host.membership(room, self.guest) == "leave")
        self.guest.wait_for_membership(room, "leave")

    def test_an_invite_is_withdrawn(self):
        room = self.host.create(preset="private_chat")
        self.invited(room)
        self.host.change(room, "kick", self.guest)
        self.guest.wait_for_membership(room, "leave")

    def test_a_room_without_an_invite_is_not_joined(self):
        room = self.host.create(preset="private_chat")
        with self.assertRaises(Refused) as refused:
            self.guest.join(room, via=self.home())
        self.assertEqual(refused.exception.code, "M_FORBIDDEN")

    def test_a_guest_leaves_and_joins_again(self):
        room = self.shared()
        self.guest.change(room, "leave")
        until("the leave", lambda: self.host.membership(room, self.guest) == "leave")
        self.host.send(room, "meanwhile")
        self.guest.join(room, via=self.home())
        self.guest.send(room, "again")
        self.host.wait_for_text(room, "again")
        until("what was missed", lambda: "meanwhile" in self.guest.texts(room))
        same_state(room, self.host, self.guest)

    def test_a_kicked_and_a_banned_user_are_out(self):
        room = self.shared()
        self.host.change(room, "kick", self.guest)
        self.guest.wait_for_membership(room, "leave")
        self.guest.join(room, via=self.home())
        self.guest.wait_for_membership(room, "join")
        until("the join", lambda: self.host.membership(room, self.guest) == "join")
        self.host.change(room, "ban", self.guest)
        self.guest.wait_for_membership(room, "leave")
        with self.assertRaises(Refused) as refused:
            self.guest.join(room, via=self.home())
        self.assertEqual(refused.exception.code, "M_FORBIDDEN")
        self.host.change(room, "unban", self.guest)
        self.guest.join(room, via=self.home())
        until("the join", lambda: self.host.membership(room, self.guest) == "join")

    def test_state_goes_both_ways(self):
        room = self.shared()
        self.host.set_state(room, "m.room.topic", {"topic": "of the host"})
        topic = lambda: self.guest.states.get(room, {}).get(("m.room.topic", ""), {}).get("content", {}).get("topic")
        self.guest.wait("the topic", lambda: topic() == "of the host")
        levels = self.host.room("GET", room, "/state/m.room.power_levels")
        levels.setdefault("users", {})[self.guest.id] = 60
        self.host.set_state(room, "m.room.power_levels", levels)
        until("the level", lambda: self.guest.room("GET", room, "/state/m.room.power_levels")["users"].get(self.guest.id))
        self.guest.set_state(room, "m.room.topic", {"topic": "of the guest"})
        until("the topic", lambda: self.host.room("GET", room, "/state/m.room.topic")["topic"] == "of the guest")
        same_state(room, self.host, self.guest)

    def test_a_redaction_arrives(self):
        for version in self.versions_redacted:
            with self.subTest(version=version):
                room = self.shared(version=version)
                event_id = self.host.send(room, "regretted")
                self.guest.wait_for_text(room, "regretted")
                # Synapse has one space of transaction ids for all of a user's events.
                self.host.room("PUT", room, f"/redact/{quoted(event_id)}/{next(self.host.numbers)}", {})
                until("the redaction", lambda: not self.guest.room("GET", room, f"/event/{quoted(event_id)}")["content"])

    def test_history_from_before_the_join_is_read(self):
        room = self.host.create()
        texts = [f"message {number}" for number in range(120)]
        for text in texts:
            self.host.send(room, text)
        self.guest.join(room, via=self.home())
        until("the history", lambda: self.guest.texts(room) == texts)

    def test_a_restricted_room_is_joined_by_a_member_of_the_other(self):
        space = self.host.create()
        allow = [{"type": "m.room_membership", "room_id": space}]
        rule = {"type": "m.room.join_rules", "state_key": "", "content": {"join_rule": "restricted", "allow": allow}}
        for version in self.versions:
            with self.subTest(version=version):
                if self.host.membership(space, self.guest) == "join":
                    self.guest.change(space, "leave")
                    until("the leave", lambda: self.host.membership(space, self.guest) == "leave")
                room = self.host.create(version=version, preset="private_chat", initial_state=[rule])
                with self.assertRaises(Refused):
                    self.guest.join(room, via=self.home())
                self.guest.join(space, via=self.home())
                until("the join", lambda: self.host.membership(space, self.guest) == "join")
                self.guest.join(room, via=self.home())
                self.guest.send(room, "let in")
                self.host.wait_for_text(room, "let in")

    def test_a_knock_is_answered_with_an_invite(self):
        rule = {"type": "m.room.join_rules", "state_key": "", "content": {"join_rule": "knock"}}
        room = self.host.create(preset="private_chat", initial_state=[rule])
        self.guest.request("POST", f"/knock/{quoted(room)}?server_name={self.home().name}&via={self.home().name}", {})
        until("the knock", lambda: self.host.membership(room, self.guest) == "knock")
        self.host.change(room, "invite", self.guest)
        self.guest.wait_for_membership(room, "invite")
        self.guest.join(room, via=self.home())
        until("the join", lambda: self.host.membership(room, self.guest) == "join")

    def test_an_upgraded_room_is_followed(self):
        old = self.shared(version="10")
        new = self.host.room("POST", old, "/upgrade", {"new_version": "12"})["replacement_room"]
        tombstone = lambda: self.guest.states.get(old, {}).get(("m.room.tombstone", ""))
        self.assertEqual(self.guest.wait("the tombstone", tombstone)["content"]["replacement_room"], new)
        self.guest.join(new, via=self.home())
        self.guest.send(new, "moved")
        self.host.wait_for_text(new, "moved")

    def test_profiles_are_read_and_their_changes_arrive(self):
        room = self.shared()
        for one, other in ((self.host, self.guest), (self.guest, self.host)):
            one.request("PUT", f"/profile/{quoted(one.id)}/displayname", {"displayname": "A Name"})
            self.assertEqual(other.request("GET", f"/profile/{quoted(one.id)}")["displayname"], "A Name")
            path = f"/state/m.room.member/{quoted(one.id)}"
            until("the name", lambda: other.room("GET", room, path).get("displayname") == "A Name")

    def said(self, user, room, sent):
        """The bodies of the messages in a room as the user's server has them; `sent` has those that were sent, by id."""
        return user.texts(room)

    def test_servers_that_write_at_the_same_time_end_in_the_same_room(self):
        room = self.shared()
        sent = {}
        for number in range(25):
            for user in (self.host, self.guest):
                text = f"{number} of {user.localpart}"
                sent[user.send(room, text)] = text
            name = {"displayname": f"name {number}"}
            for user in (self.host, self.guest):
                user.set_state(room, "m.room.member", {"membership": "join", **name}, user.id)
        for user in (self.host, self.guest):
            until("all messages", lambda: sorted(self.said(user, room, sent)) == sorted(sent.values()))
        same_state(room, self.host, self.guest)


class RoomsOfWick(Checks, unittest.TestCase):
    home, away = staticmethod(wick), staticmethod(synapse)


class RoomsOfSynapse(Checks, unittest.TestCase):
    home, away = staticmethod(synapse), staticmethod(wick)


if __name__ == "__main__":
    unittest.main()
