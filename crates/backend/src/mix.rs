//! The mixing stage of a block, which follows the SSM: activation, dropout, linear layer, gate, dropout, residual.

use crate::{Activation, Memory, Result, checks::ViewChecks, random::DropKey};

/// Options of a mixing stage: activation → dropout → linear with bias → gate → dropout → + residual, in the order of
/// the official code. Input (batch, inputs, len), output (batch, outputs, len).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MixSpec {
    /// channels·H: features of the SSM's output.
    pub inputs: usize,
    /// H: features of the block.
    pub outputs: usize,
    /// The activation after the SSM, before the first dropout.
    pub activation: Activation,
    /// Whether the gate is a GLU: the linear layer gives 2·outputs features, and the result is the first half times σ
    /// of the second half.
    pub glu: bool,
    /// The activation after the linear layer where there is no GLU.
    pub final_activation: Activation,
    /// Probability of each of the two dropouts, after the activation and after the gate; 0 in inference.
    pub dropout: f64,
    /// Whether dropout drops a feature of a sequence at all time steps or at none, instead of at each for itself.
    pub tied: bool,
}

impl MixSpec {
    /// Rows of the linear layer's weight: outputs, doubled with GLU.
    pub fn rows(&self) -> usize {
        self.outputs * if self.glu { 2 } else { 1 }
    }
}

/// Parameters of a mixing stage: the linear layer's weight (rows, inputs) and bias (rows), rows as [`MixSpec::rows`].
#[allow(missing_docs)]
pub struct MixParams<'a, B: Memory> {
    pub weight: B::Ref<'a>,
    pub bias: B::Ref<'a>,
}

impl<B: Memory> Clone for MixParams<'_, B> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<B: Memory> Copy for MixParams<'_, B> {}

/// Where the gradients of [`MixParams`] accumulate; same shapes.
#[allow(missing_docs)]
pub struct MixGrads<'a, B: Memory> {
    pub weight: B::Mut<'a>,
    pub bias: B::Mut<'a>,
}

/// One application of a mixing stage: its options, the key of its two dropouts (sites `key.site` and `key.site + 1`),
/// the number of sequences and their length.
#[derive(Clone, Copy, Debug, PartialEq)]
#[allow(missing_docs)]
pub struct MixCall {
    pub spec: MixSpec,
    pub key: DropKey,
    pub batch: usize,
    pub len: usize,
}

/// y = mix(s), plus `residual` where it is given.
#[allow(missing_docs)]
pub struct MixForward<'a, B: Memory> {
    /// (batch, outputs, len)
    pub y: B::Mut<'a>,
    /// `mix_saved_len` elements for backward, or `mix_chunk_rows_saved_len`; `None` in inference.
    pub saved: Option<B::Mut<'a>>,
    /// (batch, inputs, len)
    pub s: B::Ref<'a>,
    /// (batch, outputs, len), the block's input.
    pub residual: Option<B::Ref<'a>>,
    pub params: MixParams<'a, B>,
    pub call: MixCall,
}

/// What a forward leaves besides its output ([`crate::DenseOps::mix_forward_with`]).
#[allow(missing_docs)]
pub struct MixExtras<'a, B: Memory> {
    /// Whether it keeps what backward needs of s, for [`crate::DenseOps::mix_backward_to_chunk_rows`]; `saved` has then
    /// [`crate::DenseOps::mix_chunk_rows_saved_len`] elements.
    pub chunk_rows: bool,
    /// Moments of parts of y, for the batch norm that follows it: [`crate::DenseOps::mix_moments_len`] elements, in a form of the backend's own.
    pub moments: Option<B::Mut<'a>>,
    /// (batch): the lengths up to which y is in those moments.
    pub lengths: Option<&'a B::Ints>,
}

/// Gradients of [`MixForward`]: ds is overwritten, `grads` accumulate; the gradient of `residual` is dy itself.
#[allow(missing_docs)]
pub struct MixBackward<'a, B: Memory> {
    pub ds: B::Mut<'a>,
    pub grads: MixGrads<'a, B>,
    pub dy: B::Ref<'a>,
    pub s: B::Ref<'a>,
    pub saved: B::Ref<'a>,
    pub params: MixParams<'a, B>,
    pub call: MixCall,
}

impl MixCall {
    fn check_params<B: Memory>(&self, v: &ViewChecks<'_, B>, params: &MixParams<'_, B>) -> Result<()> {
        v.input("weight", params.weight, self.spec.rows() * self.spec.inputs)?;
        v.input("bias", params.bias, self.spec.rows())
    }
    fn input_len(&self) -> usize {
        self.batch * self.spec.inputs * self.len
    }
    fn output_len(&self) -> usize {
        self.batch * self.spec.outputs * self.len
    }
}

impl<B: Memory> MixForward<'_, B> {
    /// Refuses views whose numbers of elements do not fit the sizes of the call; `saved_len` is how many elements this
    /// backend saves for backward.
    pub fn check(&self, backend: &B, saved_len: usize) -> Result<()> {
        let (c, v) = (&self.call, ViewChecks { backend, op: "mix_forward" });
        c.check_params(&v, &self.params)?;
        v.output("y", &self.y, c.output_len())?;
        v.optional_output("saved values", self.saved.as_ref(), saved_len)?;
        v.input("s", self.s, c.input_len())?;
        v.optional_input("residual", self.residual, c.output_len())
    }
}

impl<B: Memory> MixExtras<'_, B> {
    /// Refuses views that do not fit the call; `moments_len` is how many elements this backend's moments have.
    pub fn check(&self, backend: &B, call: &MixCall, moments_len: usize) -> Result<()> {
        let v = ViewChecks { backend, op: "mix_forward" };
        v.optional_output("moments", self.moments.as_ref(), moments_len)?;
        v.lengths(self.lengths, call.batch, call.len)
    }
}

impl<B: Memory> MixBackward<'_, B> {
    /// Refuses lengths that do not fit the call.
    pub fn check_lengths(&self, backend: &B, lengths: Option<&B::Ints>) -> Result<()> {
        ViewChecks { backend, op: "mix_backward" }.lengths(lengths, self.call.batch, self.call.len)
    }

    /// Refuses views whose numbers of elements do not fit the sizes of the call; `saved_len` is how many elements this
    /// backend saves for backward.
    pub fn check(&self, backend: &B, saved_len: usize) -> Result<()> {
        let (c, v) = (&self.call, ViewChecks { backend, op: "mix_backward" });
        c.check_params(&v, &self.params)?;
        v.output("ds", &self.ds, c.input_len())?;
        v.output("dweight", &self.grads.weight, c.spec.rows() * c.spec.inputs)?;
        v.output("dbias", &self.grads.bias, c.spec.rows())?;
        v.input("dy", self.dy, c.output_len())?;
        v.input("s", self.s, c.input_len())?;
        v.input("saved values", self.saved, saved_len)
    }
}
