//! Reads PyTorch checkpoints without PyTorch, and maps the official S4 models to this library's configuration and
//! tensors.
//!
//! [`Checkpoint`] reads `.pt` and `.ckpt` files (the zip archives of `torch.save`) and safetensors. The pickle inside
//! an archive is read by a small stack machine that knows the opcodes which torch's own weights-only reader allows.
//! Classes and functions that a pickle names are compared with a list: tensors are rebuilt, objects of configurations
//! are kept as plain data, anything else is refused with the reason. Nothing is imported, called or run, and sizes are
//! checked against the archive before memory is allocated.
//!
//! [`OfficialModel`] maps a state dict of <https://github.com/state-spaces/s4> (`train.py`'s models of V3 and V4,
//! `example.py`'s S4D) to this library's configuration and tensors, and back, bit for bit. A tensor or an option that
//! cannot be mapped is refused with an error that names its key.
#![forbid(unsafe_code)]

mod archive;
mod arena;
mod checkpoint;
mod error;
mod file;
mod globals;
mod hyper;
mod machine;
mod official;
mod opcode;
mod pickle;
mod rebuild;
mod safetensors;
mod tensor;
mod value;

pub use checkpoint::Checkpoint;
pub use error::{Error, Result};
pub use file::TorchFile;
pub use official::{CTilde, OfficialModel};
pub use safetensors::to_safetensors;
pub use tensor::{Dtype, StateDict, Tensor};
