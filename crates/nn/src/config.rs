//! Options of layers, blocks and models. As JSON they are what TypeScript passes and what checkpoints store.

use crate::{
    config_json::{parse_config, to_json},
    initialization::Init,
};
use s4_backend::{
    Activation, Discretization, Error, Loss, LossKind, Mode, Pooling, QuantileLevels, Result, SsmSpec,
    Transform,
};
use serde::{Deserialize, Serialize};

/// Serialisation of `Option<Pooling>` as the pooling's name, or `"none"`.
mod pooling_or_none {
    use s4_backend::Pooling;
    use serde::{Deserialize, Deserializer, Serializer, de::Error as _};

    pub fn serialize<S: Serializer>(pooling: &Option<Pooling>, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(pooling.map_or("none", Pooling::name))
    }
    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Option<Pooling>, D::Error> {
        let name = String::deserialize(d)?;
        match (Pooling::from_name(&name), name.as_str()) {
            (None, "none") => Ok(None),
            (None, _) => {
                Err(D::Error::custom(format!("'{name}' is not one of 'none', {}", Pooling::names())))
            }
            (found, _) => Ok(found),
        }
    }
}

/// Options of one SSM layer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LayerConfig {
    /// H, the number of features.
    pub features: usize,
    /// N, the real size of each feature's state.
    pub state: usize,
    /// Structure of A: diagonal plus low rank (`"s4"`) or diagonal (`"s4d"`).
    pub mode: Mode,
    /// How Λ, P and B start.
    pub init: Init,
    /// Rank of the low-rank part of A; by default 1, or 2 for LegT. S4D has none.
    pub rank: Option<usize>,
    /// S, the number of independent (A, B) that the features share; by default one for each feature.
    pub n_ssm: Option<usize>,
    /// Output channels for each feature.
    pub channels: usize,
    /// Whether outputs depend on later inputs too, through a second kernel that runs against time.
    pub bidirectional: bool,
    /// Smallest Δ at initialisation.
    pub dt_min: f64,
    /// Largest Δ at initialisation.
    pub dt_max: f64,
    /// Whether each conjugate pair of a state has a step size Δ of its own, instead of one Δ for each feature.
    pub dt_per_state: bool,
    /// How continuous time becomes steps; by default bilinear for S4 and zero-order hold for S4D.
    pub discretization: Option<Discretization>,
    /// t in Δ = t(inv_dt): makes the step size of a parameter that may be any number.
    pub dt_transform: Transform,
    /// f in Re Λ = −f(a_real).
    pub real_transform: Transform,
    /// g in Im Λ = −g(a_imag).
    pub imag_transform: Transform,
    /// Length that the kernel is cut to. Such a layer has no state.
    pub truncate: Option<usize>,
    /// Seed of the initial values, and of the dropout masks of forwards outside a training run.
    pub seed: u64,
}

impl Default for LayerConfig {
    fn default() -> Self {
        LayerConfig {
            features: 0,
            state: 64,
            mode: Mode::S4,
            init: Init::Legs,
            rank: None,
            n_ssm: None,
            channels: 1,
            bidirectional: false,
            dt_min: 1e-3,
            dt_max: 0.1,
            dt_per_state: false,
            discretization: None,
            dt_transform: Transform::Softplus,
            real_transform: Transform::Exp,
            imag_transform: Transform::None,
            truncate: None,
            seed: 0,
        }
    }
}

/// The kinds of normalisation that a block may have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum NormKind {
    #[default]
    Layer,
    Batch,
    None,
}

/// Options of a block: norm, S4, activation, dropout, linear, GLU, dropout, residual.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BlockConfig {
    /// Options of its SSM.
    #[serde(flatten)]
    pub layer: LayerConfig,
    /// Kind of norm: `"layer"`, `"batch"` or `"none"`.
    pub norm: NormKind,
    /// Whether the norm stands before the SSM; else it stands after the residual sum.
    pub prenorm: bool,
    /// Pointwise nonlinearity after the SSM.
    pub activation: Activation,
    /// Whether the linear gives twice the features, of which the block takes first half · σ(second half).
    pub glu: bool,
    /// Pointwise nonlinearity after a linear without GLU.
    pub final_activation: Activation,
    /// Probability of each of the two dropouts, which only training has.
    pub dropout: f64,
    /// Whether a dropout mask is the same at every time step of a sequence.
    pub tied_dropout: bool,
    /// Probability with which training leaves out, for a whole sequence, what the block adds to its input (stochastic depth).
    pub drop_path: f64,
    /// Whether the block's input is added to its output.
    pub residual: bool,
}

