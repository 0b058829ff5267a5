//! One block of the network on the device: norm, S4, activation, dropout, linear, GLU, dropout, residual.
//!
//! With the norm first (pre-norm) y = x + mix(S4(norm(x))); with the norm last (post-norm) y = norm(x + mix(S4(x))). The
//! mix is everything between the SSM and the residual sum (`mix_stage.rs`).

use crate::{
    config::BlockConfig,
    growable_buffer::GrowableBuffer,
    mix_stage::{MixStage, MixStageBackward, MixStageConfig, MixStageForward},
    norm::{Norm, NormBackward},
    param::{GroupBuffers, ParamBuilder},
    pass_options::PassContext,
    s4::{S4Backward, S4Core, S4Forward, S4Step},
};
use s4_backend::{Backend, MixSpec, Result, Scalar};

/// Device buffers in which the forward of one block saves what its backward needs, besides the block's input.
pub(crate) struct SavedBlock<B: Backend> {
    /// Output of the SSM, (batch, channels·H, len).
    ssm_output: GrowableBuffer<B>,
    /// Means and inverse deviations of the norm.
    norm_stats: GrowableBuffer<B>,
    /// What the SSM's forward saves for its backward.
    saved_by_ssm: GrowableBuffer<B>,
    /// What the mix's forward saves for its backward.
    saved_by_mix: GrowableBuffer<B>,
    /// Input of the norm, where the norm comes last.
    norm_input: GrowableBuffer<B>,
}

impl<B: Backend> SavedBlock<B> {
    /// Empty buffers, which grow with the first forward.
    pub fn new(be: &B) -> Result<Self> {
        Ok(SavedBlock {
            ssm_output: GrowableBuffer::new(be)?,
            norm_stats: GrowableBuffer::new(be)?,
            saved_by_ssm: GrowableBuffer::new(be)?,
            saved_by_mix: GrowableBuffer::new(be)?,
            norm_input: GrowableBuffer::new(be)?,
        })
    }
}

/// Device buffers for temporary values, one set for all blocks: a block needs them only while it runs.
pub(crate) struct SharedScratch<B: Backend> {
    /// The backend's own scratch memory.
    pub ws: B::Workspace,
    /// Output of the norm; in a backward, the gradient of the norm's input where the norm comes last.
    pub norm: GrowableBuffer<B>,
    /// Means and inverse deviations of the norm, where no backward follows.
    pub norm_stats: GrowableBuffer<B>,
    /// Output of the SSM, or of the first linear of a feed-forward layer; or its gradient.
    pub ssm_output: GrowableBuffer<B>,
    /// Gradient of the SSM's input, where the saved values must stay; of the input of a feed-forward layer's first linear.
    pub du: GrowableBuffer<B>,
    /// What a block adds, or its gradient, where paths are dropped.
    pub branch: GrowableBuffer<B>,
}

impl<B: Backend> SharedScratch<B> {
    /// Empty buffers, which grow with the first call.
    pub fn new(be: &B) -> Result<Self> {
        Ok(SharedScratch {
            ws: be.workspace(),
            norm: GrowableBuffer::new(be)?,
            norm_stats: GrowableBuffer::new(be)?,
            ssm_output: GrowableBuffer::new(be)?,
            du: GrowableBuffer::new(be)?,
            branch: GrowableBuffer::new(be)?,
        })
    }
}

/// Arrays of one forward of a block: output `y` and input `x` (batch, H, len), states (batch, H, 2, N/2).
pub(crate) struct BlockForward<'a, B: Backend> {
    /// Output.
    pub y: B::Mut<'a>,
    /// Where to write the state after the last time step, if it is wanted.
    pub state_end: Option<B::Mut<'a>>,
    /// Where to save what a backward needs; without it no backward can follow.
    pub saved: Option<&'a mut SavedBlock<B>>,
    /// Input.
    pub x: B::Ref<'a>,
    /// State before the first time step; zero without.
    pub state0: Option<B::Ref<'a>>,
}

/// Arrays of one backward of a block, which gives the gradients of sum(y·dy) + sum(state_end·dstate_end).
pub(crate) struct BlockBackward<'a, B: Backend> {
    /// Gradient of the input, overwritten.
    pub dx: B::Mut<'a>,
    /// Gradient of the start state, overwritten.
    pub dstate0: Option<B::Mut<'a>>,
    /// Gradients of the parameters, which are added to.
    pub grads: &'a mut GroupBuffers<B>,
    /// Gradient of the output.
    pub dy: B::Ref<'a>,
    /// Gradient of the state after the last time step.
    pub dstate_end: Option<B::Ref<'a>>,
    /// Input of the forward.
    pub x: B::Ref<'a>,
    /// State that the forward started from.
    pub state0: Option<B::Ref<'a>>,
    /// What the forward has saved.
    pub saved: &'a mut SavedBlock<B>,
    /// Whether saved values may be overwritten. That spares a buffer, but no second backward can follow.
    pub consume_saved: bool,
}

