// A device of another client library in a process of its own, steered by lines of JSON: a request is
// {"call": …, "with": {…}}, its answer {"done": …} or {"failed": "…"}.

import { spawn } from "node:child_process";
import { createInterface } from "node:readline";

import { url } from "./support.mjs";

export class Device {
    waiting = [];

    constructor(program, ...args) {
        this.child = spawn(program, args, { stdio: ["pipe", "pipe", 2] });
        createInterface({ input: this.child.stdout }).on("line", (line) => {
            const { done, failed } = JSON.parse(line);
            const { call, resolve, reject } = this.waiting.shift();
            if (failed === undefined) resolve(done);
            else reject(new Error(`${call}: ${failed}`));
        });
        this.child.on("exit", () => this.waiting.splice(0).forEach(({ call, reject }) => reject(new Error(`${call}: gone`))));
    }

    /** Makes a request; its answers come in the order of the requests. */
    call = (call, details = {}) =>
        new Promise((resolve, reject) => {
            this.waiting.push({ call, resolve, reject });
            this.child.stdin.write(`${JSON.stringify({ call, with: details })}\n`);
        });

    /** Logs in as a new device of the account. */
    async logIn({ username, password, at = url }) {
        Object.assign(this, await this.call("log_in", { url: at, username, password }));
        return this;
    }

    kill = () => this.child.kill("SIGKILL");
}
