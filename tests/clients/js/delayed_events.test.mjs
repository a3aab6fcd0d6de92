// The SDK's own calls for delayed events (MSC4140), and what a second user's client sees of them. Times are compared
// by the server's clock alone.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";

import { arrives, eventually, room, scheduled, start, timeline } from "./support.mjs";

import { UpdateDelayedEventAction } from "matrix-js-sdk";

const HOUR = 3_600_000;
const TEN_YEARS = 10 * 365 * 24 * HOUR;
const DELAY_ID = "org.matrix.msc4140.delay_id";

const text = (body) => ({ msgtype: "m.text", body });
const withBody = (body) => (event) => event.getContent().body === body;
const topic = (client, id) => client.getRoom(id).currentState.getStateEvents("m.room.topic", "");

async function sendLater(client, id, delay, body) {
    const sent = await client._unstable_sendDelayedEvent(id, { delay }, null, "m.room.message", text(body));
    assert.equal(typeof sent.delay_id, "string");
    assert.equal(sent.event_id, undefined);
    return sent.delay_id;
}

async function setTopicLater(client, id, delay, topic) {
    const sent = await client._unstable_sendDelayedStateEvent(id, { delay }, "m.room.topic", { topic });
    assert.equal(typeof sent.delay_id, "string");
    assert.equal(sent.event_id, undefined);
    return sent.delay_id;
}

/** Restarts the event until the list shows a later start: within one millisecond it would show the same. */
async function restarted(client, id, restart) {
    const [{ running_since: start }] = await scheduled(client, id);
    await eventually("a later start", async () => {
        await restart();
        const [{ running_since: now }] = await scheduled(client, id);
        return now > start;
    });
}

