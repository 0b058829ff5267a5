//! The feed-forward layer after a block, as in a Transformer (the module `ff` of the official code): a residual block of its own
//! with norm, linear to `feedForward`·H features, activation, dropout, linear back to H, dropout, drop path.
//!
//! With the norm first y = x + mix(W·norm(x) + b), with the norm last y = norm(x + mix(W·x + b)); the mix is that of a block.

use crate::{
    block::SharedScratch,
    config::ModelConfig,
    growable_buffer::GrowableBuffer,
    linear::{LinearStage, LinearStageBackward},
    mix_stage::{MixStage, MixStageBackward, MixStageConfig, MixStageForward},
    norm::{Norm, NormBackward},
    param::{GroupBuffers, ParamBuilder},
    pass_options::PassContext,
};
use s4_backend::{Activation, Backend, MixSpec, Result, Scalar};

/// The first dropout site of feed-forward layers; those of blocks are below it.
const FIRST_SITE: u32 = 1 << 14;

/// Device buffers in which a forward saves what its backward needs, besides the input.
pub(crate) struct SavedFeedForward<B: Backend> {
    /// Output of the first linear, (batch, inner, len).
    hidden: GrowableBuffer<B>,
    /// Means and inverse deviations of the norm.
    norm_stats: GrowableBuffer<B>,
    /// What the mix's forward saves for its backward.
    saved_by_mix: GrowableBuffer<B>,
    /// Input of the norm, where the norm comes last.
    norm_input: GrowableBuffer<B>,
}

impl<B: Backend> SavedFeedForward<B> {
    /// Empty buffers, which grow with the first forward.
    pub fn new(be: &B) -> Result<Self> {
        Ok(SavedFeedForward {
            hidden: GrowableBuffer::new(be)?,
            norm_stats: GrowableBuffer::new(be)?,
            saved_by_mix: GrowableBuffer::new(be)?,
            norm_input: GrowableBuffer::new(be)?,
        })
    }
}

/// Arrays of one backward.
pub(crate) struct FeedForwardBackward<'a, B: Backend> {
    /// Gradient of the input, overwritten.
    pub dx: B::Mut<'a>,
    /// Gradients of the parameters, which are added to.
    pub grads: &'a mut GroupBuffers<B>,
    /// Gradient of the output.
    pub dy: B::Ref<'a>,
    /// Input of the forward.
    pub x: B::Ref<'a>,
    /// What the forward has saved.
    pub saved: &'a mut SavedFeedForward<B>,
}

/// The feed-forward layer after one block.
pub(crate) struct FeedForward<B: Backend> {
    pub norm: Option<Norm<B>>,
    prenorm: bool,
    residual: bool,
    linear: LinearStage,
    mix: MixStage,
}

impl<B: Backend> FeedForward<B> {
    /// The layer after block number `block_index`; adds its parameters, whose names begin with `blocks.i.feed_forward.`.
    pub fn new(be: &B, config: &ModelConfig, block_index: u32, params: &mut ParamBuilder) -> Result<Self> {
        let (block, heads, inner) = (&config.block, config.features(), config.feed_forward_features());
        let prefix = format!("blocks.{block_index}.feed_forward.");
        // The block draws from the first ten of its 16 streams.
        let (seed, stream) = (block.layer.seed, 16 * (block_index + 1) + 10);
        let norm = Norm::new(be, block.norm, heads, &format!("{prefix}norm."), params)?;
        let linear = LinearStage::new(&format!("{prefix}linear1"), (seed, stream), heads, inner, params)?;
        let mix = MixStageConfig {
            spec: MixSpec {
                inputs: inner,
                outputs: heads,
                activation: Activation::Gelu,
                glu: false,
                final_activation: Activation::Identity,
                dropout: block.dropout,
                tied: block.tied_dropout,
            },
            drop_path: block.drop_path,
            name: &format!("{prefix}linear2."),
            first_site: FIRST_SITE + 2 * block_index,
            initial: (seed, stream + 2),
        };
        let mix = MixStage::new(mix, params)?;
        Ok(FeedForward { norm, prenorm: block.prenorm, residual: block.residual, linear, mix })
    }

    /// Number of statistics that the norm computes in this pass; 0 without a norm.
    fn stats_len(&self, pass: &PassContext<'_, B>) -> usize {
        self.norm.as_ref().map_or(0, |norm| norm.stats_len(pass.batch, pass.len))
    }

