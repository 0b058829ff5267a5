//! Everything around the SSM: linear, norms, the block's mixing stage, pooling, embedding, losses.

use crate::{Memory, Result, random::DropKey};

/// Pointwise activation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Activation {
    /// x
    Identity,
    /// x·Φ(x), exact (erf)
    Gelu,
    /// max(x, 0)
    Relu,
    /// x·σ(x)
    Silu,
    /// tanh x
    Tanh,
    /// σ(x)
    Sigmoid,
}

/// y = W x + b on (batch, inputs, len) → (batch, outputs, len); W is (outputs, inputs).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub struct LinearShape {
    pub batch: usize,
    pub inputs: usize,
    pub outputs: usize,
    pub len: usize,
}

/// Sizes of an activation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub struct SeqShape {
    pub batch: usize,
    pub heads: usize,
    pub len: usize,
}

impl SeqShape {
    /// batch·heads·len.
    pub fn elements(&self) -> usize {
        self.batch * self.heads * self.len
    }
}

/// The second half of a block: activation → dropout → linear with bias → gate → dropout → + residual
/// (official order). Input (batch, inputs, len), output (batch, outputs, len).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MixSpec {
    /// channels·H.
    pub inputs: usize,
    /// H.
    pub outputs: usize,
    /// After the SSM.
    pub activation: Activation,
    /// GLU: the linear gives 2·outputs rows, result = first half · σ(second half).
    pub glu: bool,
    /// Applied after a linear without GLU.
    pub final_activation: Activation,
    /// Dropout probability of both places; 0 in inference.
    pub dropout: f64,
    /// One mask element per (row, feature) for all of time, instead of one per element.
    pub tied: bool,
}

impl MixSpec {
    /// Rows of the linear's weight: outputs, doubled with GLU.
    pub fn rows(&self) -> usize {
        self.outputs * if self.glu { 2 } else { 1 }
    }
}

/// The linear of a mix: weight (rows, inputs), bias (rows).
#[allow(missing_docs)]
pub struct MixParams<'a, B: Memory> {
    pub weight: B::Ref<'a>,
    pub bias: B::Ref<'a>,
}

/// Where its gradients accumulate.
#[allow(missing_docs)]
pub struct MixGrads<'a, B: Memory> {
    pub weight: B::Mut<'a>,
    pub bias: B::Mut<'a>,
}

/// Reduction over time, (batch, heads, len) → (batch, heads).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Pooling {
    Mean,
    Last,
    First,
    Max,
    Sum,
}

/// What is minimised, averaged over rows (and over the target's width).
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Loss {
    /// −log softmax(output)\[label\]; output width = classes.
    CrossEntropy,
    /// (output − target)²
    Mse,
    /// |output − target|
    Mae,
    /// Quadratic to `delta`, linear beyond.
    Huber {
        /// Where it turns linear.
        delta: f64,
    },
    /// Negative log likelihood of N(μ, σ²); the output is 2·width: μ first, then log σ (held to ±10).
    Gaussian,
}

