// Push notifications with matrix-js-sdk: the client sets a pusher, and what is pushed leads it to the event.

import assert from "node:assert/strict";
import { createServer } from "node:http";
import { after, before, describe, test } from "node:test";

import { ENCRYPTION, eventually, room, start } from "./support.mjs";

import { ReceiptType } from "matrix-js-sdk";

describe("matrix-js-sdk, a pusher that wants ids alone", () => {
    const pushed = [];
    const gateway = createServer((request, response) => {
        const chunks = [];
        request.on("data", (chunk) => chunks.push(chunk));
        request.on("end", () => {
            pushed.push(JSON.parse(Buffer.concat(chunks)).notification);
            response.setHeader("Content-Type", "application/json");
            response.end("{}");
        });
    });
    const next = (what, matches) => eventually(what, () => pushed.find(matches));
    let alice, bob, id;

    before(async () => {
        await new Promise((resolve) => gateway.listen(0, "127.0.0.1", resolve));
        alice = await start("push-alice", { crypto: true });
        bob = await start("push-bob", { crypto: true });
        id = await room(alice, bob, { initial_state: [ENCRYPTION] });
        await bob.setPusher({
            kind: "http",
            app_id: "org.example.client",
            pushkey: "a key of the phone",
            app_display_name: "Client",
            device_display_name: "Phone",
            lang: "en",
            data: { url: `http://127.0.0.1:${gateway.address().port}/_matrix/push/v1/notify`, format: "event_id_only" },
        });
    });
    after(() => {
        for (const client of [alice, bob]) client?.stopClient();
        gateway.closeAllConnections();
        gateway.close();
    });

    test("the event that is pushed is fetched and decrypted", async () => {
        const { pushers } = await bob.getPushers();
        assert.equal(pushers.length, 1);
        const { event_id: sent } = await alice.sendTextMessage(id, "wake up");
        const notification = await next("the notification", (found) => found.event_id === sent);
        assert.deepEqual(Object.keys(notification).sort(), ["counts", "devices", "event_id", "room_id"]);
        assert.equal(notification.counts.unread, 1);
        assert.equal(notification.devices[0].pushkey, "a key of the phone");
        const raw = await bob.fetchRoomEvent(notification.room_id, notification.event_id);
        const event = bob.getEventMapper()({ ...raw, room_id: notification.room_id });
        await eventually("the plaintext", async () => {
            await bob.decryptEventIfNeeded(event, { isRetry: true });
            return event.getContent().body === "wake up";
        });
    });

    test("reading sets the count to zero", async () => {
        const event = await eventually("the message", () => bob.getRoom(id).getLiveTimeline().getEvents().at(-1));
        await bob.sendReadReceipt(event, ReceiptType.ReadPrivate);
        await next("the count", (found) => !found.event_id && found.counts?.unread === 0);
    });

    test("nothing is pushed once the pusher is deleted", async () => {
        await bob.removePusher("a key of the phone", "org.example.client");
        assert.deepEqual((await bob.getPushers()).pushers, []);
    });
});
