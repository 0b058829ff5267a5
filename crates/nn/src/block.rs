//! One block of the network on the device: norm, S4, activation, dropout, linear, GLU, dropout, residual (`residual.rs`).

use crate::{
    config::BlockConfig,
    growable_buffer::GrowableBuffer,
    mix_stage::{MixStage, MixStageConfig},
    norm::Norm,
    param::{GroupBuffers, ParamBuilder},
    pass_options::PassContext,
    residual::{Residual, ResidualBackward, ResidualForward, SavedResidual, SharedScratch},
    s4::{S4Backward, S4Core, S4Forward, S4Step, S4Steps},
};
use s4_backend::{Backend, MixSpec, Result};

/// Device buffers in which the forward of one block saves what its backward needs, besides the block's input.
pub(crate) struct SavedBlock<B: Backend> {
    /// What the SSM's forward saves for its backward.
    ssm: GrowableBuffer<B>,
    /// What the rest of the block saves.
    residual: SavedResidual<B>,
}

impl<B: Backend> SavedBlock<B> {
    /// Empty buffers, which grow with the first forward.
    pub fn new(be: &B) -> Result<Self> {
        Ok(SavedBlock { ssm: GrowableBuffer::new(be)?, residual: SavedResidual::new(be)? })
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

/// One block: its SSM, and what stands around it.
pub struct BlockCore<B: Backend> {
    pub(crate) s4: S4Core<B>,
    pub(crate) residual: Residual<B>,
}

/// Whether the backward of a training step hands the gradient of the SSM's output from the mix to the SSM as rows.
fn hands_chunk_rows<B: Backend>(pass: &PassContext<'_, B>, s4: &S4Core<B>, residual: &Residual<B>) -> bool {
    pass.training_step && s4.takes_chunk_rows(pass) && residual.mix.gives_chunk_rows(pass)
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
        let residual = Residual { norm, prenorm: config.prenorm, residual: config.residual, mix };
        Ok(BlockCore { s4, residual })
    }

    /// H, the features of its input and its output.
    pub(crate) fn heads(&self) -> usize {
        self.residual.heads()
    }

    /// The block's output for a whole batch: x (batch, H, len) → y (batch, H, len).
    pub(crate) fn forward(
        &mut self,
        pass: &PassContext<'_, B>,
        arrays: BlockForward<'_, B>,
        scratch: &mut SharedScratch<B>,
    ) -> Result<()> {
        let be = pass.be;
        let BlockForward { y, mut state_end, saved, x, state0 } = arrays;
        let (mut ssm_saved, saved) = match saved {
            Some(SavedBlock { ssm, residual }) => (Some(ssm), Some(residual)),
            None => (None, None),
        };
        let ssm_len = if ssm_saved.is_some() { self.s4.saved_len(pass) } else { 0 };
        if let Some(ssm) = &mut ssm_saved {
            ssm.ensure(be, ssm_len)?;
        }
        let s4 = &mut self.s4;
        let states = state0.is_some() || state_end.is_some();
        let norms_input = s4.norms_input(pass, states);
        let chunk_rows = !states && saved.is_some() && hands_chunk_rows(pass, s4, &self.residual);
        let arrays = ResidualForward { y, x, saved, norms_input, chunk_rows };
        self.residual.forward(pass, arrays, scratch, |mut inner, ws| {
            let arrays = S4Forward {
                y: be.reborrow(&mut inner.y),
                state_end: state_end.as_mut().map(|view| be.reborrow(view)),
                saved: ssm_saved.as_mut().map(|to| to.get_mut(be, ssm_len)),
                u: be.shorten(inner.x),
                norm: inner.norm.map(|norm| norm.shorten(be)),
                state0: state0.map(|view| be.shorten(view)),
            };
            s4.forward(pass, arrays, ws)
        })
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
        let BlockBackward { dx, mut dstate0, grads, dy, dstate_end, x, state0, saved, consume_saved } =
            arrays;
        let SavedBlock { ssm, residual: saved } = saved;
        let s4 = &mut self.s4;
        let states = state0.is_some() || dstate0.is_some() || dstate_end.is_some();
        let reads_input = s4.reads_input(pass, ssm.get(be, s4.saved_len(pass)), states);
        let chunk_rows = !states && hands_chunk_rows(pass, s4, &self.residual);
        let arrays = ResidualBackward { dx, grads, dy, x, saved, consume_saved, reads_input, chunk_rows };
        self.residual.backward(pass, arrays, scratch, |mut inner, ws| {
            let arrays = S4Backward {
                du: Some(be.reborrow(&mut inner.dx)),
                dstate0: dstate0.as_mut().map(|view| be.reborrow(view)),
                grads: &mut *inner.grads,
                dy: be.shorten(inner.dy),
                chunk_rows,
                dstate_end: dstate_end.map(|view| be.shorten(view)),
                u: be.shorten(inner.x),
                state0: state0.map(|view| be.shorten(view)),
                saved: ssm.get(be, s4.saved_len(pass)),
            };
            s4.backward(pass, arrays, ws)
        })
    }

    /// One time step of every sequence. A batch norm uses its running statistics.
    pub(crate) fn step(
        &mut self,
        pass: &PassContext<'_, B>,
        arrays: BlockStep<'_, B>,
        scratch: &mut SharedScratch<B>,
    ) -> Result<()> {
        let be = pass.be;
        let BlockStep { y, mut state, u: x, interval, plan } = arrays;
        let s4 = &mut self.s4;
        let arrays = ResidualForward { y, x, saved: None, norms_input: false, chunk_rows: false };
        self.residual.forward(pass, arrays, scratch, |mut inner, ws| {
            let arrays = S4Step {
                y: be.reborrow(&mut inner.y),
                state: be.reborrow(&mut state),
                u: be.shorten(inner.x),
                interval: interval.map(|view| be.shorten(view)),
                plan,
            };
            s4.step(pass, arrays, ws)
        })
    }
    /// Time steps of many sequences, each with as many as it has. A batch norm uses its running statistics.
    pub(crate) fn steps(
        &mut self,
        pass: &PassContext<'_, B>,
        arrays: S4Steps<'_, B>,
        scratch: &mut SharedScratch<B>,
    ) -> Result<()> {
        let be = pass.be;
        let S4Steps { y, mut state_end, u: x, state0, lens, plan } = arrays;
        let s4 = &mut self.s4;
        let arrays = ResidualForward { y, x, saved: None, norms_input: false, chunk_rows: false };
        self.residual.forward(pass, arrays, scratch, |mut inner, ws| {
            let arrays = S4Steps {
                y: be.reborrow(&mut inner.y),
                state_end: be.reborrow(&mut state_end),
                u: be.shorten(inner.x),
                state0: be.shorten(state0),
                lens,
                plan,
            };
            s4.steps(pass, arrays, ws)
        })
    }
}
