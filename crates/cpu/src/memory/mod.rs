//! Buffers, scratch memory, and the threads that work in it.

pub(crate) mod counter;
pub(crate) mod cpu;
pub(crate) mod huge_pages;
pub(crate) mod pool;
pub(crate) mod refusal;
pub(crate) mod tasks;
pub(crate) mod workspace;
