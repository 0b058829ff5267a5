//! What follows the SSM in a block: activation → dropout → linear with bias → gate → dropout → + residual.
//!
//! Work goes by tiles of time: the activated tile A, the product Z = W·A + b and what follows stay in L2.
//! Backward recomputes A and Z, which is cheaper than keeping 2·outputs values per time step.

use crate::{
    Cpu, Workspace,
    dense::activation::{slopes_of_sum, values, values_and_slopes, values_of_sum},
    dense::dropout::Dropout,
    dense::linear::step_forward,
    linalg::gemm::{Mat, MatMut, Tiles, gemm},
    linalg::math::{sigmoid, sum},
    linalg::reduce::add_parts,
    linalg::register_tiles::{NonzeroPart, Product, W, product},
    linalg::simd::{Level, simd},
    linalg::transpose::transpose_map,
    memory::tasks::{ThreadScratch, all_threads_scratch_len, parts},
};
use s4_backend::{
    Activation, LinearForward, LinearShape, MixBackward, MixCall, MixForward, MixSpec, Result, Scalar,
    random::DropKey,
};

/// Columns of a tile; `per_column` floats of scratch stay within 512 KB.
fn width(per_column: usize) -> usize {
    (131_072 / per_column.max(1) / 32 * 32).clamp(32, 512)
}

/// Distance of a tile's rows in scratch: a power of two would put a column in a few cache sets
/// (a product along rows then runs at 60 % of its speed).
fn stride(width: usize) -> usize {
    width + 16
}

/// Both dropouts of a call.
fn dropouts<T: Scalar>(spec: &MixSpec, key: DropKey) -> [Option<Dropout<T>>; 2] {
    [0, 1].map(|site| Dropout::new(spec.dropout, key, site, spec.tied))
}

/// v *= factors, with the factors in `scratch`.
fn drop_row<T: Scalar>(
    level: Level,
    drop: &Option<Dropout<T>>,
    v: &mut [T],
    scratch: &mut [T],
    feature_row: usize,
    len: usize,
    start: usize,
) {
    if let Some(drop) = drop {
        let scratch = &mut scratch[..v.len()];
        simd!(level, _FMA => {
            drop.factors(scratch, feature_row, len, start);
            for (v, &f) in v.iter_mut().zip(&*scratch) {
                *v *= f;
            }
        });
    }
}

/// (z1 + b1)·σ(z2 + b2) or f(z1 + b1), in place.
fn gate<T: Scalar>(level: Level, f: Activation, z1: &mut [T], z2: Option<&[T]>, [b1, b2]: [T; 2]) {
    match z2 {
        Some(z2) => simd!(level, FMA => {
            for (u, &v) in z1.iter_mut().zip(z2) {
                *u = (*u + b1) * sigmoid::<T, FMA>(v + b2);
            }
        }),
        None => values_of_sum(f, level, z1, b1),
    }
}

/// The biases of output o; without a gate there is no second.
fn biases<T: Scalar>(bias: &[T], spec: &MixSpec, o: usize) -> [T; 2] {
    [bias[o], if spec.glu { bias[spec.outputs + o] } else { T::zero() }]
}

/// Elements that forward saves for backward, which recomputes what it needs.
pub(crate) const SAVED: usize = 0;