/// Targets of a loss: real (rows, width), or integer labels (rows); a negative label is left out.
pub enum Target<'a, B: Memory> {
    /// (rows, width)
    Values(B::Ref<'a>),
    /// (rows)
    Labels(&'a B::Ints),
}

/// Dense families. `lengths` as in [`crate::SsmOps`].
pub trait DenseOps: Memory {
    /// y = W x + b. With len = 1 this is one product over the whole batch.
    fn linear_forward(
        &self,
        y: Self::Mut<'_>,
        x: Self::Ref<'_>,
        weight: Self::Ref<'_>,
        bias: Option<Self::Ref<'_>>,
        shape: &LinearShape,
        ws: &mut Self::Workspace,
    ) -> Result<()>;

    /// dx overwrites; dweight, dbias accumulate.
    fn linear_backward(
        &self,
        dx: Option<Self::Mut<'_>>,
        dweight: Self::Mut<'_>,
        dbias: Option<Self::Mut<'_>>,
        dy: Self::Ref<'_>,
        x: Self::Ref<'_>,
        weight: Self::Ref<'_>,
        shape: &LinearShape,
        ws: &mut Self::Workspace,
    ) -> Result<()>;

    /// Over heads at each (row, time): y = γ(x − μ)·rstd + β, biased variance. `stats`: (batch, 2, len).
    fn layer_norm_forward(
        &self,
        y: Self::Mut<'_>,
        stats: Self::Mut<'_>,
        x: Self::Ref<'_>,
        gamma: Self::Ref<'_>,
        beta: Self::Ref<'_>,
        eps: f64,
        shape: &SeqShape,
        ws: &mut Self::Workspace,
    ) -> Result<()>;

    /// y again, from the statistics that [`DenseOps::layer_norm_forward`] left.
    fn layer_norm_again(
        &self,
        y: Self::Mut<'_>,
        stats: Self::Ref<'_>,
        x: Self::Ref<'_>,
        gamma: Self::Ref<'_>,
        beta: Self::Ref<'_>,
        shape: &SeqShape,
    ) -> Result<()>;

    /// dx overwrites; `residual` (the gradient that goes past the norm) is added to it.
    fn layer_norm_backward(
        &self,
        dx: Self::Mut<'_>,
        dgamma: Self::Mut<'_>,
        dbeta: Self::Mut<'_>,
        dy: Self::Ref<'_>,
        x: Self::Ref<'_>,
        stats: Self::Ref<'_>,
        gamma: Self::Ref<'_>,
        residual: Option<Self::Ref<'_>>,
        shape: &SeqShape,
        ws: &mut Self::Workspace,
    ) -> Result<()>;

    /// Over (rows, time) at each head, positions beyond `lengths` left out. `stats`: (2, heads) mean and rstd
    /// that were used; `running`: (2, heads) mean and unbiased variance, updated with `momentum` when
    /// `training`, used instead of the batch's otherwise.
    fn batch_norm_forward(
        &self,
        y: Self::Mut<'_>,
        stats: Self::Mut<'_>,
        running: Self::Mut<'_>,
        x: Self::Ref<'_>,
        gamma: Self::Ref<'_>,
        beta: Self::Ref<'_>,
        lengths: Option<&Self::Ints>,
        eps: f64,
        momentum: f64,
        training: bool,
        shape: &SeqShape,
        ws: &mut Self::Workspace,
    ) -> Result<()>;

    /// y again, from the statistics that [`DenseOps::batch_norm_forward`] left.
    fn batch_norm_again(
        &self,
        y: Self::Mut<'_>,
        stats: Self::Ref<'_>,
        x: Self::Ref<'_>,
        gamma: Self::Ref<'_>,
        beta: Self::Ref<'_>,
        lengths: Option<&Self::Ints>,
        shape: &SeqShape,
    ) -> Result<()>;

    /// As [`DenseOps::layer_norm_backward`].
    fn batch_norm_backward(
        &self,
        dx: Self::Mut<'_>,
        dgamma: Self::Mut<'_>,
        dbeta: Self::Mut<'_>,
        dy: Self::Ref<'_>,
        x: Self::Ref<'_>,
        stats: Self::Ref<'_>,
        gamma: Self::Ref<'_>,
        lengths: Option<&Self::Ints>,
        training: bool,
        residual: Option<Self::Ref<'_>>,
        shape: &SeqShape,
        ws: &mut Self::Workspace,
    ) -> Result<()>;

    /// Elements that [`DenseOps::mix_forward`] saves for backward; 0 when it recomputes.
    fn mix_saved_len(&self, spec: &MixSpec, batch: usize, len: usize) -> usize;

    /// `y` = mix(s) (+ residual). Sites `key.site` and `key.site + 1` are its two dropouts.
    fn mix_forward(
        &self,
        y: Self::Mut<'_>,
        saved: Option<Self::Mut<'_>>,
        s: Self::Ref<'_>,
        residual: Option<Self::Ref<'_>>,
        params: &MixParams<'_, Self>,
        spec: &MixSpec,
        key: DropKey,
        batch: usize,
        len: usize,
        ws: &mut Self::Workspace,
    ) -> Result<()>;

    /// ds overwrites; the residual's gradient is dy itself.
    fn mix_backward(
        &self,
        ds: Self::Mut<'_>,
        grads: MixGrads<'_, Self>,
        dy: Self::Ref<'_>,
        s: Self::Ref<'_>,
        saved: Self::Ref<'_>,
        params: &MixParams<'_, Self>,
        spec: &MixSpec,
        key: DropKey,
        batch: usize,
        len: usize,
        ws: &mut Self::Workspace,
    ) -> Result<()>;

    /// y = activation(x), elementwise; may not alias.
    fn activation_forward(&self, y: Self::Mut<'_>, x: Self::Ref<'_>, activation: Activation) -> Result<()>;

    /// dx = dy·activation′(x).
    fn activation_backward(
        &self,
        dx: Self::Mut<'_>,
        dy: Self::Ref<'_>,
        x: Self::Ref<'_>,
        activation: Activation,
    ) -> Result<()>;

    /// Sets positions beyond each row's length to 0.
    fn mask(&self, x: Self::Mut<'_>, lengths: &Self::Ints, shape: &SeqShape) -> Result<()>;

    /// (batch, heads, len) → (batch, heads).
    fn pool_forward(
        &self,
        y: Self::Mut<'_>,
        x: Self::Ref<'_>,
        lengths: Option<&Self::Ints>,
        pooling: Pooling,
        shape: &SeqShape,
    ) -> Result<()>;

    /// Overwrites all of dx.
    fn pool_backward(
        &self,
        dx: Self::Mut<'_>,
        dy: Self::Ref<'_>,
        x: Self::Ref<'_>,
        lengths: Option<&Self::Ints>,
        pooling: Pooling,
        shape: &SeqShape,
    ) -> Result<()>;

    /// y (batch, heads, len) = table (vocabulary, heads) at tokens (batch, len). Tokens were checked on the host.
    fn embedding_forward(
        &self,
        y: Self::Mut<'_>,
        table: Self::Ref<'_>,
        tokens: &Self::Ints,
        shape: &SeqShape,
    ) -> Result<()>;

    /// dtable accumulates.
    fn embedding_backward(
        &self,
        dtable: Self::Mut<'_>,
        dy: Self::Ref<'_>,
        tokens: &Self::Ints,
        vocabulary: usize,
        shape: &SeqShape,
        ws: &mut Self::Workspace,
    ) -> Result<()>;

    /// stats[0] += weight·(loss summed over counted rows and width)/denominator; stats[1] += rows whose largest
    /// output is the label (cross-entropy). `doutput` overwrites: gradient of what is added to stats[0].
    /// `output`: (rows, outputs); `row_weights`: (rows) or 1.
    fn loss_forward_backward(
        &self,
        stats: Self::Mut<'_>,
        doutput: Option<Self::Mut<'_>>,
        output: Self::Ref<'_>,
        target: &Target<'_, Self>,
        row_weights: Option<Self::Ref<'_>>,
        loss: Loss,
        rows: usize,
        outputs: usize,
        denominator: f64,
        ws: &mut Self::Workspace,
    ) -> Result<()>;
}
