//! Pointwise nonlinearities.

use crate::choices::choices;

choices! {
    /// Activation function, applied to each element.
    pub enum Activation {
        /// The identity, x
        Identity = "identity",
        /// GELU, x·Φ(x) with the normal distribution function Φ, computed by erf
        Gelu = "gelu",
        /// ReLU, max(x, 0)
        Relu = "relu",
        /// SiLU (swish), x·σ(x)
        Silu = "silu",
        /// The hyperbolic tangent, tanh x
        Tanh = "tanh",
        /// The logistic function σ(x) = 1/(1 + e⁻ˣ)
        Sigmoid = "sigmoid",
        /// Softplus, log(1 + eˣ)
        Softplus = "softplus",
    }
}
