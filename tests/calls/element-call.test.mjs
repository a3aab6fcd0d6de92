// Calls of Element Call in Chromium, at wick and a real LiveKit server, with end-to-end encryption.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { writeFileSync } from "node:fs";

import { Person, cut, mend, serveElementCall } from "./person.mjs";
import { kill, startLiveKit, startServers, startWick, stopServers, until } from "./servers.mjs";

const people = [];
const { CALLS_FOLDER, CALLS_NAMESPACE, WICK_SCREENSHOTS } = process.env;

before(startServers);

// What the console of their browsers shows.
const writeLogs = (...whose) => {
    if (WICK_SCREENSHOTS) for (const one of whose) writeFileSync(`${WICK_SCREENSHOTS}/${one.name}.log`, one.log.join("\n"));
};

after(async () => {
    writeLogs(...people);
    for (const person of people) await person.close();
    stopServers();
});

async function person(name, server, options) {
    const one = await Person.start(name, server.base, options);
    people.push(one);
    return one;
}

// Each shows the other one, and two videos that move.
const both = async (picture, ...two) => {
    try {
        for (const [one, other] of [two, two.toReversed()]) {
            const shows = async () => (await one.sees(other)) && (await one.moving()) >= 2;
            await until(`${one.name} sees ${other.name} and two videos that move`, 90, shows);
        }
    } finally {
        writeLogs(...two);
        for (const one of two) await one.picture(`${picture}-${one.name}`);
    }
};

const stays = async (seconds, ...two) => {
    const end = Date.now() + seconds * 1000;
    while (Date.now() < end) {
        for (const [one, other] of [two, two.toReversed()]) assert.ok(await one.sees(other), `${other.name} left`);
        await sleep(100);
    }
};

const gone = (one, other, seconds) => until(`${other.name} is gone`, seconds, async () => !(await one.sees(other)));

for (const [mode, kind] of [["compatibility", "state"], ["matrix_2_0", "sticky"]]) {
    describe(`members as ${kind} events`, () => {
        let server, alice, bob;

        test("two people see each other move in an encrypted call", async () => {
            server = await serveElementCall(mode);
            alice = await person(`Alice-${kind}`, server);
            bob = await person(`Bob-${kind}`, server);
            const link = await alice.startCall("Standup");
            assert.match(link, /password=/, "the call is encrypted");
            await bob.joinCall(link);
            await both("joined", alice, bob);
        });

        test("wick is killed and restarted during the call: nobody drops", async () => {
            await kill("wick");
            await startWick();
            await stays(25, alice, bob);
            await both("after-wick", alice, bob);
        });

        test("LiveKit is killed and restarted: both rejoin", async (t) => {
            await kill("livekit");
            await startLiveKit();
            const began = Date.now();
            await both("after-livekit", alice, bob);
            t.diagnostic(`both see each other again after ${Date.now() - began} ms`);
        });

        test("both servers are killed at once and restarted: both rejoin", async (t) => {
            await Promise.all([kill("wick"), kill("livekit")]);
            await startServers();
            const began = Date.now();
            await both("after-both", alice, bob);
            t.diagnostic(`both see each other again after ${Date.now() - began} ms`);
        });

        test("a laptop that sleeps for 60 s is gone, and back when it wakes", async (t) => {
            bob.signal("SIGSTOP");
            const began = Date.now();
            t.diagnostic(`gone after ${await gone(alice, bob, 60)} ms`);
            await sleep(Math.max(0, 60_000 - (Date.now() - began)));
            bob.signal("SIGCONT");
            const woke = Date.now();
            await both("after-sleep", alice, bob);
            t.diagnostic(`back after ${Date.now() - woke} ms`);
        });

        test("a browser that is killed is gone within 3 s", async (t) => {
            await bob.kill();
            const after = await gone(alice, bob, 60);
            t.diagnostic(`gone after ${after} ms`);
            await alice.picture(`after-kill-${alice.name}`);
            assert.ok(after <= 3000, `${after} ms`);
        });

        test("without delegation a browser that is killed is gone within 20 s", async (t) => {
            await alice.close();
            const [carol, dan] = [await person(`Carol-${kind}`, server), await person(`Dan-${kind}`, server)];
            await Promise.all([carol.withoutDelegation(), dan.withoutDelegation()]);
            await dan.joinCall(await carol.startCall("Standup"));
            await both("undelegated", carol, dan);
            await sleep(5000);
            await dan.kill();
            const after = await gone(carol, dan, 60);
            t.diagnostic(`gone after ${after} ms`);
            await carol.close();
            assert.ok(after <= 20_000, `${after} ms`);
        });

        test("a network that is cut for 8 s ends nothing", { skip: !CALLS_NAMESPACE && "needs root" }, async () => {
            const [erin, frank] = [await person(`Erin-${kind}`, server), await person(`Frank-${kind}`, server, { inNamespace: true })];
            await frank.joinCall(await erin.startCall("Standup"));
            await both("before-cut", erin, frank);
            await cut();
            try {
                const end = Date.now() + 8000;
                while (Date.now() < end) {
                    assert.ok(await erin.sees(frank), "Frank left");
                    await sleep(100);
                }
            } finally {
                await mend();
            }
            await stays(25, erin, frank);
            await both("after-cut", erin, frank);
            await Promise.all([erin.close(), frank.close()]);
            server.close();
        });
    });
}
