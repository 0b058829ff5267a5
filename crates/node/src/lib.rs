//! The N-API edge: conversion only. `crates/node/native.d.ts` says what is exported; the public API is `index.ts`.
//!
//! Every handle owns one worker thread with a queue. A synchronous call waits for its answer there, an
//! asynchronous one gives a promise that the worker settles, so the event loop never computes. Panics are caught
//! around every job and become `ERR_S4_INTERNAL`.

mod buffer;
mod error;
mod functions;
mod host;
mod layer;
mod model;
mod ops;
mod worker;
