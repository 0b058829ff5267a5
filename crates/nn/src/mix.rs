//! The second stage of a block with its parameters: activation, dropout, linear, GLU, dropout, residual.

use crate::{
    call::Pass,
    config::BlockConfig,
    init,
    param::{Flats, Group, ParamBuilder, Slot},
};
use s4_backend::{
    Backend, MixBackward, MixCall, MixForward, MixGrads, MixParams, MixSpec, Result, random::DropKey,
};

/// The mix of one block.
pub(crate) struct MixStage {
    spec: MixSpec,
    weight: Slot,
    bias: Slot,
    /// Its first dropout.
    site: u32,
}

/// Arrays of one forward: `y` (batch, H, len) of `s` (batch, channels·H, len).
pub(crate) struct MixStageForward<'a, B: Backend> {
    pub y: B::Mut<'a>,
    /// What backward needs, [`MixStage::saved_len`] elements.
    pub saved: Option<B::Mut<'a>>,
    pub s: B::Ref<'a>,
    /// Added to the output.
    pub residual: Option<B::Ref<'a>>,
}

/// Arrays of its backward.
pub(crate) struct MixStageBackward<'a, B: Backend> {
    pub ds: B::Mut<'a>,
    pub grads: &'a mut Flats<B>,
    pub dy: B::Ref<'a>,
    pub s: B::Ref<'a>,
    pub saved: B::Ref<'a>,
}

impl MixStage {
    /// Of block number `index`, whose SSM gives `inputs` features; parameters under `prefix`, drawn from two streams
    /// from `stream` on.
    pub fn new(
        config: &BlockConfig,
        inputs: usize,
        prefix: &str,
        index: u32,
        stream: u32,
        params: &mut ParamBuilder,
    ) -> Self {
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
        let (w, b) = init::linear(config.layer.seed, stream, spec.rows(), inputs);
        let weight = params.add(format!("{name}weight"), &[spec.rows(), inputs], Group::Main, w);
        let bias = params.add(format!("{name}bias"), &[spec.rows()], Group::Main, b);
        MixStage { spec, weight, bias, site: 2 * index }
    }

    /// channels·H.
    pub fn inputs(&self) -> usize {
        self.spec.inputs
    }

    /// H.
    pub fn outputs(&self) -> usize {
        self.spec.outputs
    }

    /// The mix of this pass: no dropout outside training.
    fn call<B: Backend>(&self, pass: &Pass<'_, B>) -> MixCall {
        let dropout = if pass.options.training { self.spec.dropout } else { 0.0 };
        MixCall {
            spec: MixSpec { dropout, ..self.spec },
            key: DropKey { site: pass.key.site + self.site, ..pass.key },
            batch: pass.batch,
            len: pass.len,
        }
    }

    fn params<'a, B: Backend>(&self, pass: &Pass<'a, B>) -> MixParams<'a, B> {
        let (be, values) = (pass.be, pass.values);
        MixParams { weight: values.view(be, self.weight), bias: values.view(be, self.bias) }
    }

    /// Elements that forward saves for backward.
    pub fn saved_len<B: Backend>(&self, pass: &Pass<'_, B>) -> usize {
        pass.be.mix_saved_len(&self.call(pass))
    }

    /// y = mix(s) (+ residual).
    pub fn forward<'a, B: Backend>(
        &self,
        pass: &Pass<'a, B>,
        arrays: MixStageForward<'a, B>,
        ws: &mut B::Workspace,
    ) -> Result<()> {
        let MixStageForward { y, saved, s, residual } = arrays;
        let (params, call) = (self.params(pass), self.call(pass));
        pass.be.mix_forward(MixForward { y, saved, s, residual, params, call }, ws)
    }

    /// ds overwrites; the parameters' gradients accumulate.
    pub fn backward<'a, B: Backend>(
        &self,
        pass: &Pass<'a, B>,
        arrays: MixStageBackward<'a, B>,
        ws: &mut B::Workspace,
    ) -> Result<()> {
        let MixStageBackward { ds, grads, dy, s, saved } = arrays;
        let [weight, bias] = grads.views_mut(pass.be, [self.weight, self.bias]);
        let (grads, params, call) = (MixGrads { weight, bias }, self.params(pass), self.call(pass));
        pass.be.mix_backward(MixBackward { ds, grads, dy, s, saved, params, call }, ws)
    }
}
