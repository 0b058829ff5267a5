//! Pointwise nonlinearities.

use crate::choices::choices;

choices! {
    /// Activation function, applied to each element.
    pub enum Activation {
        /// x
        Identity = "identity",
        /// x·Φ(x), exact (erf)
        Gelu = "gelu",
        /// max(x, 0)
        Relu = "relu",
        /// x·σ(x)
        Silu = "silu",
        /// tanh x
        Tanh = "tanh",
        /// σ(x)
        Sigmoid = "sigmoid",
        /// log(1 + eˣ)
        Softplus = "softplus",
    }
}
