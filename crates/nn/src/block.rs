//! The block on the device: norm, S4, activation, dropout, linear, GLU, dropout, residual.
//!
//! Pre-norm: y = x + mix(S4(norm(x))). Post-norm: y = norm(x + mix(S4(x))).

use crate::{
    call::Pass,
    config::BlockConfig,
    growable::GrowableBuffer,
    mix::{MixStage, MixStageBackward, MixStageForward},
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
    pub state0: Option<B::Ref<'a>>,
}

/// Arrays of its backward: gradients of sum(y·dy) + sum(state_end·dstate_end).
pub(crate) struct BlockBackward<'a, B: Backend> {
    pub dx: B::Mut<'a>,
    pub dstate0: Option<B::Mut<'a>>,
    pub grads: &'a mut Flats<B>,
    pub dy: B::Ref<'a>,
    pub dstate_end: Option<B::Ref<'a>>,
    pub x: B::Ref<'a>,
    pub state0: Option<B::Ref<'a>>,
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
        let BlockForward { mut y, mut state_end, saved, x, state0 } = arrays;
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
        let prenorm = self.norm.is_some() && self.prenorm;
        if let (Some(norm), true) = (&mut self.norm, prenorm) {
            // The SSM's input stands where the block's output will: it is not needed by then.
            let stats = stats.get_mut(be, stats_len);
            norm.forward(pass, be.reborrow(&mut y), stats, be.shorten(x), ws)?;
        }
        let ssm = S4Forward {
            y: s.get_mut(be, inner),
            state_end: state_end.as_mut().map(|view| be.reborrow(view)),
            saved: ssm_saved.as_mut().map(|to| to.get_mut(be, ssm_len)),
            u: if prenorm { be.freeze(&y) } else { be.shorten(x) },
            state0: state0.map(|view| be.shorten(view)),
        };
        self.s4.forward(pass, ssm, ws)?;
        let postnorm = self.norm.as_mut().filter(|_| !prenorm);
        if postnorm.is_some() {
            norm_input.ensure(be, n)?;
        }
        let mix = MixStageForward {
            y: match postnorm {
                Some(_) => norm_input.get_mut(be, n),
                None => be.reborrow(&mut y),
            },
            saved: mix_saved.as_mut().map(|to| to.get_mut(be, mix_len)),
            s: s.get(be, inner),
            residual: self.residual.then(|| be.shorten(x)),
        };
        self.mix.forward(pass, mix, ws)?;
        match postnorm {
            Some(norm) => {
                let stats = stats.get_mut(be, stats_len);
                norm.forward(pass, be.reborrow(&mut y), stats, norm_input.get(be, n), ws)
            }
            None => Ok(()),
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
        let BlockBackward { mut dx, mut dstate0, grads, dy, dstate_end, x, state0, saved, consume_saved } =
            arrays;
        let n = pass.batch * self.heads() * pass.len;
        let inner = pass.batch * self.mix.inputs() * pass.len;
        let stats_len = self.stats_len(pass);
        let (ssm_len, mix_len) = (self.s4.saved_len(pass), self.mix.saved_len(pass));
        let Scratch { ws, norm: norm_out, ssm_output: ds, du, .. } = scratch;
        let prenorm = self.norm.as_ref().filter(|_| self.prenorm);
        let postnorm = self.norm.as_ref().filter(|_| !self.prenorm);
        // Post-norm: back through it first.
        if let Some(norm) = postnorm {
            norm_out.ensure(be, n)?;
            let arrays = NormBackward {
                dx: norm_out.get_mut(be, n),
                grads: &mut *grads,
                dy: be.shorten(dy),
                x: saved.norm_input.get(be, n),
                stats: saved.stats.get(be, stats_len),
                residual: None,
            };
            norm.backward(pass, arrays, ws)?;
        }
        let dz = if postnorm.is_some() { norm_out.get(be, n) } else { be.shorten(dy) };
        ds.ensure(be, inner)?;
        let mix = MixStageBackward {
            ds: ds.get_mut(be, inner),
            grads: &mut *grads,
            dy: be.shorten(dz),
            s: saved.ssm_output.get(be, inner),
            saved: saved.mix.get(be, mix_len),
        };
        self.mix.backward(pass, mix, ws)?;
        let SavedBlock { ssm_output, stats, ssm, .. } = saved;
        if let Some(norm) = prenorm {
            // The SSM's input is recomputed, in the place of dx: a norm is cheaper than its memory.
            norm.recompute(pass, be.reborrow(&mut dx), stats.get(be, stats_len), be.shorten(x))?;
        }
        let du = if consume_saved { ssm_output } else { du };
        if prenorm.is_some() {
            du.ensure(be, n)?;
        }
        let (du_out, u) = match prenorm {
            Some(_) => (du.get_mut(be, n), be.freeze(&dx)),
            None => (be.reborrow(&mut dx), be.shorten(x)),
        };
        let arrays = S4Backward {
            du: Some(du_out),
            dstate0: dstate0.as_mut().map(|view| be.reborrow(view)),
            grads: &mut *grads,
            dy: ds.get(be, inner),
            dstate_end: dstate_end.map(|view| be.shorten(view)),
            u,
            state0: state0.map(|view| be.shorten(view)),
            saved: ssm.get(be, ssm_len),
        };
        self.s4.backward(pass, arrays, ws)?;
        match prenorm {
            Some(norm) => {
                let arrays = NormBackward {
                    dx: be.reborrow(&mut dx),
                    grads,
                    dy: du.get(be, n),
                    x: be.shorten(x),
                    stats: stats.get(be, stats_len),
                    residual: self.residual.then(|| be.shorten(dy)),
                };
                norm.backward(pass, arrays, ws)
            }
            None if self.residual => be.axpy(dx, B::Scalar::from_f64(1.0), dz),
            None => Ok(()),
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
        let BlockStep { mut y, mut state, u: x, interval, plan } = arrays;
        let (n, inner) = (pass.batch * self.heads(), pass.batch * self.mix.inputs());
        let stats_len = self.stats_len(pass);
        let Scratch { ws, norm: norm_out, stats, ssm_output: s, .. } = scratch;
        s.ensure(be, inner)?;
        norm_out.ensure(be, n)?;
        stats.ensure(be, stats_len)?;
        let prenorm = self.norm.is_some() && self.prenorm;
        if let (Some(norm), true) = (&mut self.norm, prenorm) {
            let (out, stats) = (norm_out.get_mut(be, n), stats.get_mut(be, stats_len));
            norm.forward(pass, out, stats, be.shorten(x), ws)?;
        }
        let ssm = S4Step {
            y: s.get_mut(be, inner),
            state: be.reborrow(&mut state),
            u: if prenorm { norm_out.get(be, n) } else { be.shorten(x) },
            interval: interval.map(|view| be.shorten(view)),
            plan,
        };
        self.s4.step(pass, ssm, ws)?;
        let postnorm = self.norm.as_mut().filter(|_| !prenorm);
        let mix = MixStageForward {
            y: match postnorm {
                Some(_) => norm_out.get_mut(be, n),
                None => be.reborrow(&mut y),
            },
            saved: None,
            s: s.get(be, inner),
            residual: self.residual.then(|| be.shorten(x)),
        };
        self.mix.forward(pass, mix, ws)?;
        match postnorm {
            Some(norm) => {
                let stats = stats.get_mut(be, stats_len);
                norm.forward(pass, be.reborrow(&mut y), stats, norm_out.get(be, n), ws)
            }
            None => Ok(()),
        }
    }
}
