// A call of 40 members of matrix-js-sdk without a browser, each of which restarts its own delayed leave.
import assert from "node:assert/strict";
import { fork } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";

import { MEMBER, pid, register, request, room, startWick, stopServers, until } from "./servers.mjs";

const DELAY = 15_000;
const RESTART = 5_000;

before(startWick);
after(stopServers);

/** Twenty members in a process of their own, which can be killed. */
async function members(roomId, users) {
    const child = fork("members.mjs", { stdio: ["ignore", "ignore", "ignore", "ipc"] });
    child.send({ roomId, users, delay: DELAY, restart: RESTART });
    await once(child, "message");
    return child;
}

/** Who is in the call. */
async function inCall(roomId, user) {
    const state = await request("GET", `/_matrix/client/v3/rooms/${roomId}/state`, user.access_token);
    return new Set(state.filter((event) => event.type === MEMBER && event.content.application).map((event) => event.sender));
}

/** Seconds of CPU that a process has taken. */
function cpu(of) {
    const fields = readFileSync(`/proc/${of}/stat`, "utf8").replace(/^.*\) /, "").split(" ");
    return (Number(fields[11]) + Number(fields[12])) / 100;
}

test("forty members, of whom half are killed: all of them are out in time, and the others stay", async (t) => {
    const users = [];
    for (let count = 0; count < 40; count += 1) users.push(await register());
    const roomId = await room(users[0]);
    for (const user of users.slice(1)) await request("POST", `/_matrix/client/v3/join/${roomId}`, user.access_token, {});
    const [stay, go] = [users.slice(0, 20), users.slice(20)];
    const [staying, going] = await Promise.all([members(roomId, stay), members(roomId, go)]);
    await until("all are in the call", 120, async () => (await inCall(roomId, users[0])).size === 40);

    const [began, before] = [Date.now(), cpu(pid("wick"))];
    await sleep(30_000);
    const share = (100 * (cpu(pid("wick")) - before)) / ((Date.now() - began) / 1000);
    t.diagnostic(`the server's CPU with 40 heartbeats every ${RESTART / 1000} s: ${share.toFixed(1)} % of a core`);
    assert.equal((await inCall(roomId, users[0])).size, 40);

    going.kill("SIGKILL");
    const gone = await until("half are out", 60, async () => {
        const present = await inCall(roomId, users[0]);
        for (const user of stay) assert.ok(present.has(user.user_id), `${user.user_id} is out`);
        return go.every((user) => !present.has(user.user_id));
    });
    t.diagnostic(`all 20 are out ${gone} ms after kill -9, with a delay of ${DELAY} ms`);
    assert.ok(gone <= DELAY + 1000, `${gone} ms`);
    await sleep(DELAY + 2000);
    assert.equal((await inCall(roomId, users[0])).size, 20);
    staying.kill("SIGKILL");
});
