//! The losses that training can minimise.

use crate::{Error, Memory, Result, checks::ViewChecks, choices::choices};

choices! {
    /// The loss of one prediction; training minimises its average over all predictions and over the target's values.
    pub enum LossKind {
        /// −log softmax(output)\[label\]; output width = classes. Labels may be smoothed and classes weighted, see [`Loss`].
        CrossEntropy = "crossEntropy",
        /// (output − target)²
        Mse = "mse",
        /// |output − target|
        Mae = "mae",
        /// ½r² for |r| up to `huber_delta`, linear beyond, r = output − target.
        Huber = "huber",
        /// Negative log likelihood of N(μ, σ²); the output is 2·width: μ first, then log σ (held to ±10).
        Gaussian = "gaussian",
        /// log cosh(output − target): quadratic near 0, linear far from it, smooth everywhere.
        LogCosh = "logCosh",
        /// The mean over the levels q of the pinball loss max(q·r, (q − 1)·r), r = target − output; the output is
        /// levels·width: the values of the first level, then those of the second, and so on.
        Quantile = "quantile",
    }
}

impl LossKind {
    /// Whether targets are integer labels; otherwise real values.
    pub fn takes_labels(self) -> bool {
        matches!(self, LossKind::CrossEntropy)
    }
}

/// The quantiles that a quantile loss predicts: 1 to 9 numbers, ascending, each above 0 and below 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct QuantileLevels {
    count: usize,
    values: [f64; QuantileLevels::MAX_COUNT],
}

impl QuantileLevels {
    /// The largest number of levels, enough for all deciles.
    pub const MAX_COUNT: usize = 9;

    /// Levels from 1 to 9 ascending numbers between 0 and 1; `None` for any others.
    pub fn new(levels: &[f64]) -> Option<Self> {
        let inside = levels.iter().all(|&q| q > 0.0 && q < 1.0);
        let ascending = levels.windows(2).all(|pair| pair[0] < pair[1]);
        if levels.is_empty() || levels.len() > Self::MAX_COUNT || !inside || !ascending {
            return None;
        }
        let mut values = [0.0; Self::MAX_COUNT];
        values[..levels.len()].copy_from_slice(levels);
        Some(QuantileLevels { count: levels.len(), values })
    }

    /// The levels as numbers, ascending.
    pub fn as_slice(&self) -> &[f64] {
        &self.values[..self.count]
    }

    /// Place of the level nearest to ½, whose values are the point forecast; of two equally near the lower one.
    pub fn centre(&self) -> usize {
        let distance = |i: usize| (self.values[i] - 0.5).abs();
        (0..self.count).fold(0, |best, i| if distance(i) < distance(best) { i } else { best })
    }

    /// The levels with zeros after the last one: an array of fixed length, as a CUDA kernel takes it.
    pub fn padded(&self) -> &[f64; Self::MAX_COUNT] {
        &self.values
    }
}

impl Default for QuantileLevels {
    /// The first decile, the median and the ninth decile.
    fn default() -> Self {
        let mut values = [0.0; Self::MAX_COUNT];
        values[..3].copy_from_slice(&[0.1, 0.5, 0.9]);
        QuantileLevels { count: 3, values }
    }
}

/// A loss with its settings.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Loss {
    /// Which loss it is.
    pub kind: LossKind,
    /// The |output − target| from which on the Huber loss is linear.
    pub huber_delta: f64,
    /// The quantiles that the quantile loss predicts.
    pub levels: QuantileLevels,
    /// ε of cross-entropy, from 0 to 1: the target is 1 − ε at the label, and ε/classes is added at every class.
    pub label_smoothing: f64,
}

impl From<LossKind> for Loss {
    /// The loss of this kind with default settings.
    fn from(kind: LossKind) -> Self {
        Loss { kind, huber_delta: 1.0, levels: QuantileLevels::default(), label_smoothing: 0.0 }
    }
}

impl Loss {
    /// Values that the network must output for a target of `width` values, or for `width` classes.
    pub fn outputs(&self, width: usize) -> usize {
        match self.kind {
            LossKind::Gaussian => 2 * width,
            LossKind::Quantile => self.levels.count * width,
            _ => width,
        }
    }

    /// The values of a target (or classes) for which the network outputs `outputs` values; `None` where no number fits.
    pub fn width(&self, outputs: usize) -> Option<usize> {
        let outputs_per_value = self.outputs(1);
        outputs.is_multiple_of(outputs_per_value).then_some(outputs / outputs_per_value)
    }
}