pub(crate) fn forward<T: Scalar>(
    be: &Cpu<T>,
    args: MixForward<'_, Cpu<T>>,
    ws: &mut Workspace<T>,
) -> Result<()> {
    args.check(be, SAVED)?;
    if args.call.len == 1 {
        if args.call.batch >= MIN_ROWS {
            rows(be, args, ws);
        } else {
            step(be, args, ws);
        }
        return Ok(());
    }
    let MixForward { y, s, residual, params, call: MixCall { spec, key, batch, len }, .. } = args;
    let spec = &spec;
    let &MixSpec { inputs, outputs, .. } = spec;
    let (rows, level, [drop0, drop1]) = (spec.rows(), be.level(), dropouts::<T>(spec, key));
    let per_column = inputs + rows + 1;
    let w = width(per_column).min(len);
    let ld = stride(w);
    let mut scratch = ws.real.take(all_threads_scratch_len(be, per_column * ld));
    let thread_scratch = ThreadScratch::new(&mut scratch, per_column * ld);
    Tiles::new(y, batch, outputs, len, w).for_each(be, |mut y| {
        let (b, t, n) = (y.batch(), y.start(), y.cols());
        let mut slot = thread_scratch.lock();
        let (a, rest) = slot.split_at_mut(inputs * ld);
        let (z, rest) = rest.split_at_mut(rows * ld);
        for (i, a) in a.chunks_exact_mut(ld).enumerate() {
            let (a, line) = (&mut a[..n], b * inputs + i);
            values(spec.activation, level, a, &s[line * len + t..][..n]);
            drop_row(level, &drop0, a, rest, line, len, t);
        }
        gemm(
            [rows, n, inputs],
            T::one(),
            Mat::rows(params.weight, inputs),
            Mat::rows(a, ld),
            T::zero(),
            MatMut::rows(z, ld),
        );
        let (z1, z2) = z.split_at_mut(outputs * ld);
        for o in 0..outputs {
            let z1 = &mut z1[o * ld..][..n];
            let z2 = spec.glu.then(|| &z2[o * ld..][..n]);
            let y = y.row(o);
            let line = b * outputs + o;
            gate(level, spec.final_activation, z1, z2, biases(params.bias, spec, o));
            drop_row(level, &drop1, z1, rest, line, len, t);
            match residual {
                Some(r) => simd!(level, _FMA => {
                    for ((y, &z), &r) in y.iter_mut().zip(&*z1).zip(&r[line * len + t..]) {
                        *y = z + r;
                    }
                }),
                None => y.copy_from_slice(z1),
            }
        }
    });
    drop(thread_scratch);
    ws.real.give(scratch);
    Ok(())
}

/// `forward` where sequences have one time step: the features of each are contiguous, one product takes the whole batch.
fn step<T: Scalar>(be: &Cpu<T>, args: MixForward<'_, Cpu<T>>, ws: &mut Workspace<T>) {
    let MixForward { y, s, residual, params, call: MixCall { spec, key, batch, .. }, .. } = args;
    let spec = &spec;
    let &MixSpec { inputs, outputs, .. } = spec;
    // Element (sequence, feature) has number sequence·features + feature, whether masks are tied or not.
    let [drop0, drop1] = dropouts::<T>(&MixSpec { tied: false, ..*spec }, key);
    let (rows, level) = (spec.rows(), be.level());
    let mut a = ws.real.take(batch * inputs);
    let mut z = ws.real.take(batch * rows);
    let mut factors = ws.real.take(batch * inputs.max(outputs));
    values(spec.activation, level, &mut a, s);
    drop_row(level, &drop0, &mut a, &mut factors, 0, 1, 0);
    let shape = LinearShape { batch, inputs, outputs: rows, len: 1 };
    let (weight, bias) = (params.weight, Some(params.bias));
    step_forward(be, LinearForward { y: &mut z, x: &a, weight, bias, shape });
    for (b, (y, z)) in y.chunks_exact_mut(outputs).zip(z.chunks_exact_mut(rows)).enumerate() {
        let at = b * outputs;
        outputs_of_step(level, spec, y, z, residual.map(|r| &r[at..]), &drop1, &mut factors, at);
    }
    for v in [a, z, factors] {
        ws.real.give(v);
    }
}

/// What follows the product in one time step of a sequence: gate, dropout of elements from `at` on, residual. z: with its bias.
#[allow(clippy::too_many_arguments)]
fn outputs_of_step<T: Scalar>(
    level: Level,
    spec: &MixSpec,
    y: &mut [T],
    z: &mut [T],
    residual: Option<&[T]>,
    drop: &Option<Dropout<T>>,
    factors: &mut [T],
    at: usize,
) {
    let (z1, z2) = z.split_at_mut(spec.outputs);
    gate(level, spec.final_activation, z1, spec.glu.then_some(&*z2), [T::zero(); 2]);
    drop_row(level, drop, z1, factors, at, 1, 0);
    match residual {
        Some(r) => {
            for ((y, &z), &r) in y.iter_mut().zip(&*z1).zip(r) {
                *y = z + r;
            }
        }
        None => y.copy_from_slice(z1),
    }
}

