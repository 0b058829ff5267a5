//! The block on the device: norm, S4, activation, dropout, linear, GLU, dropout, residual.
//!
//! Pre-norm: y = x + mix(S4(norm(x))). Post-norm: y = norm(x + mix(S4(x))).

use crate::{
    call::Pass,
    config::BlockConfig,
    growable::GrowableBuffer,
    mix::{MixBackward, MixForward, MixStage},
    norm::{Norm, NormBackward},
    param::{Flats, ParamBuilder},
    s4::{S4Backward, S4Core, S4Forward, S4Step},
};
use s4_backend::{Backend, Result, Scalar};

/// What one block's forward saves for its backward, besides its input.
pub(crate) struct SavedBlock<B: Backend> {
    /// SSM output (batch, channels·H, len).
    ssm_output: GrowableBuffer<B>,
    /// Of the norm.
    stats: GrowableBuffer<B>,
    /// What the SSM asks for.
    ssm: GrowableBuffer<B>,
    /// What the mix asks for.
    mix: GrowableBuffer<B>,
    /// Post-norm: the norm's input.
    norm_input: GrowableBuffer<B>,
}

impl<B: Backend> SavedBlock<B> {
    pub fn new(be: &B) -> Result<Self> {
        Ok(SavedBlock {
            ssm_output: GrowableBuffer::new(be)?,
            stats: GrowableBuffer::new(be)?,
            ssm: GrowableBuffer::new(be)?,
            mix: GrowableBuffer::new(be)?,
            norm_input: GrowableBuffer::new(be)?,
        })
    }
}

/// Temporaries that all blocks share.
pub(crate) struct Scratch<B: Backend> {
    pub ws: B::Workspace,
    /// Norm output, or the post-norm's gradient.
    norm: GrowableBuffer<B>,
    stats: GrowableBuffer<B>,
    /// SSM output, or its gradient.
    ssm_output: GrowableBuffer<B>,
    /// Gradient of the SSM's input.
    du: GrowableBuffer<B>,
}

impl<B: Backend> Scratch<B> {
    pub fn new(be: &B) -> Result<Self> {
        Ok(Scratch {
            ws: be.workspace(),
            norm: GrowableBuffer::new(be)?,
            stats: GrowableBuffer::new(be)?,
            ssm_output: GrowableBuffer::new(be)?,
            du: GrowableBuffer::new(be)?,
        })
    }
}

/// Arrays of one forward: `y` and `x` (batch, H, len), states (batch, H, 2, N/2).
pub(crate) struct BlockForward<'a, B: Backend> {
    pub y: B::Mut<'a>,
    pub state_end: Option<B::Mut<'a>>,
    /// With it a backward may follow.
    pub saved: Option<&'a mut SavedBlock<B>>,
    pub x: B::Ref<'a>,
    pub state_start: Option<B::Ref<'a>>,
}

/// Arrays of its backward: gradients of sum(y·dy) + sum(state_end·dstate_end).
pub(crate) struct BlockBackward<'a, B: Backend> {
    pub dx: B::Mut<'a>,
    pub dstate_start: Option<B::Mut<'a>>,
    pub grads: &'a mut Flats<B>,
    pub dy: B::Ref<'a>,
    pub dstate_end: Option<B::Ref<'a>>,
    pub x: B::Ref<'a>,
    pub state_start: Option<B::Ref<'a>>,
    pub saved: &'a mut SavedBlock<B>,
    /// Saved values may be overwritten, which spares a buffer; no second backward can follow.
    pub consume_saved: bool,
}

/// Arrays of one step: `y` and `x` (batch, H); as in [`S4Step`].
pub(crate) type BlockStep<'a, B> = S4Step<'a, B>;

/// One block.
pub struct BlockCore<B: Backend> {
    pub(crate) s4: S4Core<B>,
    pub(crate) norm: Option<Norm<B>>,
    prenorm: bool,
    residual: bool,
    mix: MixStage,
}

impl<B: Backend> BlockCore<B> {
    /// Block number `index` of a network; parameters under `prefix` (`"blocks.0."`).
    pub(crate) fn new(
        be: &B,
        config: &BlockConfig,
        prefix: &str,
        index: u32,
        params: &mut ParamBuilder,
    ) -> Result<Self> {
        // Random streams: 16 a block, the first 16 belong to encoder and decoder.
        let stream = 16 * (index + 1);
        let norm = Norm::new(be, config.norm, config.layer.features, &format!("{prefix}norm."), params)?;
        let s4 = S4Core::new(be, &config.layer, &format!("{prefix}layer."), stream, params)?;
        let mix = MixStage::new(config, s4.spec().outputs(), prefix, index, stream + 8, params);
        Ok(BlockCore { s4, norm, prenorm: config.prenorm, residual: config.residual, mix })
    }

