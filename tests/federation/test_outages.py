"""Rooms of both servers while one of them is down or killed."""

import os
import random
import time
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


class Kills(unittest.TestCase):
    """KILL_SECONDS says for how long."""

    def test_both_end_in_the_same_room_whichever_is_killed_at_random_moments(self):
        chance = random.Random(7)
        users = [User(wick(), "kills"), User(synapse(), "kills")]
        room = users[0].create()
        users[1].join(room, via=wick())
        answered = []
        end = time.monotonic() + float(os.environ.get("KILL_SECONDS", "30"))
        while time.monotonic() < end:
            victim = chance.choice([wick(), synapse()])
            for _ in range(chance.randrange(1, 20)):
                user = chance.choice(users)
                text = f"{len(answered)} of {user.localpart}"
                user.send(room, text)
                answered.append(text)
            victim.kill()
            other = next(user for user in users if user.server is not victim)
            for _ in range(chance.randrange(5)):
                text = f"{len(answered)} of {other.localpart}"
                other.send(room, text)
                answered.append(text)
            victim.start()
        for user in users:
            user.send(room, f"the last of {user.localpart}")
            answered.append(f"the last of {user.localpart}")
        for user in users:
            until("all messages once", lambda: sorted(user.texts(room)) == sorted(answered), SECONDS)
        same_state(room, *users)


if __name__ == "__main__":
    unittest.main()
