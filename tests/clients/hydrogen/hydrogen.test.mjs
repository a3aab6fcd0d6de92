// Hydrogen, a whole web client, against a running homeserver; the other party is matrix-js-sdk.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";

import { Browser } from "./browser.mjs";
import {
    ENCRYPTION,
    arrives,
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
} from "../js/support.mjs";

/** Waits for an encrypted message with this text and returns its id. */
async function received(client, id, body) {
    const event = await arrives(client, id, body, (found) => found.isEncrypted() && found.getContent().body === body);
    return event.getId();
}

describe("Hydrogen", () => {
    const vault = {};
    let alice, bob, browser, hydrogen, account, id;

    before(async () => {
        account = await register("hydrogen-bob");
        alice = await logIn(await register("hydrogen-alice"), { crypto: true });
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
        const { event_id: event } = await alice.sendTextMessage(id, "hello Hydrogen");
        await hydrogen.shows(event, "hello Hydrogen");
        await decrypts(bob, id, event, "hello Hydrogen");
        await hydrogen.send("hello from Hydrogen");
        const answer = await received(alice, id, "hello from Hydrogen");
        await decrypts(bob, id, answer, "hello from Hydrogen");
        await hydrogen.picture("hydrogen-both-ways");
    });

    test("an invite to an encrypted room is accepted in the page", async () => {
        const { room_id: other } = await alice.createRoom({
            name: "Another encrypted room",
            preset: "private_chat",
            invite: [bob.getUserId()],
            initial_state: [ENCRYPTION],
        });
        await hydrogen.join(other);
        await eventually("the join", () => alice.getRoom(other).getMember(bob.getUserId())?.membership === "join");
        const { event_id: event } = await alice.sendTextMessage(other, "welcome");
        await hydrogen.shows(event, "welcome");
        await hydrogen.open(id);
    });

    test("messages are read when the homeserver is killed between all steps", { skip: !restart && "it was not started here" }, async () => {
        for (let number = 0; number < 4; number++) {
            const { event_id: event } = await alice.sendTextMessage(id, `to Hydrogen ${number}`);
            await restart();
            await hydrogen.shows(event, `to Hydrogen ${number}`);
            await hydrogen.send(`from Hydrogen ${number}`);
            await received(alice, id, `from Hydrogen ${number}`);
            await restart();
        }
        await hydrogen.picture("hydrogen-after-kills");
    });

    test("a device added later reads the history by the recovery key", async () => {
        const { event_id: event } = await alice.sendTextMessage(id, "before the new device");
        await decrypts(bob, id, event, "before the new device");
        await backedUp(bob, 1);
        const later = await browser.logIn(account);
        await later.open(id);
        await later.shows(event, "hasn't sent us the key");
        await later.picture("hydrogen-new-device");
        await later.recover(vault.key.encodedPrivateKey);
        await later.open(id);
        await later.shows(event, "before the new device");
        await later.picture("hydrogen-recovered");
    });

    test("an expired event and its copy are both shown in plain, and the original's status tells which is which", async () => {
        const { event_id: original } = await sendExpiring(alice, id, 3, "here for three seconds");
        await hydrogen.shows(original, "here for three seconds");
        const copy = await expired(alice, id, original);
        await hydrogen.shows(copy.getId(), "here for three seconds");
        await hydrogen.picture("hydrogen-expired");
        const { unsigned } = await bob.fetchRoomEvent(id, original);
        assert.equal(unsigned["m.will_expire"].status, "expired");
        assert.equal(unsigned["m.will_expire"].event_id, copy.getId());
    });
});
