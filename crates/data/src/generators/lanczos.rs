//! Reduction of a square picture by the windowed sinc of Lanczos (three lobes), in bytes.

use std::f64::consts::PI;

/// One output pixel: the first input pixel that it sees, and the weight of each.
type Taps = (usize, Vec<f64>);

fn kernel(x: f64) -> f64 {
    match x.abs() {
        a if a < 1e-12 => 1.0,
        a if a < 3.0 => 3.0 * (PI * x).sin() * (PI * x / 3.0).sin() / (PI * PI * x * x),
        _ => 0.0,
    }
}

fn taps(from: usize, to: usize) -> Vec<Taps> {
    let scale = from as f64 / to as f64;
    (0..to)
        .map(|i| {
            let centre = (i as f64 + 0.5) * scale;
            let first = (centre - 3.0 * scale + 0.5).max(0.0) as usize;
            let end = ((centre + 3.0 * scale + 0.5) as usize).min(from);
            let raw: Vec<f64> = (first..end).map(|x| kernel((x as f64 + 0.5 - centre) / scale)).collect();
            let sum: f64 = raw.iter().sum();
            (first, raw.iter().map(|w| w / sum).collect())
        })
        .collect()
}

/// (from, from) to (to, to), rows first; values are rounded and clipped after each pass.
pub(super) fn reduce(picture: &[u8], from: usize, to: usize) -> Vec<u8> {
    let taps = taps(from, to);
    let pass = |rows: usize, at: &dyn Fn(usize, usize) -> u8| -> Vec<u8> {
        (0..rows)
            .flat_map(|r| {
                taps.iter().map(move |(first, weights)| {
                    let sum: f64 =
                        weights.iter().enumerate().map(|(k, w)| w * f64::from(at(r, first + k))).sum();
                    sum.round().clamp(0.0, 255.0) as u8
                })
            })
            .collect()
    };
    // The second pass runs along columns and leaves (column, row): `transposed` turns it back.
    let narrow = pass(from, &|r, x| picture[r * from + x]);
    let transposed = pass(to, &|c, y| narrow[y * to + c]);
    (0..to * to).map(|i| transposed[i % to * to + i / to]).collect()
}
