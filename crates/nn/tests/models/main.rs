//! Blocks, models and training on the CPU, in one program: each test program of its own would compile the backend again.

mod common;
mod golden_block;
mod golden_train;
mod gradients;
mod network;
mod old_checkpoints;
mod session;
mod streams;
mod training;
