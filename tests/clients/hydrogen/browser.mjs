// Hydrogen in headless Chromium, used by its page's forms and read by what it shows. WICK_URL is where the
// homeserver is, WICK_CHROMIUM which browser to start, WICK_SCREENSHOTS where pictures go; WICK_CLIENT_LOG=1 lists its
// requests.

import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { extname, join, normalize } from "node:path";

import { chromium } from "playwright-core";

import { eventually } from "../js/support.mjs";

const TYPES = { ".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".wasm": "application/wasm" };
const PATIENCE = 60_000;
/** How long a page that was opened again is looked at. */
const LOOK = 5_000;

/** Serves the built page on a free port of this machine. */
async function serve(folder) {
    const server = createServer(async (request, response) => {
        const path = normalize(new URL(request.url, "http://localhost").pathname);
        try {
            const body = await readFile(join(folder, path === "/" ? "index.html" : path));
            response.setHeader("content-type", TYPES[extname(path)] ?? (path === "/" ? "text/html" : "application/octet-stream"));
            response.end(body);
        } catch {
            response.writeHead(404).end();
        }
    });
    await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
    return server;
}

/** A browser, and the page it opens. */
export class Browser {
    static async launch() {
        const self = new Browser();
        self.server = await serve(join(import.meta.dirname, "dist"));
        self.chromium = await chromium.launch({ executablePath: process.env.WICK_CHROMIUM ?? "/usr/bin/chromium", args: ["--no-sandbox", "--disable-gpu"] });
        return self;
    }

    /** A new device of the account: a profile of its own, logged in by the page's form. */
    async logIn({ username, password }) {
        const context = await this.chromium.newContext({ viewport: { width: 1000, height: 700 } });
        context.setDefaultTimeout(PATIENCE);
        const page = await context.newPage();
        await page.goto(`http://127.0.0.1:${this.server.address().port}/`);
        await page.fill("#homeserver", process.env.WICK_URL);
        await page.locator("#homeserver").blur();
        await page.fill("#username", username);
        await page.fill("#password", password);
        const isLogin = (answer) => answer.request().method() === "POST" && new URL(answer.url()).pathname.endsWith("/login");
        const answered = page.waitForResponse(isLogin);
        await page.getByRole("button", { name: "Log In" }).click();
        const { device_id: device } = await (await answered).json();
        await page.waitForURL(/#\/session\/\d+/);
        return new Hydrogen(page, device);
    }

    async close() {
        await this.chromium.close();
        this.server.close();
    }
}

/** Writes when the page made which request, and what became of it. */
function logRequests(page) {
    const write = (what) => (request) => {
        const { pathname } = new URL(request.url());
        if (!pathname.startsWith("/_matrix/")) return;
        process.stderr.write(`${new Date().toISOString()} ${what} ${request.method()} ${pathname} ${request.failure()?.errorText ?? ""}\n`);
    };
    page.on("request", write("asks"));
    page.on("requestfinished", write("answered"));
    page.on("requestfailed", write("failed"));
}

/** A logged-in Hydrogen. */
export class Hydrogen {
    constructor(page, device) {
        this.page = page;
        this.device = device;
        [this.session] = page.url().match(/#\/session\/\d+/);
        /** The ids of the devices that it sent encrypted messages to, room keys among them. */
        this.addressed = [];
        if (process.env.WICK_CLIENT_LOG) logRequests(page);
        /** Resolves once it gives other devices the key of a session for the first time. */
        this.owesKeys = new Promise((resolve) => {
            page.on("request", (request) => /\/keys\/claim|\/sendToDevice\//.test(request.url()) && resolve());
        });
        page.on("request", (request) => {
            if (!request.url().includes("/sendToDevice/m.room.encrypted/")) return;
            const { messages } = request.postDataJSON();
            this.addressed.push(...Object.values(messages).flatMap(Object.keys));
        });
    }

    goTo = (path) => this.page.evaluate((hash) => (location.hash = hash), `${this.session}/${path}`);

    /** Accepts an invite and opens the room. */
    async join(room) {
        await this.page.locator(".RoomList a").first().waitFor();
        await this.goTo(`room/${room}`);
        await this.page.getByRole("button", { name: "Accept" }).click();
        await this.isEncrypted();
    }

    async open(room) {
        await this.goTo(`room/${room}`);
        await this.isEncrypted();
    }

    /** Waits until the room's composer offers to encrypt. */
    isEncrypted = () => this.page.getByPlaceholder("Send an encrypted message").waitFor();

    async send(body) {
        await this.page.getByPlaceholder("Send an encrypted message").fill(body);
        await this.page.getByRole("button", { name: "Send", exact: true }).click();
    }

    /** Refuses its requests to this path, as if the homeserver was away, until it made one. */
    refused = (path) =>
        new Promise((resolve) => {
            const refuse = async (route) => {
                await route.abort("connectionrefused");
                resolve();
            };
            this.page.route(`**${path}*`, refuse, { times: 1 });
        });

    /** Waits until the open room shows the event with this text, which is the message, or the reason why it cannot be read. */
    shows = (event, text) =>
        this.page.locator(`[data-event-id="${event}"] .Timeline_messageBody`, { hasText: text }).waitFor();

    /** Waits until the open room's timeline says something of a member. */
    announces = (text) => this.page.locator(".AnnouncementView", { hasText: text }).first().waitFor();

    /** The text that the open room shows for the event. */
    text = (event) => this.page.locator(`[data-event-id="${event}"] .Timeline_messageBody`).innerText();

    /** Gives the session the account's recovery key: it can then read what is in the key backup. */
    async recover(key) {
        await this.goTo("settings");
        const useKey = this.page.getByRole("button", { name: "use your security key" });
        const field = this.page.getByPlaceholder("Security key");
        await useKey.or(field).first().waitFor();
        if (await useKey.isVisible()) await useKey.click();
        await field.fill(key);
        await this.page.getByRole("button", { name: "Set up" }).click();
        await this.page.getByText("Key backup is enabled").waitFor();
    }

    /** Asks the user's other devices to verify this one. */
    async startVerification() {
        await this.goTo("settings");
        await this.page.getByRole("button", { name: "Verify by emoji" }).click();
        await this.page.getByText("Waiting").first().waitFor();
    }

    /** Accepts the request of another device to verify it. */
    acceptVerification = (device) =>
        this.page
            .locator(".VerificationToastNotificationView", { hasText: device })
            .getByRole("button", { name: "Accept" })
            .click();

    /** Chooses emoji as the method, for both devices. */
    chooseEmoji = () => this.page.getByRole("button", { name: "Proceed" }).click();

    /** Waits for the emoji, and returns their names. */
    async emoji() {
        await this.page.getByText("Do the emojis match?").waitFor();
        return this.page.locator(".EmojiContainer__name").allInnerTexts();
    }

    /** Confirms that the other device shows the same emoji. */
    confirmEmoji = () => this.page.getByRole("button", { name: "They match" }).click();

    /** Waits until the other device has confirmed it as well, and closes the verification. */
    async isVerified() {
        await this.page.getByText("Verification completed successfully!").waitFor();
        await this.page.getByRole("button", { name: "Got it" }).click();
    }

    /** Waits until this device has the account's cross-signing key. */
    async trustsTheAccount() {
        await this.goTo("settings");
        await eventually("the cross-signing key", async () => {
            // The page looks for it when it is opened, not when another device sends it.
            await this.page.reload();
            const trusted = this.page.getByText("Cross-signing master key found and trusted.");
            return trusted.waitFor({ timeout: LOOK }).then(() => true, () => false);
        });
    }

    picture = (name) => {
        const folder = process.env.WICK_SCREENSHOTS;
        return folder && this.page.screenshot({ path: join(folder, `${name}.png`) });
    };
}