describe("delayed events of matrix-js-sdk", () => {
    let alice, bob;

    before(async () => {
        [alice, bob] = await Promise.all([start("erin"), start("frank")]);
    });
    after(() => {
        alice?.stopClient();
        bob?.stopClient();
    });

    test("the server announces them", async () => {
        assert.ok(await alice.doesServerSupportUnstableFeature("org.matrix.msc4140"));
    });

    test("a message arrives at the other once its delay is over", async () => {
        const id = await room(alice, bob);
        const { event_id: before } = await alice.sendTextMessage(id, "now");
        const delayId = await sendLater(alice, id, 1000, "later");
        const now = await arrives(bob, id, "the message of now", (event) => event.getId() === before);
        const read = await arrives(bob, id, "the delayed message", withBody("later"));
        assert.equal(read.getSender(), alice.getUserId());
        assert.deepEqual(read.getContent(), text("later"));
        assert.ok(read.getTs() >= now.getTs() + 1000);
        assert.deepEqual(await scheduled(alice, id), []);
        const own = await arrives(alice, id, "the sender's own copy", withBody("later"));
        assert.equal(own.getUnsigned()[DELAY_ID], delayId);
        assert.equal(read.getUnsigned()[DELAY_ID], undefined);
    });

    test("a state event takes effect for the other once its delay is over", async () => {
        const id = await room(alice, bob);
        await alice.setRoomTopic(id, "we are here");
        await eventually("the topic of now", () => topic(bob, id)?.getContent().topic === "we are here");
        const delayId = await setTopicLater(alice, id, 1000, "we have left");
        await eventually("the delayed topic", () => topic(bob, id).getContent().topic === "we have left");
        assert.equal(topic(bob, id).getSender(), alice.getUserId());
        await eventually("the sender's own copy", () => topic(alice, id).getUnsigned()[DELAY_ID] === delayId);
        assert.deepEqual(await scheduled(alice, id), []);
    });

    test("the list shows its owner what is scheduled, the next one first", async () => {
        const id = await room(alice, bob);
        const second = await setTopicLater(alice, id, 2 * HOUR, "we have left");
        const first = await sendLater(alice, id, HOUR, "goodbye");
        const list = await scheduled(alice, id);
        assert.deepEqual(list.map((item) => item.delay_id), [first, second]);
        assert.deepEqual(list.map((item) => item.delay), [HOUR, 2 * HOUR]);
        assert.deepEqual(list.map((item) => item.type), ["m.room.message", "m.room.topic"]);
        assert.deepEqual(list.map((item) => item.state_key), [undefined, ""]);
        assert.deepEqual(list.map((item) => item.content), [text("goodbye"), { topic: "we have left" }]);
        assert.ok(list[1].running_since <= list[0].running_since);
        assert.deepEqual(await scheduled(bob, id), []);
        for (const item of list) await alice._unstable_cancelScheduledDelayedEvent(item.delay_id);
        assert.deepEqual(await scheduled(alice, id), []);
    });

    test("a single one is shown to its owner with the names that the client knows", async () => {
        const id = await room(alice, bob);
        const delayId = await setTopicLater(alice, id, HOUR, "we have left");
        const item = await alice._unstable_getDelayedEvent(delayId);
        assert.equal(item.delay_id, delayId);
        assert.equal(item.room_id, id);
        assert.equal(item.type, "m.room.topic");
        assert.equal(item.state_key, "");
        assert.deepEqual(item.content, { topic: "we have left" });
        assert.equal(item.delay_ms, HOUR);
        const [{ running_since: start }] = await scheduled(alice, id);
        assert.equal(item.delayed_since_ts, start);
        assert.equal(item.finalised, undefined);
        await assert.rejects(bob._unstable_getDelayedEvent(delayId), { errcode: "M_NOT_FOUND" });
        await alice._unstable_cancelScheduledDelayedEvent(delayId);
    });

    test("a restarted event waits for its whole delay again", async () => {
        const id = await room(alice, bob);
        const delayId = await sendLater(alice, id, 5000, "kept waiting");
        await sendLater(alice, id, 1000, "a second later");
        const marker = await arrives(bob, id, "the shorter delay's message", withBody("a second later"));
        await alice._unstable_restartScheduledDelayedEvent(delayId);
        const read = await arrives(bob, id, "the restarted message", withBody("kept waiting"));
        assert.ok(read.getTs() >= marker.getTs() + 5000);
    });

    test("an event is sent before its time on request", async () => {
        const id = await room(alice, bob);
        const message = await sendLater(alice, id, HOUR, "right now");
        const state = await setTopicLater(alice, id, HOUR, "we have left");
        await alice._unstable_sendScheduledDelayedEvent(message);
        await arrives(bob, id, "the message", withBody("right now"));
        await alice._unstable_sendScheduledDelayedEvent(state);
        await eventually("the topic", () => topic(bob, id)?.getContent().topic === "we have left");
        assert.deepEqual(await scheduled(alice, id), []);
    });

    test("a cancelled event never arrives", async () => {
        const id = await room(alice, bob);
        const message = await sendLater(alice, id, 1000, "cancelled");
        const state = await setTopicLater(alice, id, 1000, "cancelled");
        await alice._unstable_cancelScheduledDelayedEvent(message);
        await alice._unstable_cancelScheduledDelayedEvent(state);
        assert.deepEqual(await scheduled(alice, id), []);
        await sendLater(alice, id, 2000, "due after them");
        await arrives(bob, id, "an event that is due after them", withBody("due after them"));
        assert.equal(timeline(bob, id).find(withBody("cancelled")), undefined);
        assert.equal(topic(bob, id), null);
    });

    test("restart, send and cancel are served with the action in the body, too", async () => {
        const id = await room(alice, bob);
        const update = (delayId, action) => alice._unstable_updateDelayedEvent(delayId, action);
        const sent = await sendLater(alice, id, HOUR, "sent");
        await restarted(alice, id, () => update(sent, UpdateDelayedEventAction.Restart));
        await update(sent, UpdateDelayedEventAction.Send);
        await arrives(bob, id, "the message", withBody("sent"));
        const cancelled = await sendLater(alice, id, HOUR, "cancelled");
        await update(cancelled, UpdateDelayedEventAction.Cancel);
        assert.deepEqual(await scheduled(alice, id), []);
    });

    test("an unknown id is not found", async () => {
        // Few enough for a server that limits how many ids may be guessed.
        const missing = { errcode: "M_NOT_FOUND", httpStatus: 404 };
        await assert.rejects(alice._unstable_restartScheduledDelayedEvent("nothing"), missing);
        await assert.rejects(alice._unstable_sendScheduledDelayedEvent("nothing"), missing);
        await assert.rejects(alice._unstable_cancelScheduledDelayedEvent("nothing"), missing);
        await assert.rejects(alice._unstable_updateDelayedEvent("nothing", UpdateDelayedEventAction.Send), missing);
    });

    test("too long a delay is refused, and neither kept nor sent at once", async () => {
        const id = await room(alice, bob);
        const refusal = (error) => error.httpStatus === 400 || error.httpStatus === 403;
        await assert.rejects(sendLater(alice, id, TEN_YEARS, "too late"), refusal);
        assert.deepEqual(await scheduled(alice, id), []);
        await alice.sendTextMessage(id, "after it");
        await arrives(bob, id, "a message sent after it", withBody("after it"));
        assert.equal(timeline(bob, id).find(withBody("too late")), undefined);
    });
});
