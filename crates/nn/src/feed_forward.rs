//! The feed-forward layer after a block, as in a Transformer (the module `ff` of the official code): a residual block of its own
//! with norm, linear to `feedForward`·H features, activation, dropout, linear back to H, dropout, drop path (`residual.rs`; the mix is
//! that of a block).

use crate::{
    config::ModelConfig,
    linear::{LinearStage, LinearStageBackward},
    mix_stage::{MixStage, MixStageConfig},
    norm::Norm,
    param::ParamBuilder,
    pass_options::PassContext,
    residual::{Residual, ResidualBackward, ResidualForward, SavedResidual, SharedScratch},
};
use s4_backend::{Activation, Backend, MixSpec, Result};

/// The first dropout site of feed-forward layers; those of blocks are below it.
const FIRST_SITE: u32 = 1 << 14;

/// The feed-forward layer after one block.
pub(crate) struct FeedForward<B: Backend> {
    pub residual: Residual<B>,
    linear: LinearStage,
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
        let residual = Residual { norm, prenorm: block.prenorm, residual: block.residual, mix };
        Ok(FeedForward { residual, linear })
    }

    /// x (batch, H, len) → y (batch, H, len). Without `saved` no backward can follow.
    pub fn forward<'a>(
        &mut self,
        pass: &PassContext<'_, B>,
        y: B::Mut<'a>,
        x: B::Ref<'a>,
        saved: Option<&'a mut SavedResidual<B>>,
        scratch: &mut SharedScratch<B>,
    ) -> Result<()> {
        let (be, linear) = (pass.be, &self.linear);
        let arrays = ResidualForward { y, x, saved, norms_input: false, chunk_rows: false };
        self.residual.forward(pass, arrays, scratch, |mut inner, ws| {
            linear.forward(pass, be.reborrow(&mut inner.y), be.shorten(inner.x), pass.len, ws)
        })
    }

    /// Gradients of input and parameters, from the values that its forward saved. `pass` is that of the forward.
    pub fn backward(
        &mut self,
        pass: &PassContext<'_, B>,
        arrays: ResidualBackward<'_, B>,
        scratch: &mut SharedScratch<B>,
    ) -> Result<()> {
        let (be, linear) = (pass.be, &self.linear);
        self.residual.backward(pass, arrays, scratch, |mut inner, ws| {
            let arrays = LinearStageBackward {
                dx: Some(be.reborrow(&mut inner.dx)),
                grads: &mut *inner.grads,
                dy: be.shorten(inner.dy),
                x: be.shorten(inner.x),
                len: pass.len,
            };
            linear.backward(pass, arrays, ws)
        })
    }
}
