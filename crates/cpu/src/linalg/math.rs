//! Elementary functions in plain arithmetic, so that loops over them become SIMD code at every level.
//!
//! f32 has its own forms (relative error ≤ 1e-6, tested against f64); f64, which exists for truth and
//! tests, takes the standard library's and `libm`'s. NaN goes in, NaN comes out.

use s4_backend::{Dtype, Scalar};

/// a·b + c; fused where that is one instruction (elsewhere `mul_add` would be a call).
#[inline(always)]
pub(crate) fn fma<T: Scalar, const FMA: bool>(a: T, b: T, c: T) -> T {
    if FMA { a.mul_add(b, c) } else { a * b + c }
}

#[inline(always)]
fn fma32<const FMA: bool>(a: f32, b: f32, c: f32) -> f32 {
    fma::<f32, FMA>(a, b, c)
}

/// Horner's rule, highest power first.
#[inline(always)]
fn poly32<const FMA: bool, const N: usize>(x: f32, c: [f32; N]) -> f32 {
    let mut y = c[0];
    for &c in &c[1..] {
        y = fma32::<FMA>(y, x, c);
    }
    y
}

/// 1.5·2²³: adding it leaves the nearest integer in the low bits of the sum.
const ROUND: f32 = 12_582_912.0;
/// ln 2 in two parts; n·LN2_HI is exact for |n| < 2⁹.
const LN2_HI: f32 = 0.693_359_4;
const LN2_LO: f32 = -2.121_944_4e-4;

/// 2ⁿ·eʳ for |r| ≤ ln 2/2 where n is the rounded y/ln 2 and r comes from the caller (Cephes `expf`).
#[inline(always)]
fn exp_parts<const FMA: bool>(y: f32, r: impl FnOnce(f32) -> f32) -> f32 {
    let shifted = fma32::<FMA>(y, std::f32::consts::LOG2_E, ROUND);
    let n = shifted - ROUND;
    let r = fma32::<FMA>(-n, LN2_LO, r(n));
    let p = poly32::<FMA, 6>(
        r,
        [1.987_569_1e-4, 1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5],
    );
    let e = fma32::<FMA>(p, r * r, r) + 1.0;
    let scale = (shifted.to_bits().wrapping_sub(ROUND.to_bits()).wrapping_add(127)) << 23;
    e * f32::from_bits(scale)
}

/// eˣ with x held to ±87.
#[inline(always)]
fn exp32<const FMA: bool>(x: f32) -> f32 {
    let x = if x > 87.0 { 87.0 } else { x };
    let x = if x < -87.0 { -87.0 } else { x };
    exp_parts::<FMA>(
        x,
        #[inline(always)]
        |n| fma32::<FMA>(-n, LN2_HI, x),
    )
}

/// tanh: its series where 1 − 2/(e²ˣ + 1) would cancel (Cephes `tanhf`).
#[inline(always)]
fn tanh32<const FMA: bool>(x: f32) -> f32 {
    let z = x * x;
    let p = poly32::<FMA, 5>(
        z,
        [-5.704_988_7e-3, 2.063_909e-2, -5.373_971_6e-2, 1.333_144_2e-1, -3.333_328_2e-1],
    );
    let near = fma32::<FMA>(p * z, x, x);
    let a = x.abs();
    let far = (1.0 - 2.0 / (exp32::<FMA>(2.0 * a) + 1.0)).copysign(x);
    if a < 0.625 { near } else { far }
}

