"""A device that runs matrix-nio. As a program it is steered by lines of JSON, as tests/clients/rust is."""

import asyncio
import json
import logging
import sys
import tempfile

from nio import (
    AsyncClient,
    AsyncClientConfig,
    EncryptionError,
    JoinError,
    LoginError,
    MegolmEvent,
    RoomMessageText,
    RoomSendResponse,
    SyncResponse,
)

PATIENCE = 60.0


class Device:
    """A logged-in client that does between two syncs what its library asks for."""

    def __init__(self, client):
        self.client = client
        self.bodies = {}
        self.sessions = {}
        self.undecryptable = set()
        self.sources = {}

    @property
    def plaintexts(self):
        return self.bodies.values()

    async def sync(self, **options):
        client = self.client
        answer = await client.sync(timeout=500, **options)
        if isinstance(answer, SyncResponse):
            for joined in answer.rooms.join.values():
                for event in joined.timeline.events:
                    self.sources[event.event_id] = event.source
                    if isinstance(event, MegolmEvent):
                        self.undecryptable.add(event.event_id)
                    elif isinstance(event, RoomMessageText):
                        self.bodies[event.event_id] = event.body
                        self.sessions[event.event_id] = event.session_id
        if client.should_upload_keys:
            await client.keys_upload()
        if client.should_query_keys:
            await client.keys_query()
        if client.should_claim_keys:
            await client.keys_claim(client.get_users_for_key_claiming())
        await client.send_to_device_messages()
        return answer

    def reads(self, encrypted):
        """Whether an event that came before its key can be decrypted by now."""
        try:
            self.bodies[encrypted.event_id] = self.client.decrypt_event(encrypted).body
        except EncryptionError:
            return False
        return True


class Program:
    """The device of this process. It syncs in the background; its requests are answered one after the other."""

    def __init__(self):
        self.store = tempfile.TemporaryDirectory()
        self.device = None

    async def log_in(self, url, username, password):
        config = AsyncClientConfig(encryption_enabled=True, store_sync_tokens=False, request_timeout=30)
        client = AsyncClient(url, username, store_path=self.store.name, config=config)
        login = await client.login(password)
        if isinstance(login, LoginError):
            raise RuntimeError(login)
        self.device = Device(client)
        await self.device.sync(full_state=True)
        self.syncing = asyncio.create_task(self.sync_for_ever())
        return {"user": client.user_id, "device": client.device_id}

    async def sync_for_ever(self):
        while True:
            await self.device.sync()
            await asyncio.sleep(0.05)

    async def eventually(self, what, find):
        for _ in range(int(PATIENCE / 0.05)):
            if self.syncing.done():
                self.syncing.result()
            if found := find():
                return found
            await asyncio.sleep(0.05)
        raise RuntimeError(f"waited {PATIENCE} s in vain: {what}")

    async def join(self, room):
        joined = await self.device.client.join(room)
        if isinstance(joined, JoinError):
            raise RuntimeError(joined)

    async def devices(self, user):
        """The ids of the user's devices, as far as this device has learnt of them."""
        return [device.device_id for device in self.device.client.device_store.active_user_devices(user)]

    async def send(self, room, body, transaction=None):
        """Sends a message and returns its event id; with the same transaction it is sent once."""
        client = self.device.client
        await self.eventually("the encrypted room", lambda: room in client.rooms and client.rooms[room].encrypted)
        content = {"msgtype": "m.text", "body": body}
        sent = await client.room_send(room, "m.room.message", content, tx_id=transaction, ignore_unverified_devices=True)
        if not isinstance(sent, RoomSendResponse):
            raise RuntimeError(sent)
        return sent.event_id

    async def read(self, room, event):
        """Waits until the device has the plaintext of an event that a sync has brought."""
        return {"body": await self.eventually(f"the plaintext of {event}", lambda: self.body(room, event))}

    def body(self, room, event):
        # Its key may have come after it.
        if event in self.device.undecryptable and event not in self.device.bodies:
            self.device.reads(MegolmEvent.from_dict({**self.device.sources[event], "room_id": room}))
        return self.device.bodies.get(event)


async def main():
    program = Program()
    while line := await asyncio.to_thread(sys.stdin.readline):
        request = json.loads(line)
        try:
            answer = {"done": await getattr(program, request["call"])(**request["with"])}
        except Exception as error:  # whatever it is, it is the answer
            answer = {"failed": repr(error)}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    # A homeserver that is gone for a moment is what the tests are about.
    logging.disable(logging.WARNING)
    asyncio.run(main())
