//! What training minimises.

use crate::{Error, Memory, Result, checks::Views, choices::choices};

choices! {
    /// What is minimised, averaged over rows (and over the target's width).
    pub enum LossKind {
        /// −log softmax(output)\[label\]; output width = classes.
        CrossEntropy = "crossEntropy",
        /// (output − target)²
        Mse = "mse",
        /// |output − target|
        Mae = "mae",
        /// Quadratic to `huber_delta`, linear beyond.
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

/// Levels of a quantile loss: ascending, each above 0 and below 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Levels {
    count: usize,
    values: [f64; Levels::MOST],
}

impl Levels {
    /// Levels that a loss takes at most: the deciles.
    pub const MOST: usize = 9;

    /// 1 to 9 ascending levels between 0 and 1; `None` for others.
    pub fn new(levels: &[f64]) -> Option<Self> {
        let inside = levels.iter().all(|&q| q > 0.0 && q < 1.0);
        let ascending = levels.windows(2).all(|pair| pair[0] < pair[1]);
        if levels.is_empty() || levels.len() > Self::MOST || !inside || !ascending {
            return None;
        }
        let mut values = [0.0; Self::MOST];
        values[..levels.len()].copy_from_slice(levels);
        Some(Levels { count: levels.len(), values })
    }

    /// The levels.
    pub fn as_slice(&self) -> &[f64] {
        &self.values[..self.count]
    }

    /// The levels, zeros after the last: a CUDA kernel's arguments.
    pub fn padded(&self) -> &[f64; Self::MOST] {
        &self.values
    }
}

impl Default for Levels {
    /// The median between a low and a high decile.
    fn default() -> Self {
        let mut values = [0.0; Self::MOST];
        values[..3].copy_from_slice(&[0.1, 0.5, 0.9]);
        Levels { count: 3, values }
    }
}

/// A loss with its settings.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Loss {
    /// Which.
    pub kind: LossKind,
    /// Where Huber turns linear.
    pub huber_delta: f64,
    /// Of the quantile loss.
    pub levels: Levels,
}

impl From<LossKind> for Loss {
    /// The loss with default settings.
    fn from(kind: LossKind) -> Self {
        Loss { kind, huber_delta: 1.0, levels: Levels::default() }
    }
}

impl Loss {
    /// Values that a decoder gives for targets of `width` values (or classes).
    pub fn outputs(&self, width: usize) -> usize {
        match self.kind {
            LossKind::Gaussian => 2 * width,
            LossKind::Quantile => self.levels.count * width,
            _ => width,
        }
    }

    /// The width of a target where the decoder gives `outputs` values; `None` where no width fits.
    pub fn width(&self, outputs: usize) -> Option<usize> {
        let each = self.outputs(1);
        outputs.is_multiple_of(each).then_some(outputs / each)
    }
}

/// Targets of a loss: real (rows, width), or integer labels (rows); a negative label is left out.
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

/// stats\[0\] += weight·(loss summed over counted rows and width)/denominator; stats\[1\] += the weights
/// of the rows whose largest output is the label (cross-entropy). `doutput` overwrites: the gradient of what is added to stats\[0\].
#[allow(missing_docs)]
pub struct LossForwardBackward<'a, B: Memory> {
    /// (2)
    pub stats: B::Mut<'a>,
    /// As output.
    pub doutput: Option<B::Mut<'a>>,
    /// (rows, outputs)
    pub output: B::Ref<'a>,
    pub target: Target<'a, B>,
    /// (rows), or 1 everywhere.
    pub row_weights: Option<B::Ref<'a>>,
    pub loss: Loss,
    pub rows: usize,
    pub outputs: usize,
    pub denominator: f64,
}

impl<B: Memory> LossForwardBackward<'_, B> {
    /// Refuses views, targets and labels that do not fit; gives the width of a target.
    pub fn check(&self, be: &B) -> Result<usize> {
        let (n, v) = (self.rows * self.outputs, Views { be, op: "loss_forward_backward" });
        v.output("statistics", &self.stats, 2)?;
        v.optional_output("doutput", self.doutput.as_ref(), n)?;
        v.input("output", self.output, n)?;
        v.optional_input("row weights", self.row_weights, self.rows)?;
        let Some(width) = self.loss.width(self.outputs) else {
            let each = self.loss.outputs(1);
            return Err(Error::shape(v.op, format!("outputs in multiples of {each}"), self.outputs));
        };
        match (self.target, self.loss.kind.takes_labels()) {
            // A negative label says that its row does not count.
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
