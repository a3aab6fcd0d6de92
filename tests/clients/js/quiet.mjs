// The SDK logs every request it makes; a failed test is to be read, not searched. Imported before the SDK, which
// keeps the console's functions as it finds them. WICK_CLIENT_LOG=1 lets it speak.

if (!process.env.WICK_CLIENT_LOG) {
    for (const level of ["trace", "debug", "log", "info", "warn", "error"]) console[level] = () => {};
}
