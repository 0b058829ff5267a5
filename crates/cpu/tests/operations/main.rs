//! The operations of the contract, each by itself: its own suite, golden vectors, transposes, threads, wrong shapes.
//! One program, because each test program compiles the backend again.

mod conformance;
mod conv;
mod golden;
mod kernel;
mod perturbed;
mod step;
