// A member of a call in a process of its own, so that a test can kill it. The parent's first message says what to
// join; the second one, of any content, asks it to leave. It exits when it has left, when it cannot go on, and with
// its parent.

import { once } from "node:events";

import { logIn } from "./support.mjs";

import { MatrixRTCSessionEvent } from "matrix-js-sdk/lib/matrixrtc/index.js";

process.once("disconnect", () => process.exit(1));

const [{ account, room, delay, restart }] = await once(process, "message");
const asked = once(process, "message");
const client = await logIn(account);
const session = client.matrixRTC.getRoomSession(client.getRoom(room));
session.once(MatrixRTCSessionEvent.MembershipManagerError, (error) => {
    process.stderr.write(`the call's member cannot go on: ${error}\n`);
    process.exit(1);
});

const member = { userId: client.getUserId(), deviceId: client.getDeviceId() };
const memberId = `${member.userId}:${member.deviceId}`;
const transport = { type: "livekit", livekit_service_url: "https://livekit.invalid", livekit_alias: room };
const config = { delayedLeaveEventDelayMs: delay, delayedLeaveEventRestartMs: restart };
session.joinRTCSession({ ...member, memberId }, [transport], undefined, config);

await asked;
const left = await session.leaveRoomSession();
process.exit(left ? 0 : 1);
