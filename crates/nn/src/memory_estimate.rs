//! What a layer, block or model will take of memory, before it is made.

use crate::config::{BlockConfig, Encoder, LayerConfig, ModelConfig, NormKind};

/// Parameters of a layer, of a block, of a model: as many as are stored.
pub trait Parameters {
    /// How many reals.
    fn parameters(&self) -> u128;
}

impl Parameters for LayerConfig {
    fn parameters(&self) -> u128 {
        let spec = self.spec();
        let big = |n: usize| n as u128;
        // Λ, B and each row of P: a complex number for each pair of an SSM.
        let dynamics = big(spec.n_ssm) * big(spec.state) * (2 + big(spec.rank));
        let steps = big(spec.heads) * if spec.dt_per_state { big(spec.pairs()) } else { 1 };
        let c = big(spec.kernel_channels()) * big(spec.heads) * big(spec.state);
        dynamics + steps + c + big(spec.channels) * big(spec.heads)
    }
}

impl Parameters for BlockConfig {
    fn parameters(&self) -> u128 {
        let (heads, channels) = (self.layer.features as u128, self.layer.channels as u128);
        let rows = heads * if self.glu { 2 } else { 1 };
        let norm = if self.norm == NormKind::None { 0 } else { 2 * heads };
        self.layer.parameters() + rows * (heads * channels + 1) + norm
    }
}

impl Parameters for ModelConfig {
    fn parameters(&self) -> u128 {
        let heads = self.features() as u128;
        let encoder = match self.encoder {
            Encoder::Linear => heads * (self.input as u128 + 1),
            Encoder::Embedding => heads * self.vocabulary.unwrap_or(0) as u128,
            Encoder::None => 0,
        };
        let norm = if self.has_final_norm() { 2 * heads } else { 0 };
        let decoder = self.decoder_outputs() as u128 * (heads + 1);
        self.layers as u128 * self.block.parameters() + encoder + norm + decoder
    }
}

/// Bytes of the host at the least to initialise: the values as they are drawn in f64, and, where the parameters live on the
/// host, values and gradients of `scalar` bytes each.
pub fn initialization_bytes(config: &impl Parameters, scalar: usize, on_host: bool) -> u128 {
    config.parameters() * (8 + if on_host { 2 * scalar as u128 } else { 0 })
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
            assert_eq!(config.parameters(), layer.store().count() as u128, "{json}");
            let config = BlockConfig::from_json(json).unwrap();
            let block = Block::new(cpu.clone(), config.clone()).unwrap();
            assert_eq!(config.parameters(), block.store().count() as u128, "{json}");
        }
        for json in [
            r#"{"features": 6, "state": 8, "layers": 2, "input": 3, "output": 4}"#,
            r#"{"features": 6, "layers": 1, "encoder": "embedding", "vocabulary": 9, "glu": false, "loss": "gaussian"}"#,
            r#"{"features": 6, "layers": 1, "encoder": "none", "input": 6, "norm": "none", "prenorm": false}"#,
            r#"{"features": 6, "layers": 1, "norm": "batch", "finalNorm": false, "loss": "quantile"}"#,
        ] {
            let config = ModelConfig::from_json(json).unwrap();
            let model = Model::new(cpu.clone(), config.clone()).unwrap();
            assert_eq!(config.parameters(), model.store().count() as u128, "{json}");
        }
    }
}
