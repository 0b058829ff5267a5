//! Reduces a square picture of bytes with the Lanczos filter (a sinc of three lobes, windowed).

use std::f64::consts::PI;

/// What one output pixel is computed from: the first input pixel, and the weights of that one and those after it.
type PixelWeights = (usize, Vec<f64>);

/// The Lanczos filter at distance x, in output pixels.
fn lanczos(x: f64) -> f64 {
    match x.abs() {
        a if a < 1e-12 => 1.0,
        a if a < 3.0 => 3.0 * (PI * x).sin() * (PI * x / 3.0).sin() / (PI * PI * x * x),
        _ => 0.0,
    }
}

/// The weights of every output pixel when a row of `from` pixels is reduced to `to`.
fn pixel_weights(from: usize, to: usize) -> Vec<PixelWeights> {
    let scale = from as f64 / to as f64;
    (0..to)
        .map(|i| {
            let centre = (i as f64 + 0.5) * scale;
            let first = (centre - 3.0 * scale + 0.5).max(0.0) as usize;
            let end = ((centre + 3.0 * scale + 0.5) as usize).min(from);
            let unnormalized: Vec<f64> =
                (first..end).map(|x| lanczos((x as f64 + 0.5 - centre) / scale)).collect();
            let sum: f64 = unnormalized.iter().sum();
            (first, unnormalized.iter().map(|w| w / sum).collect())
        })
        .collect()
}

/// Reduces a picture of (from, from) pixels to (to, to), first along rows, then along columns; values are rounded and
/// clipped after each.
pub(super) fn reduce_picture(picture: &[u8], from: usize, to: usize) -> Vec<u8> {
    let pixel_weights = pixel_weights(from, to);
    let reduce_rows = |rows: usize, pixel_at: &dyn Fn(usize, usize) -> u8| -> Vec<u8> {
        (0..rows)
            .flat_map(|r| {
                pixel_weights.iter().map(move |(first, weights)| {
                    let sum: f64 =
                        weights.iter().enumerate().map(|(k, w)| w * f64::from(pixel_at(r, first + k))).sum();
                    sum.round().clamp(0.0, 255.0) as u8
                })
            })
            .collect()
    };
    // Reducing along columns gives pixels in the order (column, row); the last line transposes them.
    let narrow = reduce_rows(from, &|r, x| picture[r * from + x]);
    let transposed = reduce_rows(to, &|c, y| narrow[y * to + c]);
    (0..to * to).map(|i| transposed[i % to * to + i / to]).collect()
}
