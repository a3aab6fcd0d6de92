// Hydrogen, a whole web client, against a running homeserver; the other party is matrix-js-sdk.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { Browser } from "./browser.mjs";
import {
    ENCRYPTION,
    arrives,
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
} from "../js/support.mjs";
import { compared, isSigned, requested } from "../js/verification.mjs";

/** Waits for an encrypted message with this text and returns its id. */
async function received(client, id, body) {
    const event = await arrives(client, id, body, (found) => found.isEncrypted() && found.getContent().body === body);
    return event.getId();
}

const lowerCase = (texts) => texts.map((text) => text.toLowerCase());

describeAlsoKilled("Hydrogen", (between) => {
    const vault = {};
    let alice, bob, browser, hydrogen, later, account, aliceAccount, id;

    before(async () => {
        account = await register("hydrogen-bob");
        aliceAccount = await register("hydrogen-alice");
        alice = await logIn(aliceAccount, { crypto: true });
        bob = await logIn(account, { crypto: true, vault });
        await bootstrap(bob, vault);
        browser = await Browser.launch();
        hydrogen = await browser.logIn(account);
        id = await room(alice, bob, { name: "An encrypted room", initial_state: [ENCRYPTION] });
        await hydrogen.open(id);
    });
    after(async () => {
        alice?.stopClient();
        bob?.stopClient();
        await browser?.close();
    });

    test("encrypted messages are read both ways, by the user's other device as well", async () => {
        for (let number = 0; number < 3; number++) {
            const { event_id: event } = await alice.sendTextMessage(id, `to Hydrogen ${number}`);
            await between();
            await hydrogen.shows(event, `to Hydrogen ${number}`);
            await decrypts(bob, id, event, `to Hydrogen ${number}`);
            await hydrogen.send(`from Hydrogen ${number}`);
            const answer = await received(alice, id, `from Hydrogen ${number}`);
            await between();
            await decrypts(bob, id, answer, `from Hydrogen ${number}`);
        }
        await hydrogen.picture("hydrogen-both-ways");
    });

    test("an invite to an encrypted room is accepted in the page", async () => {
        const { room_id: other } = await alice.createRoom({
            name: "Another encrypted room",
            preset: "private_chat",
            invite: [bob.getUserId()],
            initial_state: [ENCRYPTION],
        });
        await between();
        await hydrogen.join(other);
        await eventually("the join", () => alice.getRoom(other)?.getMember(bob.getUserId())?.membership === "join");
        const { event_id: event } = await alice.sendTextMessage(other, "welcome");
        await hydrogen.shows(event, "welcome");
        await hydrogen.open(id);
    });

    test("a device added later reads the history by the recovery key, and signs itself", async () => {
        const { event_id: event } = await alice.sendTextMessage(id, "before the new device");
        await decrypts(bob, id, event, "before the new device");
        await backedUp(bob, 1);
        await between();
        later = await browser.logIn(account);
        await later.open(id);
        await later.shows(event, "hasn't sent us the key");
        await later.picture("hydrogen-new-device");
        await between();
        await later.recover(vault.key.encodedPrivateKey);
        await later.trustsTheAccount();
        await isSigned(bob, later.device);
        await later.open(id);
        await later.shows(event, "before the new device");
        await later.picture("hydrogen-recovered");
    });

    test("it and a device of matrix-js-sdk verify each other by comparing emoji, and it is signed", async () => {
        const asked = requested(bob);
        await hydrogen.startVerification();
        await between();
        const request = await asked;
        await request.accept();
        await between();
        await hydrogen.chooseEmoji();
        const { emoji, confirm, done } = await compared(request);
        assert.deepEqual(lowerCase(await hydrogen.emoji()), lowerCase(emoji.map(([, name]) => name)));
        await hydrogen.picture("hydrogen-emoji");
        await between();
        await Promise.all([confirm(), hydrogen.confirmEmoji()]);
        await done;
        await hydrogen.isVerified();
        await isSigned(bob, hydrogen.device);
        await hydrogen.open(id);
    });

    test("two of it verify each other by comparing emoji, and one gives the other the account's secrets", async () => {
        const asking = await browser.logIn(account);
        await asking.open(id);
        await asking.startVerification();
        await between();
        await later.acceptVerification(asking.device);
        await asking.chooseEmoji();
        assert.deepEqual(await asking.emoji(), await later.emoji());
        await between();
        await Promise.all([asking.confirmEmoji(), later.confirmEmoji()]);
        await Promise.all([asking.isVerified(), later.isVerified()]);
        await asking.trustsTheAccount();
        await asking.picture("hydrogen-verified");
    });

    test("it takes another session once a member leaves, and gives no key to a device that was logged out", async () => {
        const carol = await logIn(await register("hydrogen-carol"), { crypto: true });
        const second = await logIn(aliceAccount, { crypto: true });
        try {
            const room3 = await room(alice, bob, {
                name: "A room that is left",
                invite: [bob.getUserId(), carol.getUserId()],
                initial_state: [ENCRYPTION, { type: "m.room.history_visibility", content: { history_visibility: "joined" } }],
            });
            await carol.joinRoom(room3);
            await hydrogen.open(room3);
            await eventually("the room", () => second.getRoom(room3)?.getMember(carol.getUserId())?.membership === "join");
            const sent = async (body) => {
                await hydrogen.send(body);
                const event = await arrives(alice, room3, body, (found) => found.getContent().body === body);
                await decrypts(bob, room3, event.getId(), body);
                return event;
            };
            const session = (event) => event.getWireContent().session_id;
            const gone = second.getDeviceId();

            const first = await sent("to all");
            await decrypts(second, room3, first.getId(), "to all");
            await decrypts(carol, room3, first.getId(), "to all");
            assert.ok(hydrogen.addressed.includes(gone));
            await second.logout(true);
            await between();
            // It keeps its session until a member leaves: what was logged out could have read along until then.
            assert.equal(session(await sent("after the log-out")), session(first));
            await carol.leave(room3);
            await between();
            await hydrogen.announces("left the room");
            hydrogen.addressed.length = 0;
            assert.notEqual(session(await sent("after the departure")), session(first));
            assert.ok(hydrogen.addressed.includes(alice.getDeviceId()));
            assert.ok(!hydrogen.addressed.includes(gone));
            assert.ok(!hydrogen.addressed.includes(carol.getDeviceId()));
        } finally {
            carol.stopClient();
        }
        await hydrogen.open(id);
    });

    test("it gives nobody the key of a session if the homeserver was away when it asked for the devices", async () => {
        const dave = await logIn(await register("hydrogen-dave"), { crypto: true });
        try {
            const room4 = await room(alice, bob, {
                name: "A room without a key",
                invite: [bob.getUserId(), dave.getUserId()],
                initial_state: [ENCRYPTION],
            });
            await dave.joinRoom(room4);
            await hydrogen.open(room4);
            await hydrogen.announces("joined the room");
            hydrogen.addressed.length = 0;
            const refused = hydrogen.refused("/keys/query");
            await hydrogen.send("without a key");
            await refused;
            const isBobs = (found) => found.isEncrypted() && found.getSender() === bob.getUserId();
            const event = await arrives(alice, room4, "the message", isBobs);
            await eventually("that it is not decrypted", () => event.isDecryptionFailure());
            assert.deepEqual(hydrogen.addressed, []);
        } finally {
            dave.stopClient();
        }
        await hydrogen.open(id);
    });

    test("an expired event and its copy are both shown in plain, and the original's status tells which is which", async () => {
        const { event_id: original } = await sendExpiring(alice, id, 3, "here for three seconds");
        await hydrogen.shows(original, "here for three seconds");
        await between();
        const copy = await expired(alice, id, original);
        await hydrogen.shows(copy.getId(), "here for three seconds");
        await hydrogen.picture("hydrogen-expired");
        const { unsigned } = await bob.fetchRoomEvent(id, original);
        assert.equal(unsigned["m.will_expire"].status, "expired");
        assert.equal(unsigned["m.will_expire"].event_id, copy.getId());
    });
});
