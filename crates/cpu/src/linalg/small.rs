//! Systems of a few equations, real or complex: elimination with pivoting.

use num_complex::ComplexFloat;

/// X ← M⁻¹X with M (size, size) and X (size, columns), row after row; M is destroyed.
pub(crate) fn solve<Z: ComplexFloat<Real = f64>>(m: &mut [Z], x: &mut [Z], size: usize) {
    let columns = x.len() / size.max(1);
    let magnitude = |z: Z| z.re() * z.re() + z.im() * z.im();
    for col in 0..size {
        let at = |row: usize| magnitude(m[row * size + col]);
        let pivot = (col..size).max_by(|&i, &j| at(i).total_cmp(&at(j))).unwrap_or(col);
        if pivot != col {
            for k in 0..size {
                m.swap(col * size + k, pivot * size + k);
            }
            for k in 0..columns {
                x.swap(col * columns + k, pivot * columns + k);
            }
        }
        let scale = m[col * size + col].recip();
        for row in col + 1..size {
            let factor = m[row * size + col] * scale;
            for k in col + 1..size {
                m[row * size + k] = m[row * size + k] - factor * m[col * size + k];
            }
            for k in 0..columns {
                x[row * columns + k] = x[row * columns + k] - factor * x[col * columns + k];
            }
        }
    }
    for row in (0..size).rev() {
        let scale = m[row * size + row].recip();
        for k in 0..columns {
            let mut value = x[row * columns + k];
            for j in row + 1..size {
                value = value - m[row * size + j] * x[j * columns + k];
            }
            x[row * columns + k] = value * scale;
        }
    }
}

/// `inverse` ← M⁻¹, both (size, size); M is destroyed.
pub(crate) fn invert(m: &mut [f64], inverse: &mut [f64], size: usize) {
    inverse.fill(0.0);
    for i in 0..size {
        inverse[i * size + i] = 1.0;
    }
    solve(m, inverse, size);
}

#[cfg(test)]
mod tests {
    use super::*;
    use num_complex::Complex;
    use s4_backend::random::Rng;

    #[test]
    fn a_solution_solves() {
        let mut rng = Rng::new(4, 0);
        for size in 1..=8 {
            for columns in [1, size] {
                let mut draw = |n: usize| -> Vec<Complex<f64>> {
                    (0..n).map(|_| Complex::new(rng.normal(), rng.normal())).collect()
                };
                let (mut m, b) = (draw(size * size), draw(size * columns));
                // The first pivot is not where elimination begins.
                m[0] = Complex::new(0.0, if size == 1 { 1.0 } else { 0.0 });
                let mut x = b.clone();
                solve(&mut m.clone(), &mut x, size);
                for (i, b) in b.iter().enumerate() {
                    let (row, col) = (i / columns, i % columns);
                    let sum: Complex<f64> = (0..size).map(|k| m[row * size + k] * x[k * columns + col]).sum();
                    assert!((sum - b).norm() <= 1e-10, "{size}: {sum} for {b}");
                }
            }
        }
    }

    #[test]
    fn an_inverse_inverts() {
        let m = [4.0, 1.0, -2.0, 3.0];
        let mut inverse = [0.0; 4];
        invert(&mut m.clone(), &mut inverse, 2);
        for (got, want) in inverse.iter().zip([3.0 / 14.0, -1.0 / 14.0, 2.0 / 14.0, 4.0 / 14.0]) {
            assert!((got - want).abs() <= 1e-15);
        }
    }
}
