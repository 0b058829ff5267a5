//! PyTorch checkpoints without PyTorch, and what the official S4 models are in this library's names.
//!
//! [`Checkpoint`] reads `.pt` and `.ckpt` files (the zip archives of `torch.save`) and safetensors. The pickle inside is
//! read by a small machine that knows the opcodes which torch's own weights-only reader allows. Names in it are compared
//! with a list: tensors are rebuilt, classes of configurations stay inert, anything else is refused with the reason.
//! Nothing is imported, called or run; sizes are checked against the archive before memory is taken.
//!
//! [`OfficialModel`] maps a state dict of <https://github.com/state-spaces/s4> (`train.py`'s models of V3 and V4,
//! `example.py`'s S4D) to this library's configuration and tensors, and back, bit for bit. What cannot be mapped is
//! refused by its key.
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
pub use official::{OfficialModel, Tilde};
pub use safetensors::to_safetensors;
pub use tensor::{Dtype, StateDict, Tensor};
