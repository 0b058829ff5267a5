//! The losses and their gradients: value and derivative of each row of the output (rows, outputs) are made together.

use crate::{Cpu, Workspace, linalg::gemm::Tiles};
use s4_backend::{LOSS_SUMS, Loss, LossForwardBackward, LossKind, Result, Scalar, Target};

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

/// Label smoothing, class weights and top-k of a cross-entropy.
struct CrossEntropy<'a, T> {
    smoothing: f64,
    /// Empty where every class has the weight 1.
    class_weights: &'a [T],
    /// Σ of the classes' weights.
    sum_of_weights: f64,
    top_k: usize,
}

impl<'a, T: Scalar> CrossEntropy<'a, T> {
    fn new(smoothing: f64, class_weights: Option<&'a [T]>, classes: usize, top_k: usize) -> Self {
        let class_weights = class_weights.unwrap_or(&[]);
        let sum_of_weights = match class_weights {
            [] => classes as f64,
            weights => weights.iter().map(|&w| Scalar::to_f64(w)).sum(),
        };
        CrossEntropy { smoothing, class_weights, sum_of_weights, top_k }
    }

    /// v_c
    #[inline(always)]
    fn weight(&self, class: usize) -> f64 {
        if self.class_weights.is_empty() { 1.0 } else { self.class_weights[class].to_f64() }
    }

    /// The loss of a row x; whether x[label] is the largest and whether it is among the `top_k` largest; −log softmax(x)[label];
    /// the place of the largest, unless the softmax is NaN. `d` ← the loss's gradient times `scale`.
    fn row(&self, x: &[T], label: usize, d: Option<&mut [T]>, scale: f64) -> RowOfLabels {
        let mut best = 0;
        for (i, &v) in x.iter().enumerate() {
            if v > x[best] {
                best = i;
            }
        }
        let top = x[best].to_f64();
        let total: f64 = x.iter().map(|&v| (v.to_f64() - top).exp()).sum();
        let nll = total.ln() + top - x[label].to_f64();
        // (1 − ε)·v_y and ε/classes.
        let (own, every) = ((1.0 - self.smoothing) * self.weight(label), self.smoothing / x.len() as f64);
        let mut value = own * nll;
        if every > 0.0 {
            let others = x.iter().enumerate().map(|(i, &v)| self.weight(i) * (total.ln() + top - v.to_f64()));
            value += every * others.sum::<f64>();
        }
        if let Some(d) = d {
            // ∂ℓ_c/∂x_j = softmax(x)[j] − [j = c].
            let g = scale * (own + every * self.sum_of_weights);
            for (d, &v) in d.iter_mut().zip(x) {
                *d = T::from_f64(g * (v.to_f64() - top).exp() / total);
            }
            if every > 0.0 {
                for (i, d) in d.iter_mut().enumerate() {
                    *d -= T::from_f64(scale * every * self.weight(i));
                }
            }
            d[label] -= T::from_f64(scale * own);
        }
        let in_top_k = match self.top_k {
            1 => best == label,
            k => {
                let above = |(i, &v): (usize, &T)| v > x[label] || (v == x[label] && i < label);
                x.iter().enumerate().filter(|&at| above(at)).count() < k
            }
        };
        // Where an output is NaN, or none is finite, no class is predicted.
        let best = (!nll.is_nan()).then_some(best);
        RowOfLabels { value, hit: best == Some(label), in_top_k: in_top_k && best.is_some(), nll, best }
    }
}

/// What a row of a cross-entropy gives.
struct RowOfLabels {
    value: f64,
    hit: bool,
    in_top_k: bool,
    nll: f64,
    best: Option<usize>,
}

/// CRPS of N(μ, σ²) at μ − r, σ·[z(2Φ(z) − 1) + 2φ(z) − 1/√π] with z = r/σ (Gneiting and Raftery 2007); it is even in r.
fn gaussian_crps(r: f64, sigma: f64) -> f64 {
    let z = r / sigma;
    let density = (-0.5 * z * z).exp() / std::f64::consts::TAU.sqrt();
    let inner = z * libm::erf(z * std::f64::consts::FRAC_1_SQRT_2) + 2.0 * density;
    sigma * (inner - std::f64::consts::FRAC_2_SQRT_PI / 2.0)
}

