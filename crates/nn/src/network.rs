//! The network of a model on the device: encoder, blocks, each with a feed-forward layer or without, and what follows them; forward,
//! backward, and one time step.

use crate::{
    block::{BlockBackward, BlockCore, BlockForward, SavedBlock},
    check,
    config::ModelConfig,
    encoder::{EncoderInput, EncoderStage},
    feed_forward::FeedForward,
    growable_buffer::{GrowableBuffer, GrowableInts},
    norm::Norm,
    output_stage::OutputStage,
    param::{GroupBuffers, ParamBuilder},
    pass_options::PassContext,
    rank_exchange::SharedExchange,
    recurrent_states::RecurrentStates,
    residual::{ResidualBackward, SavedResidual, SharedScratch},
};
use s4_backend::{Backend, Result, Scalar, SsmPass, host_memory};

/// The parts of a network, with the device buffers between them.
pub(crate) struct Network<B: Backend> {
    encoder: EncoderStage,
    /// The blocks, in the order of the forward.
    pub blocks: Vec<BlockCore<B>>,
    /// The feed-forward layer after each block; none where the model has no such layers.
    pub feed_forwards: Vec<FeedForward<B>>,
    /// Final norm, pooling and decoder.
    pub output_stage: OutputStage<B>,
    heads: usize,
    inputs: usize,
    /// Input values on the device, (batch, input, len).
    pub input: GrowableBuffer<B>,
    /// Input tokens on the device, (batch, len).
    pub tokens: GrowableInts<B>,
    /// Features between the parts: `activations[i]` is the input of part i, where blocks and their feed-forward layers are the
    /// parts, and the last is the output of the last. A forward that saves nothing alternates between the first two.
    activations: Vec<GrowableBuffer<B>>,
    /// What the last saved forward of each block has left for its backward.
    saved: Vec<SavedBlock<B>>,
    /// The same of each feed-forward layer.
    saved_feed_forwards: Vec<SavedResidual<B>>,
    /// In a backward: the gradient that the last part has given, and a buffer for that of the next part; the two are
    /// exchanged after every part. A forward leaves the final norm's output in the second.
    gradients: [GrowableBuffer<B>; 2],
    /// Temporary buffers that all parts share.
    pub scratch: SharedScratch<B>,
}

/// Arrays of one backward of the network. `dstate0` receives the gradients of the states `state0` that the forward started
/// from.
pub(crate) struct NetworkBackward<'a, B: Backend> {
    /// Gradients of the parameters, which are added to.
    pub grads: &'a mut GroupBuffers<B>,
    /// States that the forward started from.
    pub state0: Option<&'a RecurrentStates<B>>,
    /// Gradients of the states after the last time step.
    pub dstate_end: Option<&'a RecurrentStates<B>>,
    /// Receives the gradients of the start states.
    pub dstate0: Option<&'a mut RecurrentStates<B>>,
    /// Whether to compute the gradient of the input, [`Network::dx`].
    pub want_dx: bool,
    /// Whether saved values may be overwritten, as in [`BlockBackward`]. The features between blocks stay.
    pub consume_saved: bool,
}

impl<B: Backend> Network<B> {
    /// The network of a configuration; adds its parameters to `params`.
    pub fn new(be: &B, config: &ModelConfig, params: &mut ParamBuilder) -> Result<Self> {
        let encoder = EncoderStage::new(config, params)?;
        let blocks = (0..config.layers)
            .map(|i| BlockCore::new(be, &config.block, &format!("blocks.{i}."), i as u32, params))
            .collect::<Result<Vec<_>>>()?;
        let count = if config.feed_forward_features() > 0 { config.layers } else { 0 };
        let feed_forwards =
            (0..count).map(|i| FeedForward::new(be, config, i as u32, params)).collect::<Result<Vec<_>>>()?;
        let output_stage = OutputStage::new(be, config, params)?;
        let parts = blocks.len() + count;
        let buffer = || GrowableBuffer::new(be);
        Ok(Network {
            encoder,
            output_stage,
            heads: config.features(),
            inputs: config.input,
            input: buffer()?,
            tokens: GrowableInts::new(be)?,
            activations: (0..=parts).map(|_| buffer()).collect::<Result<_>>()?,
            saved: blocks.iter().map(|_| SavedBlock::new(be)).collect::<Result<_>>()?,
            saved_feed_forwards: (0..count).map(|_| SavedResidual::new(be)).collect::<Result<_>>()?,
            blocks,
            feed_forwards,
            gradients: [buffer()?, buffer()?],
            scratch: SharedScratch::new(be)?,
        })
    }

    /// Number of values of the input at each time step.
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// Number of blocks and feed-forward layers.
    fn parts(&self) -> usize {
        self.blocks.len() + self.feed_forwards.len()
    }

