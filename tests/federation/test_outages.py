"""Rooms of both servers while one of them is down or killed."""

import unittest

from servers import synapse, wick
from users import User, same_state, until

# Long enough for the back-off towards a server that was down.
SECONDS = 120


class Checks:
    """`down` is the server that is away, `up` the other one; the room is of a user of `up`."""

    def setUp(self):
        self.up = User(self.staying(), "up")
        self.down = User(self.leaving(), "down")
        self.room = self.up.create()
        self.down.join(self.room, via=self.staying())
        until("the join", lambda: self.up.membership(self.room, self.down) == "join")

    def tearDown(self):
        if self.leaving().process.poll() is not None:
            self.leaving().start()

    def heals(self, end):
        texts = [f"message {number}" for number in range(100)]
        end()
        for text in texts:
            self.up.send(self.room, text)
        self.leaving().start()
        self.up.send(self.room, "back")
        until("the messages", lambda: self.down.texts(self.room) == [*texts, "back"], SECONDS)
        self.down.send(self.room, "all read")
        self.up.wait_for_text(self.room, "all read", SECONDS)
        same_state(self.room, self.up, self.down)

    def test_a_gap_of_100_events_is_healed_after_a_stop(self):
        self.heals(self.leaving().end)

    def test_a_gap_of_100_events_is_healed_after_a_kill(self):
        self.heals(self.leaving().kill)

    def test_what_was_sent_before_a_kill_arrives_after_it(self):
        self.staying().end()
        self.down.send(self.room, "to a server that is down")
        self.leaving().kill()
        self.leaving().start()
        self.staying().start()
        # A word from the other side: Synapse may wait for long before it tries again by itself.
        self.up.send(self.room, "up again")
        self.up.wait_for_text(self.room, "to a server that is down", SECONDS)


class OutagesOfWick(Checks, unittest.TestCase):
    leaving, staying = staticmethod(wick), staticmethod(synapse)


class OutagesOfSynapse(Checks, unittest.TestCase):
    leaving, staying = staticmethod(synapse), staticmethod(wick)


if __name__ == "__main__":
    unittest.main()
