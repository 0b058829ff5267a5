//! The second half of a block: activation → dropout → linear with bias → gate → dropout → + residual.
//!
//! Work goes by tiles of time: the activated tile A, the product Z = W·A + b and what follows stay in L2.
//! Backward computes A and Z again, which is cheaper than keeping 2·outputs values an element.

use crate::{
    Cpu, Workspace,
    activation::{Pointwise, map, map_both, with_activation},
    dropout::Dropout,
    gemm::{Mat, MatMut, Tile, Tiles, gemm},
    linear::rows_forward,
    math::{sigmoid, simd, sum},
    memory::same_len,
    par::{Slots, parts, slots_len},
    reduce::add_parts,
};
use s4_backend::{MixGrads, MixParams, MixSpec, Result, Scalar, random::DropKey};

/// Columns of a tile; `per_column` floats of scratch stay within 512 KB.
fn width(per_column: usize) -> usize {
    (131_072 / per_column.max(1) / 32 * 32).clamp(32, 512)
}

fn check<T: Scalar>(
    op: &'static str,
    out: usize,
    s: usize,
    params: &MixParams<'_, Cpu<T>>,
    spec: &MixSpec,
    batch: usize,
    len: usize,
) -> Result<()> {
    same_len(op, batch * spec.outputs * len, out)?;
    same_len(op, batch * spec.inputs * len, s)?;
    same_len(op, spec.rows() * spec.inputs, params.weight.len())?;
    same_len(op, spec.rows(), params.bias.len())
}

/// Both dropouts of a call.
fn dropouts<T: Scalar>(spec: &MixSpec, key: DropKey) -> [Option<Dropout<T>>; 2] {
    [0, 1].map(|site| Dropout::new(spec.dropout, key, site, spec.tied))
}

/// v *= factors, with the factors in `scratch`.
#[inline(always)]
fn drop_row<T: Scalar>(
    drop: &Option<Dropout<T>>,
    v: &mut [T],
    scratch: &mut [T],
    line: usize,
    len: usize,
    start: usize,
) {
    if let Some(drop) = drop {
        let scratch = &mut scratch[..v.len()];
        drop.factors(scratch, line, len, start);
        for (v, &f) in v.iter_mut().zip(&*scratch) {
            *v *= f;
        }
    }
}

/// z1·σ(z2) or final(z1), in place.
#[inline(always)]
fn gate<P: Pointwise, T: Scalar, const FMA: bool>(z1: &mut [T], z2: Option<&[T]>) {
    match z2 {
        Some(z2) => {
            for (a, &b) in z1.iter_mut().zip(z2) {
                *a *= sigmoid::<T, FMA>(b);
            }
        }
        None => {
            for a in z1.iter_mut() {
                *a = P::value::<T, FMA>(*a);
            }
        }
    }
}

pub(crate) fn forward<T: Scalar>(
    be: &Cpu<T>,
    y: &mut [T],
    s: &[T],
    residual: Option<&[T]>,
    params: &MixParams<'_, Cpu<T>>,
    spec: &MixSpec,
    key: DropKey,
    batch: usize,
    len: usize,
    ws: &mut Workspace<T>,
) -> Result<()> {
    const OP: &str = "mix_forward";
    check(OP, y.len(), s.len(), params, spec, batch, len)?;
    if let Some(residual) = residual {
        same_len(OP, y.len(), residual.len())?;
    }
    if len == 1 {
        step(be, y, s, residual, params, spec, key, batch, ws);
        return Ok(());
    }
    let &MixSpec { inputs, outputs, .. } = spec;
    let (rows, level, [drop0, drop1]) = (spec.rows(), be.level(), dropouts::<T>(spec, key));
    let per_column = inputs + rows + 1;
    let w = width(per_column).min(len);
    let mut scratch = ws.real.take(slots_len(be, per_column * w));
    let slots = Slots::new(&mut scratch, per_column * w);
    Tiles::new(y, batch, outputs, len, w).for_each(be, |mut y| {
        let (b, t, n) = (y.batch(), y.start(), y.cols());
        let mut slot = slots.lock();
        let (a, rest) = slot.split_at_mut(inputs * n);
        let (z, rest) = rest.split_at_mut(rows * n);
        activate(level, a, rest, s, &drop0, spec, b, len, t);
        product(z, params, a, rows, inputs, n);
        let (z1, z2) = z.split_at_mut(outputs * n);
        for o in 0..outputs {
            let z1 = &mut z1[o * n..][..n];
            let z2 = spec.glu.then(|| &z2[o * n..][..n]);
            let y = y.row(o);
            let line = b * outputs + o;
            with_activation!(spec.final_activation, P => simd!(level, FMA => {
                gate::<P, T, FMA>(z1, z2);
                drop_row(&drop1, z1, rest, line, len, t);
                match residual {
                    Some(r) => {
                        for ((y, &z), &r) in y.iter_mut().zip(&*z1).zip(&r[line * len + t..]) {
                            *y = z + r;
                        }
                    }
                    None => y.copy_from_slice(z1),
                }
            }));
        }
    });
    drop(slots);
    ws.real.give(scratch);
    Ok(())
}