    /// H.
    pub(crate) fn heads(&self) -> usize {
        self.mix.outputs()
    }

    fn stats_len(&self, pass: &Pass<'_, B>) -> usize {
        self.norm.as_ref().map_or(0, |norm| norm.stats_len(pass.batch, pass.len))
    }

    /// (batch, H, len) → (batch, H, len).
    pub(crate) fn forward(
        &mut self,
        pass: &Pass<'_, B>,
        arrays: BlockForward<'_, B>,
        scratch: &mut Scratch<B>,
    ) -> Result<()> {
        let be = pass.be;
        let BlockForward { mut y, state_end, saved, x, state_start } = arrays;
        let n = pass.batch * self.heads() * pass.len;
        let inner = pass.batch * self.mix.inputs() * pass.len;
        let stats_len = self.stats_len(pass);
        let (ssm_len, mix_len) = match saved {
            Some(_) => (self.s4.saved_len(pass), self.mix.saved_len(pass)),
            None => (0, 0),
        };
        let Scratch { ws, norm: norm_out, stats, ssm_output, .. } = scratch;
        // Where things go: among the saved values when a backward follows, else in shared scratch.
        let (s, stats, mut ssm_saved, mut mix_saved, norm_input) = match saved {
            Some(to) => {
                to.ssm.ensure(be, ssm_len)?;
                to.mix.ensure(be, mix_len)?;
                let SavedBlock { ssm_output, stats, ssm, mix, norm_input } = to;
                (ssm_output, stats, Some(ssm), Some(mix), norm_input)
            }
            None => (ssm_output, stats, None, None, norm_out),
        };
        s.ensure(be, inner)?;
        stats.ensure(be, stats_len)?;
        let ssm_saved = ssm_saved.as_mut().map(|to| to.get_mut(be, ssm_len));
        let mix_saved = mix_saved.as_mut().map(|to| to.get_mut(be, mix_len));
        let residual = self.residual.then_some(x);
        let (s4, mix) = (&mut self.s4, &self.mix);
        match &mut self.norm {
            Some(norm) if self.prenorm => {
                // The SSM's input stands where the block's output will: it is not needed by then.
                norm.forward(pass, be.reborrow(&mut y), stats.get_mut(be, stats_len), x, ws)?;
                let (u, out) = (be.freeze(&y), s.get_mut(be, inner));
                s4.forward(pass, S4Forward { y: out, state_end, saved: ssm_saved, u, state_start }, ws)?;
                mix.forward(pass, MixForward { y, saved: mix_saved, s: s.get(be, inner), residual }, ws)
            }
            norm => {
                let out = s.get_mut(be, inner);
                s4.forward(pass, S4Forward { y: out, state_end, saved: ssm_saved, u: x, state_start }, ws)?;
                let s = s.get(be, inner);
                let Some(norm) = norm else {
                    return mix.forward(pass, MixForward { y, saved: mix_saved, s, residual }, ws);
                };
                norm_input.ensure(be, n)?;
                let out = norm_input.get_mut(be, n);
                mix.forward(pass, MixForward { y: out, saved: mix_saved, s, residual }, ws)?;
                norm.forward(pass, y, stats.get_mut(be, stats_len), norm_input.get(be, n), ws)
            }
        }
    }

