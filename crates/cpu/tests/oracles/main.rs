//! The CPU backend against the slow oracles of `s4-ssm`, on random layers: every kind of layer, both
//! algorithms, lengths that are odd, prime, 1 and no multiple of a chunk, f32 and f64. Longer ones against each other.

mod conv;
mod device;
mod forward;
mod gradient;
mod kernel;
mod long;
mod step;
