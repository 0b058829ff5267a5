//! The mix of a block, which follows its SSM: activation, dropout, linear, GLU, dropout, residual sum, as one operation of
//! the backend; with drop path as two.

use crate::{
    growable_buffer::GrowableBuffer,
    initial_values,
    param::{Group, GroupBuffers, ParamBuilder, ParamSlot},
    pass_options::PassContext,
};
use s4_backend::{
    Backend, DropPath, MixBackward, MixCall, MixExtras, MixForward, MixGrads, MixParams, MixSpec, Result,
    random::DropKey,
};

/// Added to a mix's first dropout site for its drop path; no dropout of a network has a number so large.
const DROP_PATH_SITES: u32 = 1 << 15;

/// The mix of one block, and where its parameters lie.
pub(crate) struct MixStage {
    spec: MixSpec,
    weight: ParamSlot,
    bias: ParamSlot,
    /// Probability of drop path, which only training has.
    drop_path: f64,
    /// Number of the first of its two dropouts in the network: each draws masks of its own.
    first_site: u32,
}

/// What a mix is made of.
pub(crate) struct MixStageConfig<'a> {
    pub spec: MixSpec,
    /// Probability of drop path.
    pub drop_path: f64,
    /// What the names of its parameters begin with.
    pub name: &'a str,
    /// Number of the first of its two dropouts in the network.
    pub first_site: u32,
    /// Seed of the initial values, and the first of their two random streams.
    pub initial: (u64, u32),
}

/// Arrays of one forward of the mix: SSM output `s` (batch, channels·H, len), block output `y` (batch, H, len).
pub(crate) struct MixStageForward<'a, B: Backend> {
    /// Whether backward will hand the gradient of `s` over as rows.
    pub chunk_rows: bool,
    /// Where to leave moments of `y` for the batch norm that follows, [`MixStage::moments_len`] elements.
    pub moments: Option<B::Mut<'a>>,
    pub y: B::Mut<'a>,
    /// Where to save what backward needs, [`MixStage::saved_len`] elements.
    pub saved: Option<B::Mut<'a>>,
    pub s: B::Ref<'a>,
    /// The block's input, to be added to the output.
    pub residual: Option<B::Ref<'a>>,
}

