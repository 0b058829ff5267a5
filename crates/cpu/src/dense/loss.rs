//! The losses and their gradients: value and derivative of each row of the output (rows, outputs) are made together.

use crate::{Cpu, Workspace, linalg::gemm::Tiles};
use s4_backend::{Loss, LossForwardBackward, LossKind, Result, Scalar, Target};

/// ½·ln 2π.
const HALF_LN_TAU: f64 = 0.918_938_533_204_672_7;

/// Rows that one task takes.
const ROWS: usize = 256;

/// (ℓ(r), ℓ′(r)) of r = output − target.
#[inline(always)]
fn residual_loss(loss: Loss, r: f64) -> (f64, f64) {
    let delta = loss.huber_delta;
    match loss.kind {
        LossKind::Mae => (r.abs(), if r == 0.0 { 0.0 } else { r.signum() }),
        LossKind::Huber if r.abs() > delta => (delta * (r.abs() - 0.5 * delta), delta * r.signum()),
        LossKind::Huber => (0.5 * r * r, r),
        LossKind::Mse => (r * r, 2.0 * r),
        // log cosh r = |r| + log(1 + e^{−2|r|}) − log 2, which does not overflow.
        LossKind::LogCosh => (r.abs() + (-2.0 * r.abs()).exp().ln_1p() - std::f64::consts::LN_2, r.tanh()),
        LossKind::CrossEntropy | LossKind::Gaussian | LossKind::Quantile => {
            unreachable!("no loss of residuals")
        }
    }
}

/// −log softmax(x)[label] and whether x[label] is the largest; `d` ← its gradient times `scale`.
fn cross_entropy<T: Scalar>(x: &[T], label: usize, d: Option<&mut [T]>, scale: f64) -> (f64, bool) {
    let mut best = 0;
    for (i, &v) in x.iter().enumerate() {
        if v > x[best] {
            best = i;
        }
    }
    let top = x[best].to_f64();
    let total: f64 = x.iter().map(|&v| (v.to_f64() - top).exp()).sum();
    if let Some(d) = d {
        for (d, &v) in d.iter_mut().zip(x) {
            *d = T::from_f64(scale * (v.to_f64() - top).exp() / total);
        }
        d[label] -= T::from_f64(scale);
    }
    (total.ln() + top - x[label].to_f64(), best == label)
}

pub(crate) fn forward_backward<T: Scalar>(
    be: &Cpu<T>,
    args: LossForwardBackward<'_, Cpu<T>>,
    ws: &mut Workspace<T>,
) -> Result<()> {
    let width = args.check(be)?;
    let LossForwardBackward { stats, doutput, output, target, row_weights, loss, .. } = args;
    let (rows, outputs, denominator) = (args.rows, args.outputs, args.denominator);
    if rows * outputs == 0 {
        return Ok(());
    }
    let (values, labels) = match target {
        Target::Values(values) => (values, &[][..]),
        Target::Labels(labels) => (&[][..], labels.as_slice()),
    };
    let row_loss = |r: usize, d: Option<&mut [T]>| -> (f64, f64) {
        let weight = row_weights.map_or(1.0, |w| w[r].to_f64());
        let scale = weight / denominator;
        let x = &output[r * outputs..][..outputs];
        match loss.kind {
            LossKind::CrossEntropy => match labels[r] {
                label if label < 0 || weight == 0.0 => {
                    if let Some(d) = d {
                        d.fill(T::zero());
                    }
                    (0.0, 0.0)
                }
                label => {
                    let (value, hit) = cross_entropy(x, label as usize, d, scale);
                    (scale * value, if hit { weight } else { 0.0 })
                }
            },
            LossKind::Gaussian => {
                let target = &values[r * width..][..width];
                let (mut total, mut d) = (0.0, d);
                for i in 0..width {
                    let raw = x[width + i].to_f64();
                    let log_sigma = raw.clamp(-10.0, 10.0);
                    let precision = (-2.0 * log_sigma).exp();
                    let r = x[i].to_f64() - target[i].to_f64();
                    total += 0.5 * r * r * precision + log_sigma + HALF_LN_TAU;
                    if let Some(d) = &mut d {
                        d[i] = T::from_f64(scale * r * precision);
                        let inside = (-10.0..=10.0).contains(&raw);
                        d[width + i] =
                            T::from_f64(if inside { scale * (1.0 - r * r * precision) } else { 0.0 });
                    }
                }
                (scale * total, 0.0)
            }
            LossKind::Quantile => {
                let target = &values[r * width..][..width];
                let levels = loss.levels.as_slice();
                let (each, mut total, mut d) = (scale / levels.len() as f64, 0.0, d);
                for (k, q) in levels.iter().enumerate() {
                    for i in 0..width {
                        // Of r = output − target: (1 − q)·r above 0, −q·r below.
                        let r = x[k * width + i].to_f64() - target[i].to_f64();
                        let slope = if r > 0.0 {
                            1.0 - q
                        } else if r == 0.0 {
                            0.0
                        } else {
                            -q
                        };
                        total += slope * r;
                        if let Some(d) = &mut d {
                            d[k * width + i] = T::from_f64(each * slope);
                        }
                    }
                }
                (each * total, 0.0)
            }
            LossKind::Mse | LossKind::Mae | LossKind::Huber | LossKind::LogCosh => {
                let target = &values[r * width..][..width];
                let (mut total, mut d) = (0.0, d);
                for i in 0..width {
                    let (value, slope) = residual_loss(loss, x[i].to_f64() - target[i].to_f64());
                    total += value;
                    if let Some(d) = &mut d {
                        d[i] = T::from_f64(scale * slope);
                    }
                }
                (scale * total, 0.0)
            }
        }
    };
    // One partial sum (loss, hits) per task; they are added in order.
    let blocks = rows.div_ceil(ROWS);
    let mut partials = ws.f64.take(2 * blocks);
    match doutput {
        Some(d) => {
            let cells = Tiles::flat(&mut partials, 2);
            Tiles::flat(d, ROWS * outputs).for_each_with(be, cells, |mut d, mut cell| {
                let first = d.start() / outputs;
                let (mut total, mut hits) = (0.0, 0.0);
                for (r, d) in (first..).zip(d.row(0).chunks_exact_mut(outputs)) {
                    let (value, hit) = row_loss(r, Some(d));
                    total += value;
                    hits += hit;
                }
                cell.row(0).copy_from_slice(&[total, hits]);
            });
        }
        None => {
            for (block, cell) in partials.chunks_exact_mut(2).enumerate() {
                cell.fill(0.0);
                for r in block * ROWS..((block + 1) * ROWS).min(rows) {
                    let (value, hit) = row_loss(r, None);
                    cell[0] += value;
                    cell[1] += hit;
                }
            }
        }
    }
    let (mut total, mut hits) = (0.0, 0.0);
    for cell in partials.chunks_exact(2) {
        total += cell[0];
        hits += cell[1];
    }
    stats[0] += T::from_f64(total);
    stats[1] += T::from_f64(hits);
    ws.f64.give(partials);
    Ok(())
}
