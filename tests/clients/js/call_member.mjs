// A member of a call in a process of its own, so that a test can kill it. The parent's first message has what to
// join; the last one, of any content, asks it to leave. With `crypto` it reports its device, the devices that it
// knows, and then every key and every list of members that the SDK gives it, and it joins when another message asks
// for it: the SDK sends no key to a device that it does not know. It exits when it has left, when it cannot go on,
// and with its parent.

import { once } from "node:events";

import { eventually, logIn } from "./support.mjs";

import { CryptoEvent } from "matrix-js-sdk/lib/crypto-api/index.js";
import { MatrixRTCSessionEvent } from "matrix-js-sdk/lib/matrixrtc/index.js";

process.once("disconnect", () => process.exit(1));

const [{ account, room, delay, restart, crypto = false }] = await once(process, "message");
const client = await logIn(account, { crypto });
await eventually("the room", () => client.getRoom(room));
const member = { userId: client.getUserId(), deviceId: client.getDeviceId() };
const memberId = `${member.userId}:${member.deviceId}`;

async function reportDevices() {
    const users = client.getRoom(room).getJoinedMembers().map((one) => one.userId);
    const known = [];
    for (const [user, devices] of await client.getCrypto().getUserDeviceInfo(users)) {
        for (const device of devices.keys()) known.push(`${user}:${device}`);
    }
    process.send({ device: memberId, known });
}

if (crypto) {
    const join = once(process, "message");
    client.on(CryptoEvent.DevicesUpdated, reportDevices);
    await reportDevices();
    await join;
}
const leave = once(process, "message");
const session = client.matrixRTC.getRoomSession(client.getRoom(room));
session.once(MatrixRTCSessionEvent.MembershipManagerError, (error) => {
    process.stderr.write(`the call's member cannot go on: ${error}\n`);
    process.exit(1);
});

const transport = { type: "livekit", livekit_service_url: "https://livekit.invalid", livekit_alias: room };
const config = {
    delayedLeaveEventDelayMs: delay,
    delayedLeaveEventRestartMs: restart,
    manageMediaKeys: crypto,
    // A key is replaced for each that joins or leaves, without waiting for more of them.
    useKeyDelay: 10,
    keyRotationGracePeriodMs: 0,
};
session.on(MatrixRTCSessionEvent.EncryptionKeyChanged, (key, index, { userId, deviceId }) => {
    process.send({ key: Buffer.from(key).toString("base64"), index, of: `${userId}:${deviceId}` });
});
session.on(MatrixRTCSessionEvent.MembershipsChanged, (_, members) => {
    process.send({ members: members.map((one) => `${one.userId}:${one.deviceId}`).sort() });
});
session.joinRTCSession({ ...member, memberId }, [transport], undefined, config);

await leave;
const left = await session.leaveRoomSession();
process.exit(left ? 0 : 1);
