// A participant of a call, as a process that can be killed. usage: participant.mjs URL TOKEN
// Prints `connected`, `reconnected` and `disconnected` on lines of their own; ends when its standard input does.
import { Room, RoomEvent } from "@livekit/rtc-node";

const [url, token] = process.argv.slice(2);
const print = (line) => process.stdout.write(`${line}\n`);
const room = new Room();
room.on(RoomEvent.Disconnected, () => print("disconnected"));
room.on(RoomEvent.Reconnected, () => print("reconnected"));
await room.connect(url, token, { autoSubscribe: true, dynacast: false });
print("connected");
process.stdin.resume();
process.stdin.on("end", async () => {
    await room.disconnect();
    process.exit(0);
});