pub(crate) fn forward_backward<T: Scalar>(
    be: &Cpu<T>,
    args: LossForwardBackward<'_, Cpu<T>>,
    ws: &mut Workspace<T>,
) -> Result<()> {
    let width = args.check(be)?;
    let LossForwardBackward { stats, doutput, mut predictions, output, target, row_weights, loss, .. } = args;
    let (rows, outputs, denominator) = (args.rows, args.outputs, args.denominator);
    if rows * outputs == 0 {
        return Ok(());
    }
    let (values, labels) = match target {
        Target::Values(values) => (values, &[][..]),
        Target::Labels(labels) => (&[][..], labels.as_slice()),
    };
    let cross_entropy = CrossEntropy::new(loss.label_smoothing, args.class_weights, outputs, args.top_k);
    // What a row adds to the sums, and its prediction.
    let row_loss = |r: usize, d: Option<&mut [T]>| -> ([f64; LOSS_SUMS], f64) {
        let weight = row_weights.map_or(1.0, |w| w[r].to_f64());
        let scale = weight / denominator;
        let x = &output[r * outputs..][..outputs];
        match loss.kind {
            LossKind::CrossEntropy => match labels[r] {
                label if label < 0 || weight == 0.0 => {
                    if let Some(d) = d {
                        d.fill(T::zero());
                    }
                    ([0.0; LOSS_SUMS], -1.0)
                }
                label => {
                    let row = cross_entropy.row(x, label as usize, d, scale);
                    let counted = |holds: bool| if holds { weight } else { 0.0 };
                    let sums = [scale * row.value, counted(row.hit), counted(row.in_top_k), weight * row.nll];
                    (sums, row.best.map_or(-1.0, |best| best as f64))
                }
            },
            LossKind::Gaussian => {
                let target = &values[r * width..][..width];
                let (mut sums, mut d) = ([0.0; LOSS_SUMS], d);
                for i in 0..width {
                    let raw = x[width + i].to_f64();
                    let log_sigma = raw.clamp(-10.0, 10.0);
                    let precision = (-2.0 * log_sigma).exp();
                    let r = x[i].to_f64() - target[i].to_f64();
                    let value = 0.5 * r * r * precision + log_sigma + HALF_LN_TAU;
                    let row = [value, r * r, r.abs(), gaussian_crps(r, log_sigma.exp())];
                    sums.iter_mut().zip(row).for_each(|(sum, x)| *sum += x);
                    if let Some(d) = &mut d {
                        d[i] = T::from_f64(scale * r * precision);
                        let inside = (-10.0..=10.0).contains(&raw);
                        d[width + i] =
                            T::from_f64(if inside { scale * (1.0 - r * r * precision) } else { 0.0 });
                    }
                }
                (weighted(sums, scale, weight), -1.0)
            }
            LossKind::Quantile => {
                let target = &values[r * width..][..width];
                let levels = loss.levels.as_slice();
                let centre = loss.levels.centre();
                let (each, mut sums, mut d) = (scale / levels.len() as f64, [0.0; LOSS_SUMS], d);
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
                        sums[0] += slope * r / levels.len() as f64;
                        if k == centre {
                            sums[1] += r * r;
                            sums[2] += r.abs();
                        }
                        if let Some(d) = &mut d {
                            d[k * width + i] = T::from_f64(each * slope);
                        }
                    }
                }
                sums[3] = 2.0 * sums[0];
                (weighted(sums, scale, weight), -1.0)
            }
            LossKind::Mse | LossKind::Mae | LossKind::Huber | LossKind::LogCosh => {
                let target = &values[r * width..][..width];
                let (mut sums, mut d) = ([0.0; LOSS_SUMS], d);
                for i in 0..width {
                    let r = x[i].to_f64() - target[i].to_f64();
                    let (value, slope) = residual_loss(loss, r);
                    sums[0] += value;
                    sums[1] += r * r;
                    sums[2] += r.abs();
                    if let Some(d) = &mut d {
                        d[i] = T::from_f64(scale * slope);
                    }
                }
                (weighted(sums, scale, weight), -1.0)
            }
        }
    };
    // One partial sum of each of the sums per task; they are added in order.
    let blocks = rows.div_ceil(ROWS);
    let mut partials = ws.f64.take(LOSS_SUMS * blocks);
    let add = |cell: &mut [f64], row: [f64; LOSS_SUMS]| cell.iter_mut().zip(row).for_each(|(a, b)| *a += b);
    match (doutput, &mut predictions) {
        (Some(d), None) => {
            let cells = Tiles::flat(&mut partials, LOSS_SUMS);
            Tiles::flat(d, ROWS * outputs).for_each_with(be, cells, |mut d, mut cell| {
                let first = d.start() / outputs;
                let mut sums = [0.0; LOSS_SUMS];
                for (r, d) in (first..).zip(d.row(0).chunks_exact_mut(outputs)) {
                    add(&mut sums, row_loss(r, Some(d)).0);
                }
                cell.row(0).copy_from_slice(&sums);
            });
        }
        (mut doutput, predictions) => {
            for (block, cell) in partials.chunks_exact_mut(LOSS_SUMS).enumerate() {
                cell.fill(0.0);
                for r in block * ROWS..((block + 1) * ROWS).min(rows) {
                    let d = doutput.as_mut().map(|d| &mut d[r * outputs..][..outputs]);
                    let (sums, prediction) = row_loss(r, d);
                    add(cell, sums);
                    if let Some(predictions) = predictions {
                        predictions[r] = T::from_f64(prediction);
                    }
                }
            }
        }
    }
    let mut sums = [0.0; LOSS_SUMS];
    for cell in partials.chunks_exact(LOSS_SUMS) {
        for (sum, x) in sums.iter_mut().zip(cell) {
            *sum += x;
        }
    }
    for (to, x) in stats.iter_mut().zip(sums) {
        *to += T::from_f64(x);
    }
    ws.f64.give(partials);
    Ok(())
}

/// The sums of a row: its loss over the denominator, and the others by weight.
#[inline(always)]
fn weighted([loss, a, b, c]: [f64; LOSS_SUMS], scale: f64, weight: f64) -> [f64; LOSS_SUMS] {
    [scale * loss, weight * a, weight * b, weight * c]
}
