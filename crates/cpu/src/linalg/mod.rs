//! Matrix products, transforms, elementary functions and the choice of the instruction set.

pub(crate) mod complex_exp;
pub(crate) mod fft;
#[allow(unsafe_code, reason = "the call of the matrix library, and tiles that tasks write side by side")]
pub(crate) mod gemm;
pub(crate) mod math;
pub(crate) mod matvec_simd;
#[allow(unsafe_code, reason = "instructions of x86-64 for memory that passes the caches once")]
pub(crate) mod prefetch;
pub(crate) mod reduce;
pub(crate) mod register_tiles;
pub(crate) mod simd;
pub(crate) mod small;
pub(crate) mod transpose;
pub(crate) mod transpose_eights;
