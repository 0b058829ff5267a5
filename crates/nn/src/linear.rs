//! A linear map of the features at each time step, with its parameters: the encoder or the decoder of a model.

use crate::{
    initial_values,
    param::{Group, GroupBuffers, ParamBuilder, ParamSlot},
    pass_options::PassContext,
};
use s4_backend::{Backend, LinearBackward, LinearForward, LinearShape, Result};

/// A linear from `inputs` to `outputs` features, and where its weight and bias lie.
#[derive(Clone, Copy)]
pub(crate) struct LinearStage {
    weight: ParamSlot,
    bias: ParamSlot,
    /// Features that it takes.
    pub inputs: usize,
    /// Features that it gives.
    pub outputs: usize,
}

/// Arrays of one backward of a linear. `dx` is left out where nothing before the linear needs a gradient.
pub(crate) struct LinearStageBackward<'a, B: Backend> {
    /// Gradient of the input, overwritten.
    pub dx: Option<B::Mut<'a>>,
    /// Gradients of the parameters, which are added to.
    pub grads: &'a mut GroupBuffers<B>,
    /// Gradient of the output.
    pub dy: B::Ref<'a>,
    /// Input of the forward.
    pub x: B::Ref<'a>,
    /// Time steps of each sequence.
    pub len: usize,
}

impl LinearStage {
    /// Adds parameters `prefix.weight` and `prefix.bias` to `params`, with initial values drawn from random stream `stream`
    /// of `seed`.
    pub fn new(
        prefix: &str,
        (seed, stream): (u64, u32),
        inputs: usize,
        outputs: usize,
        params: &mut ParamBuilder,
    ) -> Result<Self> {
        let (w, b) = initial_values::linear(seed, stream, outputs, inputs)?;
        let weight = params.add(format!("{prefix}.weight"), &[outputs, inputs], Group::Main, w);
        let bias = params.add(format!("{prefix}.bias"), &[outputs], Group::Main, b);
        Ok(LinearStage { weight, bias, inputs, outputs })
    }
    /// Sizes of the linear over `batch` sequences of `len` time steps.
    fn shape(&self, batch: usize, len: usize) -> LinearShape {
        LinearShape { batch, inputs: self.inputs, outputs: self.outputs, len }
    }
    /// y = W·x + b at each time step: x (batch, inputs, len) → y (batch, outputs, len).
    pub fn forward<'a, B: Backend>(
        &self,
        pass: &PassContext<'a, B>,
        y: B::Mut<'a>,
        x: B::Ref<'a>,
        len: usize,
        ws: &mut B::Workspace,
    ) -> Result<()> {
        let PassContext { be, values, batch, .. } = *pass;
        let (weight, bias) = (values.view(be, self.weight), Some(values.view(be, self.bias)));
        be.linear_forward(LinearForward { y, x, weight, bias, shape: self.shape(batch, len) }, ws)
    }
    /// Overwrites `dx`, and adds to the parameters' gradients.
    pub fn backward<'a, B: Backend>(
        &self,
        pass: &PassContext<'a, B>,
        arrays: LinearStageBackward<'a, B>,
        ws: &mut B::Workspace,
    ) -> Result<()> {
        let PassContext { be, values, batch, .. } = *pass;
        let LinearStageBackward { dx, grads, dy, x, len } = arrays;
        let [dweight, dbias] = grads.views_mut(be, [self.weight, self.bias]);
        let (weight, shape) = (values.view(be, self.weight), self.shape(batch, len));
        be.linear_backward(LinearBackward { dx, dweight, dbias: Some(dbias), dy, x, weight, shape }, ws)
    }
}
