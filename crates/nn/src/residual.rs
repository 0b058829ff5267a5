//! What stands around the inner stage of a residual block: norm, mix and sum. The inner stage is the SSM of a block, or the first linear of a
//! feed-forward layer.
//!
//! With the norm first (pre-norm) y = x + mix(inner(norm(x))); with the norm last (post-norm) y = norm(x + mix(inner(x))). The
//! mix is everything between the inner stage and the residual sum (`mix_stage.rs`).

use crate::{
    config::NormKind,
    growable_buffer::GrowableBuffer,
    mix_stage::{MixStage, MixStageBackward, MixStageForward},
    norm::{Norm, NormBackward, NormInput},
    param::GroupBuffers,
    pass_options::PassContext,
};
use s4_backend::{Backend, Result, Scalar, SsmInputNorm};

/// Device buffers for temporary values, one set for all blocks: a block needs them only while it runs.
pub(crate) struct SharedScratch<B: Backend> {
    /// The backend's own scratch memory.
    pub ws: B::Workspace,
    /// Output of the norm; in a backward, the gradient of the norm's input where the norm comes last.
    pub norm: GrowableBuffer<B>,
    /// Means and inverse deviations of the norm, where no backward follows.
    pub norm_stats: GrowableBuffer<B>,
    /// Output of the inner stage, or its gradient.
    pub inner_output: GrowableBuffer<B>,
    /// Gradient of the inner stage's input, where the saved values must stay.
    pub dinner_input: GrowableBuffer<B>,
    /// What a block adds, or its gradient, where paths are dropped.
    pub branch: GrowableBuffer<B>,
    /// Moments of the output of the stage before, for a batch norm of it, and how many elements they are; `None` where that has left none.
    moments: GrowableBuffer<B>,
    moments_len: Option<usize>,
}

impl<B: Backend> SharedScratch<B> {
    /// Empty buffers, which grow with the first call.
    pub fn new(be: &B) -> Result<Self> {
        Ok(SharedScratch {
            ws: be.workspace(),
            norm: GrowableBuffer::new(be)?,
            norm_stats: GrowableBuffer::new(be)?,
            inner_output: GrowableBuffer::new(be)?,
            dinner_input: GrowableBuffer::new(be)?,
            branch: GrowableBuffer::new(be)?,
            moments: GrowableBuffer::new(be)?,
            moments_len: None,
        })
    }

    /// Before the first stage of a pass, whose input no stage has left moments of.
    pub fn begin_pass(&mut self) {
        self.moments_len = None;
    }
}

/// Device buffers in which a forward saves what its backward needs, besides its input and what the inner stage saves.
pub(crate) struct SavedResidual<B: Backend> {
    /// Output of the inner stage, (batch, inner features, len); not kept where its gradient goes as rows.
    inner_output: GrowableBuffer<B>,
    /// Means and inverse deviations of the norm.
    norm_stats: GrowableBuffer<B>,
    /// What the mix's forward saves for its backward; once that has run, where it gave rows, the gradient of the inner stage's input.
    mix: GrowableBuffer<B>,
    /// Input of the norm, where the norm comes last.
    norm_input: GrowableBuffer<B>,
}

impl<B: Backend> SavedResidual<B> {
    /// Empty buffers, which grow with the first forward.
    pub fn new(be: &B) -> Result<Self> {
        Ok(SavedResidual {
            inner_output: GrowableBuffer::new(be)?,
            norm_stats: GrowableBuffer::new(be)?,
            mix: GrowableBuffer::new(be)?,
            norm_input: GrowableBuffer::new(be)?,
        })
    }
}

/// Arrays of one forward: x (batch, H, len) → y (batch, H, len).
pub(crate) struct ResidualForward<'a, B: Backend> {
    pub y: B::Mut<'a>,
    pub x: B::Ref<'a>,
    /// Without it no backward can follow.
    pub saved: Option<&'a mut SavedResidual<B>>,
    /// Whether the inner stage can take a batch norm of its input upon itself.
    pub norms_input: bool,
    /// Whether backward hands the gradient of the inner stage's output over as rows.
    pub chunk_rows: bool,
}

