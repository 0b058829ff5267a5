//! Linear layers, applied to the features of each time step.

use crate::{Memory, Result, checks::ViewChecks};

/// y = W x + b on (batch, inputs, len) → (batch, outputs, len); W is (outputs, inputs).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub struct LinearShape {
    pub batch: usize,
    pub inputs: usize,
    pub outputs: usize,
    pub len: usize,
}

/// y = W x + b at each time step. With len = 1 it is one matrix product over the whole batch.
#[allow(missing_docs)]
pub struct LinearForward<'a, B: Memory> {
    /// (batch, outputs, len)
    pub y: B::Mut<'a>,
    /// (batch, inputs, len)
    pub x: B::Ref<'a>,
    /// (outputs, inputs)
    pub weight: B::Ref<'a>,
    /// (outputs)
    pub bias: Option<B::Ref<'a>>,
    pub shape: LinearShape,
}

/// Gradients of [`LinearForward`], in the shapes of what they are gradients of: dx is overwritten, dweight and dbias
/// accumulate.
#[allow(missing_docs)]
pub struct LinearBackward<'a, B: Memory> {
    pub dx: Option<B::Mut<'a>>,
    pub dweight: B::Mut<'a>,
    pub dbias: Option<B::Mut<'a>>,
    pub dy: B::Ref<'a>,
    pub x: B::Ref<'a>,
    pub weight: B::Ref<'a>,
    pub shape: LinearShape,
}

impl<B: Memory> LinearForward<'_, B> {
    /// Refuses views whose numbers of elements do not fit the sizes of the call: `ERR_S4_SHAPE`.
    pub fn check(&self, backend: &B) -> Result<()> {
        let (s, v) = (&self.shape, ViewChecks { backend, op: "linear_forward" });
        v.output("y", &self.y, s.batch * s.outputs * s.len)?;
        v.input("x", self.x, s.batch * s.inputs * s.len)?;
        v.input("weight", self.weight, s.outputs * s.inputs)?;
        v.optional_input("bias", self.bias, s.outputs)
    }
}

impl<B: Memory> LinearBackward<'_, B> {
    /// Refuses views whose numbers of elements do not fit the sizes of the call: `ERR_S4_SHAPE`.
    pub fn check(&self, backend: &B) -> Result<()> {
        let (s, v) = (&self.shape, ViewChecks { backend, op: "linear_backward" });
        v.optional_output("dx", self.dx.as_ref(), s.batch * s.inputs * s.len)?;
        v.output("dweight", &self.dweight, s.outputs * s.inputs)?;
        v.optional_output("dbias", self.dbias.as_ref(), s.outputs)?;
        v.input("dy", self.dy, s.batch * s.outputs * s.len)?;
        v.input("x", self.x, s.batch * s.inputs * s.len)?;
        v.input("weight", self.weight, s.outputs * s.inputs)
    }
}
