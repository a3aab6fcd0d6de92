// The page of the guide, a call without Element Call, in Chromium.
import assert from "node:assert/strict";
import { copyFileSync, cpSync, mkdtempSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";

import { Person, serve } from "./person.mjs";
import { CALLS_FOLDER, WICK_URL, register, room, startServers, stopServers, until } from "./servers.mjs";

const people = [];
let server;

before(async () => {
    await startServers();
    const folder = mkdtempSync(join(CALLS_FOLDER, "page-"));
    copyFileSync(process.env.CALLS_PAGE, join(folder, "index.html"));
    cpSync(join(import.meta.dirname, "node_modules/livekit-client/dist/livekit-client.umd.js"), join(folder, "livekit-client.umd.js"));
    server = await serve(folder);
});

after(async () => {
    for (const person of people) await person.close();
    server.close();
    stopServers();
});

async function enter(user, name, roomId) {
    const one = await Person.start(name, server.base);
    people.push(one);
    await one.page.goto(server.base);
    await one.page.fill("[name=server]", WICK_URL);
    await one.page.fill("[name=user]", user.user_id);
    await one.page.fill("[name=password]", "correct horse");
    await one.page.fill("[name=room]", roomId);
    await one.page.getByRole("button", { name: "Enter" }).click();
    await one.page.getByRole("button", { name: "Leave" }).waitFor();
    return one;
}

const members = (one) => one.page.locator("#members li").allInnerTexts();
const videos = (one) => one.page.locator("#videos video").count();

const together = async (one, picture) => {
    try {
        const both = async () => (await members(one)).length === 2 && (await videos(one)) === 2 && (await one.moving()) === 2;
        await until(`${one.name} sees two members and two videos that move`, 90, both);
    } finally {
        await one.picture(picture);
    }
};

const alone = (one) => until(`${one.name} is alone`, 60, async () => (await members(one)).length === 1);

test("two people join, one leaves, one is killed", async (t) => {
    const [alice, bob, carol] = [await register(), await register(), await register()];
    const roomId = await room(alice);
    const [first, second] = [await enter(alice, "Alice-page", roomId), await enter(bob, "Bob-page", roomId)];
    await together(first, "page-alice");
    await together(second, "page-bob");

    await second.page.getByRole("button", { name: "Leave" }).click();
    t.diagnostic(`gone ${await alone(first)} ms after a click on Leave`);
    await until("one video is left", 60, async () => (await videos(first)) === 1);
    await first.picture("page-after-leave");

    const third = await enter(carol, "Carol-page", roomId);
    await together(first, "page-alice-carol");
    await third.kill();
    const after = await alone(first);
    t.diagnostic(`gone ${after} ms after kill -9`);
    await first.picture("page-after-kill");
    assert.ok(after <= 3000, `${after} ms`);

    await first.page.getByRole("button", { name: "Leave" }).click();
    await until("the call is over", 60, async () => (await members(first)).length === 0);
    assert.equal(await videos(first), 0);
    await first.picture("page-over");
});
