//! The paper's mathematics against golden values and against itself.

mod golden;
mod init;
mod oracles;
mod support;
