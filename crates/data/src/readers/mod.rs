//! Files as numbers. Every reader pulls from a [`std::io::Read`] as much as it is asked for, takes no more memory
//! than the bytes that really come, and says where a file is wrong.

mod archive;
mod array;
mod audio;
mod bytes;
mod cifar;
mod field;
mod folder;
mod idx;
mod npy;
mod picture;
mod resample;
mod series;
mod sniff;
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
pub use resample::*;
pub use series::*;
pub use table::*;
pub use wav::*;