/// Arrays of one backward of the mix.
pub(crate) struct MixStageBackward<'a, B: Backend> {
    /// Whether `ds` are rows ([`s4_backend::DenseOps::mix_backward_to_chunk_rows`]); `s` is then not read.
    pub chunk_rows: bool,
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
    /// A mix, which adds its parameters to `params`.
    pub fn new(config: MixStageConfig<'_>, params: &mut ParamBuilder) -> Result<Self> {
        let MixStageConfig { spec, drop_path, name, first_site, initial: (seed, stream) } = config;
        let (w, b) = initial_values::linear(seed, stream, spec.rows(), spec.inputs)?;
        let weight = params.add(format!("{name}weight"), &[spec.rows(), spec.inputs], Group::Main, w);
        let bias = params.add(format!("{name}bias"), &[spec.rows()], Group::Main, b);
        Ok(MixStage { spec, weight, bias, drop_path, first_site })
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

    /// Whether this pass drops paths.
    fn drops_paths<B: Backend>(&self, pass: &PassContext<'_, B>) -> bool {
        pass.options.training && self.drop_path > 0.0
    }

    /// y = m·x + residual, with drop path's m of this mix.
    fn apply_drop_path<B: Backend>(
        &self,
        pass: &PassContext<'_, B>,
        y: B::Mut<'_>,
        x: B::Ref<'_>,
        residual: Option<B::Ref<'_>>,
    ) -> Result<()> {
        let site = pass.dropout_key.site + self.first_site + DROP_PATH_SITES;
        let be = pass.be;
        let mut y = y;
        be.drop_path(DropPath {
            y: be.reborrow(&mut y),
            x: be.shorten(x),
            residual: residual.map(|view| be.shorten(view)),
            probability: self.drop_path,
            key: DropKey { site, ..pass.dropout_key },
            batch: pass.batch,
            elements: self.spec.outputs * pass.len,
        })
    }

    /// Views of the mix's parameters.
    fn params<'a, B: Backend>(&self, pass: &PassContext<'a, B>) -> MixParams<'a, B> {
        let (be, values) = (pass.be, pass.values);
        MixParams { weight: values.view(be, self.weight), bias: values.view(be, self.bias) }
    }

    /// Whether the backward of this pass can hand the gradient of its input over as rows.
    pub fn gives_chunk_rows<B: Backend>(&self, pass: &PassContext<'_, B>) -> bool {
        pass.be.mix_chunk_rows_saved_len(&self.mix_call(pass)).is_some()
    }

    /// Number of elements of the moments of its output that a forward can leave for a batch norm; `None` where it cannot.
    pub fn moments_len<B: Backend>(&self, pass: &PassContext<'_, B>) -> Option<usize> {
        pass.be.mix_moments_len(&self.mix_call(pass)).filter(|_| !self.drops_paths(pass))
    }

    /// Number of elements that a forward saves for its backward. rows: which gives the gradient of its input as rows.
    pub fn saved_len<B: Backend>(&self, pass: &PassContext<'_, B>, chunk_rows: bool) -> usize {
        let call = self.mix_call(pass);
        match pass.be.mix_chunk_rows_saved_len(&call) {
            Some(len) if chunk_rows => len,
            _ => pass.be.mix_saved_len(&call),
        }
    }

    /// y = mix(s) + residual, or mix(s) alone where no residual is given. `branch`: a buffer for the mix alone, where paths are
    /// dropped.
    pub fn forward<'a, B: Backend>(
        &self,
        pass: &PassContext<'a, B>,
        arrays: MixStageForward<'a, B>,
        branch: &mut GrowableBuffer<B>,
        ws: &mut B::Workspace,
    ) -> Result<()> {
        let MixStageForward { chunk_rows, moments, y, mut saved, s, residual } = arrays;
        let (be, call, lengths) = (pass.be, self.mix_call(pass), pass.options.lengths);
        if !self.drops_paths(pass) {
            let params = self.params(pass);
            let args = MixForward { y, saved, s, residual, params, call };
            return match chunk_rows || moments.is_some() {
                true => be.mix_forward_with(args, MixExtras { chunk_rows, moments, lengths }, ws),
                false => be.mix_forward(args, ws),
            };
        }
        let n = pass.batch * self.spec.outputs * pass.len;
        branch.ensure(be, n)?;
        let args = MixForward {
            y: branch.get_mut(be, n),
            saved: saved.as_mut().map(|view| be.reborrow(view)),
            s: be.shorten(s),
            residual: None,
            params: self.params(pass),
            call,
        };
        match chunk_rows {
            true => be.mix_forward_with(args, MixExtras { chunk_rows, moments: None, lengths: None }, ws)?,
            false => be.mix_forward(args, ws)?,
        }
        self.apply_drop_path(pass, y, branch.get(be, n), residual)
    }

    /// Overwrites `ds`, and adds to the parameters' gradients. `branch`: a buffer for the gradient of the mix alone, where paths are
    /// dropped.
    pub fn backward<'a, B: Backend>(
        &self,
        pass: &PassContext<'a, B>,
        arrays: MixStageBackward<'a, B>,
        branch: &'a mut GrowableBuffer<B>,
        ws: &mut B::Workspace,
    ) -> Result<()> {
        let MixStageBackward { chunk_rows, ds, grads, dy, s, saved } = arrays;
        let dy = match self.drops_paths(pass) {
            true => {
                let n = pass.batch * self.spec.outputs * pass.len;
                branch.ensure(pass.be, n)?;
                self.apply_drop_path(pass, branch.get_mut(pass.be, n), dy, None)?;
                branch.get(pass.be, n)
            }
            false => dy,
        };
        let [weight, bias] = grads.views_mut(pass.be, [self.weight, self.bias]);
        let (grads, params, call) = (MixGrads { weight, bias }, self.params(pass), self.mix_call(pass));
        let args = MixBackward { ds, grads, dy, s, saved, params, call };
        match chunk_rows {
            true => pass.be.mix_backward_to_chunk_rows(args, pass.options.lengths, ws),
            false => pass.be.mix_backward(args, ws),
        }
    }
}
