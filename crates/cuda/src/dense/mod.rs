//! Everything around the SSM, and the updates of parameters.

mod batch_norm;
mod dropout;
mod embedding;
mod f16_copies;
mod gemm;
mod layer_norm;
mod linear;
mod loss;
mod matvec;
mod mix;
mod mix_sm90;
mod ops;
mod optim;
mod pooling;