/// Arrays of the inner stage's forward.
pub(crate) struct InnerForward<'a, B: Backend> {
    /// Its output.
    pub y: B::Mut<'a>,
    pub x: B::Ref<'a>,
    /// The norm of `x` that it takes upon itself.
    pub norm: Option<SsmInputNorm<'a, B>>,
}

/// Arrays of one backward.
pub(crate) struct ResidualBackward<'a, B: Backend> {
    /// Gradient of the input, overwritten.
    pub dx: B::Mut<'a>,
    /// Gradients of the parameters, which are added to.
    pub grads: &'a mut GroupBuffers<B>,
    /// Gradient of the output.
    pub dy: B::Ref<'a>,
    /// Input of the forward.
    pub x: B::Ref<'a>,
    /// What the forward has saved.
    pub saved: &'a mut SavedResidual<B>,
    /// Whether saved values may be overwritten. That spares a buffer, but no second backward can follow.
    pub consume_saved: bool,
    /// Whether the inner stage's backward reads its input.
    pub reads_input: bool,
    /// As in the forward.
    pub chunk_rows: bool,
}

/// Arrays of the inner stage's backward.
pub(crate) struct InnerBackward<'a, B: Backend> {
    /// Gradient of its input, overwritten.
    pub dx: B::Mut<'a>,
    /// Gradients of the parameters, which are added to.
    pub grads: &'a mut GroupBuffers<B>,
    /// Gradient of its output.
    pub dy: B::Ref<'a>,
    /// Its input in the forward; where it reads none, anything.
    pub x: B::Ref<'a>,
}

/// Norm, mix and residual sum around an inner stage.
pub(crate) struct Residual<B: Backend> {
    pub norm: Option<Norm<B>>,
    /// Whether the norm comes first.
    pub prenorm: bool,
    /// Whether the input is added.
    pub residual: bool,
    pub mix: MixStage,
}

impl<B: Backend> Residual<B> {
    /// H, the features of input and output.
    pub fn heads(&self) -> usize {
        self.mix.outputs()
    }

    /// Number of statistics that the norm computes in this pass; 0 without a norm.
    fn stats_len(&self, pass: &PassContext<'_, B>) -> usize {
        self.norm.as_ref().map_or(0, |norm| norm.stats_len(pass.batch, pass.len))
    }

