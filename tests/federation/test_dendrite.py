"""The same rooms with Dendrite, an implementation of its own of joins and of the resolution of states."""

import os
import unittest

import test_rooms
from servers import dendrite, wick
from users import Refused, quoted


class Checks(test_rooms.Checks):
    # The versions that it makes rooms of.
    versions = ("10", "11")
    # It does not look for `redacts` where version 11 has it,
    versions_redacted = ("10",)
    # has no version 12,
    test_an_upgraded_room_is_followed = None
    # no knocking,
    test_a_knock_is_answered_with_an_invite = None
    # and neither sends nor takes what ends an invite to a room that it is not in.
    test_an_invite_is_withdrawn = None

    def said(self, user, room, sent):
        if user.server is wick():
            return super().said(user, room, sent)
        # Its pages leave out some of several events of one depth.
        found = []
        for event_id in sent:
            try:
                found.append(user.room("GET", room, f"/event/{quoted(event_id)}")["content"]["body"])
            except Refused:
                pass
        return found


if "DENDRITE_FOLDER" in os.environ:

    class RoomsOfWick(Checks, unittest.TestCase):
        home, away = staticmethod(wick), staticmethod(dendrite)

    class RoomsOfDendrite(Checks, unittest.TestCase):
        home, away = staticmethod(dendrite), staticmethod(wick)


if __name__ == "__main__":
    unittest.main()
