// End-to-end encryption with matrix-js-sdk and its Rust crypto: two users with two devices each.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import {
    ENCRYPTION,
    backedUp,
    bootstrap,
    decrypts,
    describeAlsoKilled,
    eventually,
    expired,
    logIn,
    register,
    room,
    sendExpiring,
    timeline,
} from "./support.mjs";
import { compared, isSigned, requested } from "./verification.mjs";

import { VerificationPhase } from "matrix-js-sdk/lib/crypto-api/index.js";

/** Another device of the account, given its secrets by the recovery key. */
async function join(account, vault) {
    const client = await logIn(account, { crypto: true, vault });
    const crypto = client.getCrypto();
    await eventually("the account's identity", () => crypto.userHasCrossSigningKeys(client.getUserId(), true));
    await crypto.bootstrapCrossSigning({});
    return client;
}

/** The devices of the user of `of` that a client knows, by id. */
const devices = async (client, of) => (await client.getCrypto().getUserDeviceInfo([of.getUserId()])).get(of.getUserId());

describeAlsoKilled("matrix-js-sdk, two users with two devices each", (between) => {
    const accounts = {};
    const vaults = { alice: {}, bob: {} };
    let alice1, alice2, bob1, bob2, id;
    const all = () => [alice1, alice2, bob1, bob2];

    /** Sends a message, again if the homeserver was killed meanwhile. */
    const send = (client, body) =>
        eventually(`"${body}" is sent`, () => client.sendTextMessage(id, body).catch(() => null)).then((sent) => sent.event_id);

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
            const event = await send(sender, body);
            await between();
            for (const reader of all()) await decrypts(reader, id, event, body);
        }
    });

    test("each user's second device is signed by the first one's keys", async () => {
        for (const [one, other] of [[alice1, alice2], [bob1, bob2]]) {
            await isSigned(one, other.getDeviceId());
        }
    });

    test("two devices verify each other by comparing emoji, and the new one is sent the account's secrets", async () => {
        const alice3 = await logIn(accounts.alice, { crypto: true });
        try {
            const crypto = alice3.getCrypto();
            await eventually("the account's identity", () => crypto.userHasCrossSigningKeys(alice3.getUserId(), true));
            await between();
            // The request of a device that is not known yet is ignored, as when one sync brings both.
            await eventually("the new device", async () => (await devices(alice1, alice3)).has(alice3.getDeviceId()));
            const request = requested(alice1);
            const mine = await crypto.requestDeviceVerification(alice1.getUserId(), alice1.getDeviceId());
            await between();
            const theirs = await request;
            await theirs.accept();
            await between();
            await eventually("the request is ready", () => mine.phase === VerificationPhase.Ready);
            await mine.startVerification("m.sas.v1");
            const [left, right] = await Promise.all([compared(mine), compared(theirs)]);
            assert.deepEqual(left.emoji, right.emoji);
            await between();
            await Promise.all([left.confirm(), right.confirm()]);
            await Promise.all([left.done, right.done]);
            assert.equal(mine.phase, VerificationPhase.Done);
            await between();
            await isSigned(alice1, alice3.getDeviceId());
            await eventually("the secrets", async () => {
                const { privateKeysCachedLocally: keys } = await crypto.getCrossSigningStatus();
                return keys.masterKey && keys.selfSigningKey && keys.userSigningKey && (await crypto.getSessionBackupPrivateKey());
            });
        } finally {
            await alice3.logout(true);
        }
    });

    test("a device added later reads the history from the backup", async () => {
        const event = await send(bob1, "before the third device");
        await between();
        await decrypts(alice1, id, event, "before the third device");
        await backedUp(alice1, 1);
        await between();
        const alice3 = await join(accounts.alice, vaults.alice);
        try {
            const crypto = alice3.getCrypto();
            await between();
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
        await eventually("the new device", async () => (await devices(alice1, bob1)).has(gone));
        await between();
        const first = await send(alice1, "with three devices");
        await between();
        await decrypts(bob3, id, first, "with three devices");
        await bob3.logout(true);
        await between();
        await eventually("its end", async () => !(await devices(alice1, bob1)).has(gone));
        const second = await send(alice1, "with two devices");
        await between();
        await decrypts(bob1, id, second, "with two devices");
        const session = (event) => timeline(bob1, id).find((one) => one.getId() === event).getWireContent().session_id;
        assert.notEqual(session(first), session(second));
    });

    test("an encrypted event expires: its copy is decrypted as well, and the original's status tells which is which", async () => {
        const { event_id: original } = await sendExpiring(alice1, id, 3, "here");
        const running = await decrypts(bob1, id, original, "here");
        await between();
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
