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
    }
}

impl LossKind {
    /// Whether targets are integer labels; otherwise real values.
    pub fn takes_labels(self) -> bool {
        matches!(self, LossKind::CrossEntropy)
    }
}

/// A loss with its settings.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Loss {
    /// Which.
    pub kind: LossKind,
    /// Where Huber turns linear.
    pub huber_delta: f64,
}

impl From<LossKind> for Loss {
    /// The loss with default settings.
    fn from(kind: LossKind) -> Self {
        Loss { kind, huber_delta: 1.0 }
    }
}

impl Loss {
    /// Values that a decoder gives for targets of `width` values (or classes).
    pub fn outputs(&self, width: usize) -> usize {
        match self.kind {
            LossKind::Gaussian => 2 * width,
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

/// stats\[0\] += weight·(loss summed over counted rows and width)/denominator; stats\[1\] += rows whose largest
/// output is the label (cross-entropy). `doutput` overwrites: the gradient of what is added to stats\[0\].
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
