//! Pointwise activations, value and derivative side by side.

use crate::linalg::math::{exp, fma, normal, sigmoid, tanh};
use s4_backend::Scalar;

/// One activation as a type, so that a loop over it has no branch inside.
pub(crate) trait Pointwise {
    /// f(x)
    fn value<T: Scalar, const FMA: bool>(x: T) -> T;
    /// (f(x), f′(x))
    fn both<T: Scalar, const FMA: bool>(x: T) -> (T, T);
}

pub(crate) struct Identity;
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
pub(crate) struct Gelu;
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
pub(crate) struct Relu;
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
pub(crate) struct Silu;
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
pub(crate) struct Tanh;
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
pub(crate) struct Sigmoid;
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
pub(crate) struct Softplus;
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
        use $crate::dense::activation as kinds;
        match $activation {
            s4_backend::Activation::Identity => {
                type $P = kinds::Identity;
                $body
            }
            s4_backend::Activation::Gelu => {
                type $P = kinds::Gelu;
                $body
            }
            s4_backend::Activation::Relu => {
                type $P = kinds::Relu;
                $body
            }
            s4_backend::Activation::Silu => {
                type $P = kinds::Silu;
                $body
            }
            s4_backend::Activation::Tanh => {
                type $P = kinds::Tanh;
                $body
            }
            s4_backend::Activation::Sigmoid => {
                type $P = kinds::Sigmoid;
                $body
            }
            s4_backend::Activation::Softplus => {
                type $P = kinds::Softplus;
                $body
            }
        }
    }};
}
pub(crate) use with_activation;

/// y = f(x).
#[inline(always)]
pub(crate) fn map<P: Pointwise, T: Scalar, const FMA: bool>(y: &mut [T], x: &[T]) {
    for (y, &x) in y.iter_mut().zip(x) {
        *y = P::value::<T, FMA>(x);
    }
}

/// y = f(x), dy/dx = f′(x).
#[inline(always)]
pub(crate) fn map_both<P: Pointwise, T: Scalar, const FMA: bool>(y: &mut [T], slope: &mut [T], x: &[T]) {
    for ((y, s), &x) in y.iter_mut().zip(slope).zip(x) {
        (*y, *s) = P::both::<T, FMA>(x);
    }
}