/// Arrays of one time step of a block, as in [`S4Step`], but `y` is (batch, H).
pub(crate) type BlockStep<'a, B> = S4Step<'a, B>;

/// One block: its SSM, its norm, its mix, and how they are joined.
pub struct BlockCore<B: Backend> {
    pub(crate) s4: S4Core<B>,
    pub(crate) norm: Option<Norm<B>>,
    prenorm: bool,
    residual: bool,
    mix: MixStage,
}

impl<B: Backend> BlockCore<B> {
    /// Block number `block_index` of a network. Its parameters' names begin with `prefix` (`"blocks.0."`).
    pub(crate) fn new(
        be: &B,
        config: &BlockConfig,
        prefix: &str,
        block_index: u32,
        params: &mut ParamBuilder,
    ) -> Result<Self> {
        // Each block draws its initial values from 16 streams of random numbers of its own; the first 16 streams belong to
        // the encoder and the decoder.
        let stream = 16 * (block_index + 1);
        let norm = Norm::new(be, config.norm, config.layer.features, &format!("{prefix}norm."), params)?;
        let s4 = S4Core::new(be, &config.layer, &format!("{prefix}layer."), stream, params)?;
        let mix = MixStageConfig {
            spec: MixSpec {
                inputs: s4.spec().outputs(),
                outputs: config.layer.features,
                activation: config.activation,
                glu: config.glu,
                final_activation: config.final_activation,
                dropout: config.dropout,
                tied: config.tied_dropout,
            },
            drop_path: config.drop_path,
            name: &format!("{prefix}output_linear.0."),
            first_site: 2 * block_index,
            initial: (config.layer.seed, stream + 8),
        };
        let mix = MixStage::new(mix, params)?;
        Ok(BlockCore { s4, norm, prenorm: config.prenorm, residual: config.residual, mix })
    }

    /// H, the features of its input and its output.
    pub(crate) fn heads(&self) -> usize {
        self.mix.outputs()
    }

    /// Number of statistics that the norm computes in this pass; 0 without a norm.
    fn stats_len(&self, pass: &PassContext<'_, B>) -> usize {
        self.norm.as_ref().map_or(0, |norm| norm.stats_len(pass.batch, pass.len))
    }

    /// The block's output for a whole batch: x (batch, H, len) → y (batch, H, len).
    pub(crate) fn forward(
        &mut self,
        pass: &PassContext<'_, B>,
        arrays: BlockForward<'_, B>,
        scratch: &mut SharedScratch<B>,
    ) -> Result<()> {
        let be = pass.be;
        let BlockForward { mut y, mut state_end, saved, x, state0 } = arrays;
        let n = pass.batch * self.heads() * pass.len;
        let mix_input_len = pass.batch * self.mix.inputs() * pass.len;
        let stats_len = self.stats_len(pass);
        let (ssm_len, mix_len) = match saved {
            Some(_) => (self.s4.saved_len(pass), self.mix.saved_len(pass)),
            None => (0, 0),
        };
        let SharedScratch { ws, norm: norm_output, norm_stats: stats, ssm_output, branch, .. } = scratch;
        // Results go among the saved values when a backward follows, else into the scratch that all blocks share.
        let (s, stats, mut ssm_saved, mut mix_saved, norm_input) = match saved {
            Some(to) => {
                to.saved_by_ssm.ensure(be, ssm_len)?;
                to.saved_by_mix.ensure(be, mix_len)?;
                let SavedBlock {
                    ssm_output,
                    norm_stats: stats,
                    saved_by_ssm: ssm,
                    saved_by_mix: mix,
                    norm_input,
                } = to;
                (ssm_output, stats, Some(ssm), Some(mix), norm_input)
            }
            None => (ssm_output, stats, None, None, norm_output),
        };
        s.ensure(be, mix_input_len)?;
        stats.ensure(be, stats_len)?;
        let prenorm = self.norm.is_some() && self.prenorm;
        if let (Some(norm), true) = (&mut self.norm, prenorm) {
            // The norm's output, which is the SSM's input, stands in y: it is no longer needed when y is written.
            let stats = stats.get_mut(be, stats_len);
            norm.forward(pass, be.reborrow(&mut y), stats, be.shorten(x), ws)?;
        }
        let ssm = S4Forward {
            y: s.get_mut(be, mix_input_len),
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
            s: s.get(be, mix_input_len),
            residual: self.residual.then(|| be.shorten(x)),
        };
        self.mix.forward(pass, mix, branch, ws)?;
        match postnorm {
            Some(norm) => {
                let stats = stats.get_mut(be, stats_len);
                norm.forward(pass, be.reborrow(&mut y), stats, norm_input.get(be, n), ws)
            }
            None => Ok(()),
        }
    }