/// Targets of a loss, one for each prediction: real values, or integer labels, where a negative label means that the
/// prediction does not count.
pub enum Target<'a, B: Memory> {
    /// (rows, width)
    Values(B::Ref<'a>),
    /// (rows)
    Labels(&'a B::Ints),
}

impl<B: Memory> Clone for Target<'_, B> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<B: Memory> Copy for Target<'_, B> {}

/// How many numbers a loss adds to: its value, and three sums of which metrics are made, see [`LossForwardBackward`].
pub const LOSS_SUMS: usize = 4;

/// Value and gradient of a loss, and the sums of which metrics are made. With w the weight of a prediction, v_c that of class c,
/// and ε the label smoothing, the loss of a prediction whose label is y is
/// w·[(1 − ε)·v_y·ℓ_y + ε/classes·Σ_c v_c·ℓ_c] with ℓ_c = −log softmax(output)\[c\] for cross-entropy (as PyTorch's
/// `cross_entropy` has it), and w·ℓ for the others.
///
/// Adds to stats\[0\] the sum over predictions of loss/denominator, leaving out those with a negative label, and to the other
/// three, neither smoothed nor weighted by class:
///
/// - cross-entropy: Σw where the largest output is the label; Σw where fewer than `top_k` outputs are larger than the label's (an
///   equal output of a lower class counts as larger); Σw·ℓ_y;
/// - the others, with r = point forecast − target (the mean, or the quantile at [`QuantileLevels::centre`]), summed over the values of a
///   target: Σw·r²; Σw·|r|; Σw·CRPS (continuous ranked probability score: closed form of a normal distribution, twice the mean
///   pinball loss of quantiles; 0 for losses without a distribution).
///
/// Overwrites `doutput` with the gradient of what is added to stats\[0\], and `predictions` with the class of the largest output;
/// −1 where a label is negative or the weight is 0, and where the softmax is NaN (then the label is not found either).
#[allow(missing_docs)]
pub struct LossForwardBackward<'a, B: Memory> {
    /// (4), [`LOSS_SUMS`]
    pub stats: B::Mut<'a>,
    /// (rows, outputs)
    pub doutput: Option<B::Mut<'a>>,
    /// (rows), with labels.
    pub predictions: Option<B::Mut<'a>>,
    /// (rows, outputs): one row for each prediction.
    pub output: B::Ref<'a>,
    pub target: Target<'a, B>,
    /// (rows): the weight of each prediction; `None` for 1.
    pub row_weights: Option<B::Ref<'a>>,
    /// (outputs), with labels: the weight of each class; `None` for 1.
    pub class_weights: Option<B::Ref<'a>>,
    pub loss: Loss,
    pub top_k: usize,
    pub rows: usize,
    pub outputs: usize,
    pub denominator: f64,
}

impl<B: Memory> LossForwardBackward<'_, B> {
    /// Refuses views, targets and labels that do not fit; gives the width of a target.
    pub fn check(&self, backend: &B) -> Result<usize> {
        let (n, v) = (self.rows * self.outputs, ViewChecks { backend, op: "loss_forward_backward" });
        v.output("statistics", &self.stats, LOSS_SUMS)?;
        v.optional_output("doutput", self.doutput.as_ref(), n)?;
        v.optional_output("predictions", self.predictions.as_ref(), self.rows)?;
        v.input("output", self.output, n)?;
        v.optional_input("row weights", self.row_weights, self.rows)?;
        v.optional_input("class weights", self.class_weights, self.outputs)?;
        if !self.loss.kind.takes_labels() && (self.class_weights.is_some() || self.predictions.is_some()) {
            let expected = "class weights and predictions with labels alone";
            return Err(Error::value(v.op, expected, self.loss.kind));
        }
        if !(0.0..=1.0).contains(&self.loss.label_smoothing) {
            return Err(Error::value(v.op, "label smoothing from 0 to 1", self.loss.label_smoothing));
        }
        let Some(width) = self.loss.width(self.outputs) else {
            let outputs_per_value = self.loss.outputs(1);
            let expected = format!("outputs in multiples of {outputs_per_value}");
            return Err(Error::shape(v.op, expected, self.outputs));
        };
        match (self.target, self.loss.kind.takes_labels()) {
            // A negative label means that its prediction does not count.
            (Target::Labels(labels), true) => {
                v.integers("labels", labels, self.rows, i64::from(i32::MIN)..=self.outputs as i64 - 1)?
            }
            (Target::Values(values), false) => v.input("target", values, self.rows * width)?,
            (Target::Values(_), true) => return Err(Error::value(v.op, "integer labels", "values")),
            (Target::Labels(_), false) => return Err(Error::value(v.op, "real targets", "labels")),
        }
        Ok(width)
    }
}
