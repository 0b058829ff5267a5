//! Synthetic data sets, generated from a seed. Every example has its own sequence of random numbers, so that it depends
//! neither on the number of threads nor on how many examples one call asks for.

mod lanczos;
mod listops;
mod paddle;
mod pathfinder;
mod snakes;
mod toy;

pub use listops::*;
pub use pathfinder::*;
pub use toy::*;
