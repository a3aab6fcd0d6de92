// Two people with four clients in one encrypted room: alice has matrix-js-sdk and Hydrogen, bob the matrix-sdk crate
// and matrix-nio. The homeserver is killed while they send, at moments that differ from run to run unless WICK_SEED is set.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";

import { Browser } from "../hydrogen/browser.mjs";
import { Device } from "../js/device.mjs";
import {
    ENCRYPTION,
    arrives,
    backedUp,
    bootstrap,
    decrypts,
    eventually,
    isSent,
    logIn,
    register,
    restart,
    room,
    sendOnce,
    timeline,
} from "../js/support.mjs";

const ROUNDS = 2;
/** A kill comes at most this long after a client began to send. */
const LATEST_KILL = 400;
/** The moments of the kills follow from it. */
const SEED = Number(process.env.WICK_SEED ?? Date.now() % 1_000_000);

/** Numbers from 0 to 1 that depend on the seed alone (mulberry32). */
function numbers(seed) {
    let state = seed;
    return () => {
        state = (state + 0x6d2b79f5) | 0;
        let mixed = Math.imul(state ^ (state >>> 15), state | 1);
        mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
        return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
    };
}

describe(`two people, four clients, WICK_SEED=${SEED}`, { skip: !restart && "the homeserver was not started here" }, () => {
    const vault = {};
    const accounts = {};
    const spoken = [];
    const devices = [];
    const random = numbers(SEED);
    let js, browser, hydrogen, rust, nio, id;

    before(async () => {
        for (const name of ["alice", "bob"]) accounts[name] = await register(`four-${name}`);
        js = await logIn(accounts.alice, { crypto: true, vault });
        await bootstrap(js, vault);
        rust = await device(process.env.WICK_RUST_CLIENT).logIn(accounts.bob);
        nio = await device(process.env.WICK_PYTHON, process.env.WICK_NIO_CLIENT).logIn(accounts.bob);
        browser = await Browser.launch();
        hydrogen = await browser.logIn(accounts.alice);
        id = await room(js, { getUserId: () => rust.user, ...watched(rust) }, { name: "Four clients", initial_state: [ENCRYPTION] });
        await hydrogen.open(id);
    });
    after(async () => {
        js?.stopClient();
        for (const one of devices) one.kill();
        await browser?.close();
    });

    function device(...command) {
        const started = new Device(...command);
        devices.push(started);
        return started;
    }

    /** What `room` asks of a guest, for a device that does not show its rooms. */
    function watched(guest) {
        let membership = "invite";
        return {
            getRoom: () => ({ getMyMembership: () => membership }),
            joinRoom: async (room) => {
                await guest.call("join", { room });
                membership = "join";
            },
        };
    }

    /** Waits for the message that was sent with this text, and returns its id. */
    async function idOf(body) {
        const event = await arrives(js, id, body, (found) => found.getContent().body === body && isSent(found));
        return event.getId();
    }

    /** A client is asked again, with the same transaction, while sending fails. Hydrogen does that by itself. */
    const senders = {
        "matrix-js-sdk": (body, transaction) => sendOnce(js, id, body, transaction),
        "matrix-sdk": (body, transaction) => rust.call("send", { room: id, body, transaction }),
        "matrix-nio": (body, transaction) => nio.call("send", { room: id, body, transaction }),
        Hydrogen: async (body) => {
            await hydrogen.send(body);
            return idOf(body);
        },
    };

    /**
     * Kills the homeserver while a client sends. Hydrogen forgets whom it owes the key of a new session if it cannot
     * ask for their devices; a kill comes once it has noted that, and it then gives them the key by itself.
     */
    async function kill(name) {
        if (name === "Hydrogen") await hydrogen.owesKeys;
        await sleep(random() * LATEST_KILL);
        await restart();
    }

    async function readByAll(event, body) {
        await decrypts(js, id, event, body);
        assert.equal((await rust.call("read", { room: id, event })).body, body);
        assert.equal((await nio.call("read", { room: id, event })).body, body);
        await hydrogen.shows(event, body);
    }

    /** Each client sends in turn while the homeserver is killed; all show each message. */
    async function talk(topic) {
        for (const [name, send] of Object.entries(senders)) {
            const body = `${topic} from ${name}`;
            const sent = eventually(`${body} is sent`, () => send(body, body.replaceAll(" ", "-")).catch(() => null));
            const [event] = await Promise.all([sent, kill(name)]);
            await readByAll(event, body);
            spoken.push({ event, body });
        }
    }

    test("each client sends while the homeserver is killed, and all others show the plaintext", async () => {
        for (let round = 0; round < ROUNDS; round++) await talk(`round ${round}`);
        await hydrogen.picture("four-clients");
    });

    test("one person replaces the identity, and everything is read as before", async () => {
        await rust.call("reset_identity", { password: accounts.bob.password });
        await talk("after the reset");
    });

    test("another client restores the backup on a new device and reads everything", async () => {
        const sessions = new Set(timeline(js, id).map((event) => event.getWireContent().session_id).filter(Boolean));
        await backedUp(js, sessions.size);
        const restored = await device(process.env.WICK_RUST_CLIENT).logIn(accounts.alice);
        await restored.call("recover", { key: vault.key.encodedPrivateKey });
        for (const { event, body } of spoken) {
            assert.equal((await restored.call("read", { room: id, event })).body, body);
        }
    });

    test("nothing in the room is undecryptable, and each message is there once", async () => {
        const encrypted = timeline(js, id).filter((event) => event.getWireType() === "m.room.encrypted" && isSent(event));
        for (const event of encrypted) {
            const { body } = event.getContent();
            assert.equal(event.isDecryptionFailure(), false, `${event.getId()} in matrix-js-sdk`);
            const inRust = await eventually("the event in a sync of matrix-sdk", async () => {
                const read = await rust.call("read", { room: id, event: event.getId() });
                return read.synced > 0 && read;
            });
            assert.deepEqual([inRust.body, inRust.synced], [body, 1]);
            assert.equal((await nio.call("read", { room: id, event: event.getId() })).body, body);
        }
        assert.deepEqual(encrypted.map((event) => event.getContent().body), spoken.map(({ body }) => body));
        for (const { event, body } of spoken.slice(-4)) await hydrogen.shows(event, body);
        await hydrogen.picture("four-clients-at-the-end");
    });
});