/// (Φ(x), φ(x)). The upper tail is φ times Mills' ratio, a polynomial of degree 8 in t = 1/(1 + 0.35|x|)
/// fitted to 4e-8; so the lower tail keeps its relative accuracy too.
#[inline(always)]
fn normal32<const FMA: bool>(x: f32) -> (f32, f32) {
    let a = x.abs();
    // e^{−13²/2} is the smallest normal number; NaN passes.
    let a = if a > 13.0 { 13.0 } else { a };
    let minus_half_a = -0.5 * a;
    let e = exp_parts::<FMA>(
        minus_half_a * a,
        #[inline(always)]
        |n| fma32::<FMA>(minus_half_a, a, -(n * LN2_HI)),
    );
    let t = 1.0 / fma32::<FMA>(a, 0.35, 1.0);
    let ratio = poly32::<FMA, 9>(
        t,
        [
            -0.029_679_522,
            0.146_545_83,
            -0.260_961_23,
            0.165_050_996,
            -0.027_046_608,
            0.107_114_588,
            0.119_444_917,
            0.139_912_298,
            0.139_618_713,
        ],
    );
    let tail = e * t * ratio;
    (if x < 0.0 { tail } else { 1.0 - tail }, e * 0.398_942_28)
}

/// An f32 as such: by way of f64 the compiler would compare vectors of f64.
#[inline(always)]
fn narrow<T: Scalar>(x: T) -> f32 {
    bytemuck::cast(x)
}
#[inline(always)]
fn widen<T: Scalar>(x: f32) -> T {
    bytemuck::cast(x)
}

/// eˣ; f32 holds x to ±87.
#[inline(always)]
pub(crate) fn exp<T: Scalar, const FMA: bool>(x: T) -> T {
    match T::DTYPE {
        Dtype::F32 => widen(exp32::<FMA>(narrow(x))),
        Dtype::F64 => x.exp(),
    }
}

/// σ(x) = 1/(1 + e⁻ˣ).
#[inline(always)]
pub(crate) fn sigmoid<T: Scalar, const FMA: bool>(x: T) -> T {
    T::one() / (T::one() + exp::<T, FMA>(-x))
}

/// tanh x.
#[inline(always)]
pub(crate) fn tanh<T: Scalar, const FMA: bool>(x: T) -> T {
    match T::DTYPE {
        Dtype::F32 => widen(tanh32::<FMA>(narrow(x))),
        Dtype::F64 => x.tanh(),
    }
}

/// (Φ(x), φ(x)): distribution and density of the standard normal.
#[inline(always)]
pub(crate) fn normal<T: Scalar, const FMA: bool>(x: T) -> (T, T) {
    match T::DTYPE {
        Dtype::F32 => {
            let (a, b) = normal32::<FMA>(narrow(x));
            (widen(a), widen(b))
        }
        Dtype::F64 => {
            let x = x.to_f64();
            let phi = (-0.5 * x * x).exp() * 0.398_942_280_401_432_7;
            (T::from_f64(0.5 * libm::erfc(-x * std::f64::consts::FRAC_1_SQRT_2)), T::from_f64(phi))
        }
    }
}

/// Partial sums kept side by side; fixed, so that a sum does not depend on the SIMD width or on threads.
pub(crate) const LANES: usize = 32;

/// Σ x.
#[inline(always)]
pub(crate) fn sum<T: Scalar>(x: &[T]) -> T {
    let mut acc = [T::zero(); LANES];
    let (body, tail) = x.as_chunks::<LANES>();
    for c in body {
        for i in 0..LANES {
            acc[i] += c[i];
        }
    }
    fold(acc, tail.iter().copied())
}

/// Σ (x − μ)².
#[inline(always)]
pub(crate) fn deviation<T: Scalar, const FMA: bool>(x: &[T], mean: T) -> T {
    let mut acc = [T::zero(); LANES];
    let (body, tail) = x.as_chunks::<LANES>();
    for c in body {
        for i in 0..LANES {
            let d = c[i] - mean;
            acc[i] = fma::<T, FMA>(d, d, acc[i]);
        }
    }
    fold(acc, tail.iter().map(|&x| (x - mean) * (x - mean)))
}

