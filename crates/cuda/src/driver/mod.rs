//! NVIDIA's driver: devices, queues, memory, modules, launches and graphs. `unsafe` stands in this folder alone.

mod arguments;
mod beside;
mod comm;
mod comm_watch;
mod devices;
mod gathered;
mod graph;
mod images;
mod info;
mod launch;
mod launch_graph;
mod modules;
mod nccl;
mod pinned;
mod probe;
mod queue;
mod side_stream;
mod span;
mod tensor_map;
mod transfer;

pub(crate) use arguments::{Arg, args};
pub(crate) use comm::{NcclComm, comm_id};
pub use gathered::Gather;
pub(crate) use graph::RecordedGraph;
pub use images::{architectures, available};
pub(crate) use images::{compiled_by_driver, shared_memory};
pub use info::{DeviceInfo, MIN_CAPABILITY, MIN_DRIVER, Unavailable};
pub(crate) use launch::Launch;
pub(crate) use modules::Modules;
pub(crate) use nccl::{Collective, Floats};
pub(crate) use pinned::Pinned;
pub use probe::probe;
pub(crate) use queue::{Queue, refuse_lost};
pub use side_stream::Beside;
pub(crate) use span::Span;
pub(crate) use tensor_map::{ElementType, TensorMap};
