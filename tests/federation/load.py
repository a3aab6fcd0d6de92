"""What federation costs: seconds, CPU and memory of wick.

usage: load.py join-large|inbound|destinations|file...    all without arguments. Figures of the scenarios: LOAD_MEMBERS,
LOAD_SECONDS, LOAD_RATE, LOAD_ROOMS, LOAD_LIVE, LOAD_DEAD, LOAD_MEGABYTES; LOAD_SYNAPSE=1 lets Synapse join the large room, too.
"""

import json
import os
import socket
import statistics
import sys
import threading
import time
import urllib.error
import urllib.request

from peer import Peer
from servers import Wick, started, synapse, wick
from users import User, quoted, until

TICKS = os.sysconf("SC_CLK_TCK")


def figure(name, default):
    return int(os.environ.get(f"LOAD_{name}", default))


class Usage:
    """CPU and memory of a server from here on."""

    def __init__(self, server):
        self.process = f"/proc/{server.process.pid}"
        with open(f"{self.process}/clear_refs", "w") as peak:
            peak.write("5")
        self.before = self.memory("VmRSS")
        self.cpu_before = self.cpu()
        self.begin = time.monotonic()

    def memory(self, kind):
        with open(f"{self.process}/status") as status:
            return next(int(line.split()[1]) for line in status if line.startswith(kind)) // 1024

    def cpu(self):
        with open(f"{self.process}/stat") as stat:
            fields = stat.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def __str__(self):
        seconds = time.monotonic() - self.begin
        cpu = self.cpu() - self.cpu_before
        return (
            f"{seconds:.1f} s, CPU {cpu:.1f} s ({100 * cpu / seconds:.0f} %), memory {self.before} MiB before, "
            f"{self.memory('VmHWM')} MiB at most, {self.memory('VmRSS')} MiB after"
        )


def spread(times):
    milliseconds = sorted(1000 * value for value in times)
    at = lambda part: milliseconds[min(len(milliseconds) - 1, int(part * len(milliseconds)))]
    return f"p50 {at(0.5):.0f} ms, p95 {at(0.95):.0f} ms, p99 {at(0.99):.0f} ms, max {milliseconds[-1]:.0f} ms"


def join_large():
    """Rooms with many members are joined from a server driven by hand, and from there by the next wick. The caches are empty
    before the first, so what the second takes is the join."""
    count = figure("MEMBERS", 20_000)
    peer = Peer("127.0.0.4")
    rooms = [peer.make_room([f"@{name}{number}:{peer.name}" for number in range(count)]) for name in ("one", "two")]
    size = len(peer.rooms[rooms[0]]["answer"]) / (1 << 20)
    print(f"join-large: {count} members, an answer of {size:.1f} MiB")
    second = started(Wick("second", "127.0.0.3"))
    hosts = [("wick", wick(), peer), ("the next wick", second, wick())]
    if os.environ.get("LOAD_SYNAPSE"):
        hosts.append(("Synapse", synapse(), wick()))
    for what, server, host in hosts:
        user = User(server, "joins")
        for which, room in zip(("first", "second"), rooms):
            usages = [(what, Usage(server))]
            if host is not peer:
                usages.append(("the server that answers", Usage(host)))
            path = f"/join/{quoted(room)}?server_name={host.name}&via={host.name}"
            user.request("POST", path, {}, timeout=1800)
            for name, usage in usages:
                print(f"  {which} room, join by {what}: {name} {usage}")
            members = user.room("GET", room, "/joined_members")["joined"]
            print(f"  members it has: {len(members)}")
    # What is shown to its user then.
    user = User(wick(), "syncs")
    user.join(rooms[0], via=peer)
    usage = Usage(wick())
    user.sync()
    print(f"  first sync of a member: {usage}")


