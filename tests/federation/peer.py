"""A server that is driven by hand: signs events and requests, answers joins to its rooms and takes transactions.

It goes by as many names as there are addresses of this machine; all have one key.
"""

import base64
import hashlib
import http.client
import http.server
import json
import socketserver
import ssl
import threading
import time
import urllib.parse

from nacl.signing import SigningKey

from servers import FOLDER

KEPT = {
    "m.room.member": ("membership",),
    "m.room.power_levels": ("ban", "events", "events_default", "invite", "kick", "redact", "state_default", "users", "users_default"),
    "m.room.join_rules": ("join_rule",),
}
REDACTED = (
    "type", "room_id", "sender", "state_key", "hashes", "depth", "prev_events", "auth_events", "origin_server_ts",
)  # fmt: skip


def canonical(value):
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=True).encode()


def encoded(data, code=base64.b64encode):
    return code(data).rstrip(b"=").decode()


class Peer:
    def __init__(self, address, port=0):
        self.key = SigningKey.generate()
        self.rooms = {}
        self.arrived = {}
        self.server = Listener(self, port)
        self.port = self.server.server_address[1]
        self.name = self.named(address)
        self.connections = threading.local()
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def named(self, address):
        return f"{address}:{self.port}"

    def signature(self, value):
        return encoded(self.key.sign(canonical(value)).signature)

    # Requests

    def request(self, server, method, path, body=None):
        """The answer of a server to a signed request."""
        signed = {"method": method, "uri": path, "origin": self.name, "destination": server.name}
        if body is not None:
            signed["content"] = body
        value = f'X-Matrix origin="{self.name}",destination="{server.name}",key="ed25519:1",sig="{self.signature(signed)}"'
        headers = {"Authorization": value, "Content-Type": "application/json"}
        connection = getattr(self.connections, server.name, None)
        if connection is None:
            context = ssl.create_default_context(cafile=f"{FOLDER}/authority.pem")
            connection = http.client.HTTPSConnection(server.address, server.server_port, context=context, timeout=60)
            setattr(self.connections, server.name, connection)
        connection.request(method, path, None if body is None else canonical(body), headers)
        answer = connection.getresponse()
        text = answer.read()
        if answer.status != 200:
            raise AssertionError(f"{method} {path}: {answer.status} {text}")
        return json.loads(text)

    # Events of room version 11

    def sign(self, event):
        """Hashes and signs an event as the server of its sender, and returns its id."""
        event.pop("signatures", None)
        event.pop("hashes", None)
        event["hashes"] = {"sha256": encoded(hashlib.sha256(canonical(event)).digest())}
        redacted = {key: event[key] for key in REDACTED if key in event}
        content = event["content"]
        kept = content if event["type"] == "m.room.create" else KEPT.get(event["type"], ())
        redacted["content"] = {key: content[key] for key in kept if key in content}
        signature = encoded(self.key.sign(canonical(redacted)).signature)
        event["signatures"] = {event["sender"].split(":", 1)[1]: {"ed25519:1": signature}}
        return "$" + encoded(hashlib.sha256(canonical(redacted)).digest(), base64.urlsafe_b64encode)

    def make_room(self, members):
        """A public room with these users; the first one creates it."""
        room_id = f"!room{len(self.rooms)}:{self.name}"
        now = int(time.time() * 1000)
        room = {"id": room_id, "state": [], "last": None, "auth": []}

        def add(kind, key, content, sender):
            event = {
                "type": kind, "room_id": room_id, "sender": sender, "state_key": key, "content": content,
                "depth": len(room["state"]) + 1, "origin_server_ts": now,
                "prev_events": [room["last"]] if room["last"] else [], "auth_events": list(room["auth"]),
            }  # fmt: skip
            room["last"] = self.sign(event)
            room["state"].append(event)
            return room["last"]

        creator = members[0]
        create = add("m.room.create", "", {"room_version": "11"}, creator)
        room["auth"] = [create]
        member = add("m.room.member", creator, {"membership": "join"}, creator)
        room["auth"] = [create, member]
        levels = add("m.room.power_levels", "", {"users": {creator: 100}}, creator)
        room["auth"] = [create, member, levels]
        rules = add("m.room.join_rules", "", {"join_rule": "public"}, creator)
        room["auth"] = [create, levels, rules]
        for user in members[1:]:
            add("m.room.member", user, {"membership": "join", "displayname": user[1:9]}, user)
        room["answer"] = canonical({"origin": self.name, "state": room["state"], "auth_chain": room["state"][:4]})
        self.rooms[room_id] = room
        return room_id

    # Answers

    def answer(self, host, method, path, body):
        parts = path.split("?")[0].split("/")[2:]
        match parts:
            case ["key", "v2", "server"]:
                return self.published(host)
            case ["federation", "v1", "send", _]:
                now = time.monotonic()
                for event in body["pdus"]:
                    text = event["content"].get("body")
                    self.arrived.setdefault(text, {})[host] = now
                return {"pdus": {}}
            case ["federation", "v1", "make_join", room, user]:
                room = self.rooms[unquoted(room)]
                draft = {
                    "type": "m.room.member", "room_id": room["id"], "sender": unquoted(user), "state_key": unquoted(user),
                    "content": {"membership": "join"}, "depth": len(room["state"]) + 1,
                    "prev_events": [room["last"]], "auth_events": room["auth"],
                }  # fmt: skip
                return {"room_version": "11", "event": draft}
            case ["federation", "v2", "send_join", room, _]:
                return self.rooms[unquoted(room)]["answer"]
        return None

    def published(self, name):
        keys = {
            "server_name": name,
            "valid_until_ts": int(time.time() * 1000) + 86_400_000,
            "verify_keys": {"ed25519:1": {"key": encoded(bytes(self.key.verify_key))}},
            "old_verify_keys": {},
        }
        keys["signatures"] = {name: {"ed25519:1": self.signature(keys)}}
        return keys


def unquoted(text):
    return urllib.parse.unquote(text)


class Listener(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True
    request_queue_size = 512

    def __init__(self, peer, port):
        self.peer = peer
        self.context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self.context.load_cert_chain(f"{FOLDER}/peer.pem", f"{FOLDER}/peer.key")
        # All addresses of the loopback interface.
        super().__init__(("", port), Handler)

    def get_request(self):
        connection, address = super().get_request()
        # The handshake is the thread's.
        return self.context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False), address

    def handle_error(self, request, client_address):
        pass


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def respond(self):
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length)) if length else None
        answer = self.server.peer.answer(self.headers["Host"], self.command, self.path, body)
        data = answer if isinstance(answer, bytes) else canonical(answer or {"errcode": "M_NOT_FOUND", "error": "no"})
        self.send_response(404 if answer is None else 200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_PUT = do_POST = respond

    def log_message(self, *_):
        pass