    /// x (batch, H, len) → y (batch, H, len). Without `saved` no backward can follow.
    pub fn forward(
        &mut self,
        pass: &PassContext<'_, B>,
        mut y: B::Mut<'_>,
        x: B::Ref<'_>,
        saved: Option<&mut SavedFeedForward<B>>,
        scratch: &mut SharedScratch<B>,
    ) -> Result<()> {
        let be = pass.be;
        let n = pass.batch * self.linear.inputs * pass.len;
        let hidden_len = pass.batch * self.linear.outputs * pass.len;
        let stats_len = self.stats_len(pass);
        let mix_len = if saved.is_some() { self.mix.saved_len(pass) } else { 0 };
        let SharedScratch { ws, norm: norm_output, norm_stats: stats, ssm_output: hidden, branch, .. } =
            scratch;
        // Results go among the saved values when a backward follows, else into the scratch that all blocks share.
        let (hidden, stats, mut mix_saved, norm_input) = match saved {
            Some(to) => {
                to.saved_by_mix.ensure(be, mix_len)?;
                let SavedFeedForward { hidden, norm_stats, saved_by_mix, norm_input } = to;
                (hidden, norm_stats, Some(saved_by_mix), norm_input)
            }
            None => (hidden, stats, None, norm_output),
        };
        hidden.ensure(be, hidden_len)?;
        stats.ensure(be, stats_len)?;
        let prenorm = self.norm.is_some() && self.prenorm;
        if let (Some(norm), true) = (&mut self.norm, prenorm) {
            // The norm's output, which is the linear's input, stands in y: it is no longer needed when y is written.
            norm.forward(pass, be.reborrow(&mut y), stats.get_mut(be, stats_len), be.shorten(x), ws)?;
        }
        let u = if prenorm { be.freeze(&y) } else { be.shorten(x) };
        self.linear.forward(pass, hidden.get_mut(be, hidden_len), u, pass.len, ws)?;
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
            s: hidden.get(be, hidden_len),
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

    /// Gradients of input and parameters, from the values that its forward saved. `pass` is that of the forward.
    pub fn backward(
        &mut self,
        pass: &PassContext<'_, B>,
        arrays: FeedForwardBackward<'_, B>,
        scratch: &mut SharedScratch<B>,
    ) -> Result<()> {
        let be = pass.be;
        let FeedForwardBackward { mut dx, grads, dy, x, saved } = arrays;
        let n = pass.batch * self.linear.inputs * pass.len;
        let hidden_len = pass.batch * self.linear.outputs * pass.len;
        let stats_len = self.stats_len(pass);
        let SharedScratch { ws, norm: norm_output, ssm_output: dhidden, du, branch, .. } = scratch;
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
        dhidden.ensure(be, hidden_len)?;
        let mix = MixStageBackward {
            ds: dhidden.get_mut(be, hidden_len),
            grads: &mut *grads,
            dy: be.shorten(dz),
            s: saved.hidden.get(be, hidden_len),
            saved: saved.saved_by_mix.get(be, self.mix.saved_len(pass)),
        };
        self.mix.backward(pass, mix, branch, ws)?;
        if let Some(norm) = prenorm {
            // The linear's input is computed once more, into dx, which is not needed yet.
            norm.recompute(pass, be.reborrow(&mut dx), saved.norm_stats.get(be, stats_len), be.shorten(x))?;
            du.ensure(be, n)?;
        }
        let (du_view, u) = match prenorm {
            Some(_) => (du.get_mut(be, n), be.freeze(&dx)),
            None => (be.reborrow(&mut dx), be.shorten(x)),
        };
        let arrays = LinearStageBackward {
            dx: Some(du_view),
            grads: &mut *grads,
            dy: dhidden.get(be, hidden_len),
            x: u,
            len: pass.len,
        };
        self.linear.backward(pass, arrays, ws)?;
        match prenorm {
            Some(norm) => {
                let arrays = NormBackward {
                    dx: be.reborrow(&mut dx),
                    grads,
                    dy: du.get(be, n),
                    x: be.shorten(x),
                    stats: saved.norm_stats.get(be, stats_len),
                    residual: self.residual.then(|| be.shorten(dy)),
                };
                norm.backward(pass, arrays, ws)
            }
            None if self.residual => be.axpy(dx, B::Scalar::from_f64(1.0), dz),
            None => Ok(()),
        }
    }
}