def inbound():
    """Events of many rooms come in transactions of 50, at a steady rate."""
    rate, seconds, count = figure("RATE", 1_000), figure("SECONDS", 60), figure("ROOMS", 100)
    peer = Peer("127.0.0.4")
    sender = f"@talks:{peer.name}"
    user = User(wick(), "listens")
    rooms = [joined(peer, user, sender) for _ in range(count)]
    user.sync()
    sent, came = {}, {}
    is_over = threading.Event()

    def listen():
        while not is_over.is_set():
            before = {room: len(events) for room, events in user.timelines.items()}
            user.sync()
            now = time.monotonic()
            for room, events in user.timelines.items():
                for event in events[before.get(room, 0) :]:
                    came.setdefault(event["event_id"], now)
                # Only the new ones are looked at.
                events.clear()

    listener = threading.Thread(target=listen, daemon=True)
    listener.start()
    print(f"inbound: {rate} events a second over {count} rooms for {seconds} s")
    usage, answers = Usage(wick()), []
    begin = time.monotonic()
    for number in range(seconds * rate // 50):
        due = begin + number * 50 / rate
        time.sleep(max(0.0, due - time.monotonic()))
        events = [next_event(peer, rooms[(number * 50 + index) % count], sender) for index in range(50)]
        sent.update((event_id, max(due, time.monotonic())) for event_id, _ in events)
        body = {"origin": peer.name, "origin_server_ts": int(time.time() * 1000), "pdus": [event for _, event in events]}
        asked = time.monotonic()
        peer.request(wick(), "PUT", f"/_matrix/federation/v1/send/{number}", body)
        answers.append(time.monotonic() - asked)
    took = time.monotonic() - begin
    print(f"  sent {len(sent)} events in {took:.1f} s: {len(sent) / took:.0f} a second; {usage}")
    print(f"  answers to transactions: {spread(answers)}")
    last = [room["last"] for room in rooms]
    until("the last events", lambda: all(event in came for event in last), 120)
    is_over.set()
    print(f"  all were there {time.monotonic() - begin - took:.1f} s after the last answer")
    # A limited timeline leaves out what is older than its newest events.
    lags = [came[event] - at for event, at in sent.items() if event in came]
    print(f"  from sending to sync, of {len(lags)} events seen: {spread(lags)}")


def joined(peer, user, sender):
    """A room of the user's that the peer has joined."""
    room = user.create()
    query = "ver=11"
    path = f"/_matrix/federation/v1/make_join/{quoted(room)}/{quoted(sender)}?{query}"
    join = peer.request(wick(), "GET", path)["event"]
    join["origin_server_ts"] = int(time.time() * 1000)
    join_id = peer.sign(join)
    answer = peer.request(wick(), "PUT", f"/_matrix/federation/v2/send_join/{quoted(room)}/{quoted(join_id)}", join)
    state = {event["type"]: event for event in answer["state"] if event["type"] != "m.room.member"}
    auth = [peer_id(peer, state[kind]) for kind in ("m.room.create", "m.room.power_levels")]
    return {"id": room, "last": join_id, "auth": [*auth, join_id], "depth": join["depth"]}


def peer_id(peer, event):
    """The id of an event of another server."""
    return peer.sign({key: value for key, value in event.items() if key != "unsigned"})


def next_event(peer, room, sender):
    room["depth"] += 1
    event = {
        "type": "m.room.message", "room_id": room["id"], "sender": sender, "depth": room["depth"],
        "content": {"msgtype": "m.text", "body": "a message of an ordinary length, as people send them"},
        "origin_server_ts": int(time.time() * 1000), "prev_events": [room["last"]], "auth_events": room["auth"],
    }  # fmt: skip
    room["last"] = peer.sign(event)
    return room["last"], event


def destinations():
    """A room with users of many servers, most of which are dead: half refuse connections, half never answer."""
    live, dead, seconds = figure("LIVE", 50), figure("DEAD", 150), figure("SECONDS", 60)
    alive, refusing, hanging = Peer("127.0.1.1"), Peer("127.0.2.1"), Peer("127.0.3.1")
    refusing.key = hanging.key = alive.key
    names = [alive.named(f"127.0.1.{number + 1}") for number in range(live)]
    names += [refusing.named(f"127.0.2.{number + 1}") for number in range(dead // 2)]
    names += [hanging.named(f"127.0.3.{number + 1}") for number in range(dead - dead // 2)]
    room = alive.make_room([f"@user:{name}" for name in names])
    user = User(wick(), "talks")
    user.join(room, via=alive)
    members = user.room("GET", room, "/joined_members")["joined"]
    print(f"destinations: {live} alive, {dead} dead, {len(members)} members, a message a second for {seconds} s")
    for gone in (refusing, hanging):
        gone.server.shutdown()
        gone.server.server_close()
    silent = socket.create_server(("", hanging.port), backlog=512)
    usage, sent = Usage(wick()), {}
    for number in range(seconds):
        text = f"message {number}"
        sent[text] = time.monotonic()
        user.send(room, text)
        time.sleep(max(0.0, sent[text] + 1 - time.monotonic()))
    hosts = set(names[:live])
    try:
        until("all messages", lambda: all(set(alive.arrived.get(text, {})) == hosts for text in sent), 60)
    except AssertionError:
        missing = sum(len(hosts - set(alive.arrived.get(text, {}))) for text in sent)
        print(f"  MISSING: {missing} of {len(sent) * live} did not arrive")
    print(f"  {usage}")
    lags = [at - sent[text] for text in sent for at in alive.arrived.get(text, {}).values()]
    if lags:
        print(f"  from sending to arrival: {spread(lags)}, mean {1000 * statistics.mean(lags):.0f} ms")
    silent.close()


def file():
    """A large file is uploaded to a server, downloaded there, and fetched by another one, which takes none that is larger."""
    most, growth = figure("MEGABYTES", 1024), 64
    # The one that fetches takes less.
    first = started(Wick("second", "127.0.0.3", f"media.max_upload_megabytes = {most + 1}"))
    second = started(Wick("media", "127.0.0.1", f"media.max_upload_megabytes = {most}"))
    alice, bob = User(first, "sends"), User(second, "gets")
    piece = os.urandom(1 << 20)

    def upload(megabytes):
        headers = {"Authorization": f"Bearer {alice.token}", "Content-Length": str(megabytes << 20)}
        pieces = (piece for _ in range(megabytes))
        asked = urllib.request.Request(f"{first.url}/_matrix/media/v3/upload", pieces, headers, method="POST")
        with urllib.request.urlopen(asked, timeout=600) as answer:
            return json.load(answer)["content_uri"].removeprefix("mxc://")

    def download(user, media):
        """The number of bytes, each of which is compared."""
        url = f"{user.server.url}/_matrix/client/v1/media/download/{media}"
        asked = urllib.request.Request(url, headers={"Authorization": f"Bearer {user.token}"})
        with urllib.request.urlopen(asked, timeout=600) as answer:
            count = 0
            while part := answer.read(1 << 20):
                if part != piece:
                    raise SystemExit("what was downloaded differs")
                count += len(part)
            return count

    def measured(what, servers, work):
        usages = [(server, Usage(server)) for server in servers]
        result = work()
        for server, usage in usages:
            print(f"  {what}: {server.address} {usage}")
            if usage.memory("VmHWM") > usage.before + growth:
                raise SystemExit(f"memory grew by more than {growth} MiB")
        return result

    # What a first small file takes is not what a large one takes.
    for user in (alice, bob):
        download(user, upload(1))
    print(f"file: {most} MiB")
    media = measured("upload", [first], lambda: upload(most))
    measured("download", [first], lambda: download(alice, media))
    count = measured("fetched by another server", [first, second], lambda: download(bob, media))
    if count != most << 20:
        raise SystemExit(f"{count} bytes came")
    measured("what was fetched, again", [second], lambda: download(bob, media))
    media = upload(most + 1)
    try:
        measured("larger than the other takes", [second], lambda: download(bob, media))
        raise SystemExit("too large a file was fetched")
    except urllib.error.HTTPError as error:
        print(f"  larger than the other takes: {error.code} {error.read().decode()}")


SCENARIOS = {"join-large": join_large, "inbound": inbound, "destinations": destinations, "file": file}


def main():
    for name in sys.argv[1:] or SCENARIOS:
        if name not in SCENARIOS:
            sys.exit(f"unknown scenario: {name}; there are {', '.join(SCENARIOS)}")
    for name in sys.argv[1:] or SCENARIOS:
        SCENARIOS[name]()


if __name__ == "__main__":
    main()
