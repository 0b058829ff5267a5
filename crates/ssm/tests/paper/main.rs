//! The paper's mathematics against golden values and against itself.

mod golden;
mod init;
mod memory;
mod oracles;
mod support;
