//! Readers of data files. Each reads from a [`std::io::Read`] no more than is asked for, takes no more memory than the
//! file has bytes (whatever its header says), and names the place of an error.

mod archive;
mod array;
mod audio;
mod bytes;
mod cifar;
mod field;
mod folder;
mod idx;
mod lines;
mod npy;
mod picture;
mod pieces;
mod resample;
mod series;
mod sniff;
mod stream;
mod table;
mod wav;

pub use array::*;
pub use audio::*;
pub use cifar::*;
pub use field::Decimal;
pub use folder::*;
pub use idx::*;
pub use npy::*;
pub use picture::*;
pub use pieces::*;
pub use resample::*;
pub use series::*;
pub use stream::*;
pub use table::*;
pub use wav::*;
