//! HTTP in and out: extract, one service call, response.
