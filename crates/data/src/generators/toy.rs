//! The toy tasks of the S4 papers, made from a seed.

use crate::{DataError, DataRng, Result};

/// A task with a token and a label at every time step; time steps with label −1 do not count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenTask {
    /// (count, len).
    pub tokens: Vec<i32>,
    /// (count, len).
    pub labels: Vec<i32>,
    /// Length of one sample.
    pub len: usize,
    /// Number of different tokens, which are 0 to vocabulary − 1.
    pub vocabulary: usize,
}

/// A task with real numbers as inputs and targets.
#[derive(Clone, Debug, PartialEq)]
pub struct RealTask {
    /// (count, len, features).
    pub inputs: Vec<f64>,
    /// (count, outputs).
    pub targets: Vec<f64>,
    /// Length of one sample.
    pub len: usize,
    /// Values of the input at one time step.
    pub features: usize,
    /// Values of one target.
    pub outputs: usize,
}

/// Refuses sizes of 0; `what` names the task.
fn check_positive(what: &str, sizes: &[usize]) -> Result<()> {
    if sizes.contains(&0) {
        return Err(DataError::new(format!("{what}: expected sizes of 1 or more, got {sizes:?}")));
    }
    Ok(())
}

/// The copying task (Arjovsky et al. 2016): `memorize` random symbols, `wait` blanks, then `memorize` marks, whose
/// labels are the symbols in order. Token 0 is the blank, 1 … `symbols` are symbols, `symbols` + 1 is the mark.
pub fn copying(count: usize, memorize: usize, wait: usize, symbols: usize, seed: u64) -> Result<TokenTask> {
    check_positive("copying", &[count, memorize, symbols])?;
    let len = 2 * memorize + wait;
    let mut task = TokenTask {
        tokens: vec![0; count * len],
        labels: vec![-1; count * len],
        len,
        vocabulary: symbols + 2,
    };
    for row in 0..count {
        let mut rng = DataRng::new(seed, row as u64);
        let tokens = &mut task.tokens[row * len..][..len];
        let labels = &mut task.labels[row * len..][..len];
        for i in 0..memorize {
            tokens[i] = 1 + rng.below(symbols) as i32;
            tokens[memorize + wait + i] = symbols as i32 + 1;
            labels[memorize + wait + i] = tokens[i];
        }
    }
    Ok(task)
}

/// The delay task: inputs are white noise of standard deviation 1, band-limited to the share `band` (0 to 1) of the
/// Nyquist frequency; the target (len) is the input `lag` time steps earlier, and 0 at the first `lag` time steps.
pub fn delay(count: usize, len: usize, lag: usize, band: f64, seed: u64) -> Result<RealTask> {
    check_positive("delay", &[count, len])?;
    if !(band > 0.0 && band <= 1.0) {
        return Err(DataError::new(format!("delay: expected a band in (0, 1], got {band}")));
    }
    let (mut inputs, mut targets) = (Vec::new(), Vec::new());
    for row in 0..count {
        let mut rng = DataRng::new(seed, row as u64);
        // A sum of the harmonics inside the band, each with a random amplitude of its cosine and of its sine.
        let harmonics = ((len as f64 / 2.0 * band) as usize).max(1);
        let scale = (1.0 / harmonics as f64).sqrt();
        let amplitudes: Vec<(f64, f64)> = (0..harmonics).map(|_| (rng.normal(), rng.normal())).collect();
        let u: Vec<f64> = (0..len)
            .map(|t| {
                let wave = |(k, (a, b)): (usize, &(f64, f64))| {
                    let (sin, cos) =
                        (std::f64::consts::TAU * ((k + 1) * t % len) as f64 / len as f64).sin_cos();
                    a * cos + b * sin
                };
                scale * amplitudes.iter().enumerate().map(wave).sum::<f64>()
            })
            .collect();
        targets.extend((0..len).map(|t| if t < lag { 0.0 } else { u[t - lag] }));
        inputs.extend(u);
    }
    Ok(RealTask { inputs, targets, len, features: 1, outputs: len })
}

/// The adding task (Hochreiter and Schmidhuber 1997): features are a value in [0, 1) and a mark, which is 1 at one time
/// step of each half and 0 elsewhere; the target is the sum of the two marked values.
pub fn adding(count: usize, len: usize, seed: u64) -> Result<RealTask> {
    check_positive("adding", &[count])?;
    if len < 2 {
        return Err(DataError::new(format!("adding: expected a length of 2 or more, got {len}")));
    }
    let (mut inputs, mut targets) = (Vec::with_capacity(2 * count * len), Vec::with_capacity(count));
    for row in 0..count {
        let mut rng = DataRng::new(seed, row as u64);
        let first = rng.below(len / 2);
        let second = len / 2 + rng.below(len - len / 2);
        let mut sum = 0.0;
        for t in 0..len {
            let (value, marked) = (rng.uniform(), t == first || t == second);
            inputs.extend([value, f64::from(u8::from(marked))]);
            sum += if marked { value } else { 0.0 };
        }
        targets.push(sum);
    }
    Ok(RealTask { inputs, targets, len, features: 2, outputs: 1 })
}

/// A sum of sines with noise, x_t = Σ_k sin(2πt/periods\[k\] + φ_k) + noise·ε_t: uniform phases φ and standard normal ε
/// from the seed. `len` values.
pub fn noisy_sines(len: usize, periods: &[f64], noise: f64, seed: u64) -> Result<Vec<f64>> {
    check_positive("noisy_sines", &[len])?;
    if let Some(period) = periods.iter().find(|p| !(**p > 0.0 && p.is_finite())) {
        return Err(DataError::new(format!("noisy_sines: expected periods above 0, got {period}")));
    }
    if !(noise >= 0.0 && noise.is_finite()) {
        return Err(DataError::new(format!("noisy_sines: expected noise of 0 or more, got {noise}")));
    }
    let mut rng = DataRng::new(seed, 0);
    let phases: Vec<f64> = periods.iter().map(|_| std::f64::consts::TAU * rng.uniform()).collect();
    Ok((0..len)
        .map(|t| {
            let wave = |(period, phase): (&f64, &f64)| {
                (std::f64::consts::TAU * (t as f64 / period).fract() + phase).sin()
            };
            periods.iter().zip(&phases).map(wave).sum::<f64>() + noise * rng.normal()
        })
        .collect())
}
