// Participants of calls at a real LiveKit server: what becomes of their delegated leaves.
import assert from "node:assert/strict";
import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";

import { CALLS_FOLDER, CALLS_NAMESPACE, MEMBER, WICK_BINARY, WICK_URL, kill, register, request, room, startLiveKit, startServers, startWick, stopServers, until } from "./servers.mjs";

const statePath = (roomId, user) =>
    `/_matrix/client/v3/rooms/${roomId}/state/${MEMBER}/_${user.user_id}_${user.device_id}`;

const isMember = async (roomId, user) =>
    "application" in (await request("GET", statePath(roomId, user), user.access_token));

// Joins as Element Call does: a leave in an hour, the membership, a token, the connection, the delegation. In a network
// namespace, if one is named.
async function join(roomId, user, namespace) {
    const path = statePath(roomId, user);
    const later = await request("PUT", `${path}?org.matrix.msc4140.delay=3600000`, user.access_token, {});
    await request("PUT", path, user.access_token, { application: "m.call", device_id: user.device_id });
    const openid = `/_matrix/client/v3/user/${user.user_id}/openid/request_token`;
    const body = { room: roomId, device_id: user.device_id, openid_token: await request("POST", openid, user.access_token, {}) };
    const { url, jwt } = await request("POST", "/_matrix/livekit/jwt/sfu/get", null, body);
    const inside = namespace ? ["ip", "netns", "exec", namespace] : [];
    const [command, ...args] = [...inside, process.execPath, "participant.mjs", url, jwt];
    const child = spawn(command, args, { stdio: ["pipe", "pipe", "inherit"] });
    const lines = [];
    // The library writes lines of its own there.
    const own = ["connected", "reconnected", "disconnected"];
    createInterface({ input: child.stdout }).on("line", (line) => own.includes(line) && lines.push(line));
    await until("a connection", 60, () => lines.includes("connected"));
    const delegated = { ...body, delay_id: later.delay_id, delay_timeout: 3600000, delay_cs_api_url: WICK_URL };
    await request("POST", "/_matrix/livekit/jwt/sfu/get", null, delegated);
    return { child, lines };
}

// Until the leave is sent. LiveKit takes about 20 seconds to notice that a process was killed.
async function gone(t, what, roomId, user) {
    const began = Date.now();
    await until(`the leave after ${what}`, 60, async () => !(await isMember(roomId, user)));
    t.diagnostic(`${what}: the leave was sent after ${Date.now() - began} ms`);
}

// A request for news of the user, which breaks off while it waits.
async function breakOff(user) {
    const first = await request("GET", "/_matrix/client/v3/sync", user.access_token);
    const url = `${WICK_URL}/_matrix/client/v3/sync?timeout=60000&since=${first.next_batch}`;
    const abort = new AbortController();
    const answer = fetch(url, { headers: { authorization: `Bearer ${user.access_token}` }, signal: abort.signal }).catch(() => {});
    await sleep(300);
    abort.abort();
    await answer;
}

before(startServers);

after(stopServers);

test("the check finds nothing missing but the server's name, which leads nowhere here", async () => {
    const args = ["--config", `${CALLS_FOLDER}/wick.toml`, "admin", "calls", "check"];
    const { code, stdout } = await promisify(execFile)(WICK_BINARY, args).catch((failure) => failure);
    assert.equal(code, 1);
    assert.match(stdout, /^clients do not learn of calls from https:\/\/localhost\/[^\n]*\n$/);
});

test("the leave of a participant that hangs up is sent at once", async (t) => {
    const alice = await register();
    const roomId = await room(alice);
    const { child } = await join(roomId, alice);
    await sleep(3000);
    assert.ok(await isMember(roomId, alice));
    child.stdin.end();
    await gone(t, "a hang-up", roomId, alice);
});

test("the leave of a participant that is killed is sent when LiveKit notices it", async (t) => {
    const alice = await register();
    const roomId = await room(alice);
    const { child } = await join(roomId, alice);
    child.kill("SIGKILL");
    await gone(t, "kill -9", roomId, alice);
});

test("a kill and a restart of wick end no call", async (t) => {
    const alice = await register();
    const roomId = await room(alice);
    const { child, lines } = await join(roomId, alice);
    await kill("wick");
    await startWick();
    await sleep(5000);
    assert.ok(await isMember(roomId, alice));
    assert.deepEqual(lines, ["connected"]);
    child.stdin.end();
    await gone(t, "a hang-up after a restart of wick", roomId, alice);
});

test("a hang-up while wick is down is noticed when it is back", async (t) => {
    const alice = await register();
    const roomId = await room(alice);
    const { child } = await join(roomId, alice);
    await kill("wick");
    child.stdin.end();
    await once(child, "exit");
    await startWick();
    await gone(t, "a hang-up while wick was down", roomId, alice);
});

test("a kicked member is removed from the call", async (t) => {
    const [alice, bob] = [await register(), await register()];
    const roomId = await room(alice);
    await request("POST", `/_matrix/client/v3/join/${roomId}`, bob.access_token, {});
    const { child, lines } = await join(roomId, bob);
    const began = Date.now();
    await request("POST", `/_matrix/client/v3/rooms/${roomId}/kick`, alice.access_token, { user_id: bob.user_id });
    await until("the disconnect", 30, () => lines.includes("disconnected"));
    t.diagnostic(`a kick: disconnected after ${Date.now() - began} ms`);
    child.kill("SIGKILL");
});

test("a restart of LiveKit is no hang-up", async (t) => {
    const alice = await register();
    const roomId = await room(alice);
    const { child, lines } = await join(roomId, alice);
    await kill("livekit");
    await startLiveKit();
    await sleep(20_000);
    t.diagnostic(`after a restart of LiveKit: ${lines.join(", ")}`);
    assert.ok(await isMember(roomId, alice));
    child.kill("SIGKILL");
    await gone(t, "a restart of LiveKit and kill -9", roomId, alice);
});

for (const [number, [delay, loss]] of [[150, 2], [400, 2], [800, 0]].entries()) {
    const link = `${2 * delay} ms away on a link that loses ${loss} %`;
    test(`a client ${link} stays when its requests break off`, { skip: !CALLS_NAMESPACE && "needs root" }, async (t) => {
        const [namespace, network] = [`${CALLS_NAMESPACE}-${number}`, `10.214.${(process.pid + number) % 256}`];
        const args = ["slow_link.py", namespace, `${network}.1`, `${network}.2`, `${delay}`, `${loss}`];
        const slow = spawn("python3", args, { stdio: ["pipe", "pipe", "inherit"] });
        try {
            await once(slow.stdout, "data");
            const alice = await register();
            const roomId = await room(alice);
            const { child, lines } = await join(roomId, alice, namespace);
            // Until it has been asked how soon it answers.
            await sleep(12_000);
            for (let times = 1; times <= 12; times += 1) {
                await breakOff(alice);
                await sleep(5000);
                assert.ok(await isMember(roomId, alice), `it left after ${times} times`);
            }
            assert.deepEqual(lines, ["connected"]);
            child.kill("SIGKILL");
            await breakOff(alice);
            await gone(t, `kill -9 ${link}`, roomId, alice);
        } finally {
            slow.stdin.end();
            await once(slow, "exit");
        }
    });
}
