//! The choice of a token for each row of logits (`sampling.rs` has how).

use crate::{Cpu, dense::sampling::Sampler};
use s4_backend::{PROGRESS, RESULTS, Result, SampleTokens, Scalar, random::sampling_uniform};

pub(crate) fn sample<T: Scalar>(be: &Cpu<T>, args: SampleTokens<'_, Cpu<T>>) -> Result<()> {
    args.check(be)?;
    let SampleTokens { tokens, progress, seen, results, logits, sampling, seed, rows, vocabulary, window } =
        args;
    let mut sampler = Sampler::default();
    for (row, logits) in logits.chunks_exact(vocabulary).enumerate() {
        let progress = &mut progress.0[row * PROGRESS..][..PROGRESS];
        let count = progress[1] as u32 as u64 | (progress[2] as u32 as u64) << 32;
        let place = (count % window as u64) as usize * rows + row;
        let result = &mut results[place * RESULTS..][..RESULTS];
        (progress[1], progress[2]) = ((count + 1) as u32 as i32, ((count + 1) >> 32) as u32 as i32);
        if !s4_backend::all_finite(logits) {
            tokens.0[row] = 0;
            result.copy_from_slice(&[-T::one(), T::zero(), T::zero()]);
            continue;
        }
        let seen: &mut [i32] = match sampling.repetition_penalty {
            1.0 => &mut [],
            _ => &mut seen.0[row * vocabulary..][..vocabulary],
        };
        let uniform = sampling_uniform(seed, progress[0] as u32, count);
        let choice = sampler.choose(logits, &sampling, seen, uniform);
        if let Some(seen) = seen.get_mut(choice.token) {
            *seen = 1;
        }
        tokens.0[row] = choice.token as i32;
        let high = T::from_f64(choice.log_probability);
        let low = T::from_f64(choice.log_probability - high.to_f64());
        result.copy_from_slice(&[T::from_f64(choice.token as f64), high, low]);
    }
    Ok(())
}