/// A = dropout(activation(s)) of one tile, (inputs, n).
fn activate<T: Scalar>(
    level: crate::Level,
    a: &mut [T],
    scratch: &mut [T],
    s: &[T],
    drop0: &Option<Dropout<T>>,
    spec: &MixSpec,
    b: usize,
    len: usize,
    t: usize,
) {
    let n = a.len() / spec.inputs;
    with_activation!(spec.activation, P => simd!(level, FMA => {
        for (i, a) in a.chunks_exact_mut(n).enumerate() {
            let line = b * spec.inputs + i;
            map::<P, T, FMA>(a, &s[line * len + t..][..n]);
            drop_row(drop0, a, scratch, line, len, t);
        }
    }));
}

/// Z = W·A + b of one tile, (rows, n).
fn product<T: Scalar>(
    z: &mut [T],
    params: &MixParams<'_, Cpu<T>>,
    a: &[T],
    rows: usize,
    inputs: usize,
    n: usize,
) {
    for (z, &b) in z.chunks_exact_mut(n).zip(params.bias) {
        z.fill(b);
    }
    let w = Mat::rows(params.weight, inputs);
    gemm([rows, n, inputs], T::one(), w, Mat::rows(a, n), T::one(), MatMut::rows(z, n));
}

/// One sample a row: features are contiguous, the product takes the whole batch.
fn step<T: Scalar>(
    be: &Cpu<T>,
    y: &mut [T],
    s: &[T],
    residual: Option<&[T]>,
    params: &MixParams<'_, Cpu<T>>,
    spec: &MixSpec,
    key: DropKey,
    batch: usize,
    ws: &mut Workspace<T>,
) {
    let &MixSpec { inputs, outputs, .. } = spec;
    let (rows, level, [drop0, drop1]) = (spec.rows(), be.level(), dropouts::<T>(spec, key));
    let mut a = ws.real.take(batch * inputs);
    let mut z = ws.real.take(batch * rows);
    let mut factors = ws.real.take(inputs.max(outputs));
    // Element (row, feature) is number row·features + feature, tied or not.
    let mut drop_features = |drop: &Option<Dropout<T>>, v: &mut [T], row: usize| {
        for (f, v) in v.iter_mut().enumerate() {
            drop_row(drop, std::slice::from_mut(v), &mut factors, row + f, 1, 0);
        }
    };
    with_activation!(spec.activation, P => simd!(level, FMA => map::<P, T, FMA>(&mut a, s)));
    if drop0.is_some() {
        drop_features(&drop0, &mut a, 0);
    }
    rows_forward(be, &mut z, &a, params.weight, Some(params.bias), batch, inputs, rows);
    for (b, (y, z)) in y.chunks_exact_mut(outputs).zip(z.chunks_exact_mut(rows)).enumerate() {
        let (z1, z2) = z.split_at_mut(outputs);
        let z2 = spec.glu.then_some(&*z2);
        with_activation!(spec.final_activation, P => simd!(level, FMA => gate::<P, T, FMA>(z1, z2)));
        if drop1.is_some() {
            drop_features(&drop1, z1, b * outputs);
        }
        match residual {
            Some(r) => {
                for ((y, &z), &r) in y.iter_mut().zip(&*z1).zip(&r[b * outputs..]) {
                    *y = z + r;
                }
            }
            None => y.copy_from_slice(z1),
        }
    }
    for v in [a, z, factors] {
        ws.real.give(v);
    }
}

