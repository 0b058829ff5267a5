//! Pointwise activations, value and derivative side by side.

use crate::linalg::{
    math::{exp, fma, normal, sigmoid, tanh},
    simd::{Level, simd},
};
use s4_backend::{Activation, Scalar};

/// One activation as a type, so that a loop over it has no branch inside.
trait Pointwise {
    /// f(x)
    fn value<T: Scalar, const FMA: bool>(x: T) -> T;
    /// (f(x), f′(x))
    fn both<T: Scalar, const FMA: bool>(x: T) -> (T, T);
}

struct Identity;
impl Pointwise for Identity {
    #[inline(always)]
    fn value<T: Scalar, const FMA: bool>(x: T) -> T {
        x
    }
    #[inline(always)]
    fn both<T: Scalar, const FMA: bool>(x: T) -> (T, T) {
        (x, T::one())
    }
}

/// x·Φ(x); derivative Φ(x) + x·φ(x).
struct Gelu;
impl Pointwise for Gelu {
    #[inline(always)]
    fn value<T: Scalar, const FMA: bool>(x: T) -> T {
        x * normal::<T, FMA>(x).0
    }
    #[inline(always)]
    fn both<T: Scalar, const FMA: bool>(x: T) -> (T, T) {
        let (cdf, density) = normal::<T, FMA>(x);
        (x * cdf, fma::<T, FMA>(x, density, cdf))
    }
}

/// max(x, 0); NaN stays NaN.
struct Relu;
impl Pointwise for Relu {
    #[inline(always)]
    fn value<T: Scalar, const FMA: bool>(x: T) -> T {
        if x < T::zero() { T::zero() } else { x }
    }
    #[inline(always)]
    fn both<T: Scalar, const FMA: bool>(x: T) -> (T, T) {
        (Self::value::<T, FMA>(x), if x > T::zero() { T::one() } else { T::zero() })
    }
}

/// x·σ(x); derivative σ(1 + x(1 − σ)).
struct Silu;
impl Pointwise for Silu {
    #[inline(always)]
    fn value<T: Scalar, const FMA: bool>(x: T) -> T {
        x * sigmoid::<T, FMA>(x)
    }
    #[inline(always)]
    fn both<T: Scalar, const FMA: bool>(x: T) -> (T, T) {
        let s = sigmoid::<T, FMA>(x);
        (x * s, s * fma::<T, FMA>(x, T::one() - s, T::one()))
    }
}

/// tanh x; derivative 1 − tanh².
struct Tanh;
impl Pointwise for Tanh {
    #[inline(always)]
    fn value<T: Scalar, const FMA: bool>(x: T) -> T {
        tanh::<T, FMA>(x)
    }
    #[inline(always)]
    fn both<T: Scalar, const FMA: bool>(x: T) -> (T, T) {
        let y = tanh::<T, FMA>(x);
        (y, T::one() - y * y)
    }
}

/// σ(x); derivative σ(1 − σ).
struct Sigmoid;
impl Pointwise for Sigmoid {
    #[inline(always)]
    fn value<T: Scalar, const FMA: bool>(x: T) -> T {
        sigmoid::<T, FMA>(x)
    }
    #[inline(always)]
    fn both<T: Scalar, const FMA: bool>(x: T) -> (T, T) {
        let s = sigmoid::<T, FMA>(x);
        (s, s * (T::one() - s))
    }
}

/// log(1 + eˣ), as max(x, 0) + log(1 + e^{−|x|}), which neither overflows nor cancels; derivative σ.
struct Softplus;
impl Pointwise for Softplus {
    #[inline(always)]
    fn value<T: Scalar, const FMA: bool>(x: T) -> T {
        x.max(T::zero()) + exp::<T, FMA>(-x.abs()).ln_1p()
    }
    #[inline(always)]
    fn both<T: Scalar, const FMA: bool>(x: T) -> (T, T) {
        (Self::value::<T, FMA>(x), sigmoid::<T, FMA>(x))
    }
}

/// Evaluates a body with `P` bound to the activation's type.
macro_rules! with_activation {
    ($activation:expr, $P:ident => $body:expr) => {{
        match $activation {
            Activation::Identity => {
                type $P = Identity;
                $body
            }
            Activation::Gelu => {
                type $P = Gelu;
                $body
            }
            Activation::Relu => {
                type $P = Relu;
                $body
            }
            Activation::Silu => {
                type $P = Silu;
                $body
            }
            Activation::Tanh => {
                type $P = Tanh;
                $body
            }
            Activation::Sigmoid => {
                type $P = Sigmoid;
                $body
            }
            Activation::Softplus => {
                type $P = Softplus;
                $body
            }
        }
    }};
}

// One function each, compiled once for every activation and level, whoever calls it.

/// y = f(x).
#[inline(never)]
pub(crate) fn values<T: Scalar>(f: Activation, level: Level, y: &mut [T], x: &[T]) {
    with_activation!(f, P => simd!(level, FMA => {
        for (y, &x) in y.iter_mut().zip(x) {
            *y = P::value::<T, FMA>(x);
        }
    }));
}

/// y = f(x), slope = f′(x).
#[inline(never)]
pub(crate) fn values_and_slopes<T: Scalar>(
    f: Activation,
    level: Level,
    y: &mut [T],
    slope: &mut [T],
    x: &[T],
) {
    with_activation!(f, P => simd!(level, FMA => {
        for ((y, s), &x) in y.iter_mut().zip(slope).zip(x) {
            (*y, *s) = P::both::<T, FMA>(x);
        }
    }));
}

/// z ← f(z + b).
#[inline(never)]
pub(crate) fn values_of_sum<T: Scalar>(f: Activation, level: Level, z: &mut [T], b: T) {
    with_activation!(f, P => simd!(level, FMA => {
        for z in z.iter_mut() {
            *z = P::value::<T, FMA>(*z + b);
        }
    }));
}

/// z ← f′(z + b).
#[inline(never)]
pub(crate) fn slopes_of_sum<T: Scalar>(f: Activation, level: Level, z: &mut [T], b: T) {
    with_activation!(f, P => simd!(level, FMA => {
        for z in z.iter_mut() {
            *z = P::both::<T, FMA>(*z + b).1;
        }
    }));
}
