// A participant of a call, as a process that can be killed. usage: participant.mjs URL TOKEN
// Says `connected`, `reconnected` and `disconnected` on lines of their own; ends when its standard input does.
import { Room, RoomEvent } from "@livekit/rtc-node";

const [url, token] = process.argv.slice(2);
const say = (line) => process.stdout.write(`${line}\n`);
const room = new Room();
room.on(RoomEvent.Disconnected, () => say("disconnected"));
room.on(RoomEvent.Reconnected, () => say("reconnected"));
await room.connect(url, token, { autoSubscribe: true, dynacast: false });
say("connected");
process.stdin.resume();
process.stdin.on("end", async () => {
    await room.disconnect();
    process.exit(0);
});
