//! The activation functions in f64.

use s4_backend::Activation;

/// The normal distribution function Φ(x), by its power series, or in the tails by Laplace's continued fraction;
/// accurate to 1e-15 of max(Φ, 1 − Φ).
fn normal_cdf(x: f64) -> f64 {
    let a = x.abs();
    let density = (-0.5 * a * a).exp() / (2.0 * std::f64::consts::PI).sqrt();
    let tail = if a < 5.0 {
        // ½ − φ(a)·Σ a^{2k+1}/(1·3·…·(2k+1)).
        let (mut term, mut sum, mut k) = (a, a, 1.0);
        while term > 1e-18 * sum && a > 0.0 {
            term *= a * a / (2.0 * k + 1.0);
            sum += term;
            k += 1.0;
        }
        0.5 - density * sum
    } else {
        let mut d = a;
        for k in (1..200).rev() {
            d = a + f64::from(k) / d;
        }
        density / d
    };
    if x < 0.0 { tail } else { 1.0 - tail }
}

/// The logistic function σ(x) = 1/(1 + e⁻ˣ).
pub(super) fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// The activation function of this kind at x.
pub(super) fn activation(kind: Activation, x: f64) -> f64 {
    match kind {
        Activation::Identity => x,
        Activation::Gelu => x * normal_cdf(x),
        Activation::Relu => x.max(0.0),
        Activation::Silu => x * sigmoid(x),
        Activation::Tanh => x.tanh(),
        Activation::Sigmoid => sigmoid(x),
        Activation::Softplus => x.exp().ln_1p(),
    }
}

/// The derivative of an activation function, by the central difference of fourth order: accurate to 1e-12 except near a
/// kink.
pub(super) fn activation_derivative(kind: Activation, x: f64) -> f64 {
    const H: f64 = 5e-4;
    let value_at = |k: f64| activation(kind, x + k * H);
    (8.0 * (value_at(1.0) - value_at(-1.0)) - (value_at(2.0) - value_at(-2.0))) / (12.0 * H)
}
