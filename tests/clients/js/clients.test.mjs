// Two matrix-js-sdk clients against a running homeserver at WICK_URL.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";

import { arrives, ENCRYPTION, eventually, room, start, timeline, url, V3 } from "./support.mjs";

import * as sdk from "matrix-js-sdk";

/** Sends an event with a duration by the client's own authorised request. */
async function sendExpiring(client, id, seconds, body) {
    const path = `/rooms/${encodeURIComponent(id)}/send/m.room.message/${client.makeTxnId()}`;
    const content = { msgtype: "m.text", body, "m.will_expire": seconds };
    return client.http.authedRequest(sdk.Method.Put, path, undefined, content, V3);
}

const expiration = (client, method, token) =>
    client.http.request(sdk.Method.Put, `/expiration/${method}`, undefined, { expire_refresh_token: token }, V3);

const copyOf = (original, status) => (event) =>
    event.getContent()["m.will_expire"] === status && event.getContent()["m.relates_to"]?.event_id === original;

describe("matrix-js-sdk", () => {
    let alice, bob;

    before(async () => {
        [alice, bob] = await Promise.all([start("alice"), start("bob")]);
    });
    after(() => {
        alice?.stopClient();
        bob?.stopClient();
    });

    test("two users invite, join and read each other's messages", async () => {
        const id = await room(alice, bob);
        const sent = await alice.sendTextMessage(id, "hello bob");
        const read = await arrives(bob, id, "alice's message", (event) => event.getId() === sent.event_id);
        assert.equal(read.getContent().body, "hello bob");
        const answer = await bob.sendTextMessage(id, "hello alice");
        const back = await arrives(alice, id, "bob's message", (event) => event.getId() === answer.event_id);
        assert.equal(back.getSender(), bob.getUserId());
    });

    test("state, redaction, reaction and receipt reach the other", async () => {
        const id = await room(alice, bob);
        await alice.setRoomName(id, "a name");
        await eventually("the name", () => bob.getRoom(id).name === "a name");
        const sent = await alice.sendTextMessage(id, "a mistake");
        const read = await arrives(bob, id, "the message", (event) => event.getId() === sent.event_id);
        await bob.sendReadReceipt(read);
        await eventually("the receipt", () => alice.getRoom(id).hasUserReadEvent(bob.getUserId(), sent.event_id));
        const reaction = await bob.sendEvent(id, "m.reaction", {
            "m.relates_to": { rel_type: "m.annotation", event_id: sent.event_id, key: "+1" },
        });
        await arrives(alice, id, "the reaction", (event) => event.getId() === reaction.event_id);
        await alice.redactEvent(id, sent.event_id);
        await eventually("the redaction", () => read.isRedacted());
    });

    test("history before the first sync can be paged back", async () => {
        const id = await room(alice, bob);
        for (let number = 0; number < 40; number++) await alice.sendTextMessage(id, `line ${number}`);
        const late = sdk.createClient({ baseUrl: url, userId: bob.getUserId(), accessToken: bob.getAccessToken() });
        await late.startClient({ initialSyncLimit: 5 });
        await eventually("first sync", () => late.isInitialSyncComplete());
        await late.scrollback(late.getRoom(id), 100);
        const bodies = timeline(late, id).map((event) => event.getContent().body).filter((body) => body?.startsWith("line"));
        late.stopClient();
        assert.deepEqual(bodies, Array.from({ length: 40 }, (_, number) => `line ${number}`));
    });

    test("the server announces expiring events", async () => {
        assert.ok(await alice.doesServerSupportUnstableFeature("org.matrix.msc4140.will_expire"));
    });

    test("an event without keep-alives expires in the other client's sync", async () => {
        const id = await room(alice, bob);
        const sent = await sendExpiring(alice, id, 2, "here");
        assert.equal(typeof sent.expire_refresh_token, "string");
        const running = await arrives(bob, id, "the running event", (event) => event.getId() === sent.event_id);
        assert.equal(running.getContent()["m.will_expire"], "running");
        const expired = await arrives(bob, id, "the expired event", copyOf(sent.event_id, "expired"));
        assert.equal(expired.getSender(), alice.getUserId());
        assert.equal(expired.getContent()["m.relates_to"].rel_type, "m.expire.relationship");
        assert.ok(expired.getTs() - running.getTs() >= 2000);
        const original = await bob.fetchRoomEvent(id, sent.event_id);
        assert.equal(original.unsigned["m.will_expire"].status, "expired");
        assert.equal(original.unsigned["m.will_expire"].event_id, expired.getId());
    });

    test("a kept-alive event outlives its duration, and ends on request", async () => {
        const id = await room(alice, bob);
        const sent = await sendExpiring(alice, id, 2, "still here");
        const running = await arrives(bob, id, "the running event", (event) => event.getId() === sent.event_id);
        for (let round = 0; round < 3; round++) {
            await sleep(1000);
            await expiration(bob, "refresh", sent.expire_refresh_token);
        }
        await expiration(bob, "end", sent.expire_refresh_token);
        const ended = await arrives(bob, id, "the ended event", copyOf(sent.event_id, "ended"));
        assert.ok(ended.getTs() - running.getTs() >= 3000);
        assert.equal(timeline(bob, id).find(copyOf(sent.event_id, "expired")), undefined);
        await assert.rejects(expiration(bob, "refresh", sent.expire_refresh_token), { errcode: "M_NOT_FOUND" });
    });
});

describe("matrix-js-sdk with end-to-end encryption", () => {
    let alice, bob;

    before(async () => {
        [alice, bob] = await Promise.all([start("carol", { crypto: true }), start("dave", { crypto: true })]);
    });
    after(() => {
        alice?.stopClient();
        bob?.stopClient();
    });

    test("an encrypted message is decrypted by the other", async () => {
        const id = await room(alice, bob, { initial_state: [ENCRYPTION] });
        const sent = await alice.sendTextMessage(id, "between us");
        const read = await arrives(
            bob,
            id,
            "the decrypted message",
            (event) => event.getId() === sent.event_id && event.isEncrypted() && event.getContent().body,
        );
        assert.equal(read.getContent().body, "between us");
        assert.equal(read.isDecryptionFailure(), false);
        assert.equal(read.getWireType(), "m.room.encrypted");
    });
});
