//! How much memory a layer, block or model will need, computed from its options before anything is allocated.

use crate::config::{BlockConfig, Encoder, LayerConfig, ModelConfig, NormKind};
use s4_backend::{Backend, Result, host_memory};

/// A configuration whose number of parameters can be computed without making them.
pub trait ParameterCount {
    /// Number of real numbers that the parameters consist of. Wide enough for options that no memory could hold.
    fn parameter_count(&self) -> u128;
}

impl ParameterCount for LayerConfig {
    fn parameter_count(&self) -> u128 {
        let spec = self.spec();
        let as_u128 = |n: usize| n as u128;
        // Λ, B and each row of P have a complex number for each conjugate pair of the state.
        let dynamics_count = as_u128(spec.n_ssm) * as_u128(spec.state) * (2 + as_u128(spec.rank));
        let step_sizes = as_u128(spec.heads) * if spec.dt_per_state { as_u128(spec.pairs()) } else { 1 };
        let c = as_u128(spec.kernel_channels()) * as_u128(spec.heads) * as_u128(spec.state);
        dynamics_count + step_sizes + c + as_u128(spec.channels) * as_u128(spec.heads)
    }
}

impl ParameterCount for BlockConfig {
    fn parameter_count(&self) -> u128 {
        let (heads, channels) = (self.layer.features as u128, self.layer.channels as u128);
        let rows = heads * if self.glu { 2 } else { 1 };
        let norm = if self.norm == NormKind::None { 0 } else { 2 * heads };
        self.layer.parameter_count() + rows * (heads * channels + 1) + norm
    }
}

impl ParameterCount for ModelConfig {
    fn parameter_count(&self) -> u128 {
        let heads = self.features() as u128;
        let encoder = match self.encoder {
            Encoder::Linear => heads * (self.input as u128 + 1),
            Encoder::Embedding => heads * self.vocabulary.unwrap_or(0) as u128,
            Encoder::None => 0,
        };
        let feed_forward = match self.feed_forward_features() as u128 {
            0 => 0,
            inner => {
                let norm = if self.block.norm == NormKind::None { 0 } else { 2 * heads };
                inner * (heads + 1) + heads * (inner + 1) + norm
            }
        };
        let norm = if self.has_final_norm() { 2 * heads } else { 0 };
        let decoder = self.decoder_outputs() as u128 * (heads + 1);
        self.layers as u128 * (self.block.parameter_count() + feed_forward) + encoder + norm + decoder
    }
}

/// Least number of bytes of the host's memory that initialising takes: the values are drawn in f64, and where the device is
/// the host there are values and gradients, of `scalar` bytes for each number.
pub fn initialization_bytes(config: &impl ParameterCount, scalar: usize, on_host: bool) -> u128 {
    config.parameter_count() * (8 + if on_host { 2 * scalar as u128 } else { 0 })
}

/// `ERR_S4_MEMORY`, before anything is allocated, where this machine has not the memory to initialise so many parameters.
pub fn check_initialization<B: Backend>(
    op: &'static str,
    config: &impl ParameterCount,
    be: &B,
) -> Result<()> {
    let bytes = initialization_bytes(config, size_of::<B::Scalar>(), be.device_id() == "cpu");
    host_memory::check(op, &format!("{} parameters", config.parameter_count()), bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Block, Layer, Model};
    use s4_cpu::Cpu;

    #[test]
    fn parameters_are_counted_as_they_are_made() {
        let cpu = Cpu::<f32>::new(1).unwrap();
        for json in [
            r#"{"features": 6, "state": 8}"#,
            r#"{"features": 6, "state": 8, "mode": "s4d", "channels": 2, "dtPerState": true}"#,
            r#"{"features": 6, "state": 8, "init": "legt", "nSsm": 2, "bidirectional": true}"#,
        ] {
            let config = LayerConfig::from_json(json).unwrap();
            let layer = Layer::new(cpu.clone(), config.clone()).unwrap();
            assert_eq!(config.parameter_count(), layer.store().count() as u128, "{json}");
            let config = BlockConfig::from_json(json).unwrap();
            let block = Block::new(cpu.clone(), config.clone()).unwrap();
            assert_eq!(config.parameter_count(), block.store().count() as u128, "{json}");
        }
        for json in [
            r#"{"features": 6, "state": 8, "layers": 2, "input": 3, "output": 4}"#,
            r#"{"features": 6, "layers": 1, "encoder": "embedding", "vocabulary": 9, "glu": false, "loss": "gaussian"}"#,
            r#"{"features": 6, "layers": 1, "encoder": "none", "input": 6, "norm": "none", "prenorm": false}"#,
            r#"{"features": 6, "layers": 1, "norm": "batch", "finalNorm": false, "loss": "quantile"}"#,
            r#"{"features": 6, "layers": 2, "feedForward": 2.5}"#,
            r#"{"features": 6, "layers": 2, "feedForward": 1, "norm": "none"}"#,
        ] {
            let config = ModelConfig::from_json(json).unwrap();
            let model = Model::new(cpu.clone(), config.clone()).unwrap();
            assert_eq!(config.parameter_count(), model.store().count() as u128, "{json}");
        }
    }
}