/// Σ x·y in a few wide accumulators: for vectors of tens to hundreds of elements.
#[inline(always)]
pub(crate) fn dot<T: Scalar, const FMA: bool>(x: &[T], y: &[T]) -> T {
    const WIDE: usize = 16;
    let mut acc = [T::zero(); WIDE];
    let (xb, xt) = x.as_chunks::<WIDE>();
    let (yb, yt) = y.as_chunks::<WIDE>();
    for (a, b) in xb.iter().zip(yb) {
        for i in 0..WIDE {
            acc[i] = fma::<T, FMA>(a[i], b[i], acc[i]);
        }
    }
    let mut s = fold16(acc);
    for (&a, &b) in xt.iter().zip(yt) {
        s = fma::<T, FMA>(a, b, s);
    }
    s
}

/// Sixteen lanes in a tree.
#[inline(always)]
fn fold16<T: Scalar>(mut acc: [T; 16]) -> T {
    for i in 0..8 {
        acc[i] += acc[i + 8];
    }
    ((acc[0] + acc[4]) + (acc[2] + acc[6])) + ((acc[1] + acc[5]) + (acc[3] + acc[7]))
}

/// The lanes in pairs, then the tail.
#[inline(always)]
pub(crate) fn fold<T: Scalar>(mut acc: [T; LANES], tail: impl Iterator<Item = T>) -> T {
    let mut width = LANES / 2;
    while width > 0 {
        for i in 0..width {
            acc[i] = acc[i] + acc[i + width];
        }
        width /= 2;
    }
    let mut s = acc[0];
    for x in tail {
        s += x;
    }
    s
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Worst relative error over a grid.
    fn worst(from: f64, to: f64, f: impl Fn(f32) -> f32, truth: impl Fn(f64) -> f64) -> f64 {
        let n = 200_001;
        let mut worst = 0.0f64;
        for i in 0..n {
            let x = (from + (to - from) * i as f64 / (n - 1) as f64) as f32;
            let (got, want) = (f(x) as f64, truth(x as f64));
            let err = if want == 0.0 { got.abs() } else { ((got - want) / want).abs() };
            assert!(err.is_finite(), "{got} at {x}");
            worst = worst.max(err);
        }
        worst
    }

    fn all<const FMA: bool>(tails: f64) {
        let phi = |x: f64| (-0.5 * x * x).exp() * 0.398_942_280_401_432_7;
        let cdf = |x: f64| 0.5 * libm::erfc(-x * std::f64::consts::FRAC_1_SQRT_2);
        assert!(worst(-86.0, 86.0, exp32::<FMA>, f64::exp) <= 3e-7);
        assert!(worst(-20.0, 20.0, tanh32::<FMA>, f64::tanh) <= 3e-7);
        assert!(worst(-1e-3, 1e-3, tanh32::<FMA>, f64::tanh) <= 2e-7);
        assert!(worst(-80.0, 80.0, sigmoid::<f32, FMA>, |x| 1.0 / (1.0 + (-x).exp())) <= 4e-7);
        assert!(worst(-5.0, 6.0, |x| normal32::<FMA>(x).0, cdf) <= 1e-6);
        assert!(worst(-5.0, 5.0, |x| normal32::<FMA>(x).1, phi) <= 1e-6);
        assert!(worst(-12.5, -5.0, |x| normal32::<FMA>(x).0, cdf) <= tails);
        assert!(worst(-5.0, 6.0, |x| x * normal32::<FMA>(x).0, |x| x * cdf(x)) <= 1e-6);
    }

    #[test]
    fn elementary_functions_are_within_1e6() {
        all::<true>(1e-6);
        // Without a fused product −x²/2 is rounded once more, which the far tail multiplies.
        all::<false>(1e-5);
    }

    #[test]
    fn nan_passes() {
        for f in [exp32::<true>, tanh32::<true>, sigmoid::<f32, true>, |x| normal32::<true>(x).0] {
            assert!(f(f32::NAN).is_nan());
        }
    }

    #[test]
    fn sums() {
        let x: Vec<f64> = (0..77).map(|i| i as f64).collect();
        assert_eq!(sum(&x), 77.0 * 38.0);
        assert_eq!(dot::<f64, false>(&x, &x), (0..77).map(|i| (i * i) as f64).sum::<f64>());
    }
}
