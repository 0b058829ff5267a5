//! Drop path (`kernels/dense/drop_path.cu`).

use crate::{device::Cuda, driver::args};
use s4_backend::{DropPath, Result, random::DropKey};

pub(super) fn forward(be: &Cuda, args: &DropPath<'_, Cuda>) -> Result<()> {
    let &DropPath { x, residual, probability, key, batch, elements, .. } = args;
    let threshold = if probability > 0.0 { DropKey::threshold(probability) } else { 0 };
    let scale = (1.0 / (1.0 - probability)) as f32;
    let n = batch * elements;
    be.launch_elementwise(
        ("drop_path", "drop_path"),
        n,
        args![&args.y, x, residual, n, elements, key.seed, key.step, key.site, threshold, scale, false],
    )
}
