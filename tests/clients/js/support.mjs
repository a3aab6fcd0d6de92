// What the tests share: accounts, clients and rooms on the homeserver at WICK_URL, and waiting for what they see.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { describe } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";

import "./node20.mjs";
import "./quiet.mjs";

import * as sdk from "matrix-js-sdk";

export const url = process.env.WICK_URL;
export const V3 = { prefix: "/_matrix/client/v3" };

/** The initial state that makes a room encrypted. */
export const ENCRYPTION = { type: "m.room.encryption", state_key: "", content: { algorithm: "m.megolm.v1.aes-sha2" } };

const PATIENCE = 60_000;

/** Kills the homeserver and starts it again; missing where the tests have not started it. */
export const restart = process.env.WICK_RESTART && (() => promisify(execFile)(process.env.WICK_RESTART));

/** The same tests twice: as they are, and with the homeserver killed and started again whenever they call `between`. */
export function describeAlsoKilled(what, tests) {
    describe(what, () => tests(() => {}));
    describe(`${what} while the homeserver is killed between all steps`, { skip: !restart && "it was not started here" }, () =>
        tests(restart),
    );
}

/** Waits until `find()` answers something truthy. */
export async function eventually(what, find) {
    const end = Date.now() + PATIENCE;
    while (Date.now() < end) {
        const found = await find();
        if (found) return found;
        await sleep(20);
    }
    assert.fail(`waited ${PATIENCE} ms in vain: ${what}`);
}

/** A new account, at another homeserver if `at` is the URL of one. */
export async function register(name, at = url) {
    const account = { username: `${name}${Date.now()}`, password: "client test only" };
    const guest = sdk.createClient({ baseUrl: at });
    await guest.registerRequest({ ...account, auth: { type: "m.login.dummy" } });
    return { ...account, at };
}

/** A new device of the account, syncing. `vault` holds the account's recovery key once it has one. */
export async function logIn({ username, password, at = url }, { crypto = false, vault = {} } = {}) {
    const guest = sdk.createClient({ baseUrl: at });
    const login = await guest.loginRequest({
        type: "m.login.password",
        identifier: { type: "m.id.user", user: username },
        password,
    });
    const client = sdk.createClient({
        baseUrl: at,
        userId: login.user_id,
        deviceId: login.device_id,
        accessToken: login.access_token,
        cryptoCallbacks: {
            getSecretStorageKey: async ({ keys }) => vault.key && [Object.keys(keys)[0], vault.key.privateKey],
        },
    });
    if (crypto) await client.initRustCrypto({ useIndexedDB: false });
    await client.startClient({ initialSyncLimit: 20 });
    await eventually("first sync", () => client.isInitialSyncComplete());
    return client;
}

/** The syncing client of a new account. */
export const start = async (name, options) => logIn(await register(name), options);

/** A room of `owner`, which `guest` was invited to and has joined. */
export async function room(owner, guest, options = {}) {
    const { room_id: id } = await owner.createRoom({ preset: "private_chat", invite: [guest.getUserId()], ...options });
    await eventually("the invite", () => guest.getRoom(id)?.getMyMembership() === "invite");
    await guest.joinRoom(id);
    await eventually("the join", () => guest.getRoom(id)?.getMyMembership() === "join");
    await eventually("the other's join", () => owner.getRoom(id)?.getMember(guest.getUserId())?.membership === "join");
    return id;
}

export const timeline = (client, id) => client.getRoom(id)?.getLiveTimeline().getEvents() ?? [];

export const arrives = (client, id, what, matches) => eventually(what, () => timeline(client, id).find(matches));

/** The delayed events of the client's user for the room that are still to be sent, as the server lists them. */
export async function scheduled(client, id) {
    const { delayed_events: all } = await client._unstable_getDelayedEvents();
    return all.filter((event) => event.room_id === id);
}

/** Whether the homeserver has the event: one that could not be sent stays in the timeline, and has no event id. */
export const isSent = (event) => event.getId().startsWith("$");

/**
 * Sends a message and returns its event id. With the same transaction it sends again what could not be sent, as the
 * button of a client for that does; nothing is returned while it is being sent.
 */
export async function sendOnce(client, id, body, transaction) {
    const tried = timeline(client, id).find((event) => event.getTxnId() === transaction);
    if (!tried) return (await client.sendTextMessage(id, body, transaction)).event_id;
    if (isSent(tried)) return tried.getId();
    return tried.status === sdk.EventStatus.NOT_SENT && (await client.resendEvent(tried, client.getRoom(id))).event_id;
}

/** Sends a message whose ciphertext is repeated after `seconds`: the duration is beside the ciphertext. */
export async function sendExpiring(client, id, seconds, body) {
    const { http } = client;
    const request = http.authedRequest;
    http.authedRequest = (method, path, query, content, ...rest) => {
        const encrypted = path.includes("/send/m.room.encrypted/");
        return request.call(http, method, path, query, encrypted ? { ...content, "m.will_expire": seconds } : content, ...rest);
    };
    try {
        return await client.sendTextMessage(id, body);
    } finally {
        http.authedRequest = request;
    }
}

/** Waits for the event that repeats `original` once it has expired. */
export const expired = (client, id, original) =>
    arrives(client, id, "the copy", (event) => {
        const { "m.will_expire": status, "m.relates_to": relation } = event.getWireContent();
        return status === "expired" && relation?.event_id === original;
    });

/** Cross-signing keys, a recovery key and a backup for the account, made on this device. */
export async function bootstrap(client, vault) {
    const crypto = client.getCrypto();
    await crypto.bootstrapCrossSigning({ authUploadDeviceSigningKeys: (request) => request(null) });
    await crypto.bootstrapSecretStorage({
        createSecretStorageKey: async () => (vault.key = await crypto.createRecoveryKeyFromPassphrase()),
        setupNewKeyBackup: true,
    });
}

/** Waits until the client shows an event as the plaintext `body`. */
export const decrypts = (client, id, event, body) =>
    arrives(
        client,
        id,
        `"${body}" on ${client.getUserId()} ${client.getDeviceId()}`,
        (found) => found.getId() === event && found.isEncrypted() && found.getContent().body === body,
    );

/** Waits until the account's backup holds at least `sessions` sessions. */
export const backedUp = (client, sessions) =>
    eventually(`${sessions} sessions in the backup`, async () => {
        const { count } = await client.http.authedRequest("GET", "/room_keys/version", undefined, undefined, V3);
        return count >= sessions;
    });
