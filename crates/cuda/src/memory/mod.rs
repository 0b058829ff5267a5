//! Device memory: buffers and views, the allocator behind them, transfers and replays.

mod allocator;
mod buffer;
mod cache;
mod download;
mod ops;
mod replay;

pub(crate) use allocator::{Allocator, DeviceBlock};
pub use buffer::{Buf, Ints, Mut, Ref};
pub(crate) use cache::BlockUse;
pub use download::AsyncDownload;
pub use ops::Workspace;
pub use replay::Graph;
