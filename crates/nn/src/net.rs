//! The network on the device: encoder, blocks, head; forward beside backward, and one step.

use crate::{
    block::{BlockBackward, BlockCore, BlockForward, SavedBlock, Scratch},
    call::Pass,
    check,
    config::ModelConfig,
    encoder::{EncoderInput, EncoderStage},
    growable::{GrowableBuffer, GrowableInts},
    head::Head,
    norm::Norm,
    param::{Flats, ParamBuilder},
    states::RecurrentStates,
};
use s4_backend::{Backend, Result, host_memory};

/// The network's places, plans and buffers.
pub(crate) struct Net<B: Backend> {
    encoder: EncoderStage,
    pub blocks: Vec<BlockCore<B>>,
    pub head: Head<B>,
    heads: usize,
    inputs: usize,
    /// (batch, input, len)
    pub input: GrowableBuffer<B>,
    /// (batch, len)
    pub tokens: GrowableInts<B>,
    /// `activations[i]` goes into block i, the last into the head; inference alternates between the first two.
    activations: Vec<GrowableBuffer<B>>,
    saved: Vec<SavedBlock<B>>,
    /// The gradient that the stage before has given, and a buffer for the next; exchanged after every stage. The forward
    /// leaves the final norm's output in the second.
    gradients: [GrowableBuffer<B>; 2],
    pub scratch: Scratch<B>,
}

/// Arrays of one backward; `dstate0` receives the gradients of `state0`.
pub(crate) struct NetBackward<'a, B: Backend> {
    pub grads: &'a mut Flats<B>,
    pub state0: Option<&'a RecurrentStates<B>>,
    pub dstate_end: Option<&'a RecurrentStates<B>>,
    pub dstate0: Option<&'a mut RecurrentStates<B>>,
    /// Give [`Net::dx`].
    pub want_dx: bool,
    /// As in [`BlockBackward`]; the activations between blocks stay.
    pub consume_saved: bool,
}

impl<B: Backend> Net<B> {
    pub fn new(be: &B, config: &ModelConfig, params: &mut ParamBuilder) -> Result<Self> {
        let encoder = EncoderStage::new(config, params);
        let blocks = (0..config.layers)
            .map(|i| BlockCore::new(be, &config.block, &format!("blocks.{i}."), i as u32, params))
            .collect::<Result<Vec<_>>>()?;
        let head = Head::new(be, config, params)?;
        let buffer = || GrowableBuffer::new(be);
        Ok(Net {
            encoder,
            head,
            heads: config.features(),
            inputs: config.input,
            input: buffer()?,
            tokens: GrowableInts::new(be)?,
            activations: (0..=blocks.len()).map(|_| buffer()).collect::<Result<_>>()?,
            saved: blocks.iter().map(|_| SavedBlock::new(be)).collect::<Result<_>>()?,
            blocks,
            gradients: [buffer()?, buffer()?],
            scratch: Scratch::new(be)?,
        })
    }

    /// Values an input sample has.
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// From `input` or `tokens` to the head's output; with `save` a backward may follow.
    pub fn forward(
        &mut self,
        pass: &Pass<'_, B>,
        state0: Option<&RecurrentStates<B>>,
        state_end: Option<&mut RecurrentStates<B>>,
        save: bool,
    ) -> Result<()> {
        self.features(pass, state0, state_end, save)?;
        let last = if save { self.blocks.len() } else { self.blocks.len() % 2 };
        self.head_forward(pass, last, false)
    }

    /// As [`Net::forward`] in inference, the decoder at every step whatever the pooling; for streams.
    pub fn forward_every_step(
        &mut self,
        pass: &Pass<'_, B>,
        state0: &RecurrentStates<B>,
        state_end: Option<&mut RecurrentStates<B>>,
    ) -> Result<()> {
        self.features(pass, Some(state0), state_end, false)?;
        self.head_forward(pass, self.blocks.len() % 2, true)
    }

    fn head_forward(&mut self, pass: &Pass<'_, B>, last: usize, every_step: bool) -> Result<()> {
        let x = self.activations[last].get(pass.be, pass.batch * self.heads * pass.len);
        self.head.forward(pass, x, &mut self.gradients[1], every_step, &mut self.scratch.ws)
    }

