// A call (MatrixRTC) as the SDK holds it: the member has the server send its leave later (MSC4140), and puts that off
// for as long as it lives. The member is a process of its own; another user's client watches.

import assert from "node:assert/strict";
import { fork } from "node:child_process";
import { once } from "node:events";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";

import { eventually, logIn, register, room, scheduled, start, timeline } from "./support.mjs";

const MEMBER = "org.matrix.msc3401.call.member";
const DELAY = 2000;
const RESTART = 500;
const MINUTE = 60_000;

const idOf = (event) => event.getId();
const isEmpty = (event) => Object.keys(event.getContent()).length === 0;

describe("a call of matrix-js-sdk", () => {
    const children = [];
    let account, alice, bob;

    before(async () => {
        account = await register("grace");
        [alice, bob] = await Promise.all([logIn(account), start("heidi")]);
    });
    after(() => {
        for (const child of children) child.kill("SIGKILL");
        alice?.stopClient();
        bob?.stopClient();
    });

    /** A room of bob's, where alice has joined the call from another process. */
    async function call(delay, restart) {
        const id = await room(bob, alice, { power_level_content_override: { events: { [MEMBER]: 0 } } });
        const program = fileURLToPath(new URL("call_member.mjs", import.meta.url));
        // Its output goes to standard error: the test runner reads its own results from standard output.
        const child = fork(program, { execArgv: [], stdio: ["ignore", 2, 2, "ipc"] });
        children.push(child);
        child.send({ account, room: id, delay, restart });
        const joined = await sees(id, child, "the member", (event) => !isEmpty(event));
        assert.equal(joined.getSender(), alice.getUserId());
        return { id, child, joined };
    }

    /** All that bob has seen of alice's membership, the oldest first. */
    const memberships = (id) => timeline(bob, id).filter((event) => event.getType() === MEMBER);

    const hasSeen = (id, ...events) => assert.deepEqual(memberships(id).map(idOf), events.map(idOf));

    /** Waits until the last membership that bob has seen matches. */
    const sees = (id, child, what, matches) =>
        eventually(what, () => {
            assert.ok(child.exitCode === null || child.exitCode === 0, "the member's process has failed");
            const last = memberships(id).at(-1);
            return last && matches(last) && last;
        });

    async function ended(child) {
        if (child.exitCode === null) await once(child, "exit");
        assert.equal(child.exitCode, 0);
    }

    const isCurrent = async (event) =>
        assert.deepEqual(await bob.getStateEvent(event.getRoomId(), MEMBER, event.getStateKey()), event.getContent());

    test("a member stays beyond its delay while it lives, and is gone when it is killed", async () => {
        const { id, child, joined } = await call(DELAY, RESTART);
        const [first] = await scheduled(alice, id);
        let last = first;
        await eventually("keep-alives for more than twice the delay", async () => {
            [last] = await scheduled(alice, id);
            return last?.running_since > first.running_since + 2 * DELAY;
        });
        hasSeen(id, joined);
        assert.equal(last.delay_id, first.delay_id);
        await isCurrent(joined);

        // The only comparison with this machine's clock: the time at which the process ended.
        const killed = Date.now();
        child.kill("SIGKILL");
        const left = await sees(id, child, "the leave", isEmpty);
        assert.equal(left.getStateKey(), joined.getStateKey());
        assert.equal(left.getSender(), alice.getUserId());
        assert.ok(left.getTs() >= last.running_since + DELAY, "left before the delay was over");
        assert.ok(left.getTs() <= killed + DELAY + 1000, `left ${left.getTs() - killed} ms after the kill`);
        await isCurrent(left);
        assert.deepEqual(await scheduled(alice, id), []);
    });

    test("a member that leaves is gone at once, with nothing scheduled any more", async () => {
        // The delay is longer than the test's patience: the leave it sees is not the server's.
        const { id, child, joined } = await call(MINUTE, RESTART);
        const [pending] = await scheduled(alice, id);
        assert.deepEqual(pending.content, {});
        assert.equal(pending.state_key, joined.getStateKey());
        child.send("leave");
        const left = await sees(id, child, "the leave", isEmpty);
        assert.equal(left.getStateKey(), joined.getStateKey());
        await isCurrent(left);
        await ended(child);
        assert.deepEqual(await scheduled(alice, id), []);
        hasSeen(id, joined, left);
    });

    test("a member that slept through its delay joins again when it wakes", async () => {
        const { id, child, joined } = await call(DELAY, RESTART);
        child.kill("SIGSTOP");
        const left = await sees(id, child, "the leave of the sleeping member", isEmpty);
        child.kill("SIGCONT");
        const again = await sees(id, child, "the member again", (event) => !isEmpty(event));
        assert.equal(again.getStateKey(), joined.getStateKey());
        assert.ok(again.getTs() >= left.getTs());
        await eventually("its leave scheduled anew", async () => (await scheduled(alice, id)).length === 1);
        child.send("leave");
        await sees(id, child, "the leave", isEmpty);
        await ended(child);
    });

    test("a member whose leave was sent on its behalf joins again once it sees that", async () => {
        // It sees its leave long before its next keep-alive, and then first cancels what it believes to be scheduled.
        const { id, child, joined } = await call(MINUTE, MINUTE / 2);
        const pending = await eventually("the keep-alive that follows the join at once", async () => {
            const [pending] = await scheduled(alice, id);
            return pending.running_since >= joined.getTs() && pending;
        });
        await alice._unstable_sendScheduledDelayedEvent(pending.delay_id);
        await eventually("the leave", () => memberships(id).some(isEmpty));
        const again = await sees(id, child, "the member again", (event) => !isEmpty(event));
        assert.notEqual(again.getId(), joined.getId());
        assert.equal(again.getStateKey(), joined.getStateKey());
        child.send("leave");
        await sees(id, child, "the leave", isEmpty);
        await ended(child);
        assert.deepEqual(await scheduled(alice, id), []);
    });
});