impl Default for BlockConfig {
    fn default() -> Self {
        BlockConfig {
            layer: LayerConfig::default(),
            norm: NormKind::Layer,
            prenorm: true,
            activation: Activation::Gelu,
            glu: true,
            final_activation: Activation::Identity,
            dropout: 0.0,
            tied_dropout: false,
            drop_path: 0.0,
            residual: true,
        }
    }
}

/// How a model maps inputs to features.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum Encoder {
    #[default]
    Linear,
    /// Inputs are tokens in 0..vocabulary.
    Embedding,
    /// The input has as many values as there are features, and is taken as they are.
    None,
}

/// Options of a model: encoder, blocks, final norm, pooling, decoder, loss.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ModelConfig {
    /// Values of the input at each time step. An embedding takes tokens and ignores it.
    pub input: usize,
    /// Number of values, or of classes, that are predicted.
    pub output: usize,
    /// How inputs become features: `"linear"`, `"embedding"` or `"none"`.
    pub encoder: Encoder,
    /// Number of different tokens, for an embedding.
    pub vocabulary: Option<usize>,
    /// Number of blocks.
    pub layers: usize,
    /// Options of every block.
    #[serde(flatten)]
    pub block: BlockConfig,
    /// Features between the two linears of a feed-forward layer after each block, in multiples of H; 0 for no such layer.
    pub feed_forward: f64,
    /// How the features of all time steps become one vector; without it (`"none"`) the model predicts at every time step.
    #[serde(with = "pooling_or_none")]
    pub pooling: Option<Pooling>,
    /// Whether a norm follows the last block; by default where the blocks have theirs before the SSM.
    pub final_norm: Option<bool>,
    /// The loss that training minimises.
    pub loss: LossKind,
    /// Error beyond which the Huber loss grows linearly.
    pub huber_delta: f64,
    /// Levels of the quantile loss: ascending numbers between 0 and 1.
    pub quantiles: Vec<f64>,
    /// ε of cross-entropy: the target is 1 − ε at the label, and ε/classes is added at every class.
    pub label_smoothing: f64,
    /// Weights of the classes in the mean loss of cross-entropy; 1 for each without.
    pub class_weights: Option<Vec<f64>>,
    /// A label that counts nothing, as every negative one.
    pub ignore_label: i32,
}

/// PyTorch's `ignore_index`.
const IGNORE_LABEL: i32 = -100;

impl Default for ModelConfig {
    fn default() -> Self {
        ModelConfig {
            input: 1,
            output: 1,
            encoder: Encoder::Linear,
            vocabulary: None,
            layers: 4,
            block: BlockConfig::default(),
            feed_forward: 0.0,
            pooling: None,
            final_norm: None,
            loss: LossKind::CrossEntropy,
            huber_delta: 1.0,
            quantiles: QuantileLevels::default().as_slice().to_vec(),
            label_smoothing: 0.0,
            class_weights: None,
            ignore_label: IGNORE_LABEL,
        }
    }
}

impl LayerConfig {
    /// Parses and checks options given as JSON. `ERR_S4_VALUE` names what is wrong.
    pub fn from_json(json: &str) -> Result<Self> {
        let config: Self = parse_config("S4Layer", json)?;
        config.check("S4Layer")?;
        Ok(config)
    }
    /// The options as JSON, those with default values included.
    pub fn to_json(&self) -> String {
        to_json(self)
    }
    /// Refuses options that are impossible by themselves or together, with `op` as the operation in the error.
    pub fn check(&self, op: &'static str) -> Result<()> {
        self.spec().check(op)?;
        let (lo, hi) = (self.dt_min, self.dt_max);
        if !(lo.is_finite() && hi.is_finite() && lo > 0.0 && lo <= hi && hi <= 1e3) {
            return Err(Error::value(op, "0 < dtMin ≤ dtMax", format!("{lo} and {hi}")));
        }
        if self.dt_transform == Transform::Sigmoid && hi >= 1.0 {
            return Err(Error::value(op, "dtMax below 1 with dtTransform 'sigmoid'", hi));
        }
        self.init.check(op, &self.spec())
    }
    /// The SSM of these options as backends are told of it, defaults filled in.
    pub fn spec(&self) -> SsmSpec {
        SsmSpec {
            mode: self.mode,
            heads: self.features,
            state: self.state,
            n_ssm: self.n_ssm.unwrap_or(self.features),
            rank: match self.mode {
                Mode::S4d => 0,
                Mode::S4 => self.rank.unwrap_or(self.init.default_rank()),
            },
            channels: self.channels,
            bidirectional: self.bidirectional,
            dt_per_state: self.dt_per_state,
            discretization: self.discretization.unwrap_or(match self.mode {
                Mode::S4 => Discretization::Bilinear,
                Mode::S4d => Discretization::Zoh,
            }),
            dt_transform: self.dt_transform,
            real_transform: self.real_transform,
            imag_transform: self.imag_transform,
            truncate: self.truncate,
        }
    }
}

