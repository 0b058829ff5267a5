//! The mixing stage of a block: what follows the SSM.

use crate::{Activation, Memory, Result, checks::Views, random::DropKey};

/// Activation → dropout → linear with bias → gate → dropout → + residual (official order).
/// Input (batch, inputs, len), output (batch, outputs, len).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MixSpec {
    /// channels·H.
    pub inputs: usize,
    /// H.
    pub outputs: usize,
    /// The activation after the SSM, before the first dropout.
    pub activation: Activation,
    /// GLU: the linear gives 2·outputs rows, result = first half · σ(second half).
    pub glu: bool,
    /// Applied after a linear without GLU.
    pub final_activation: Activation,
    /// Probability of both dropouts, after the activation and after the gate; 0 in inference.
    pub dropout: f64,
    /// Whether one element of the dropout mask serves all time steps of a (sequence, feature), instead of one each.
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

impl<B: Memory> Clone for MixParams<'_, B> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<B: Memory> Copy for MixParams<'_, B> {}

/// Where its gradients accumulate.
#[allow(missing_docs)]
pub struct MixGrads<'a, B: Memory> {
    pub weight: B::Mut<'a>,
    pub bias: B::Mut<'a>,
}

/// What a mix is run on: its options, the key of its dropouts (sites `key.site` and `key.site + 1`), its sizes.
#[derive(Clone, Copy, Debug, PartialEq)]
#[allow(missing_docs)]
pub struct MixCall {
    pub spec: MixSpec,
    pub key: DropKey,
    pub batch: usize,
    pub len: usize,
}

/// y = mix(s) (+ residual).
#[allow(missing_docs)]
pub struct MixForward<'a, B: Memory> {
    /// (batch, outputs, len)
    pub y: B::Mut<'a>,
    /// `mix_saved_len` elements for backward; `None` in inference.
    pub saved: Option<B::Mut<'a>>,
    /// (batch, inputs, len)
    pub s: B::Ref<'a>,
    /// As y.
    pub residual: Option<B::Ref<'a>>,
    pub params: MixParams<'a, B>,
    pub call: MixCall,
}

/// ds overwrites, grads accumulate; the residual's gradient is dy itself.
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
    fn check<B: Memory>(&self, v: &Views<'_, B>, params: &MixParams<'_, B>) -> Result<()> {
        v.input("weight", params.weight, self.spec.rows() * self.spec.inputs)?;
        v.input("bias", params.bias, self.spec.rows())
    }
    fn inputs(&self) -> usize {
        self.batch * self.spec.inputs * self.len
    }
    fn outputs(&self) -> usize {
        self.batch * self.spec.outputs * self.len
    }
}

impl<B: Memory> MixForward<'_, B> {
    /// Refuses views that do not fit; `saved_len` is the backend's own.
    pub fn check(&self, be: &B, saved_len: usize) -> Result<()> {
        let (c, v) = (&self.call, Views { be, op: "mix_forward" });
        c.check(&v, &self.params)?;
        v.output("y", &self.y, c.outputs())?;
        v.optional_output("saved values", self.saved.as_ref(), saved_len)?;
        v.input("s", self.s, c.inputs())?;
        v.optional_input("residual", self.residual, c.outputs())
    }
}

impl<B: Memory> MixBackward<'_, B> {
    /// Refuses views that do not fit; `saved_len` is the backend's own.
    pub fn check(&self, be: &B, saved_len: usize) -> Result<()> {
        let (c, v) = (&self.call, Views { be, op: "mix_backward" });
        c.check(&v, &self.params)?;
        v.output("ds", &self.ds, c.inputs())?;
        v.output("dweight", &self.grads.weight, c.spec.rows() * c.spec.inputs)?;
        v.output("dbias", &self.grads.bias, c.spec.rows())?;
        v.input("dy", self.dy, c.outputs())?;
        v.input("s", self.s, c.inputs())?;
        v.input("saved values", self.saved, saved_len)
    }
}
