// The matrix-sdk crate over sync v3: two users with two devices each, every device a process. WICK_RUST_CLIENT is
// the program; WICK_URL is where the homeserver is.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { Device } from "../js/device.mjs";
import { describeAlsoKilled, eventually, expired, logIn, register, sendExpiring } from "../js/support.mjs";

describeAlsoKilled("the matrix-sdk crate, two users with two devices each", (between) => {
    const started = [];
    const accounts = {};
    let alice1, alice2, bob1, bob2, room;
    const all = () => [alice1, alice2, bob1, bob2];

    async function device(account) {
        const device = new Device(process.env.WICK_RUST_CLIENT);
        started.push(device);
        return device.logIn(account);
    }

    before(async () => {
        for (const name of ["alice", "bob"]) accounts[name] = await register(`rust-${name}`);
        alice1 = await device(accounts.alice);
        bob1 = await device(accounts.bob);
        alice2 = await device(accounts.alice);
        bob2 = await device(accounts.bob);
        room = await alice1.call("create_room", { invite: bob1.user });
        await bob1.call("join", { room });
        for (const one of all()) await knows(one, alice1, alice2, bob1, bob2);
    });
    after(() => started.forEach((device) => device.kill()));

    /** Waits until the device knows exactly these among the devices of their users. */
    async function knows(device, ...devices) {
        for (const user of new Set(devices.map((one) => one.user))) {
            const expected = devices.filter((one) => one.user === user).map((one) => one.device).sort();
            await eventually(`${expected.length} devices of ${user}`, async () => {
                const known = await device.call("devices", { user });
                return JSON.stringify(known.sort()) === JSON.stringify(expected);
            });
        }
    }

    /** Sends a message and returns its id; a homeserver that is being killed is asked again. */
    const send = (device, body) =>
        eventually(body, () => device.call("send", { room, body }).catch(() => null));

    async function reads(device, event, body) {
        const read = await device.call("read", { room, event });
        assert.equal(read.body, body);
        return read;
    }

    /** Sends from each device in turn; all others read it, from their sync. */
    async function talk(topic) {
        for (const sender of all()) {
            const body = `${topic} from ${sender.device}`;
            const event = await send(sender, body);
            await between();
            for (const reader of all()) {
                await reads(reader, event, body);
                await eventually("the event in a sync", async () => (await reads(reader, event, body)).synced > 0);
            }
        }
    }

    test("a message of each device is decrypted by all four", () => talk("hello"));

    test("two devices verify each other by comparing emoji, and the new one is signed and sent the account's secrets", async () => {
        assert.equal(await alice1.call("verified"), true);
        assert.equal(await alice2.call("verified"), false);
        const shown = [
            alice2.call("request_verification", { device: alice1.device }),
            alice1.call("accept_verification"),
        ];
        const [left, right] = await Promise.all(shown);
        assert.equal(left.length, 7);
        assert.deepEqual(left, right);
        await between();
        await Promise.all([alice1.call("confirm_verification"), alice2.call("confirm_verification")]);
        await eventually("the signature", () => alice2.call("verified"));
        await between();
        await eventually("the secrets", () => alice2.call("has_secrets"));
    });

    test("a device added later reads the history from the backup", async () => {
        const event = await send(bob1, "before the third device");
        await between();
        await reads(alice1, event, "before the third device");
        const key = await alice1.call("enable_recovery");
        await between();
        const alice3 = await device(accounts.alice);
        await between();
        await alice3.call("recover", { key });
        await reads(alice3, event, "before the third device");
        assert.equal(await alice3.call("verified"), true);
        await alice3.call("log_out");
        for (const one of all()) await knows(one, alice1, alice2);
    });

    test("a logged-out device is gone from the lists, and messages after it use another session", async () => {
        const bob3 = await device(accounts.bob);
        await between();
        await knows(alice1, bob1, bob2, bob3);
        const with3 = await send(alice1, "with three devices");
        await between();
        await reads(bob3, with3, "with three devices");
        await bob3.call("log_out");
        await between();
        await knows(alice1, bob1, bob2);
        const with2 = await send(alice1, "with two devices");
        const [before, after] = [await reads(bob1, with3, "with three devices"), await reads(bob1, with2, "with two devices")];
        assert.notEqual(before.session, after.session);
    });

    test("an expired event and its copy are both decrypted, and the original's status tells which is which", async () => {
        const sender = await logIn(accounts.alice, { crypto: true });
        try {
            await knows(bob1, { user: alice1.user, device: alice1.device }, alice2, {
                user: alice1.user,
                device: sender.getDeviceId(),
            });
            await eventually("the room", () => sender.getRoom(room)?.hasEncryptionStateEvent());
            const { event_id: original } = await sendExpiring(sender, room, 3, "here");
            await reads(bob1, original, "here");
            await between();
            const copy = await expired(sender, room, original);
            await reads(bob1, copy.getId(), "here");
            const { unsigned } = await sender.fetchRoomEvent(room, original);
            assert.equal(unsigned["m.will_expire"].status, "expired");
            assert.equal(unsigned["m.will_expire"].event_id, copy.getId());
        } finally {
            await sender.logout(true);
        }
    });
});