impl BlockConfig {
    /// Parses and checks options given as JSON. `ERR_S4_VALUE` names what is wrong.
    pub fn from_json(json: &str) -> Result<Self> {
        let config: Self = parse_config("S4Block", json)?;
        config.check("S4Block")?;
        Ok(config)
    }
    /// The options as JSON, those with default values included.
    pub fn to_json(&self) -> String {
        to_json(self)
    }
    /// Refuses options that are impossible by themselves or together, with `op` as the operation in the error.
    pub fn check(&self, op: &'static str) -> Result<()> {
        self.layer.check(op)?;
        if !(0.0..1.0).contains(&self.dropout) {
            return Err(Error::value(op, "dropout from 0 to below 1", self.dropout));
        }
        if !(0.0..1.0).contains(&self.drop_path) {
            return Err(Error::value(op, "dropPath from 0 to below 1", self.drop_path));
        }
        if self.drop_path > 0.0 && !self.residual {
            return Err(Error::value(op, "dropPath only with residual", self.drop_path));
        }
        if self.glu && self.final_activation != Activation::Identity {
            return Err(Error::value(op, "finalActivation 'identity' with glu", self.final_activation));
        }
        Ok(())
    }
}

impl ModelConfig {
    /// Parses and checks options given as JSON. `ERR_S4_VALUE` names what is wrong.
    pub fn from_json(json: &str) -> Result<Self> {
        let config: Self = parse_config("SequenceModel", json)?;
        config.check("SequenceModel")?;
        Ok(config)
    }
    /// The options as JSON, those with default values included.
    pub fn to_json(&self) -> String {
        to_json(self)
    }
    /// Refuses options that are impossible by themselves or together, with `op` as the operation in the error.
    pub fn check(&self, op: &'static str) -> Result<()> {
        self.block.check(op)?;
        let check_size = |what: &str, n: usize, max: usize| {
            if n == 0 || n > max {
                return Err(Error::value(op, format!("{what} from 1 to {max}"), n));
            }
            Ok(())
        };
        check_size("input", self.input, 1 << 20)?;
        check_size("output", self.output, 1 << 24)?;
        check_size("layers", self.layers, 1 << 12)?;
        if !(self.feed_forward.is_finite() && self.feed_forward >= 0.0) {
            return Err(Error::value(op, "feedForward of 0 or more", self.feed_forward));
        }
        if self.feed_forward > 0.0 {
            check_size("feedForward·features", self.feed_forward_features(), 1 << 24)?;
        }
        match (self.encoder, self.vocabulary) {
            (Encoder::Embedding, Some(n)) => check_size("vocabulary", n, 1 << 24)?,
            (Encoder::Embedding, None) => {
                return Err(Error::value(op, "vocabulary with encoder 'embedding'", "none"));
            }
            (_, Some(n)) => return Err(Error::value(op, "vocabulary only with encoder 'embedding'", n)),
            (Encoder::None, None) if self.input != self.features() => {
                return Err(Error::value(
                    op,
                    format!("input of {} (features) without encoder", self.features()),
                    self.input,
                ));
            }
            _ => {}
        }
        if !(self.huber_delta.is_finite() && self.huber_delta > 0.0) {
            return Err(Error::value(op, "huberDelta above 0", self.huber_delta));
        }
        if QuantileLevels::new(&self.quantiles).is_none() {
            let expected =
                format!("quantiles: 1 to {} ascending levels between 0 and 1", QuantileLevels::MAX_COUNT);
            return Err(Error::value(op, expected, format!("{:?}", self.quantiles)));
        }
        self.check_labels(op)
    }
    /// Refuses impossible options of cross-entropy, and any where the loss is another.
    fn check_labels(&self, op: &'static str) -> Result<()> {
        if !(0.0..=1.0).contains(&self.label_smoothing) {
            return Err(Error::value(op, "labelSmoothing from 0 to 1", self.label_smoothing));
        }
        if let Some(weights) = &self.class_weights {
            if weights.len() != self.output {
                let expected = format!("classWeights of {} numbers, one for each class", self.output);
                return Err(Error::shape(op, expected, weights.len()));
            }
            if let Some(w) = weights.iter().find(|w| !(w.is_finite() && **w >= 0.0)) {
                return Err(Error::value(op, "classWeights of 0 or more", w));
            }
            if weights.iter().all(|&w| w == 0.0) {
                return Err(Error::value(op, "classWeights of which one is above 0", "zeros"));
            }
        }
        let given = [
            ("labelSmoothing", self.label_smoothing != 0.0),
            ("classWeights", self.class_weights.is_some()),
            ("ignoreLabel", self.ignore_label != IGNORE_LABEL),
        ];
        match given.iter().find(|(_, given)| *given && !self.loss.takes_labels()) {
            Some((name, _)) => {
                Err(Error::value(op, format!("{name} only with loss 'crossEntropy'"), self.loss))
            }
            None => Ok(()),
        }
    }
    /// H, the number of features between encoder and decoder.
    pub fn features(&self) -> usize {
        self.block.layer.features
    }
    /// Features between the two linears of a feed-forward layer, ⌊`feed_forward`·H⌋; 0 where there is none.
    pub fn feed_forward_features(&self) -> usize {
        (self.feed_forward * self.features() as f64) as usize
    }
    /// Number of values that the decoder gives for each prediction: a loss may need several for each of `output`.
    pub fn decoder_outputs(&self) -> usize {
        self.loss().outputs(self.output)
    }
    /// Whether a norm follows the last block.
    pub fn has_final_norm(&self) -> bool {
        self.block.norm != NormKind::None && self.final_norm.unwrap_or(self.block.prenorm)
    }
    /// The loss and its numbers as backends are told of them.
    pub fn loss(&self) -> Loss {
        let levels = QuantileLevels::new(&self.quantiles).unwrap_or_default();
        let (huber_delta, label_smoothing) = (self.huber_delta, self.label_smoothing);
        Loss { kind: self.loss, huber_delta, levels, label_smoothing }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config_json::with_present_names;

    #[test]
    fn json_round_trip_and_unknown_options() {
        let m = ModelConfig::from_json(
            r#"{"features": 16, "layers": 2, "mode": "s4d", "pooling": "mean", "loss": "mse", "seed": 7, "discretization": "bilinear"}"#,
        )
        .unwrap();
        assert_eq!((m.features(), m.block.layer.seed, m.pooling), (16, 7, Some(Pooling::Mean)));
        assert_eq!(m.block.layer.spec().discretization, Discretization::Bilinear);
        assert_eq!(ModelConfig::from_json(&m.to_json()).unwrap(), m);
        let old = r#"{"features": 16, "mode": "s4d", "disc": "bilinear"}"#;
        let refused = ModelConfig::from_json(old).unwrap_err();
        assert!(refused.expected.contains("'discretization'"), "{refused}");
        let read = ModelConfig::from_json(&with_present_names(old).unwrap()).unwrap();
        assert_eq!(read.block.layer.spec().discretization, Discretization::Bilinear);
        for bad in [
            r#"{"features": 16, "layer": 2}"#,
            r#"{"features": 0}"#,
            r#"{"features": 16, "dropout": 1}"#,
            r#"{"features": 16, "mode": "s5"}"#,
            r#"{"features": -1}"#,
            r#"{"features": 16, "state": 7}"#,
            r#"{"features": 16, "encoder": "embedding"}"#,
            r#"{"features": 16, "mode": "s4", "init": "lin"}"#,
            "[]",
        ] {
            assert!(ModelConfig::from_json(bad).is_err(), "{bad}");
        }
    }
}
