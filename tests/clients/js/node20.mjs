// The SDK asks for Node 22 because of one function; Node 20 gets it here. Imported before the SDK.

Promise.withResolvers ??= function withResolvers() {
    let resolve, reject;
    const promise = new this((fulfil, refuse) => {
        resolve = fulfil;
        reject = refuse;
    });
    return { promise, resolve, reject };
};
