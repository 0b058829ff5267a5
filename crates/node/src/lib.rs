//! The N-API edge: conversion only. `crates/node/native.d.ts`, generated from these files, says what is
//! exported; the public API is `index.ts`.
//!
//! Every handle has its state behind a lock. A synchronous call computes in place, an asynchronous one gives a promise
//! that the handle's own thread settles, so the event loop never waits for it. Panics are caught around every call and
//! become `ERR_S4_INTERNAL`.

// Under `cfg(test)` the N-API macros export nothing, and all of this would be unused.
#[cfg(not(test))]
mod buffer;
#[cfg(not(test))]
mod device;
#[cfg(not(test))]
mod diagnose;
#[cfg(not(test))]
mod error;
#[cfg(not(test))]
mod files;
#[cfg(not(test))]
mod generators;
#[cfg(not(test))]
mod layer;
#[cfg(not(test))]
mod layer_ops;
#[cfg(not(test))]
mod math;
#[cfg(not(test))]
mod model;
#[cfg(not(test))]
mod model_ops;
#[cfg(not(test))]
mod objects;
#[cfg(not(test))]
mod param_ops;
#[cfg(not(test))]
mod pictures;
#[cfg(not(test))]
mod streams;
#[cfg(not(test))]
mod table;
#[cfg(not(test))]
mod training;
#[cfg(not(test))]
mod worker;
