//! The choice of tokens (`kernels/dense/sample.cu`).

use crate::{device::Cuda, driver::args};
use s4_backend::{Result, SampleTokens};

pub(super) fn sample(be: &Cuda, args: &SampleTokens<'_, Cuda>) -> Result<()> {
    let SampleTokens { tokens, progress, seen, results, logits, sampling: s, seed, rows, vocabulary, window } =
        args;
    let weights = be.scratch64("sample_tokens", rows * vocabulary)?;
    let threads = vocabulary.next_multiple_of(32).clamp(32, 1024) as u32;
    be.launch(
        ("sample", "sample"),
        (*rows, 1, 1),
        (threads, 1),
        0,
        args![
            &**tokens,
            &**progress,
            &**seen,
            results,
            &weights,
            *logits,
            s.temperature,
            s.top_k.min(*vocabulary),
            s.top_p,
            s.min_p,
            s.repetition_penalty,
            *seed,
            *vocabulary,
            *window
        ],
    )
}
