//! The mix of a block, which follows its SSM: activation, dropout, linear, GLU, dropout, residual sum, as one operation of
//! the backend.

use crate::{
    config::BlockConfig,
    initial_values,
    param::{Group, GroupBuffers, ParamBuilder, ParamSlot},
    pass_options::PassContext,
};
use s4_backend::{
    Backend, MixBackward, MixCall, MixForward, MixGrads, MixParams, MixSpec, Result, random::DropKey,
};

/// The mix of one block, and where its parameters lie.
pub(crate) struct MixStage {
    spec: MixSpec,
    weight: ParamSlot,
    bias: ParamSlot,
    /// Number of the first of its two dropouts in the network: each draws masks of its own.
    first_site: u32,
}

/// Arrays of one forward of the mix: SSM output `s` (batch, channels·H, len), block output `y` (batch, H, len).
pub(crate) struct MixStageForward<'a, B: Backend> {
    pub y: B::Mut<'a>,
    /// Where to save what backward needs, [`MixStage::saved_len`] elements.
    pub saved: Option<B::Mut<'a>>,
    pub s: B::Ref<'a>,
    /// The block's input, to be added to the output.
    pub residual: Option<B::Ref<'a>>,
}

/// Arrays of one backward of the mix.
pub(crate) struct MixStageBackward<'a, B: Backend> {
    /// Gradient of the SSM's output, overwritten.
    pub ds: B::Mut<'a>,
    /// Gradients of the parameters, which are added to.
    pub grads: &'a mut GroupBuffers<B>,
    /// Gradient of the block's output.
    pub dy: B::Ref<'a>,
    /// Output of the SSM.
    pub s: B::Ref<'a>,
    /// What the forward has saved.
    pub saved: B::Ref<'a>,
}

impl MixStage {
    /// The mix of block number `block_index`, whose SSM gives `inputs` features. Adds parameters whose names begin with `prefix`
    /// to `params`, with initial values drawn from two random streams from `stream` on.
    pub fn new(
        config: &BlockConfig,
        inputs: usize,
        prefix: &str,
        block_index: u32,
        stream: u32,
        params: &mut ParamBuilder,
    ) -> Result<Self> {
        let spec = MixSpec {
            inputs,
            outputs: config.layer.features,
            activation: config.activation,
            glu: config.glu,
            final_activation: config.final_activation,
            dropout: config.dropout,
            tied: config.tied_dropout,
        };
        let name = format!("{prefix}output_linear.0.");
        let (w, b) = initial_values::linear(config.layer.seed, stream, spec.rows(), inputs)?;
        let weight = params.add(format!("{name}weight"), &[spec.rows(), inputs], Group::Main, w);
        let bias = params.add(format!("{name}bias"), &[spec.rows()], Group::Main, b);
        Ok(MixStage { spec, weight, bias, first_site: 2 * block_index })
    }

    /// Features that it takes: channels·H.
    pub fn inputs(&self) -> usize {
        self.spec.inputs
    }

    /// Features that it gives: H.
    pub fn outputs(&self) -> usize {
        self.spec.outputs
    }

    /// The mix as the backend is told of it. Outside training its dropout probability is 0.
    fn mix_call<B: Backend>(&self, pass: &PassContext<'_, B>) -> MixCall {
        let dropout = if pass.options.training { self.spec.dropout } else { 0.0 };
        MixCall {
            spec: MixSpec { dropout, ..self.spec },
            key: DropKey { site: pass.dropout_key.site + self.first_site, ..pass.dropout_key },
            batch: pass.batch,
            len: pass.len,
        }
    }

    /// Views of the mix's parameters.
    fn params<'a, B: Backend>(&self, pass: &PassContext<'a, B>) -> MixParams<'a, B> {
        let (be, values) = (pass.be, pass.values);
        MixParams { weight: values.view(be, self.weight), bias: values.view(be, self.bias) }
    }

    /// Number of elements that a forward saves for its backward.
    pub fn saved_len<B: Backend>(&self, pass: &PassContext<'_, B>) -> usize {
        pass.be.mix_saved_len(&self.mix_call(pass))
    }

    /// y = mix(s) + residual, or mix(s) alone where no residual is given.
    pub fn forward<'a, B: Backend>(
        &self,
        pass: &PassContext<'a, B>,
        arrays: MixStageForward<'a, B>,
        ws: &mut B::Workspace,
    ) -> Result<()> {
        let MixStageForward { y, saved, s, residual } = arrays;
        let (params, call) = (self.params(pass), self.mix_call(pass));
        pass.be.mix_forward(MixForward { y, saved, s, residual, params, call }, ws)
    }

    /// Overwrites `ds`, and adds to the parameters' gradients.
    pub fn backward<'a, B: Backend>(
        &self,
        pass: &PassContext<'a, B>,
        arrays: MixStageBackward<'a, B>,
        ws: &mut B::Workspace,
    ) -> Result<()> {
        let MixStageBackward { ds, grads, dy, s, saved } = arrays;
        let [weight, bias] = grads.views_mut(pass.be, [self.weight, self.bias]);
        let (grads, params, call) = (MixGrads { weight, bias }, self.params(pass), self.mix_call(pass));
        pass.be.mix_backward(MixBackward { ds, grads, dy, s, saved, params, call }, ws)
    }
}
