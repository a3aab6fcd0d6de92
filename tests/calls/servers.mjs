// wick and LiveKit as processes that tests start and kill, and what tests ask wick directly.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { openSync, writeFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";

export const { WICK_URL, WICK_BINARY, LIVEKIT_BINARY, LIVEKIT_URL, CALLS_FOLDER, CALLS_NAMESPACE } = process.env;
export const MEMBER = "org.matrix.msc3401.call.member";
const servers = {};
let users = 0;

/** Waits until it is so; returns after how many milliseconds it was. */
export async function until(what, seconds, so) {
    const began = Date.now();
    const end = began + seconds * 1000;
    while (Date.now() < end) {
        if (await so()) return Date.now() - began;
        await sleep(20);
    }
    assert.fail(`not within ${seconds} s: ${what}`);
}

function start(name, binary, args) {
    const log = openSync(`${CALLS_FOLDER}/${name}.log`, "a");
    const child = spawn(binary, args, { stdio: ["ignore", log, log] });
    writeFileSync(`${CALLS_FOLDER}/${name}.pid`, `${child.pid}`);
    servers[name] = child;
}

const reachable = (url) => fetch(url).then((answer) => answer.status < 500, () => false);

export async function startWick() {
    start("wick", WICK_BINARY, ["--config", `${CALLS_FOLDER}/wick.toml`]);
    await until("wick", 60, () => reachable(`${WICK_URL}/_matrix/client/versions`));
}

export async function startLiveKit() {
    start("livekit", LIVEKIT_BINARY, ["--config", `${CALLS_FOLDER}/livekit.yaml`]);
    await until("livekit", 60, () => reachable(LIVEKIT_URL.replace("ws", "http")));
}

export async function startServers() {
    await startLiveKit();
    await startWick();
}

export async function kill(name) {
    const ended = once(servers[name], "exit");
    servers[name].kill("SIGKILL");
    await ended;
}

export const stopServers = () => Object.values(servers).forEach((child) => child.kill("SIGKILL"));

/** The process id of a server. */
export const pid = (name) => servers[name].pid;

export async function request(method, path, token, body) {
    const headers = token ? { authorization: `Bearer ${token}` } : {};
    const answer = await fetch(`${WICK_URL}${path}`, { method, headers, body: body && JSON.stringify(body) });
    const json = await answer.json();
    assert.ok(answer.ok, `${method} ${path}: ${answer.status} ${JSON.stringify(json)}`);
    return json;
}

export async function register() {
    const body = { username: `user${process.pid}x${(users += 1)}`, password: "correct horse", auth: { type: "m.login.dummy" } };
    return request("POST", "/_matrix/client/v3/register", null, body);
}

/** A room in which everyone may join calls. */
export async function room(user) {
    const power = { events: { [MEMBER]: 0 } };
    const body = { preset: "public_chat", power_level_content_override: power };
    return (await request("POST", "/_matrix/client/v3/createRoom", user.access_token, body)).room_id;
}
