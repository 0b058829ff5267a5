//! Blocks, models and training on the CPU, in one program: each test program of its own would compile the backend again.

mod allocations;
mod carried;
mod common;
mod counting;
mod distributed;
mod generate;
mod golden_block;
mod golden_train;
mod gradients;
mod groups;
mod hostile_trainer;
mod losses;
mod network;
mod official_models;
mod old_checkpoints;
mod padded;
mod session;
mod slot_queue;
mod slots;
mod streams;
mod training;
mod weights;

/// Counts for `allocations`; the other tests do not look.
#[global_allocator]
static ALLOCATOR: dhat::Alloc = dhat::Alloc;