    /// Gradients from the same pass and the values that its forward saved.
    pub(crate) fn backward(
        &mut self,
        pass: &Pass<'_, B>,
        arrays: BlockBackward<'_, B>,
        scratch: &mut Scratch<B>,
    ) -> Result<()> {
        let be = pass.be;
        let BlockBackward { mut dx, dstate_start, grads, dy, dstate_end, x, state_start, saved, consume_saved } =
            arrays;
        let n = pass.batch * self.heads() * pass.len;
        let inner = pass.batch * self.mix.inputs() * pass.len;
        let stats_len = self.stats_len(pass);
        let mix_saved = saved.mix.get(be, self.mix.saved_len(pass));
        let ssm_saved = saved.ssm.get(be, self.s4.saved_len(pass));
        let Scratch { ws, norm: norm_out, ssm_output: ds, du, .. } = scratch;
        ds.ensure(be, inner)?;
        let (s4, mix) = (&mut self.s4, &self.mix);
        match &mut self.norm {
            Some(norm) if self.prenorm => {
                let s = saved.ssm_output.get(be, inner);
                let ds_out = ds.get_mut(be, inner);
                mix.backward(pass, MixBackward { ds: ds_out, grads, dy, s, saved: mix_saved }, ws)?;
                // The SSM's input is recomputed, in the place of dx: a norm is cheaper than its memory.
                let stats = saved.stats.get(be, stats_len);
                norm.recompute(pass, be.reborrow(&mut dx), stats, x)?;
                let du = if consume_saved { &mut saved.ssm_output } else { du };
                du.ensure(be, n)?;
                let arrays = S4Backward {
                    du: Some(du.get_mut(be, n)),
                    dstate_start,
                    grads,
                    dy: ds.get(be, inner),
                    dstate_end,
                    u: be.freeze(&dx),
                    state_start,
                    saved: ssm_saved,
                };
                s4.backward(pass, arrays, ws)?;
                let residual = self.residual.then_some(dy);
                norm.backward(pass, NormBackward { dx, grads, dy: du.get(be, n), x, stats, residual }, ws)
            }
            norm => {
                let dz = match norm {
                    Some(norm) => {
                        norm_out.ensure(be, n)?;
                        let arrays = NormBackward {
                            dx: norm_out.get_mut(be, n),
                            grads,
                            dy,
                            x: saved.norm_input.get(be, n),
                            stats: saved.stats.get(be, stats_len),
                            residual: None,
                        };
                        norm.backward(pass, arrays, ws)?;
                        norm_out.get(be, n)
                    }
                    None => dy,
                };
                let s = saved.ssm_output.get(be, inner);
                let ds_out = ds.get_mut(be, inner);
                mix.backward(pass, MixBackward { ds: ds_out, grads, dy: dz, s, saved: mix_saved }, ws)?;
                let arrays = S4Backward {
                    du: Some(be.reborrow(&mut dx)),
                    dstate_start,
                    grads,
                    dy: ds.get(be, inner),
                    dstate_end,
                    u: x,
                    state_start,
                    saved: ssm_saved,
                };
                s4.backward(pass, arrays, ws)?;
                match self.residual {
                    true => be.axpy(dx, B::Scalar::from_f64(1.0), dz),
                    false => Ok(()),
                }
            }
        }
    }

    /// One sample a row; norms use running statistics.
    pub(crate) fn step(
        &mut self,
        pass: &Pass<'_, B>,
        arrays: BlockStep<'_, B>,
        scratch: &mut Scratch<B>,
    ) -> Result<()> {
        let be = pass.be;
        let BlockStep { y, state, u: x, interval, plan } = arrays;
        let (n, inner) = (pass.batch * self.heads(), pass.batch * self.mix.inputs);
        let stats_len = self.stats_len(pass);
        let Scratch { ws, norm: norm_out, stats, ssm_output: s, .. } = scratch;
        s.ensure(be, inner)?;
        norm_out.ensure(be, n)?;
        stats.ensure(be, stats_len)?;
        let residual = self.residual.then_some(x);
        let out = s.get_mut(be, inner);
        let (s4, mix) = (&mut self.s4, &self.mix);
        match &mut self.norm {
            Some(norm) if self.prenorm => {
                norm.forward(pass, norm_out.get_mut(be, n), stats.get_mut(be, stats_len), x, ws)?;
                let u = norm_out.get(be, n);
                s4.step(pass, S4Step { y: out, state, u, interval, plan }, ws)?;
                mix.forward(pass, MixForward { y, saved: None, s: s.get(be, inner), residual }, ws)
            }
            norm => {
                s4.step(pass, S4Step { y: out, state, u: x, interval, plan }, ws)?;
                let s = s.get(be, inner);
                let Some(norm) = norm else {
                    return mix.forward(pass, MixForward { y, saved: None, s, residual }, ws);
                };
                mix.forward(pass, MixForward { y: norm_out.get_mut(be, n), saved: None, s, residual }, ws)?;
                norm.forward(pass, y, stats.get_mut(be, stats_len), norm_out.get(be, n), ws)
            }
        }
    }
}