/// Sequences of one time step from which they go by [`rows`]: the weights are then transposed first.
const MIN_ROWS: usize = 256;
/// Sequences of one time step that make a tile: a multiple of the rows of a tile of registers.
const ROWS: usize = 36;

/// Columns of the weights' panels in [`rows`], as a product takes them at a time. A panel whose rows are no longer lies in L1 as it is read; where
/// they are a power of two apart they share a few sets of it.
fn panel(level: Level, width: usize) -> usize {
    let panel = if level == Level::Avx512 && width % (4 * W) == 0 { 4 * W } else { W };
    if width % panel == 0 { panel } else { width }
}

/// [`step`] of many sequences, some at a time, so that all parts run on all threads and what lies between them in a cache.
fn rows<T: Scalar>(be: &Cpu<T>, args: MixForward<'_, Cpu<T>>, ws: &mut Workspace<T>) {
    let MixForward { y, s, residual, params, call: MixCall { spec, key, .. }, .. } = args;
    let spec = &spec;
    let &MixSpec { inputs, outputs, .. } = spec;
    let [drop0, drop1] = dropouts::<T>(&MixSpec { tied: false, ..*spec }, key);
    let (width, level) = (spec.rows(), be.level());
    // The transposed weights, panel after panel.
    let panel = panel(level, width);
    let mut weight_t = ws.real.take(inputs * width);
    let panels = weight_t.chunks_exact_mut(panel * inputs).zip(params.weight.chunks_exact(panel * inputs));
    simd!(level, _FMA => for (to, from) in panels {
        transpose_map(to, panel, from, inputs, [panel, inputs], |w| w);
    });
    let size = ROWS * (inputs + width + inputs.max(outputs));
    let mut scratch = ws.real.take(all_threads_scratch_len(be, size));
    let thread_scratch = ThreadScratch::new(&mut scratch, size);
    let weight = &weight_t[..];
    Tiles::flat(y, ROWS * outputs).for_each(be, |mut y| {
        let (first, count) = (y.start() / outputs, y.cols() / outputs);
        let mut slot = thread_scratch.lock();
        let (a, rest) = slot.split_at_mut(ROWS * inputs);
        let (z, factors) = rest.split_at_mut(ROWS * width);
        let (a, z) = (&mut a[..count * inputs], &mut z[..count * width]);
        values(spec.activation, level, a, &s[first * inputs..][..count * inputs]);
        drop_row(level, &drop0, a, factors, first * inputs, 1, 0);
        for z in z.chunks_exact_mut(width) {
            z.copy_from_slice(params.bias);
        }
        for (i, b) in weight.chunks_exact(panel * inputs).enumerate() {
            let (size, nonzero_part) = ([count, panel, inputs], NonzeroPart::Full);
            let (c, ldc, accumulate) = (&mut z[i * panel..], width, true);
            product(level, Product { size, a, lda: inputs, b, ldb: panel, c, ldc, accumulate, nonzero_part });
        }
        for (i, (y, z)) in y.row(0).chunks_exact_mut(outputs).zip(z.chunks_exact_mut(width)).enumerate() {
            let at = (first + i) * outputs;
            outputs_of_step(level, spec, y, z, residual.map(|r| &r[at..]), &drop1, factors, at);
        }
    });
    drop(thread_scratch);
    ws.real.give(scratch);
    ws.real.give(weight_t);
}

