"""End-to-end encryption with matrix-nio, two users with two devices each, on the homeserver at WICK_URL.

WICK_RESTART, if set, is a command that kills the homeserver and starts it again: then everything is done once more while it is
killed between all steps. Key backups, cross-signing and secret storage are not parts of matrix-nio.
"""

import asyncio
import json
import logging
import os
import subprocess
import tempfile
import time
import unittest
from urllib.parse import quote

from nio import (
    AsyncClient,
    AsyncClientConfig,
    JoinResponse,
    LoginResponse,
    LogoutResponse,
    MegolmEvent,
    RegisterResponse,
    RoomCreateResponse,
    RoomKeyRequestResponse,
    RoomSendResponse,
    ToDeviceResponse,
)

from device import Device

URL = os.environ["WICK_URL"]
PASSWORD = "client test only"
PATIENCE = 60.0
# asyncio's debug mode names every slow step: on a busy machine that is all of them.
logging.getLogger("asyncio").setLevel(logging.ERROR)
ENCRYPTION = {"type": "m.room.encryption", "state_key": "", "content": {"algorithm": "m.megolm.v1.aes-sha2"}}


class Encryption(unittest.IsolatedAsyncioTestCase):
    async def device(self, user_id, store):
        config = AsyncClientConfig(encryption_enabled=True, store_sync_tokens=False, request_timeout=30)
        client = AsyncClient(URL, user_id, store_path=store, config=config)
        self.addAsyncCleanup(client.close)
        login = await client.login(PASSWORD)
        self.assertIsInstance(login, LoginResponse, login)
        device = Device(client)
        await device.sync(full_state=True)
        return device

    async def user(self, name):
        name = f"{name}{time.time_ns()}"
        client = AsyncClient(URL, name)
        self.addAsyncCleanup(client.close)
        registered = await client.register(name, PASSWORD)
        self.assertIsInstance(registered, RegisterResponse, registered)
        return registered.user_id

    async def asyncSetUp(self):
        self.store = tempfile.TemporaryDirectory()
        self.addCleanup(self.store.cleanup)
        self.devices = []
        for name in ("grace", "heidi"):
            user_id = await self.user(name)
            for _ in range(2):
                self.devices.append(await self.device(user_id, self.store.name))
        grace, heidi = self.devices[0].client, self.devices[2].client
        created = await grace.room_create(invite=[heidi.user_id], initial_state=[ENCRYPTION])
        self.assertIsInstance(created, RoomCreateResponse, created)
        self.room = created.room_id
        self.assertIsInstance(await heidi.join(self.room), JoinResponse)
        await self.eventually(
            "the encrypted room on all devices",
            lambda device: self.room in device.client.rooms
            and device.client.rooms[self.room].encrypted
            and len(device.client.rooms[self.room].users) == 2,
        )

    async def between(self):
        """What happens between two steps."""

    async def eventually(self, what, holds):
        """Lets all devices sync until `holds` is true of each."""
        end = time.monotonic() + PATIENCE
        while not all(holds(device) for device in self.devices):
            self.assertLess(time.monotonic(), end, f"waited {PATIENCE} s in vain: {what}")
            await asyncio.gather(*(device.sync() for device in self.devices))

    async def send(self, device, body):
        content = {"msgtype": "m.text", "body": body}
        send = device.client.room_send(self.room, "m.room.message", content, ignore_unverified_devices=True)
        sent = await send
        self.assertIsInstance(sent, RoomSendResponse, sent)

    async def put_event(self, client, event_type, content):
        """Sends a content as it is: nio would encrypt it once more."""
        path = f"/_matrix/client/v3/rooms/{quote(self.room)}/send/{event_type}/{time.time_ns()}"
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {client.access_token}"}
        answer = await client.send("PUT", path, json.dumps(content), headers)
        sent = await answer.json()
        self.assertEqual(answer.status, 200, sent)
        return sent["event_id"]

    async def fetched(self, client, event_id):
        """An event as the homeserver gives it: what nio decrypts loses its `unsigned`."""
        path = f"/_matrix/client/v3/rooms/{quote(self.room)}/event/{quote(event_id)}"
        answer = await client.send("GET", path, headers={"Authorization": f"Bearer {client.access_token}"})
        return await answer.json()

    async def read_by_all(self, sender, body):
        others = [device for device in self.devices if device is not sender]
        await self.eventually(body, lambda device: device not in others or body in device.plaintexts)

    async def test_what_each_device_sends_is_decrypted_by_the_other_three(self):
        for number, device in enumerate(self.devices):
            body = f"from device {number}"
            await self.send(device, body)
            await self.between()
            await self.read_by_all(device, body)
        self.assertEqual([device.undecryptable for device in self.devices], [set()] * 4)

    async def test_messages_after_the_logout_of_a_device_use_another_session(self):
        grace, _, heidi, gone = self.devices
        await self.send(grace, "with four devices")
        await self.between()
        await self.read_by_all(grace, "with four devices")
        self.devices.remove(gone)
        self.assertIsInstance(await gone.client.logout(), LogoutResponse)
        await self.between()
        await self.eventually(
            "the device is gone from the lists",
            lambda device: gone.client.device_id
            not in [known.device_id for known in device.client.device_store.active_user_devices(heidi.client.user_id)],
        )
        await self.between()
        await self.send(grace, "with three devices")
        await self.between()
        await self.read_by_all(grace, "with three devices")
        sessions = {body: heidi.sessions[event_id] for event_id, body in heidi.bodies.items()}
        self.assertNotEqual(sessions["with four devices"], sessions["with three devices"])

    async def test_an_encrypted_event_expires_its_copy_is_refused_as_a_replay_and_the_original_says_so(self):
        grace, _, heidi, _ = self.devices
        # The first message shares the session with all devices, which sending a ciphertext by hand does not.
        await self.send(grace, "before")
        await self.read_by_all(grace, "before")
        content = {"msgtype": "m.text", "body": "here for a second"}
        event_type, content = grace.client.encrypt(self.room, "m.room.message", content)
        event_id = await self.put_event(grace.client, event_type, {**content, "m.will_expire": 1})
        await self.between()
        await self.read_by_all(grace, "here for a second")

        def copies(device):
            for source in device.sources.values():
                relation = source["content"].get("m.relates_to", {})
                if source["content"].get("m.will_expire") == "expired" and relation.get("event_id") == event_id:
                    yield source

        await self.eventually("the copy", lambda device: device is not heidi or any(copies(device)))
        [copy] = copies(heidi)
        self.assertEqual(copy["content"]["ciphertext"], content["ciphertext"])
        self.assertEqual(heidi.undecryptable, {copy["event_id"]})
        status = (await self.fetched(heidi.client, event_id))["unsigned"]["m.will_expire"]
        self.assertEqual((status["status"], status["event_id"]), ("expired", copy["event_id"]))

    def known(self, device, other):
        """What a device knows of another one."""
        return device.client.device_store[other.client.user_id][other.client.device_id]

    async def test_two_devices_verify_each_other_by_comparing_emoji(self):
        first, second = self.devices[:2]
        started = await first.client.start_key_verification(self.known(first, second))
        self.assertIsInstance(started, ToDeviceResponse, started)
        [transaction] = first.client.key_verifications
        await self.between()
        await self.eventually("the start", lambda device: device is not second or transaction in device.client.key_verifications)
        accepted = await second.client.accept_key_verification(transaction)
        self.assertIsInstance(accepted, ToDeviceResponse, accepted)
        await self.between()
        sas = [device.client.key_verifications[transaction] for device in (first, second)]
        await self.eventually("the keys", lambda _: all(one.established_sas for one in sas))
        self.assertEqual(sas[0].get_emoji(), sas[1].get_emoji())
        await self.between()
        for device in (first, second):
            confirmed = await device.client.confirm_short_auth_string(transaction)
            self.assertIsInstance(confirmed, ToDeviceResponse, confirmed)
            await self.between()
        await self.eventually(
            "both are verified",
            lambda _: self.known(first, second).verified and self.known(second, first).verified,
        )

    async def test_a_device_added_later_asks_another_one_for_a_key_and_reads_the_history(self):
        grace, _, heidi, _ = self.devices
        await self.send(heidi, "before the new device")
        await self.between()
        await self.read_by_all(heidi, "before the new device")
        await self.between()
        new = await self.device(grace.client.user_id, self.store.name)
        self.devices.append(new)
        [event_id] = (event_id for event_id, body in grace.bodies.items() if body == "before the new device")
        await self.eventually(
            "the two devices know each other, and the new one the event",
            lambda device: event_id in new.undecryptable
            and all(other.client.device_id in one.client.device_store[grace.client.user_id] for one, other in ((grace, new), (new, grace))),
        )
        for one, other in ((grace, new), (new, grace)):
            one.client.verify_device(self.known(one, other))
        await self.between()
        # To share the session of this message they talk to each other; nio forwards a key only then.
        await self.send(grace, "after it")
        await self.between()
        await self.read_by_all(grace, "after it")
        self.assertNotIn("before the new device", new.plaintexts)
        encrypted = MegolmEvent.from_dict({**new.sources[event_id], "room_id": self.room})
        asked = await new.client.request_room_key(encrypted)
        self.assertIsInstance(asked, RoomKeyRequestResponse, asked)
        await self.between()
        await self.eventually("the key", lambda _: new.reads(encrypted))
        self.assertEqual(new.bodies[event_id], "before the new device")


@unittest.skipUnless(os.environ.get("WICK_RESTART"), "the homeserver cannot be restarted from here")
class EncryptionWhileTheHomeserverIsKilled(Encryption):
    async def between(self):
        await asyncio.to_thread(subprocess.run, os.environ["WICK_RESTART"], check=True)