/// ds = f′(s)·mask·(Wᵀ dZ); dW += dZ·Aᵀ; db += Σ dZ, with A and Z computed again.
pub(crate) fn backward<T: Scalar>(
    be: &Cpu<T>,
    ds: &mut [T],
    grads: MixGrads<'_, Cpu<T>>,
    dy: &[T],
    s: &[T],
    params: &MixParams<'_, Cpu<T>>,
    spec: &MixSpec,
    key: DropKey,
    batch: usize,
    len: usize,
    ws: &mut Workspace<T>,
) -> Result<()> {
    const OP: &str = "mix_backward";
    check(OP, dy.len(), s.len(), params, spec, batch, len)?;
    same_len(OP, s.len(), ds.len())?;
    same_len(OP, params.weight.len(), grads.weight.len())?;
    same_len(OP, params.bias.len(), grads.bias.len())?;
    let &MixSpec { inputs, outputs, .. } = spec;
    let (rows, level, drops) = (spec.rows(), be.level(), dropouts::<T>(spec, key));
    let per_column = 2 * inputs + rows + 1;
    let w = width(per_column).min(len.max(1));
    let tiles = Tiles::new(ds, batch, inputs, len, w);
    let parts = parts(tiles.count());
    let size = rows * inputs + rows;
    let mut partials = ws.real.take(parts * size);
    let mut scratch = ws.real.take(slots_len(be, per_column * w));
    let slots = Slots::new(&mut scratch, per_column * w);
    tiles.for_each_part(be, &mut partials, parts, |partial, mut ds| {
        let (b, t, n) = (ds.batch(), ds.start(), ds.cols());
        let mut slot = slots.lock();
        let (a, rest) = slot.split_at_mut(inputs * n);
        let (slope, rest) = rest.split_at_mut(inputs * n);
        let (z, rest) = rest.split_at_mut(rows * n);
        let factors = &mut rest[..n];
        activate_both(level, a, slope, factors, s, &drops[0], spec, b, len, t);
        product(z, params, a, rows, inputs, n);
        let (z1, z2) = z.split_at_mut(outputs * n);
        for o in 0..outputs {
            let line = b * outputs + o;
            let z1 = &mut z1[o * n..][..n];
            let z2 = spec.glu.then(|| &mut z2[o * n..][..n]);
            let dy = &dy[line * len + t..][..n];
            with_activation!(spec.final_activation, P => simd!(level, FMA => {
                match &drops[1] {
                    Some(drop) => drop.factors(factors, line, len, t),
                    None => factors.fill(T::one()),
                }
                gate_backward::<P, T, FMA>(z1, z2, dy, factors);
            }));
        }
        let (dw, db) = partial.split_at_mut(rows * inputs);
        let (dz, at) = (Mat::rows(z, n), Mat::cols(a, n));
        gemm([rows, inputs, n], T::one(), dz, at, T::one(), MatMut::rows(dw, inputs));
        for (db, dz) in db.iter_mut().zip(z.chunks_exact(n)) {
            *db += simd!(level, _FMA => sum(dz));
        }
        ds.product(rows, Mat::cols(params.weight, inputs), Mat::rows(z, n), T::zero());
        scale_rows(level, &mut ds, slope);
    });
    drop(slots);
    add_parts(grads.weight, &partials, parts, 0);
    add_parts(grads.bias, &partials, parts, rows * inputs);
    ws.real.give(scratch);
    ws.real.give(partials);
    Ok(())
}

/// [`activate`], and slope = mask·f′(s).
fn activate_both<T: Scalar>(
    level: crate::Level,
    a: &mut [T],
    slope: &mut [T],
    factors: &mut [T],
    s: &[T],
    drop0: &Option<Dropout<T>>,
    spec: &MixSpec,
    b: usize,
    len: usize,
    t: usize,
) {
    let n = factors.len();
    with_activation!(spec.activation, P => simd!(level, FMA => {
        for (i, (a, slope)) in a.chunks_exact_mut(n).zip(slope.chunks_exact_mut(n)).enumerate() {
            let line = b * spec.inputs + i;
            map_both::<P, T, FMA>(a, slope, &s[line * len + t..][..n]);
            if let Some(drop) = drop0 {
                drop.factors(factors, line, len, t);
                for ((a, slope), &f) in a.iter_mut().zip(slope).zip(&*factors) {
                    *a *= f;
                    *slope *= f;
                }
            }
        }
    }));
}

/// z ← dz for y = mask·gate(z): with g = σ(z2), dz1 = mask·dy·g and dz2 = mask·dy·z1·g(1 − g).
#[inline(always)]
fn gate_backward<P: Pointwise, T: Scalar, const FMA: bool>(
    z1: &mut [T],
    z2: Option<&mut [T]>,
    dy: &[T],
    factors: &[T],
) {
    match z2 {
        Some(z2) => {
            for (((a, b), &dy), &f) in z1.iter_mut().zip(z2).zip(dy).zip(factors) {
                let (g, d) = (sigmoid::<T, FMA>(*b), dy * f);
                let dg = d * g;
                *b = dg * *a * (T::one() - g);
                *a = dg;
            }
        }
        None => {
            for ((a, &dy), &f) in z1.iter_mut().zip(dy).zip(factors) {
                *a = dy * f * P::both::<T, FMA>(*a).1;
            }
        }
    }
}

/// ds *= slope.
fn scale_rows<T: Scalar>(level: crate::Level, ds: &mut Tile<'_, T>, slope: &[T]) {
    let n = ds.cols();
    for (i, slope) in slope.chunks_exact(n).enumerate() {
        let ds = ds.row(i);
        simd!(level, _FMA => {
            for (d, &s) in ds.iter_mut().zip(slope) {
                *d *= s;
            }
        });
    }
}