    /// Number of the part that block `block` is.
    fn part_of_block(&self, block: usize) -> usize {
        if self.feed_forwards.is_empty() { block } else { 2 * block }
    }

    /// Computes the output, which the last part holds, from `input` or `tokens`. With `save` a backward may follow.
    pub fn forward(
        &mut self,
        pass: &PassContext<'_, B>,
        state0: Option<&RecurrentStates<B>>,
        state_end: Option<&mut RecurrentStates<B>>,
        save: bool,
    ) -> Result<()> {
        self.run_encoder_and_blocks(pass, state0, state_end, save)?;
        let last_activation = if save { self.parts() } else { self.parts() % 2 };
        self.run_output_stage(pass, last_activation, false)
    }

    /// As [`Network::forward`] in inference, but without pooling: the decoder runs at every time step. For streams.
    pub fn forward_every_step(
        &mut self,
        pass: &PassContext<'_, B>,
        state0: &RecurrentStates<B>,
        state_end: Option<&mut RecurrentStates<B>>,
    ) -> Result<()> {
        self.run_encoder_and_blocks(pass, Some(state0), state_end, false)?;
        self.run_output_stage(pass, self.parts() % 2, true)
    }

    /// As [`Network::forward_every_step`], but the decoder runs at the last time step of each sequence alone.
    pub fn forward_last_step(
        &mut self,
        pass: &PassContext<'_, B>,
        state0: &RecurrentStates<B>,
        state_end: &mut RecurrentStates<B>,
    ) -> Result<()> {
        self.run_encoder_and_blocks(pass, Some(state0), Some(state_end), false)?;
        let n = pass.batch * self.heads * pass.len;
        let x = self.activations[self.parts() % 2].get(pass.be, n);
        self.output_stage.forward_last_step(pass, x, &mut self.gradients[1], &mut self.scratch.ws)
    }

    /// Final norm, pooling and decoder, from activation number `last_activation`.
    fn run_output_stage(
        &mut self,
        pass: &PassContext<'_, B>,
        last_activation: usize,
        every_step: bool,
    ) -> Result<()> {
        let x = self.activations[last_activation].get(pass.be, pass.batch * self.heads * pass.len);
        self.output_stage.forward(pass, x, &mut self.gradients[1], every_step, &mut self.scratch.ws)
    }

    /// Runs the encoder and all blocks.
    fn run_encoder_and_blocks(
        &mut self,
        pass: &PassContext<'_, B>,
        state0: Option<&RecurrentStates<B>>,
        mut state_end: Option<&mut RecurrentStates<B>>,
        save: bool,
    ) -> Result<()> {
        let PassContext { be, batch, len, .. } = *pass;
        let n = batch * self.heads * len;
        let count = if save { self.activations.len() } else { 2 };
        self.activations[..count].iter_mut().try_for_each(|a| a.ensure(be, n))?;
        // Each block's constants are begun a block ahead, where a backward follows; from states it takes others.
        let prepares = save && state0.is_none() && state_end.is_none();
        if let (Some(first), true) = (self.blocks.first_mut(), prepares) {
            first.s4.prepare(pass, SsmPass::Forward)?;
        }
        let values = self.input.get(be, self.encoder.values_len(batch, self.inputs, len));
        self.scratch.begin_pass();
        let input = EncoderInput { values, tokens: self.tokens.get() };
        let x = self.activations[0].get_mut(be, n);
        self.encoder.forward(pass, x, input, self.heads, &mut self.scratch.ws)?;
        let stride = if self.feed_forwards.is_empty() { 1 } else { 2 };
        for i in 0..self.blocks.len() {
            if let (Some(next), true) = (self.blocks.get_mut(i + 1), prepares) {
                next.s4.prepare(pass, SsmPass::Forward)?;
            }
            let block = &mut self.blocks[i];
            let from = |part: usize| if save { part } else { part % 2 };
            let (x, y) = input_and_output(&mut self.activations, from(stride * i), count);
            let arrays = BlockForward {
                y: y.get_mut(be, n),
                state_end: state_end.as_mut().map(|s| s.view_mut(be, i)),
                saved: save.then_some(&mut self.saved[i]),
                x: x.get(be, n),
                state0: state0.map(|s| s.view(be, i)),
            };
            block.forward(pass, arrays, &mut self.scratch)?;
            if let Some(feed_forward) = self.feed_forwards.get_mut(i) {
                let (x, y) = input_and_output(&mut self.activations, from(stride * i + 1), count);
                let saved = save.then_some(&mut self.saved_feed_forwards[i]);
                feed_forward.forward(pass, y.get_mut(be, n), x.get(be, n), saved, &mut self.scratch)?;
            }
        }
        // Backward begins with the last block, behind the output and the loss.
        match (self.blocks.last_mut(), prepares) {
            (Some(last), true) => last.s4.prepare(pass, SsmPass::Backward),
            _ => Ok(()),
        }
    }

