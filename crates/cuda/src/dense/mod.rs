//! The operations around the SSM (norms, mix, pooling, loss, embedding, linear), and the optimizer.

mod batch_norm;
mod drop_path;
mod dropout;
mod embedding;
mod f16_copies;
mod gemm;
mod layer_norm;
mod linear;
mod loss;
mod matvec;
mod mix;
mod mix_saved;
mod mix_sm90;
mod ops;
mod optim;
mod pooling;
mod products_sm90;
mod sample;
