//! y = W x + b on (batch, inputs, len), W (outputs, inputs).

use crate::{
    Cpu, Workspace,
    linalg::gemm::{Mat, MatMut, Tiles, gemm},
    linalg::math::{dot, sum},
    linalg::matvec_simd::product,
    linalg::reduce::add_parts,
    linalg::simd::simd,
    memory::tasks::parts,
};
use s4_backend::{LinearBackward, LinearForward, LinearShape, Result, Scalar};

/// Time steps that one product takes: enough to be efficient, few enough that its operands stay in the second-level
/// cache.
fn width(shape: &LinearShape) -> usize {
    (65_536 / (shape.inputs + shape.outputs)).next_multiple_of(16).clamp(64, 1024)
}

pub(crate) fn forward<T: Scalar>(be: &Cpu<T>, args: LinearForward<'_, Cpu<T>>) -> Result<()> {
    args.check(be)?;
    if args.shape.len == 1 {
        step_forward(be, args);
        return Ok(());
    }
    let LinearForward { y, x, weight, bias, shape } = args;
    let LinearShape { batch, inputs, outputs, len } = shape;
    Tiles::new(y, batch, outputs, len, width(&shape)).for_each(be, |mut tile| {
        let x = &x[tile.batch() * inputs * len + tile.start()..];
        let beta = match bias {
            Some(bias) => {
                for (r, &b) in bias.iter().enumerate() {
                    tile.row(r).fill(b);
                }
                T::one()
            }
            None => T::zero(),
        };
        tile.product(inputs, Mat::rows(weight, inputs), Mat::rows(x, len), beta);
    });
    Ok(())
}

/// The whole batch at once where sequences have one time step: Y = X·Wᵀ + b, (batch, inputs) → (batch, outputs).
pub(crate) fn step_forward<T: Scalar>(be: &Cpu<T>, args: LinearForward<'_, Cpu<T>>) {
    let LinearForward { y, x, weight, bias, shape: LinearShape { batch, inputs, outputs, .. } } = args;
    let level = be.level();
    if batch < 4 {
        // A few sequences: W is read once for each, so plain dot products along its rows run at the speed of memory.
        for (y, x) in y.chunks_exact_mut(outputs).zip(x.chunks_exact(inputs)) {
            if !product(level, y, weight, x) {
                simd!(level, FMA => {
                    for (y, w) in y.iter_mut().zip(weight.chunks_exact(inputs)) {
                        *y = dot::<T, FMA>(w, x);
                    }
                });
            }
            for (y, &b) in y.iter_mut().zip(bias.unwrap_or(&[])) {
                *y += b;
            }
        }
        return;
    }
    Tiles::new(y, 1, batch, outputs, 64).for_each(be, |mut tile| {
        let (o, n) = (tile.start(), tile.cols());
        let beta = match bias {
            Some(bias) => {
                for r in 0..batch {
                    tile.row(r).copy_from_slice(&bias[o..o + n]);
                }
                T::one()
            }
            None => T::zero(),
        };
        tile.product(inputs, Mat::rows(x, inputs), Mat::cols(&weight[o * inputs..], inputs), beta);
    });
}

/// dx = Wᵀ dy; dW += Σ dy xᵀ; db += Σ dy.
pub(crate) fn backward<T: Scalar>(
    be: &Cpu<T>,
    args: LinearBackward<'_, Cpu<T>>,
    ws: &mut Workspace<T>,
) -> Result<()> {
    args.check(be)?;
    let LinearBackward { dx, dweight, dbias, dy, x, weight, shape } = args;
    let LinearShape { batch, inputs, outputs, len } = shape;
    if batch * len == 0 {
        return Ok(());
    }
    // Where sequences have one time step the batch takes the place of time, with the strides of a transpose.
    let (cols, at_time) = if len == 1 { (batch, false) } else { (len, true) };
    let (groups, w) = (if at_time { batch } else { 1 }, width(&shape));
    if let Some(dx) = dx {
        if at_time {
            Tiles::new(dx, batch, inputs, len, w).for_each(be, |mut tile| {
                let dy = &dy[tile.batch() * outputs * len + tile.start()..];
                tile.product(outputs, Mat::cols(weight, inputs), Mat::rows(dy, len), T::zero());
            });
        } else {
            Tiles::new(dx, 1, batch, inputs, 64).for_each(be, |mut tile| {
                let w = Mat::rows(&weight[tile.start()..], inputs);
                tile.product(outputs, Mat::rows(dy, outputs), w, T::zero());
            });
        }
    }
    let across = cols.div_ceil(w);
    let tiles = groups * across;
    let (level, parts) = (be.level(), parts(tiles));
    let size = outputs * inputs + outputs;
    let mut partials = ws.real.take(parts * size);
    let want_bias = dbias.is_some();
    Tiles::new(&mut partials, 1, 1, parts * size, size).for_each(be, |mut part| {
        let p = part.start() / size;
        let part = part.row(0);
        part.fill(T::zero());
        let (dw, db) = part.split_at_mut(outputs * inputs);
        let mut dw = MatMut::rows(dw, inputs);
        for i in tiles * p / parts..tiles * (p + 1) / parts {
            let (b, t) = (i / across, i % across * w);
            let n = w.min(cols - t);
            let (dy, x) = if at_time {
                (&dy[b * outputs * len + t..], &x[b * inputs * len + t..])
            } else {
                (&dy[t * outputs..], &x[t * inputs..])
            };
            let (a, xt) = if at_time {
                (Mat::rows(dy, len), Mat::cols(x, len))
            } else {
                (Mat::cols(dy, outputs), Mat::rows(x, inputs))
            };
            gemm([outputs, inputs, n], T::one(), a, xt, T::one(), dw.reborrow());
            if want_bias && at_time {
                for (o, db) in db.iter_mut().enumerate() {
                    *db += simd!(level, _FMA => sum(&dy[o * len..][..n]));
                }
            } else if want_bias {
                for row in dy[..n * outputs].chunks_exact(outputs) {
                    for (db, &d) in db.iter_mut().zip(row) {
                        *db += d;
                    }
                }
            }
        }
    });
    add_parts(dweight, &partials, parts, 0);
    if let Some(dbias) = dbias {
        add_parts(dbias, &partials, parts, outputs * inputs);
    }
    ws.real.give(partials);
    Ok(())
}