    /// From the gradient of the output, which the last part holds, computes those of the parameters (added to `grads`), of
    /// the input ([`Network::dx`]) and of the start states.
    pub fn backward(&mut self, pass: &PassContext<'_, B>, arrays: NetworkBackward<'_, B>) -> Result<()> {
        let be = pass.be;
        let NetworkBackward { grads, state0, dstate_end, mut dstate0, want_dx, consume_saved } = arrays;
        let n = pass.batch * self.heads * pass.len;
        let prepares = state0.is_none() && dstate_end.is_none() && dstate0.is_none();
        let last_activation = self.activations[self.parts()].get(be, n);
        self.output_stage.backward(
            pass,
            &mut self.gradients,
            grads,
            last_activation,
            &mut self.scratch.ws,
        )?;
        let stride = if self.feed_forwards.is_empty() { 1 } else { 2 };
        for i in (0..self.blocks.len()).rev() {
            if i > 0 && prepares {
                self.blocks[i - 1].s4.prepare(pass, SsmPass::Backward)?;
            }
            let block = &mut self.blocks[i];
            if let Some(feed_forward) = self.feed_forwards.get_mut(i) {
                let [dy, dx] = &mut self.gradients;
                let arrays = ResidualBackward {
                    dx: dx.get_mut(be, n),
                    grads: &mut *grads,
                    dy: dy.get(be, n),
                    x: self.activations[stride * i + 1].get(be, n),
                    saved: &mut self.saved_feed_forwards[i],
                    consume_saved,
                    reads_input: true,
                    chunk_rows: false,
                };
                feed_forward.backward(pass, arrays, &mut self.scratch)?;
                self.gradients.swap(0, 1);
            }
            let [dy, dx] = &mut self.gradients;
            let arrays = BlockBackward {
                dx: dx.get_mut(be, n),
                dstate0: dstate0.as_mut().map(|s| s.view_mut(be, i)),
                grads: &mut *grads,
                dy: dy.get(be, n),
                dstate_end: dstate_end.map(|s| s.view(be, i)),
                x: self.activations[stride * i].get(be, n),
                state0: state0.map(|s| s.view(be, i)),
                saved: &mut self.saved[i],
                consume_saved,
            };
            block.backward(pass, arrays, &mut self.scratch)?;
            self.gradients.swap(0, 1);
        }
        let input = (&self.input, &self.tokens);
        self.encoder.backward(pass, &mut self.gradients, grads, input, want_dx, &mut self.scratch.ws)
    }

