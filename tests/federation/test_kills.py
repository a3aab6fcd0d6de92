"""Both servers are killed at random moments while users of both talk in shared rooms.

KILL_SECONDS says for how long, KILL_SEED repeats the random choices of a run: it is printed.
"""

import collections
import http.client
import os
import random
import sys
import threading
import time
import unittest
import urllib.error

from servers import synapse, wick
from users import Refused, User, quoted, same_state, until

# Long enough for the back-off towards a server that was down.
SECONDS = 600
GONE = (urllib.error.URLError, http.client.HTTPException, OSError)


class Talker(threading.Thread):
    """A user who sends messages and state to all rooms, and repeats a request until it is answered, as clients do."""

    def __init__(self, user, rooms, seed):
        super().__init__(daemon=True)
        self.user = user
        self.rooms = rooms
        self.chance = random.Random(seed)
        self.is_over = threading.Event()
        self.answered = {room: [] for room in rooms}
        self.failure = None

    def run(self):
        try:
            while not self.is_over.is_set():
                self.say(self.chance.choice(self.rooms))
                self.is_over.wait(self.chance.uniform(0, 0.4))
        except Exception as failure:  # It is raised where the thread is joined.
            self.failure = failure

    def say(self, room):
        number = next(self.user.numbers)
        text = f"{number} of {self.user.localpart}"
        self.insist(room, f"/send/m.room.message/{number}", {"msgtype": "m.text", "body": text})
        self.answered[room].append(text)
        if self.chance.random() < 0.2:
            path = f"/state/org.example.here/{quoted(self.user.id)}"
            self.insist(room, path, {"number": number})

    def insist(self, room, path, content):
        while True:
            try:
                return self.user.room("PUT", room, path, content)
            except Refused as refused:
                if refused.status < 500:
                    raise
            except GONE:
                pass
            time.sleep(0.2)


class Kills(unittest.TestCase):
    def setUp(self):
        self.seed = int(os.environ.get("KILL_SEED") or random.randrange(1 << 32))
        print(f"KILL_SEED={self.seed}", file=sys.stderr)
        self.users = [User(server(), "talks") for server in (wick, synapse) for _ in range(2)]
        self.rooms = []
        for number, version in enumerate(("10", "11", "12")):
            host = self.users[number % 4]
            room = host.create(version=version, power_level_content_override={"state_default": 0})
            for user in self.users:
                if user is not host:
                    user.join(room, via=host.server)
            self.rooms.append(room)
        for room in self.rooms:
            same_state(room, self.users[0], self.users[2])

    def kill_at_random_moments(self, seconds):
        chance = random.Random(self.seed)
        kills = collections.Counter()
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            time.sleep(chance.uniform(1, 15))
            victims = chance.choice([[wick()], [synapse()], [wick(), synapse()]])
            for victim in victims:
                victim.kill()
                kills[victim.kind] += 1
            time.sleep(chance.uniform(0, 4))
            for victim in victims:
                victim.start()
        return kills

    def check(self, room, answered):
        for user in (self.users[0], self.users[2]):
            has = collections.Counter()

            def has_all():
                try:
                    has.clear()
                    has.update(user.texts(room))
                except TimeoutError:
                    # It is still asking the other server for what it lacks.
                    return False
                return has == answered

            try:
                until("all messages once", has_all, SECONDS)
            except AssertionError:
                raise AssertionError(
                    f"KILL_SEED={self.seed} {room} at {user.server}: lacks {sorted((answered - has).elements())}, "
                    f"has too much {sorted((has - answered).elements())}"
                ) from None

    def test_both_end_in_the_same_rooms_with_each_answered_message_once(self):
        talkers = [Talker(user, self.rooms, f"{self.seed} {number}") for number, user in enumerate(self.users)]
        for talker in talkers:
            talker.start()
        kills = self.kill_at_random_moments(float(os.environ.get("KILL_SECONDS", "30")))
        for talker in talkers:
            talker.is_over.set()
        for talker in talkers:
            talker.join(120)
            self.assertFalse(talker.is_alive(), "a request is never answered")
            if talker.failure:
                raise talker.failure
        # A word from each server to the other.
        for talker in talkers:
            for room in self.rooms:
                talker.say(room)
        total = 0
        for room in self.rooms:
            answered = collections.Counter(text for talker in talkers for text in talker.answered[room])
            total += answered.total()
            self.check(room, answered)
            same_state(room, self.users[0], self.users[2])
        print(f"{dict(kills)} kills, {total} messages", file=sys.stderr)


if __name__ == "__main__":
    unittest.main()
