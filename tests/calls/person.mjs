// A person in a call: a Chromium of its own with a camera that shows a moving picture. WICK_CHROMIUM is which browser to
// start, CALLS_HOST the address that the servers have, CALLS_NAMESPACE a network namespace that can be cut off from it.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { extname, join, normalize } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

import { chromium } from "playwright-core";

const { CALLS_HOST, CALLS_NAMESPACE, CALLS_FOLDER, WICK_URL, WICK_SCREENSHOTS } = process.env;
const TYPES = { ".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".json": "application/json", ".wasm": "application/wasm", ".svg": "image/svg+xml" };
const PATIENCE = 120_000;

/** Serves a folder, with `replaced` in place of its files, and `index.html` for every path that is no file. */
export async function serve(folder, replaced = {}) {
    const server = createServer(async (request, response) => {
        const asked = normalize(new URL(request.url, "http://localhost").pathname);
        const path = asked.replace(/^.*\/assets\//, "/assets/");
        const type = TYPES[extname(path)] ?? "text/html";
        const page = () => readFile(join(folder, "index.html"));
        const body = replaced[path] ?? (await readFile(join(folder, path)).catch(page));
        response.setHeader("content-type", type).end(body);
    });
    await new Promise((resolve) => server.listen(0, CALLS_HOST, resolve));
    server.base = `http://${CALLS_HOST}:${server.address().port}`;
    return server;
}

/** Element Call, with its members kept as `compatibility` (state events) or `matrix_2_0` (sticky events). */
export const serveElementCall = (mode) =>
    serve(join(import.meta.dirname, "node_modules/@element-hq/element-call-embedded/dist"), {
        "/config.json": JSON.stringify({
            default_server_config: { "m.homeserver": { base_url: WICK_URL, server_name: "localhost" } },
            matrix_rtc_mode: mode,
            // Small pictures, for machines that do something else besides.
            media_quality: { video: { max_resolution: 180, max_bitrate: 150_000, max_framerate: 10, simulcast_layers: [] } },
        }),
    });

export class Person {
    /** Starts the browser. `inNamespace`: its network can be cut. */
    static async start(name, base, { inNamespace = false } = {}) {
        const self = new Person();
        Object.assign(self, { name, base, log: [] });
        const profile = mkdtempSync(join(CALLS_FOLDER, "profile-"));
        const args = [
            "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--mute-audio", `--user-data-dir=${profile}`, "--remote-debugging-port=0",
            "--use-fake-device-for-media-stream=fps=10", "--use-fake-ui-for-media-stream", "--autoplay-policy=no-user-gesture-required",
            "--disable-background-timer-throttling", "--disable-renderer-backgrounding", "--disable-backgrounding-occluded-windows",
            `--unsafely-treat-insecure-origin-as-secure=${base},${WICK_URL}`, "--window-size=1280,1000", "about:blank",
        ];
        const binary = process.env.WICK_CHROMIUM ?? "/usr/bin/chromium";
        const [command, before] = inNamespace ? ["ip", ["netns", "exec", CALLS_NAMESPACE, binary]] : [binary, []];
        // A group of its own, so that signals reach every process of the browser.
        self.child = spawn(command, [...before, ...args], { stdio: "ignore", detached: true });
        const port = await devtools(profile);
        const address = inNamespace ? await relay(port) : port;
        self.browser = await chromium.connectOverCDP(`http://127.0.0.1:${address}`, { timeout: PATIENCE });
        [self.context] = self.browser.contexts();
        self.context.setDefaultTimeout(PATIENCE);
        self.page = self.context.pages()[0] ?? (await self.context.newPage());
        self.page.on("console", (message) => self.log.push(`${new Date().toISOString()} ${message.text().slice(0, 400)}`));
        return self;
    }

    /** Has wick appear as a homeserver that takes over no leaves. */
    withoutDelegation = () => this.context.route("**/delegate_delayed_leave", (route) => route.fulfill({ status: 404, body: "{}" }));

    /** Starts a call by Element Call's own form; its link. */
    async startCall(title) {
        await this.page.goto(`${this.base}/`);
        await this.page.getByTestId("home_callName").fill(title);
        await this.page.getByTestId("home_displayName").fill(this.name);
        await this.page.getByTestId("home_go").click();
        await this.page.getByTestId("lobby_joinCall").waitFor();
        const link = this.page.url();
        await this.page.getByTestId("lobby_joinCall").click();
        await this.page.getByTestId("incall_leave").waitFor();
        return link;
    }

    /** Joins a call by its link. */
    async joinCall(link) {
        await this.page.goto(link);
        await this.page.getByTestId("joincall_displayName").fill(this.name);
        await this.page.getByTestId("joincall_joincall").click();
        await this.page.getByTestId("lobby_joinCall").click();
        await this.page.getByTestId("incall_leave").waitFor();
    }

    /** The names on the tiles. */
    names = () => this.page.getByTestId("videoTile").getByTestId("name_tag").allInnerTexts();

    /** Whether there is a tile with the name of `other`. */
    sees = async (other) => (await this.names()).includes(other.name);

    /** How many videos show another picture than half a second before. */
    async moving() {
        const pictures = () =>
            this.page.evaluate(() =>
                [...document.querySelectorAll("video")].map((video) => {
                    const canvas = Object.assign(document.createElement("canvas"), { width: 64, height: 36 });
                    const context = canvas.getContext("2d");
                    if (!video.videoWidth) return null;
                    context.drawImage(video, 0, 0, 64, 36);
                    return context.getImageData(0, 0, 64, 36).data.join();
                }),
            );
        const before = await pictures();
        await sleep(500);
        return (await pictures()).filter((picture, at) => picture && before[at] && picture !== before[at]).length;
    }

    picture = (name) => WICK_SCREENSHOTS && this.page.screenshot({ path: join(WICK_SCREENSHOTS, `${name}.png`) });

    signal = (signal) => process.kill(-this.child.pid, signal);

    /** Ends the browser as a crash does. */
    async kill() {
        const ended = once(this.child, "exit");
        this.signal("SIGKILL");
        await ended;
    }

    async close() {
        if (this.child.exitCode === null && this.child.signalCode === null) await this.kill();
    }
}

async function devtools(profile) {
    for (let tries = 0; tries < 600; tries += 1) {
        try {
            const [port] = readFileSync(join(profile, "DevToolsActivePort"), "utf8").split("\n");
            if (port) return Number(port);
        } catch {
            // Not yet.
        }
        await sleep(100);
    }
    throw new Error("the browser does not start");
}

/** Connects a free port here with one in the namespace, whose link may be down. */
async function relay(port) {
    const { createServer: listen } = await import("node:net");
    const server = listen((socket) => {
        const script = `const s=require("net").connect(${port},"127.0.0.1");process.stdin.pipe(s);s.pipe(process.stdout);s.on("close",()=>process.exit())`;
        const child = spawn("ip", ["netns", "exec", CALLS_NAMESPACE, process.execPath, "-e", script], { stdio: ["pipe", "pipe", "ignore"] });
        socket.pipe(child.stdin).on("error", () => {});
        child.stdout.pipe(socket).on("error", () => {});
        socket.on("error", () => child.kill()).on("close", () => child.kill());
    });
    await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
    server.unref();
    return server.address().port;
}

const link = (state) => once(spawn("ip", ["link", "set", process.env.CALLS_LINK, state], { stdio: "inherit" }), "exit");

/** Takes the namespace's network away, or gives it back. */
export const cut = () => link("down");
export const mend = () => link("up");