    /// Gradient of the input, (batch, input, len), after a backward with `want_dx`.
    pub fn dx(&self, be: &B, batch: usize, len: usize) -> B::Ref<'_> {
        self.gradients[0].get(be, batch * self.inputs * len)
    }

    /// Input and output of block `block` in a saved forward, (batch, H, len) each.
    pub fn input_and_output(&self, be: &B, block: usize, (batch, len): (usize, usize)) -> [B::Ref<'_>; 2] {
        let (part, n) = (self.part_of_block(block), batch * self.heads * len);
        [part, part + 1].map(|i| self.activations[i].get(be, n))
    }

    /// Gradient of the features after the encoder, (batch, H, len), after a backward of a model whose input is tokens.
    pub fn dfeatures(&self, be: &B, (batch, len): (usize, usize)) -> B::Ref<'_> {
        self.gradients[0].get(be, batch * self.heads * len)
    }

    /// All norms with their names: `"blocks.0.norm"`, …, and `"norm"` for the final one.
    pub fn norms(&self) -> impl Iterator<Item = (String, &Norm<B>)> {
        let blocks = self.blocks.iter().enumerate();
        let blocks =
            blocks.filter_map(|(i, b)| Some((format!("blocks.{i}.norm"), b.residual.norm.as_ref()?)));
        let feed_forwards = self.feed_forwards.iter().enumerate();
        let feed_forwards = feed_forwards
            .filter_map(|(i, f)| Some((format!("blocks.{i}.feed_forward.norm"), f.residual.norm.as_ref()?)));
        blocks
            .chain(feed_forwards)
            .chain(self.output_stage.norm.as_ref().map(|norm| ("norm".to_string(), norm)))
    }

    /// As [`Network::norms`], with the norms to be changed.
    pub fn norms_mut(&mut self) -> impl Iterator<Item = (String, &mut Norm<B>)> {
        let blocks = self.blocks.iter_mut().enumerate();
        let blocks =
            blocks.filter_map(|(i, b)| Some((format!("blocks.{i}.norm"), b.residual.norm.as_mut()?)));
        let feed_forwards = self.feed_forwards.iter_mut().enumerate();
        let feed_forwards = feed_forwards
            .filter_map(|(i, f)| Some((format!("blocks.{i}.feed_forward.norm"), f.residual.norm.as_mut()?)));
        blocks
            .chain(feed_forwards)
            .chain(self.output_stage.norm.as_mut().map(|norm| ("norm".to_string(), norm)))
    }

    /// As [`Network::norms_mut`], without names, which each update would make anew.
    fn unnamed_norms_mut(&mut self) -> impl Iterator<Item = &mut Norm<B>> {
        let blocks = self.blocks.iter_mut().filter_map(|b| b.residual.norm.as_mut());
        let feed_forwards = self.feed_forwards.iter_mut().filter_map(|f| f.residual.norm.as_mut());
        blocks.chain(feed_forwards).chain(self.output_stage.norm.as_mut())
    }

    /// Takes over the running statistics that training forwards have computed, if `guard` (loss and Σ g²) is finite.
    pub fn accept_statistics(&mut self, be: &B, guard: Option<B::Ref<'_>>) -> Result<()> {
        self.unnamed_norms_mut().try_for_each(|norm| norm.accept_statistics(be, guard))
    }

    /// Drops the running statistics that training forwards have computed since they were last taken over.
    pub fn drop_statistics(&mut self) {
        self.unnamed_norms_mut().for_each(Norm::drop_statistics);
    }

    /// The running means and variances of every batch norm, to be written.
    pub fn running_statistics_mut(&mut self, be: &B) -> Vec<B::Mut<'_>> {
        self.unnamed_norms_mut().filter_map(|norm| norm.running_statistics_mut(be)).collect()
    }

    /// The exchanges of a forward and a backward, by a rank that has no batch while others have: in their order, with nothing.
    pub fn exchange_without_batch(&mut self, be: &B, exchange: &SharedExchange<B>) -> Result<()> {
        let mut feed_forwards = self.feed_forwards.iter_mut();
        let mut norms = Vec::new();
        for block in &mut self.blocks {
            norms.extend(&mut block.residual.norm);
            norms.extend(feed_forwards.next().and_then(|layer| layer.residual.norm.as_mut()));
        }
        norms.extend(&mut self.output_stage.norm);
        norms.iter_mut().try_for_each(|norm| norm.forward_without_batch(be, exchange))?;
        norms.iter_mut().rev().try_for_each(|norm| norm.backward_without_batch(be, exchange))
    }

    /// The running means and variances of every batch norm as training forwards have moved them on.
    pub fn moved_statistics_mut(&mut self, be: &B) -> Vec<B::Mut<'_>> {
        self.unnamed_norms_mut().filter_map(|norm| norm.moved_statistics_mut(be)).collect()
    }

    /// Puts zeros in the place of what training forwards have made of the running statistics.
    pub fn zero_moved_statistics(&mut self, be: &B) -> Result<()> {
        let zero = B::Scalar::from_f64(0.0);
        self.moved_statistics_mut(be).into_iter().try_for_each(|view| be.fill(view, zero))
    }

    /// The encoder at one time step; writes the features `y` (batch, H).
    pub fn encode_step<'a>(
        &mut self,
        pass: &PassContext<'a, B>,
        y: B::Mut<'a>,
        input: EncoderInput<'a, B>,
    ) -> Result<()> {
        self.encoder.forward(pass, y, input, self.heads, &mut self.scratch.ws)
    }

    /// Name of the first part, in order of the forward, whose output was not finite in the last saved forward; `None` where
    /// all were.
    pub fn first_non_finite(&self, be: &B, batch: usize, len: usize) -> Result<Option<String>> {
        let n = batch * self.heads * len;
        let mut host = host_memory::zeros("s4-node", "a result", n)?;
        for (i, activation) in self.activations.iter().enumerate() {
            be.download(&mut host, activation.get(be, n))?;
            if check::finite("", "", &host).is_err() {
                return Ok(Some(match (i, self.feed_forwards.is_empty()) {
                    (0, _) => "encoder".into(),
                    (i, true) => format!("blocks.{}", i - 1),
                    (i, false) if i % 2 == 1 => format!("blocks.{}", i / 2),
                    (i, false) => format!("blocks.{}.feed_forward", i / 2 - 1),
                }));
            }
        }
        Ok(None)
    }
}

/// Item `from`, to be read, and the next of the first `count` items, to be written; the next of the last is the first.
fn input_and_output<T>(items: &mut [T], from: usize, count: usize) -> (&T, &mut T) {
    let to = (from + 1) % count;
    if from < to {
        let (a, b) = items.split_at_mut(to);
        (&a[from], &mut b[0])
    } else {
        let (a, b) = items.split_at_mut(from);
        (&b[0], &mut a[to])
    }
}
