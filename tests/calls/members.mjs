// Members of a call, all in one process, which a test can kill: the parent's message has their accounts and the call to join.
import { once } from "node:events";

import "./node20.mjs";

import { createClient } from "matrix-js-sdk/lib/matrix.js";
import { logger } from "matrix-js-sdk/lib/logger.js";

process.once("disconnect", () => process.exit(1));
logger.setLevel?.("error");
const [{ roomId, users, delay, restart }] = await once(process, "message");

async function join({ user_id: userId, device_id: deviceId, access_token: accessToken }) {
    const client = createClient({ baseUrl: process.env.WICK_URL, userId, deviceId, accessToken, timelineSupport: false });
    await client.startClient({ initialSyncLimit: 1 });
    while (!client.getRoom(roomId)) await new Promise((resolve) => client.once("sync", resolve));
    const session = client.matrixRTC.getRoomSession(client.getRoom(roomId));
    const transport = { type: "livekit", livekit_service_url: "https://livekit.invalid", livekit_alias: roomId };
    const config = { delayedLeaveEventDelayMs: delay, delayedLeaveEventRestartMs: restart, manageMediaKeys: false };
    session.joinRTCSession({ userId, deviceId, memberId: `${userId}:${deviceId}` }, [transport], undefined, config);
}

await Promise.all(users.map(join));
process.send("joined");