    /// See [`ResidualForward`]. `inner(arrays, workspace)` is the inner stage's forward.
    pub fn forward(
        &mut self,
        pass: &PassContext<'_, B>,
        arrays: ResidualForward<'_, B>,
        scratch: &mut SharedScratch<B>,
        inner: impl FnOnce(InnerForward<'_, B>, &mut B::Workspace) -> Result<()>,
    ) -> Result<()> {
        let ResidualForward { mut y, x, saved, norms_input, chunk_rows } = arrays;
        let be = pass.be;
        let n = pass.batch * self.heads() * pass.len;
        let inner_len = pass.batch * self.mix.inputs() * pass.len;
        let stats_len = self.stats_len(pass);
        let mix_len = if saved.is_some() { self.mix.saved_len(pass, chunk_rows) } else { 0 };
        #[rustfmt::skip]
        let SharedScratch {
            ws, norm: norm_output, norm_stats: stats, inner_output, branch, moments, moments_len, ..
        } = scratch;
        let given = moments_len.take().filter(|_| pass.training_step);
        // Results go among the saved values when a backward follows, else into the scratch that all blocks share.
        let (s, stats, mut mix_saved, norm_input) = match saved {
            Some(to) => {
                to.mix.ensure(be, mix_len)?;
                let SavedResidual { inner_output: kept, norm_stats, mix, norm_input } = to;
                (if chunk_rows { inner_output } else { kept }, norm_stats, Some(mix), norm_input)
            }
            None => (inner_output, stats, None, norm_output),
        };
        s.ensure(be, inner_len)?;
        stats.ensure(be, stats_len)?;
        let prenorm = self.norm.as_mut().filter(|_| self.prenorm);
        let mut arrays = InnerForward { y: s.get_mut(be, inner_len), x: be.shorten(x), norm: None };
        if let Some(norm) = prenorm {
            let given = given.map(|len| moments.get(be, len));
            let to = NormInput { stats: stats.get_mut(be, stats_len), x: be.shorten(x), moments: given };
            if norms_input && norm.kind() == NormKind::Batch {
                norm.statistics(pass, to, ws)?;
                arrays.norm = Some(norm.of_input(pass, stats.get(be, stats_len)));
            } else {
                // The norm's output, which is the inner stage's input, stands in y: it is no longer needed when y is written.
                norm.forward(pass, be.reborrow(&mut y), to, ws)?;
                arrays.x = be.freeze(&y);
            }
        }
        inner(arrays, ws)?;
        let batch_norm = self.norm.as_ref().is_some_and(|norm| norm.kind() == NormKind::Batch);
        let postnorm = self.norm.as_mut().filter(|_| !self.prenorm);
        if postnorm.is_some() {
            norm_input.ensure(be, n)?;
        }
        // The next stage, where there is one, has a norm as this one has. Ranks that exchange moments make their own.
        let leaves = pass.exchange.is_none()
            && pass.training_step
            && mix_saved.is_some()
            && self.prenorm
            && batch_norm;
        *moments_len = if leaves { self.mix.moments_len(pass) } else { None };
        moments.ensure(be, moments_len.unwrap_or(0))?;
        let mix = MixStageForward {
            moments: moments_len.map(|len| moments.get_mut(be, len)),
            chunk_rows: chunk_rows && mix_saved.is_some(),
            y: match postnorm {
                Some(_) => norm_input.get_mut(be, n),
                None => be.reborrow(&mut y),
            },
            saved: mix_saved.as_mut().map(|to| to.get_mut(be, mix_len)),
            s: s.get(be, inner_len),
            residual: self.residual.then(|| be.shorten(x)),
        };
        self.mix.forward(pass, mix, branch, ws)?;
        match postnorm {
            Some(norm) => {
                let (stats, x) = (stats.get_mut(be, stats_len), norm_input.get(be, n));
                norm.forward(pass, be.reborrow(&mut y), NormInput::of(stats, x), ws)
            }
            None => Ok(()),
        }
    }

    /// Gradients of input and parameters, from the values that the forward saved. `pass` is that of the forward, and
    /// `inner(arrays, workspace)` the inner stage's backward.
    pub fn backward(
        &mut self,
        pass: &PassContext<'_, B>,
        arrays: ResidualBackward<'_, B>,
        scratch: &mut SharedScratch<B>,
        inner: impl FnOnce(InnerBackward<'_, B>, &mut B::Workspace) -> Result<()>,
    ) -> Result<()> {
        let be = pass.be;
        let ResidualBackward { mut dx, grads, dy, x, saved, consume_saved, reads_input, chunk_rows } = arrays;
        let n = pass.batch * self.heads() * pass.len;
        let inner_len = pass.batch * self.mix.inputs() * pass.len;
        let stats_len = self.stats_len(pass);
        let mix_len = self.mix.saved_len(pass, chunk_rows);
        let SharedScratch { ws, norm: norm_output, inner_output: ds, dinner_input, branch, .. } = scratch;
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
        ds.ensure(be, inner_len)?;
        let mix = MixStageBackward {
            chunk_rows,
            ds: ds.get_mut(be, inner_len),
            grads: &mut *grads,
            dy: be.shorten(dz),
            // As many numbers, since rows are of as many features as there are outputs.
            s: if chunk_rows { be.shorten(dz) } else { saved.inner_output.get(be, inner_len) },
            saved: saved.mix.get(be, mix_len),
        };
        self.mix.backward(pass, mix, branch, ws)?;
        let SavedResidual { inner_output, norm_stats: stats, mix, .. } = saved;
        let du = match consume_saved {
            true if chunk_rows => mix,
            true => inner_output,
            false => dinner_input,
        };
        if let Some(norm) = prenorm {
            // The inner stage's input is computed once more, into dx, which is not needed yet: a norm takes less time than
            // keeping its output would take memory.
            if reads_input {
                norm.recompute(pass, be.reborrow(&mut dx), stats.get(be, stats_len), be.shorten(x))?;
            }
            du.ensure(be, n)?;
        }
        let (du_view, u) = match prenorm {
            Some(_) => (du.get_mut(be, n), be.freeze(&dx)),
            None => (be.reborrow(&mut dx), be.shorten(x)),
        };
        inner(InnerBackward { dx: du_view, grads: &mut *grads, dy: ds.get(be, inner_len), x: u }, ws)?;
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
}