/// ds = f′(s)·mask·(Wᵀ dZ); dW += dZ·Aᵀ; db += Σ dZ, with A and Z recomputed.
pub(crate) fn backward<T: Scalar>(
    be: &Cpu<T>,
    args: MixBackward<'_, Cpu<T>>,
    ws: &mut Workspace<T>,
) -> Result<()> {
    args.check(be, SAVED)?;
    let MixBackward { ds, grads, dy, s, params, call: MixCall { spec, key, batch, len }, .. } = args;
    let spec = &spec;
    let &MixSpec { inputs, outputs, .. } = spec;
    let (rows, level, [drop0, drop1]) = (spec.rows(), be.level(), dropouts::<T>(spec, key));
    let per_column = 2 * inputs + rows + 1;
    let w = width(per_column).min(len.max(1));
    let ld = stride(w);
    let tiles = Tiles::new(ds, batch, inputs, len, w);
    let parts = parts(tiles.count());
    let size = rows * inputs + rows;
    let mut partials = ws.real.take(parts * size);
    let mut scratch = ws.real.take(all_threads_scratch_len(be, per_column * ld));
    let thread_scratch = ThreadScratch::new(&mut scratch, per_column * ld);
    tiles.for_each_part(be, &mut partials, parts, |partial, mut ds| {
        let (b, t, n) = (ds.batch(), ds.start(), ds.cols());
        let mut slot = thread_scratch.lock();
        let (a, rest) = slot.split_at_mut(inputs * ld);
        let (slope, rest) = rest.split_at_mut(inputs * ld);
        let (z, rest) = rest.split_at_mut(rows * ld);
        let factors = &mut rest[..n];
        // A, and slope = mask·f′(s).
        for (i, (a, slope)) in a.chunks_exact_mut(ld).zip(slope.chunks_exact_mut(ld)).enumerate() {
            let (a, slope, line) = (&mut a[..n], &mut slope[..n], b * inputs + i);
            values_and_slopes(spec.activation, level, a, slope, &s[line * len + t..][..n]);
            if let Some(drop) = &drop0 {
                simd!(level, _FMA => {
                    drop.factors(factors, line, len, t);
                    for ((a, slope), &f) in a.iter_mut().zip(slope).zip(&*factors) {
                        *a *= f;
                        *slope *= f;
                    }
                });
            }
        }
        // Z recomputed, then dZ in its place.
        let weight = params.weight;
        let z_now = MatMut::rows(&mut *z, ld);
        gemm([rows, n, inputs], T::one(), Mat::rows(weight, inputs), Mat::rows(a, ld), T::zero(), z_now);
        let (dw, db) = partial.split_at_mut(rows * inputs);
        let (z1, z2) = z.split_at_mut(outputs * ld);
        let (db1, db2) = db.split_at_mut(outputs);
        for o in 0..outputs {
            let line = b * outputs + o;
            let z1 = &mut z1[o * ld..][..n];
            let dy = &dy[line * len + t..][..n];
            let [b1, b2] = biases(params.bias, spec, o);
            if !spec.glu {
                slopes_of_sum(spec.final_activation, level, z1, b1);
            }
            simd!(level, FMA => {
                match &drop1 {
                    Some(drop) => drop.factors(factors, line, len, t),
                    None => factors.fill(T::one()),
                }
                if spec.glu {
                    let z2 = &mut z2[o * ld..][..n];
                    glu_backward::<T, FMA>(z1, z2, b1, b2, dy, factors);
                    db2[o] += sum(z2);
                } else {
                    for ((slope, &dy), &f) in z1.iter_mut().zip(dy).zip(&*factors) {
                        *slope *= dy * f;
                    }
                }
                db1[o] += sum(z1);
            });
        }
        let (dz, at) = (Mat::rows(z, ld), Mat::cols(a, ld));
        gemm([rows, inputs, n], T::one(), dz, at, T::one(), MatMut::rows(dw, inputs));
        ds.product(rows, Mat::cols(weight, inputs), Mat::rows(z, ld), T::zero());
        for (i, slope) in slope.chunks_exact(ld).enumerate() {
            let ds = ds.row(i);
            simd!(level, _FMA => {
                for (d, &s) in ds.iter_mut().zip(slope) {
                    *d *= s;
                }
            });
        }
    });
    drop(thread_scratch);
    add_parts(grads.weight, &partials, parts, 0);
    add_parts(grads.bias, &partials, parts, rows * inputs);
    ws.real.give(scratch);
    ws.real.give(partials);
    Ok(())
}

/// For y = mask·(z1 + b1)·g with g = σ(z2 + b2): z1 ← mask·dy·g, z2 ← mask·dy·(z1 + b1)·g·(1 − g).
#[inline(always)]
fn glu_backward<T: Scalar, const FMA: bool>(
    z1: &mut [T],
    z2: &mut [T],
    b1: T,
    b2: T,
    dy: &[T],
    factors: &[T],
) {
    for (((u, v), &dy), &f) in z1.iter_mut().zip(z2).zip(dy).zip(factors) {
        let g = sigmoid::<T, FMA>(*v + b2);
        let d = dy * f * g;
        *v = d * (*u + b1) * (T::one() - g);
        *u = d;
    }
}
