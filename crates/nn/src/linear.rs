//! A pointwise linear with its parameters: encoder and decoder.

use crate::{
    call::Pass,
    init,
    param::{Flats, Group, ParamBuilder, Slot},
};
use s4_backend::{Backend, LinearBackward, LinearForward, LinearShape, Result};

/// Weight and bias of a linear.
#[derive(Clone, Copy)]
pub(crate) struct LinearStage {
    weight: Slot,
    bias: Slot,
    pub inputs: usize,
    pub outputs: usize,
}

/// Arrays of one backward.
pub(crate) struct LinearStageBackward<'a, B: Backend> {
    pub dx: Option<B::Mut<'a>>,
    pub grads: &'a mut Flats<B>,
    pub dy: B::Ref<'a>,
    pub x: B::Ref<'a>,
    /// Samples a row.
    pub len: usize,
}

impl LinearStage {
    /// Parameters `prefix.weight` and `prefix.bias`, drawn from `stream` of `seed`.
    pub fn new(
        prefix: &str,
        (seed, stream): (u64, u32),
        inputs: usize,
        outputs: usize,
        params: &mut ParamBuilder,
    ) -> Self {
        let (w, b) = init::linear(seed, stream, outputs, inputs);
        let weight = params.add(format!("{prefix}.weight"), &[outputs, inputs], Group::Main, w);
        let bias = params.add(format!("{prefix}.bias"), &[outputs], Group::Main, b);
        LinearStage { weight, bias, inputs, outputs }
    }
    fn shape(&self, batch: usize, len: usize) -> LinearShape {
        LinearShape { batch, inputs: self.inputs, outputs: self.outputs, len }
    }
    /// `y` (batch, outputs, len) of `x` (batch, inputs, len).
    pub fn forward<'a, B: Backend>(
        &self,
        pass: &Pass<'a, B>,
        y: B::Mut<'a>,
        x: B::Ref<'a>,
        len: usize,
        ws: &mut B::Workspace,
    ) -> Result<()> {
        let Pass { be, values, batch, .. } = *pass;
        let (weight, bias) = (values.view(be, self.weight), Some(values.view(be, self.bias)));
        be.linear_forward(LinearForward { y, x, weight, bias, shape: self.shape(batch, len) }, ws)
    }
    /// dx overwrites; the parameters' gradients accumulate.
    pub fn backward<'a, B: Backend>(
        &self,
        pass: &Pass<'a, B>,
        arrays: LinearStageBackward<'a, B>,
        ws: &mut B::Workspace,
    ) -> Result<()> {
        let Pass { be, values, batch, .. } = *pass;
        let LinearStageBackward { dx, grads, dy, x, len } = arrays;
        let [dweight, dbias] = grads.views_mut(be, [self.weight, self.bias]);
        let (weight, shape) = (values.view(be, self.weight), self.shape(batch, len));
        be.linear_backward(LinearBackward { dx, dweight, dbias: Some(dbias), dy, x, weight, shape }, ws)
    }
}
