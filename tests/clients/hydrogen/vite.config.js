// The page, and beside it the service worker that the SDK brings.

import { copyFileSync } from "node:fs";

const serviceWorker = {
    name: "service-worker",
    closeBundle: () => copyFileSync("node_modules/hydrogen-view-sdk/lib-build/sw.js", "dist/sw.js"),
};

export default {
    root: "page",
    base: "./",
    logLevel: "error",
    plugins: [serviceWorker],
    build: { outDir: "../dist", emptyOutDir: true, target: "esnext" },
};
