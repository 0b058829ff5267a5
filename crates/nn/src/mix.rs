//! The second stage of a block with its parameters: activation, dropout, linear, GLU, dropout, residual.

use crate::{
    call::Pass,
    config::BlockConfig,
    init,
    param::{Flats, Group, ParamBuilder, Slot},
};
use s4_backend::{Backend, MixGrads, MixParams, MixSpec, Result, random::DropKey};

/// The mix of one block.
pub(crate) struct MixStage {
    spec: MixSpec,
    weight: Slot,
    bias: Slot,
    /// Its first dropout.
    site: u32,
}

/// Arrays of one forward: `y` (batch, H, len) of `s` (batch, channels·H, len).
pub(crate) struct MixForward<'a, B: Backend> {
    pub y: B::Mut<'a>,
    /// What backward needs, [`MixStage::saved_len`] elements.
    pub saved: Option<B::Mut<'a>>,
    pub s: B::Ref<'a>,
    /// Added to the output.
    pub residual: Option<B::Ref<'a>>,
}

/// Arrays of its backward.
pub(crate) struct MixBackward<'a, B: Backend> {
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
    fn spec<B: Backend>(&self, pass: &Pass<'_, B>) -> MixSpec {
        MixSpec { dropout: if pass.options.training { self.spec.dropout } else { 0.0 }, ..self.spec }
    }

    fn params<'a, B: Backend>(&self, pass: &Pass<'a, B>) -> MixParams<'a, B> {
        let (be, values) = (pass.be, pass.values);
        MixParams { weight: values.view(be, self.weight), bias: values.view(be, self.bias) }
    }

    fn key<B: Backend>(&self, pass: &Pass<'_, B>) -> DropKey {
        DropKey { site: pass.key.site + self.site, ..pass.key }
    }

    /// Elements that forward saves for backward.
    pub fn saved_len<B: Backend>(&self, pass: &Pass<'_, B>) -> usize {
        pass.be.mix_saved_len(&self.spec(pass), pass.batch, pass.len)
    }

    /// y = mix(s) (+ residual).
    pub fn forward<B: Backend>(
        &self,
        pass: &Pass<'_, B>,
        arrays: MixForward<'_, B>,
        ws: &mut B::Workspace,
    ) -> Result<()> {
        let Pass { be, batch, len, .. } = *pass;
        let MixForward { y, saved, s, residual } = arrays;
        let (params, spec) = (self.params(pass), self.spec(pass));
        be.mix_forward(y, saved, s, residual, &params, &spec, self.key(pass), batch, len, ws)
    }

    /// ds overwrites; the parameters' gradients accumulate.
    pub fn backward<B: Backend>(
        &self,
        pass: &Pass<'_, B>,
        arrays: MixBackward<'_, B>,
        ws: &mut B::Workspace,
    ) -> Result<()> {
        let Pass { be, batch, len, .. } = *pass;
        let MixBackward { ds, grads, dy, s, saved } = arrays;
        let [weight, bias] = grads.views_mut(be, [self.weight, self.bias]);
        let (params, spec) = (self.params(pass), self.spec(pass));
        let grads = MixGrads { weight, bias };
        be.mix_backward(ds, grads, dy, s, saved, &params, &spec, self.key(pass), batch, len, ws)
    }
}
