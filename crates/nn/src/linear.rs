//! A pointwise linear with its parameters: encoder and decoder.

use crate::{
    call::Pass,
    init,
    param::{Flats, Group, ParamBuilder, Slot},
};
use s4_backend::{Backend, LinearShape, Result};

/// Weight and bias of a linear.
#[derive(Clone, Copy)]
pub(crate) struct Linear {
    weight: Slot,
    bias: Slot,
    pub inputs: usize,
    pub outputs: usize,
}

/// Arrays of one backward.
pub(crate) struct LinearBackward<'a, B: Backend> {
    pub dx: Option<B::Mut<'a>>,
    pub grads: &'a mut Flats<B>,
    pub dy: B::Ref<'a>,
    pub x: B::Ref<'a>,
    /// Samples a row.
    pub len: usize,
}

impl Linear {
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
        Linear { weight, bias, inputs, outputs }
    }
    fn shape(&self, batch: usize, len: usize) -> LinearShape {
        LinearShape { batch, inputs: self.inputs, outputs: self.outputs, len }
    }
    /// `y` (batch, outputs, len) of `x` (batch, inputs, len).
    pub fn forward<B: Backend>(
        &self,
        pass: &Pass<'_, B>,
        y: B::Mut<'_>,
        x: B::Ref<'_>,
        len: usize,
        ws: &mut B::Workspace,
    ) -> Result<()> {
        let Pass { be, values, batch, .. } = *pass;
        let bias = Some(values.view(be, self.bias));
        be.linear_forward(y, x, values.view(be, self.weight), bias, &self.shape(batch, len), ws)
    }
    /// dx overwrites; the parameters' gradients accumulate.
    pub fn backward<B: Backend>(
        &self,
        pass: &Pass<'_, B>,
        arrays: LinearBackward<'_, B>,
        ws: &mut B::Workspace,
    ) -> Result<()> {
        let Pass { be, values, batch, .. } = *pass;
        let LinearBackward { dx, grads, dy, x, len } = arrays;
        let [dweight, dbias] = grads.views_mut(be, [self.weight, self.bias]);
        let weight = values.view(be, self.weight);
        be.linear_backward(dx, dweight, Some(dbias), dy, x, weight, &self.shape(batch, len), ws)
    }
}
