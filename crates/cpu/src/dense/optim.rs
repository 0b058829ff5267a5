//! AdamW, the sum of squares for clipping, and the moving average: one pass over a flat buffer each.

use crate::{
    Cpu, Workspace,
    linalg::gemm::Tiles,
    linalg::math::{LANES, fma},
    linalg::simd::simd,
    memory::cpu::MIN_ELEMENTS_PER_TASK,
};
use s4_backend::{AdamWUpdate, EmaUpdate, Result, Scalar, check_scale, check_sum_squares};

/// Elements of one partial sum; fixed, so that the sum is too.
const PART: usize = 8192;

/// Σ x² in f64.
#[inline(always)]
fn squares<T: Scalar>(x: &[T]) -> f64 {
    let mut acc = [0.0f64; LANES];
    let (body, tail) = x.as_chunks::<LANES>();
    for c in body {
        for i in 0..LANES {
            let v = c[i].to_f64();
            acc[i] += v * v;
        }
    }
    let mut total = acc.iter().sum::<f64>();
    for &v in tail {
        total += v.to_f64() * v.to_f64();
    }
    total
}

/// Whether loss and gradient norm ([loss, squared norm]) allow an update.
fn finite<T: Scalar>(guard: &[T]) -> bool {
    guard.iter().take(2).all(|x| x.is_finite())
}

/// acc += Σ x².
pub(crate) fn sum_squares<T: Scalar>(
    be: &Cpu<T>,
    acc: &mut [T],
    x: &[T],
    ws: &mut Workspace<T>,
) -> Result<()> {
    check_sum_squares(be, &acc)?;
    let level = be.level();
    let mut partials = ws.f64.take(x.len().div_ceil(PART));
    let work = x.len();
    Tiles::flat(&mut partials, 1).for_each_of(be, work, |mut tile| {
        let x = &x[tile.start() * PART..];
        let x = &x[..x.len().min(PART)];
        tile.row(0)[0] = simd!(level, _FMA => squares(x));
    });
    acc[0] += T::from_f64(partials.iter().sum::<f64>());
    ws.f64.give(partials);
    Ok(())
}

/// With g clipped: m ← β₁m + (1−β₁)g, v ← β₂v + (1−β₂)g²,
/// θ ← (1 − lr·decay)θ − lr·(m/(1−β₁ᵗ)) / (√(v/(1−β₂ᵗ)) + ε).
pub(crate) fn adamw<T: Scalar>(be: &Cpu<T>, args: AdamWUpdate<'_, Cpu<T>>) -> Result<()> {
    args.check(be)?;
    let AdamWUpdate { value, m, v, grad, guard, hyper, clip } = args;
    if !finite(guard) {
        return Ok(());
    }
    let norm = guard[1].to_f64().sqrt();
    let scale = T::from_f64(if norm > clip.max_norm { clip.max_norm / norm } else { 1.0 });
    let of = T::from_f64;
    let t = hyper.step.min(i32::MAX as u64) as i32;
    let (b1, b2) = (of(hyper.beta1), of(hyper.beta2));
    let (c1, c2) = (of(1.0 - hyper.beta1), of(1.0 - hyper.beta2));
    let rate = of(hyper.lr / (1.0 - hyper.beta1.powi(t)));
    let correct = of(1.0 / (1.0 - hyper.beta2.powi(t)));
    let (keep, eps) = (of(1.0 - hyper.lr * hyper.weight_decay), of(hyper.eps));
    let level = be.level();
    // Moments are cut like the values; a part of the three is one task.
    let (m, v) = (Tiles::flat(m, MIN_ELEMENTS_PER_TASK), Tiles::flat(v, MIN_ELEMENTS_PER_TASK));
    Tiles::flat(value, MIN_ELEMENTS_PER_TASK).for_each_with2(be, m, v, |mut value, mut m, mut v| {
        let g = &grad[value.start()..][..value.cols()];
        let (value, m, v) = (value.row(0), m.row(0), v.row(0));
        simd!(level, FMA => {
            for (((p, m), v), &g) in value.iter_mut().zip(m).zip(v).zip(g) {
                let g = g * scale;
                *m = fma::<T, FMA>(b1, *m, c1 * g);
                *v = fma::<T, FMA>(b2, *v, c2 * g * g);
                *p = keep * *p - rate * *m / ((*v * correct).sqrt() + eps);
            }
        });
    });
    Ok(())
}

/// average ← decay·average + (1 − decay)·value.
pub(crate) fn ema<T: Scalar>(be: &Cpu<T>, args: EmaUpdate<'_, Cpu<T>>) -> Result<()> {
    args.check(be)?;
    let EmaUpdate { average, value, guard, decay } = args;
    if !finite(guard) {
        return Ok(());
    }
    let (decay, rest, level) = (T::from_f64(decay), T::from_f64(1.0 - decay), be.level());
    Tiles::flat(average, MIN_ELEMENTS_PER_TASK).for_each(be, |mut tile| {
        let value = &value[tile.start()..];
        let average = tile.row(0);
        simd!(level, FMA => {
            for (a, &v) in average.iter_mut().zip(value) {
                *a = fma::<T, FMA>(decay, *a, rest * v);
            }
        });
    });
    Ok(())
}

/// x ← x·factor, or x·(factor/divisor[0]).
pub(crate) fn scale<T: Scalar>(be: &Cpu<T>, x: &mut [T], factor: f64, divisor: Option<&[T]>) -> Result<()> {
    check_scale(be, divisor)?;
    let factor = T::from_f64(factor / divisor.map_or(1.0, |divisor| divisor[0].to_f64()));
    let level = be.level();
    Tiles::flat(x, MIN_ELEMENTS_PER_TASK).for_each(be, |mut tile| {
        simd!(level, _FMA => tile.row(0).iter_mut().for_each(|x| *x *= factor));
    });
    Ok(())
}
