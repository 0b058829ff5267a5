//! What stands around the SSM in a block and a model: linear maps, norms, mixing, pooling, losses, optimiser.

mod activation;
mod batch_norm;
mod drop_path;
mod dropout;
mod embedding;
mod layer_norm;
mod linear;
mod loss;
mod mix;
mod ops;
mod optim;
mod pooling;