    /// Encoder and blocks.
    fn features(
        &mut self,
        pass: &Pass<'_, B>,
        state0: Option<&RecurrentStates<B>>,
        mut state_end: Option<&mut RecurrentStates<B>>,
        save: bool,
    ) -> Result<()> {
        let Pass { be, batch, len, .. } = *pass;
        let n = batch * self.heads * len;
        let count = if save { self.activations.len() } else { 2 };
        self.activations[..count].iter_mut().try_for_each(|a| a.ensure(be, n))?;
        let values = self.input.get(be, self.encoder.values_len(batch, self.inputs, len));
        let input = EncoderInput { values, tokens: self.tokens.get() };
        let x = self.activations[0].get_mut(be, n);
        self.encoder.forward(pass, x, input, self.heads, &mut self.scratch.ws)?;
        for (i, block) in self.blocks.iter_mut().enumerate() {
            let (x, y) = neighbours(&mut self.activations, if save { i } else { i % 2 }, count);
            let arrays = BlockForward {
                y: y.get_mut(be, n),
                state_end: state_end.as_mut().map(|s| s.view_mut(be, i)),
                saved: save.then_some(&mut self.saved[i]),
                x: x.get(be, n),
                state0: state0.map(|s| s.view(be, i)),
            };
            block.forward(pass, arrays, &mut self.scratch)?;
        }
        Ok(())
    }

    /// From the gradient of the output, which the head holds, to the parameters' (accumulated), the input's
    /// ([`Net::dx`]) and the first states'.
    pub fn backward(&mut self, pass: &Pass<'_, B>, arrays: NetBackward<'_, B>) -> Result<()> {
        let be = pass.be;
        let NetBackward { grads, state0, dstate_end, mut dstate0, want_dx, consume_saved } = arrays;
        let n = pass.batch * self.heads * pass.len;
        let last = self.activations[self.blocks.len()].get(be, n);
        self.head.backward(pass, &mut self.gradients, grads, last, &mut self.scratch.ws)?;
        for (i, block) in self.blocks.iter_mut().enumerate().rev() {
            let [dy, dx] = &mut self.gradients;
            let arrays = BlockBackward {
                dx: dx.get_mut(be, n),
                dstate0: dstate0.as_mut().map(|s| s.view_mut(be, i)),
                grads: &mut *grads,
                dy: dy.get(be, n),
                dstate_end: dstate_end.map(|s| s.view(be, i)),
                x: self.activations[i].get(be, n),
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

    /// The norms with the names of their places, `"blocks.0.norm"` to `"norm"`.
    pub fn norms(&self) -> impl Iterator<Item = (String, &Norm<B>)> {
        let blocks = self.blocks.iter().enumerate();
        let blocks = blocks.filter_map(|(i, b)| Some((format!("blocks.{i}.norm"), b.norm.as_ref()?)));
        blocks.chain(self.head.norm.as_ref().map(|norm| ("norm".to_string(), norm)))
    }

    /// As [`Net::norms`], to be changed.
    pub fn norms_mut(&mut self) -> impl Iterator<Item = (String, &mut Norm<B>)> {
        let blocks = self.blocks.iter_mut().enumerate();
        let blocks = blocks.filter_map(|(i, b)| Some((format!("blocks.{i}.norm"), b.norm.as_mut()?)));
        blocks.chain(self.head.norm.as_mut().map(|norm| ("norm".to_string(), norm)))
    }

    /// Accepts running statistics, if `guard` is finite.
    pub fn commit(&mut self, be: &B, guard: Option<B::Ref<'_>>) -> Result<()> {
        let blocks = self.blocks.iter_mut().filter_map(|b| b.norm.as_mut());
        blocks.chain(self.head.norm.as_mut()).try_for_each(|norm| norm.commit(be, guard))
    }

    /// Drops running statistics that were gathered since [`Net::commit`].
    pub fn forget(&mut self) {
        let blocks = self.blocks.iter_mut().filter_map(|b| b.norm.as_mut());
        blocks.chain(self.head.norm.as_mut()).for_each(Norm::forget);
    }

    /// Encoder of one sample, `y` (batch, H).
    pub fn encode_step<'a>(
        &mut self,
        pass: &Pass<'a, B>,
        y: B::Mut<'a>,
        input: EncoderInput<'a, B>,
    ) -> Result<()> {
        self.encoder.forward(pass, y, input, self.heads, &mut self.scratch.ws)
    }

    /// Name of the first activation of the last saved forward that is not finite.
    pub fn first_non_finite(&self, be: &B, batch: usize, len: usize) -> Result<Option<String>> {
        let n = batch * self.heads * len;
        let mut host = host_memory::zeros("s4-node", "a result", n)?;
        for (i, activation) in self.activations.iter().enumerate() {
            be.download(&mut host, activation.get(be, n))?;
            if check::finite("", "", &host).is_err() {
                return Ok(Some(match i {
                    0 => "encoder".into(),
                    i => format!("blocks.{}", i - 1),
                }));
            }
        }
        Ok(None)
    }
}

/// Item `from` and the one after it; after the last of `count` comes the first.
fn neighbours<T>(items: &mut [T], from: usize, count: usize) -> (&T, &mut T) {
    let to = (from + 1) % count;
    if from < to {
        let (a, b) = items.split_at_mut(to);
        (&a[from], &mut b[0])
    } else {
        let (a, b) = items.split_at_mut(from);
        (&b[0], &mut a[to])
    }
}
