// End-to-end encryption with matrix-js-sdk and its Rust crypto: two users with two devices each.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";

import {
    ENCRYPTION,
    backedUp,
    bootstrap,
    decrypts,
    eventually,
    expired,
    logIn,
    register,
    restart,
    room,
    sendExpiring,
    timeline,
} from "./support.mjs";

import { CryptoEvent, VerificationPhase, VerifierEvent } from "matrix-js-sdk/lib/crypto-api/index.js";

/** Another device of the account, given its secrets by the recovery key. */
async function join(account, vault) {
    const client = await logIn(account, { crypto: true, vault });
    const crypto = client.getCrypto();
    await eventually("the account's identity", () => crypto.userHasCrossSigningKeys(client.getUserId(), true));
    await crypto.bootstrapCrossSigning({});
    return client;
}

describe("matrix-js-sdk, two users with two devices each", () => {
    const accounts = {};
    const vaults = { alice: {}, bob: {} };
    let alice1, alice2, bob1, bob2, id;
    const all = () => [alice1, alice2, bob1, bob2];

    before(async () => {
        for (const name of ["alice", "bob"]) accounts[name] = await register(`e2ee-${name}`);
        alice1 = await logIn(accounts.alice, { crypto: true, vault: vaults.alice });
        bob1 = await logIn(accounts.bob, { crypto: true, vault: vaults.bob });
        await bootstrap(alice1, vaults.alice);
        await bootstrap(bob1, vaults.bob);
        alice2 = await join(accounts.alice, vaults.alice);
        bob2 = await join(accounts.bob, vaults.bob);
        id = await room(alice1, bob1, { initial_state: [ENCRYPTION] });
        await eventually("the room on all devices", () => all().every((client) => client.getRoom(id)?.hasEncryptionStateEvent()));
    });
    after(() => all().forEach((client) => client?.stopClient()));

    test("a message of each device is decrypted by the other three", async () => {
        for (const [number, sender] of all().entries()) {
            const body = `from device ${number}`;
            const { event_id: event } = await sender.sendTextMessage(id, body);
            for (const reader of all()) await decrypts(reader, id, event, body);
        }
    });

    test("each user's second device is signed by the first one's keys", async () => {
        for (const [one, other] of [[alice1, alice2], [bob1, bob2]]) {
            await eventually("the signature", async () => {
                const status = await one.getCrypto().getDeviceVerificationStatus(one.getUserId(), other.getDeviceId());
                return status?.signedByOwner;
            });
        }
    });

    test("two devices verify each other by comparing emoji", async () => {
        const requested = new Promise((resolve) => alice1.once(CryptoEvent.VerificationRequestReceived, resolve));
        const mine = await alice2.getCrypto().requestDeviceVerification(alice1.getUserId(), alice1.getDeviceId());
        const theirs = await requested;
        await theirs.accept();
        await eventually("the request is ready", () => mine.phase === VerificationPhase.Ready);
        const verifier = await mine.startVerification("m.sas.v1");
        await eventually("the other's verifier", () => theirs.verifier);
        const shown = [verifier, theirs.verifier].map(
            (one) => new Promise((resolve) => one.once(VerifierEvent.ShowSas, resolve)),
        );
        const done = Promise.all([verifier.verify(), theirs.verifier.verify()]);
        const [left, right] = await Promise.all(shown);
        assert.deepEqual(left.sas.emoji, right.sas.emoji);
        await Promise.all([left.confirm(), right.confirm()]);
        await done;
        assert.equal(mine.phase, VerificationPhase.Done);
    });

    test("a device added later reads the history from the backup", async () => {
        const { event_id: event } = await bob1.sendTextMessage(id, "before the third device");
        await decrypts(alice1, id, event, "before the third device");
        await backedUp(alice1, 1);
        const alice3 = await join(accounts.alice, vaults.alice);
        try {
            const crypto = alice3.getCrypto();
            await crypto.checkKeyBackupAndEnable();
            await eventually("everything in the backup", async () => {
                await crypto.loadSessionBackupPrivateKeyFromSecretStorage();
                await crypto.restoreKeyBackup();
                const found = timeline(alice3, id).find((one) => one.getId() === event);
                if (found?.isDecryptionFailure()) await alice3.decryptEventIfNeeded(found, { isRetry: true });
                return found?.getContent().body === "before the third device";
            });
        } finally {
            await alice3.logout(true);
        }
    });

    test("a logged-out device is gone from the lists, and messages after it use another session", async () => {
        const bob3 = await join(accounts.bob, vaults.bob);
        const gone = bob3.getDeviceId();
        const devices = async () => (await alice1.getCrypto().getUserDeviceInfo([bob1.getUserId()])).get(bob1.getUserId());
        await eventually("the new device", async () => (await devices()).has(gone));
        const first = await alice1.sendTextMessage(id, "with three devices");
        await decrypts(bob3, id, first.event_id, "with three devices");
        await bob3.logout(true);
        await eventually("its end", async () => !(await devices()).has(gone));
        const second = await alice1.sendTextMessage(id, "with two devices");
        await decrypts(bob1, id, second.event_id, "with two devices");
        const session = (event) => timeline(bob1, id).find((one) => one.getId() === event).getWireContent().session_id;
        assert.notEqual(session(first.event_id), session(second.event_id));
    });

    test("an encrypted event expires: its copy is decrypted as well, and the original's status tells which is which", async () => {
        const { event_id: original } = await sendExpiring(alice1, id, 3, "here");
        const running = await decrypts(bob1, id, original, "here");
        const copy = await expired(bob1, id, original);
        assert.equal(copy.getWireContent().ciphertext, running.getWireContent().ciphertext);
        // Its crypto reads a repeated ciphertext, and keeps the relation that stands beside it.
        await decrypts(bob1, id, copy.getId(), "here");
        assert.deepEqual(copy.getContent()["m.relates_to"], { rel_type: "m.expire.relationship", event_id: original });
        const { unsigned } = await bob1.fetchRoomEvent(id, original);
        assert.equal(unsigned["m.will_expire"].status, "expired");
        assert.equal(unsigned["m.will_expire"].event_id, copy.getId());
    });
});

describe("matrix-js-sdk, encrypting while the homeserver is killed", { skip: !restart && "it was not started here" }, () => {
    let clients, id;

    before(async () => {
        const accounts = [await register("killed-a"), await register("killed-b")];
        clients = [];
        for (const account of accounts) {
            for (let device = 0; device < 2; device++) clients.push(await logIn(account, { crypto: true }));
        }
        id = await room(clients[0], clients[2], { initial_state: [ENCRYPTION] });
        await eventually("the room everywhere", () => clients.every((one) => one.getRoom(id)?.hasEncryptionStateEvent()));
    });
    after(() => clients?.forEach((client) => client.stopClient()));

    test("every message is decrypted on all four devices", async () => {
        for (let number = 0; number < 8; number++) {
            const body = `message ${number}`;
            const sender = clients[number % clients.length];
            const { event_id: event } = await eventually("the message is sent", () => sender.sendTextMessage(id, body).catch(() => null));
            await restart();
            for (const reader of clients) await decrypts(reader, id, event, body);
        }
    });
});