    /// Gradients of the block's input, states and parameters, from the values that its forward saved. `pass` is that of the
    /// forward.
    pub(crate) fn backward(
        &mut self,
        pass: &PassContext<'_, B>,
        arrays: BlockBackward<'_, B>,
        scratch: &mut SharedScratch<B>,
    ) -> Result<()> {
        let be = pass.be;
        let BlockBackward { mut dx, mut dstate0, grads, dy, dstate_end, x, state0, saved, consume_saved } =
            arrays;
        let n = pass.batch * self.heads() * pass.len;
        let mix_input_len = pass.batch * self.mix.inputs() * pass.len;
        let stats_len = self.stats_len(pass);
        let (ssm_len, mix_len) = (self.s4.saved_len(pass), self.mix.saved_len(pass));
        let SharedScratch { ws, norm: norm_output, ssm_output: ds, du, branch, .. } = scratch;
        let prenorm = self.norm.as_ref().filter(|_| self.prenorm);
        let postnorm = self.norm.as_ref().filter(|_| !self.prenorm);
        // Where the norm comes last, the gradient goes back through it first.
        if let Some(norm) = postnorm {
            norm_output.ensure(be, n)?;
            let arrays = NormBackward {
                dx: norm_output.get_mut(be, n),
                grads: &mut *grads,
                dy: be.shorten(dy),
                x: saved.norm_input.get(be, n),
                stats: saved.norm_stats.get(be, stats_len),
                residual: None,
            };
            norm.backward(pass, arrays, ws)?;
        }
        let dz = if postnorm.is_some() { norm_output.get(be, n) } else { be.shorten(dy) };
        ds.ensure(be, mix_input_len)?;
        let mix = MixStageBackward {
            ds: ds.get_mut(be, mix_input_len),
            grads: &mut *grads,
            dy: be.shorten(dz),
            s: saved.ssm_output.get(be, mix_input_len),
            saved: saved.saved_by_mix.get(be, mix_len),
        };
        self.mix.backward(pass, mix, branch, ws)?;
        let SavedBlock { ssm_output, norm_stats: stats, saved_by_ssm: ssm, .. } = saved;
        if let Some(norm) = prenorm {
            // The SSM's input is computed once more, into dx, which is not needed yet: a norm takes less time than keeping
            // its output would take memory.
            norm.recompute(pass, be.reborrow(&mut dx), stats.get(be, stats_len), be.shorten(x))?;
        }
        let du = if consume_saved { ssm_output } else { du };
        if prenorm.is_some() {
            du.ensure(be, n)?;
        }
        let (du_view, u) = match prenorm {
            Some(_) => (du.get_mut(be, n), be.freeze(&dx)),
            None => (be.reborrow(&mut dx), be.shorten(x)),
        };
        let arrays = S4Backward {
            du: Some(du_view),
            dstate0: dstate0.as_mut().map(|view| be.reborrow(view)),
            grads: &mut *grads,
            dy: ds.get(be, mix_input_len),
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

    /// One time step of every sequence. A batch norm uses its running statistics.
    pub(crate) fn step(
        &mut self,
        pass: &PassContext<'_, B>,
        arrays: BlockStep<'_, B>,
        scratch: &mut SharedScratch<B>,
    ) -> Result<()> {
        let be = pass.be;
        let BlockStep { mut y, mut state, u: x, interval, plan } = arrays;
        let (n, mix_input_len) = (pass.batch * self.heads(), pass.batch * self.mix.inputs());
        let stats_len = self.stats_len(pass);
        let SharedScratch { ws, norm: norm_output, norm_stats: stats, ssm_output: s, branch, .. } = scratch;
        s.ensure(be, mix_input_len)?;
        norm_output.ensure(be, n)?;
        stats.ensure(be, stats_len)?;
        let prenorm = self.norm.is_some() && self.prenorm;
        if let (Some(norm), true) = (&mut self.norm, prenorm) {
            let (norm_view, stats) = (norm_output.get_mut(be, n), stats.get_mut(be, stats_len));
            norm.forward(pass, norm_view, stats, be.shorten(x), ws)?;
        }
        let ssm = S4Step {
            y: s.get_mut(be, mix_input_len),
            state: be.reborrow(&mut state),
            u: if prenorm { norm_output.get(be, n) } else { be.shorten(x) },
            interval: interval.map(|view| be.shorten(view)),
            plan,
        };
        self.s4.step(pass, ssm, ws)?;
        let postnorm = self.norm.as_mut().filter(|_| !prenorm);
        let mix = MixStageForward {
            y: match postnorm {
                Some(_) => norm_output.get_mut(be, n),
                None => be.reborrow(&mut y),
            },
            saved: None,
            s: s.get(be, mix_input_len),
            residual: self.residual.then(|| be.shorten(x)),
        };
        self.mix.forward(pass, mix, branch, ws)?;
        match postnorm {
            Some(norm) => {
                let stats = stats.get_mut(be, stats_len);
                norm.forward(pass, be.reborrow(&mut y), stats, norm_output.get(be, n), ws)
            }
            None => Ok(()),
        }
    }
}
