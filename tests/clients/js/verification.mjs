// Verifying another device by comparing emoji, with matrix-js-sdk.

import { CryptoEvent, VerifierEvent } from "matrix-js-sdk/lib/crypto-api/index.js";

import { eventually } from "./support.mjs";

/** Waits for another device's request to verify this one. */
export function requested(client) {
    let received;
    client.once(CryptoEvent.VerificationRequestReceived, (request) => (received = request));
    const request = eventually("the request to verify", () => received);
    // Without one who waits yet, a failure would end the process instead of the test.
    request.catch(() => {});
    return request;
}

/** Waits until the emoji of a request can be shown: what to confirm, and a promise that both devices have. */
export async function compared(request) {
    const verifier = await eventually("the verifier", () => request.verifier);
    const shown = new Promise((resolve) => verifier.once(VerifierEvent.ShowSas, resolve));
    const done = verifier.verify();
    // Without one who waits yet, a failure would end the process instead of the test.
    done.catch(() => {});
    const { sas, confirm } = await shown;
    return { emoji: sas.emoji, confirm, done };
}

/** Waits until a client knows that another device of its user is signed by the user's keys. */
export const isSigned = (client, device) =>
    eventually(`the signature of ${device}`, async () => {
        const status = await client.getCrypto().getDeviceVerificationStatus(client.getUserId(), device);
        return status?.signedByOwner;
    });
