"""A user of a server as a client sees it: requests, and what /sync has brought so far."""

import itertools
import json
import time
import urllib.error
import urllib.parse
import urllib.request

SECONDS = 40
numbers = itertools.count(1)


class Refused(Exception):
    """An answer that is not 200."""

    def __init__(self, request, status, body):
        super().__init__(f"{request}: {status} {body}")
        self.status = status
        self.code = body.get("errcode")


def quoted(text):
    return urllib.parse.quote(text, safe="")


class User:
    def __init__(self, server, name):
        self.server = server
        self.token = None
        self.localpart = f"{name}{next(numbers)}"
        body = {"username": self.localpart, "password": "long enough for both", "auth": {"type": "m.login.dummy"}}
        registered = self.request("POST", "/register", body)
        self.token = registered["access_token"]
        self.id = registered["user_id"]
        self.device_id = registered["device_id"]
        self.since = None
        self.timelines = {}
        self.states = {}
        self.ephemeral = {}
        self.memberships = {}
        self.presence = {}
        self.to_device = []
        self.changed_devices = set()
        self.numbers = itertools.count(1)

    def request(self, method, path, body=None, timeout=90):
        headers = {"Content-Type": "application/json"}
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        if not path.startswith("/_matrix"):
            path = f"/_matrix/client/v3{path}"
        data = None if body is None else json.dumps(body).encode()
        asked = urllib.request.Request(self.server.url + path, data=data, method=method, headers=headers)
        try:
            with urllib.request.urlopen(asked, timeout=timeout) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            text = error.read()
            try:
                refusal = json.loads(text)
            except ValueError:
                refusal = {"text": text.decode(errors="replace")}
            raise Refused(f"{self.server} {method} {path}", error.code, refusal) from None

    def room(self, method, room, path, body=None):
        return self.request(method, f"/rooms/{quoted(room)}{path}", body)

    # Rooms

    def create(self, version="11", **options):
        options.setdefault("preset", "public_chat")
        return self.request("POST", "/createRoom", {"room_version": version, **options})["room_id"]

    def join(self, room, via):
        return self.request("POST", f"/join/{quoted(room)}?server_name={via.name}&via={via.name}", {})["room_id"]

    def send(self, room, text):
        number = next(self.numbers)
        content = {"msgtype": "m.text", "body": text}
        return self.room("PUT", room, f"/send/m.room.message/{number}", content)["event_id"]

    def set_state(self, room, kind, content, key=""):
        return self.room("PUT", room, f"/state/{quoted(kind)}/{quoted(key)}", content)["event_id"]

    def change(self, room, change, user=None):
        return self.room("POST", room, f"/{change}", {"user_id": user.id} if user else {})

    def state(self, room):
        """The ids of the room's state events by type and key."""
        return {(event["type"], event["state_key"]): event["event_id"] for event in self.room("GET", room, "/state")}

    def membership(self, room, user):
        try:
            return self.room("GET", room, f"/state/m.room.member/{quoted(user.id)}")["membership"]
        except Refused:
            return None

    def texts(self, room):
        """The bodies of all messages, oldest first, paged from the end as far as the server goes."""
        found, start = [], ""
        for _ in range(200):
            page = self.room("GET", room, f"/messages?dir=b&limit=50{start}")
            found += [event["content"].get("body") for event in page["chunk"] if event["type"] == "m.room.message"]
            if "end" not in page:
                break
            start = f"&from={quoted(page['end'])}"
        return [text for text in reversed(found) if text]

    # Sync

    def sync(self):
        since = f"&since={quoted(self.since)}" if self.since else ""
        answer = self.request("GET", f"/sync?timeout=1000{since}")
        self.since = answer["next_batch"]
        rooms = answer.get("rooms", {})
        for membership in ("join", "invite", "knock", "leave"):
            for room, news in rooms.get(membership, {}).items():
                self.memberships[room] = membership
                timeline = news.get("timeline", {}).get("events", [])
                self.timelines.setdefault(room, []).extend(timeline)
                state = self.states.setdefault(room, {})
                parts = [news.get("state", {}), news.get("invite_state", {}), news.get("knock_state", {})]
                for event in [event for part in parts for event in part.get("events", [])] + timeline:
                    if "state_key" in event:
                        state[event["type"], event["state_key"]] = event
                for event in news.get("ephemeral", {}).get("events", []):
                    self.ephemeral.setdefault(room, {})[event["type"]] = event["content"]
        for event in answer.get("presence", {}).get("events", []):
            self.presence[event["sender"]] = event["content"]
        self.to_device += answer.get("to_device", {}).get("events", [])
        self.changed_devices.update(answer.get("device_lists", {}).get("changed", []))

    def wait(self, what, check, seconds=SECONDS):
        """Syncs until `check` gives something true."""
        return until(f"{self.id}: {what}", check, seconds, self.sync)

    def wait_for_text(self, room, text, seconds=SECONDS):
        def arrived():
            events = self.timelines.get(room, [])
            return next((event for event in events if event.get("content", {}).get("body") == text), None)

        return self.wait(f"the message {text!r}", arrived, seconds)

    def wait_for_membership(self, room, membership):
        self.wait(f"{membership} of {room}", lambda: self.memberships.get(room) == membership)


def until(what, check, seconds=SECONDS, between=lambda: time.sleep(0.3)):
    """Checks until it gives something true, which it returns; an assertion fails if it does not within the time."""
    end = time.monotonic() + seconds
    while True:
        found = check()
        if found:
            return found
        if time.monotonic() > end:
            raise AssertionError(f"did not come within {seconds} s: {what}")
        between()


def same_state(room, *users):
    """Waits until the servers of these users have the same state in the room."""
    try:
        until("the same state", lambda: len({tuple(sorted(user.state(room).items())) for user in users}) == 1)
    except AssertionError:
        first, second = (set(user.state(room).items()) for user in users[:2])
        raise AssertionError(f"the states differ: {sorted(first ^ second)}") from None
