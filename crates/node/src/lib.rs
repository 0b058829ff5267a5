//! The N-API addon: converts between values of JavaScript and of Rust, and computes nothing itself.
//! `crates/node/native.d.ts`, generated from these files, lists what it exports; the public API around it is `index.ts`.
//!
//! A handle is an object of JavaScript with a layer or model of Rust behind a lock. A synchronous call computes on the
//! JavaScript thread; an asynchronous one gives a promise that the handle's own thread settles, so that the event loop does
//! not wait. Panics are caught around every call and become `ERR_S4_INTERNAL`.

// Under `cfg(test)` the macros of napi-rs export nothing, and the compiler would warn that all of this is unused.
#[cfg(not(test))]
mod arrays;
#[cfg(not(test))]
mod background;
#[cfg(not(test))]
mod buffer;
#[cfg(not(test))]
mod datasets;
#[cfg(not(test))]
mod device;
#[cfg(not(test))]
mod diagnose;
#[cfg(not(test))]
mod distributed;
#[cfg(not(test))]
mod error;
#[cfg(not(test))]
mod files;
#[cfg(not(test))]
mod generate_call;
#[cfg(not(test))]
mod generation;
#[cfg(not(test))]
mod generators;
#[cfg(not(test))]
mod inspection;
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
mod native_push;
#[cfg(not(test))]
mod objects;
#[cfg(not(test))]
mod official;
#[cfg(not(test))]
mod optimizers;
#[cfg(not(test))]
mod param_ops;
#[cfg(not(test))]
mod pictures;
#[cfg_attr(test, allow(dead_code))]
mod process_exit;
#[cfg(not(test))]
mod recordings;
#[cfg(not(test))]
mod stream_slots;
#[cfg(not(test))]
mod streams;
#[cfg(not(test))]
mod table;
#[cfg(not(test))]
mod tables;
#[cfg(not(test))]
mod training;
#[cfg(not(test))]
mod worker;
