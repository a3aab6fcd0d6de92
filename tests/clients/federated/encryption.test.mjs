// End-to-end encryption between users of two homeservers, with matrix-js-sdk and its Rust crypto.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";

import { ENCRYPTION, decrypts, eventually, logIn, register, room, timeline, url } from "../js/support.mjs";

const other = process.env.OTHER_URL;

for (const [what, here, there] of [["a room of the first server", url, other], ["a room of the second server", other, url]]) {
    describe(`encryption in ${what}`, () => {
        let aliceAccount, bobAccount, alice, bob, id;

        before(async () => {
            [aliceAccount, bobAccount] = [await register("alice", here), await register("bob", there)];
            [alice, bob] = [await logIn(aliceAccount, { crypto: true }), await logIn(bobAccount, { crypto: true })];
            id = await room(alice, bob, { initial_state: [ENCRYPTION] });
            await eventually("the encryption", () => [alice, bob].every((one) => one.getRoom(id)?.hasEncryptionStateEvent()));
        });
        after(() => [alice, bob].forEach((client) => client?.stopClient()));

        const devices = async (client, of) => {
            const info = await client.getCrypto().getUserDeviceInfo([of.getUserId()], true);
            return [...(info.get(of.getUserId())?.keys() ?? [])];
        };
        const session = (client, event) =>
            timeline(client, id).find((one) => one.getId() === event).getWireContent().session_id;

        test("messages are decrypted both ways", async () => {
            for (const [from, to] of [[alice, bob], [bob, alice]]) {
                const { event_id: event } = await from.sendTextMessage(id, `of ${from.getUserId()}`);
                await decrypts(to, id, event, `of ${from.getUserId()}`);
            }
        });

        test("a device that is added later decrypts what comes then, and a log-out rotates the session", async () => {
            for (const [sender, account, keeper] of [[alice, bobAccount, bob], [bob, aliceAccount, alice]]) {
                const added = await logIn(account, { crypto: true });
                const device = added.getDeviceId();
                await eventually("the added device", async () => (await devices(sender, keeper)).includes(device));
                const first = await sender.sendTextMessage(id, "with the added device");
                for (const reader of [added, keeper]) await decrypts(reader, id, first.event_id, "with the added device");
                await added.logout(true);
                await eventually("its end", async () => !(await devices(sender, keeper)).includes(device));
                const second = await sender.sendTextMessage(id, "without it");
                await decrypts(keeper, id, second.event_id, "without it");
                assert.notEqual(session(keeper, first.event_id), session(keeper, second.event_id));
            }
        });
    });
}
