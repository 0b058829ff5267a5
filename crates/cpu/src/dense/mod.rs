//! What stands around the SSM in a block and a model: linear maps, norms, mixing, pooling, losses, optimiser.

mod activation;
pub(crate) mod batch_norm;
pub(crate) mod drop_path;
mod dropout;
pub(crate) mod embedding;
pub(crate) mod layer_norm;
pub(crate) mod linear;
pub(crate) mod loss;
pub(crate) mod mix;
pub(crate) mod optim;
pub(crate) mod pooling;
pub(crate) mod sample;
mod sampling;
