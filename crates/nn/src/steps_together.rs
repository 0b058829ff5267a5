//! A push in which the time steps of all sequences go through the network together: its dense parts see each time step as a
//! row of one batch, and the states move on by as many steps as each sequence has. For a push of few time steps into many
//! sequences, where a backend has a form of the recurrence that is quicker so.

use crate::{
    batch::Input,
    config::{Encoder, ModelConfig},
    encoder::EncoderInput,
    journal::Journal,
    model::Model,
    network::Network,
    param::ParamStore,
    pass_options::PassContext,
    recurrent_states::RecurrentStates,
    s4::S4Steps,
    slot_arrays::GROUP,
    stepper::{StepOptions, Stepper},
    steps_buffers::StepsBuffers,
};
use s4_backend::{Backend, Result};

impl<B: Backend> Stepper<B> {
    /// Whether a push of these many time steps of each sequence goes together. A mean, maximum or sum over time so far, and
    /// intervals, need one time step after the other.
    pub(crate) fn goes_together(
        &self,
        config: &ModelConfig,
        lens: &[usize],
        opts: &StepOptions<'_, B::Scalar>,
    ) -> bool {
        opts.interval.is_none()
            && self.pool.carries_nothing()
            && self.be.takes_steps_together(&config.block.layer.spec(), lens)
    }

    /// Takes a push of `len` time steps of every sequence together, where that serves; else false, with nothing done.
    pub(crate) fn push_if_together(
        &mut self,
        model: &mut Model<B>,
        x: Input<'_, B::Scalar>,
        len: usize,
        opts: &StepOptions<'_, B::Scalar>,
        output: &mut [B::Scalar],
    ) -> Result<bool> {
        let mut lens = std::mem::take(&mut self.together.lens);
        lens.clear();
        lens.resize(self.batch, len);
        let goes = self.goes_together(&model.config, &lens, opts);
        let pushed = match goes {
            true => self.push_together(model, x, &lens, output),
            false => Ok(()),
        };
        self.together.lens = lens;
        pushed?;
        self.position += if goes { len as u64 } else { 0 };
        Ok(goes)
    }

    /// Pushes as many time steps of each sequence as `lens` says, none or more, through this stream's own plans and buffers.
    fn push_together(
        &mut self,
        model: &mut Model<B>,
        x: Input<'_, B::Scalar>,
        lens: &[usize],
        output: &mut [B::Scalar],
    ) -> Result<()> {
        let Model { config, store, net, .. } = model;
        let (states, (be, plans, buffers)) = self.parts_of_push();
        states.push(StepsThrough { be, config, store, net, plans, buffers, next: None }, x, lens, output)
    }

    /// As [`Stepper::push_together`], through plans and buffers that many streams share.
    pub(crate) fn push_through(
        &mut self,
        through: StepsThrough<'_, B>,
        x: Input<'_, B::Scalar>,
        lens: &[usize],
        output: &mut [B::Scalar],
    ) -> Result<()> {
        self.parts_of_push().0.push(through, x, lens, output)
    }

    /// The states, and what a push goes through that does not share it: backend, plans and buffers.
    fn parts_of_push(&mut self) -> (StatesOfPush<'_, B>, (&B, &mut [B::StepPlan], &mut StepsBuffers<B>)) {
        let states = StatesOfPush {
            states: &mut self.states,
            next: &mut self.next_or_kept_states,
            journal: &mut self.journal,
            host_state: self.may_hide_nonfinite_states.then_some(&mut self.host_state),
            exchanges: &mut self.state_exchanges,
            sizes: (self.batch, self.rate),
        };
        (states, (&self.be, &mut self.plans, &mut self.together))
    }
}

/// What a push goes through: the network with its parameters, and what a thread has of its own for the time steps of any streams.
pub(crate) struct StepsThrough<'a, B: Backend> {
    pub be: &'a B,
    pub config: &'a ModelConfig,
    pub store: &'a ParamStore<B>,
    pub net: &'a mut Network<B>,
    /// The backend's plan for the time steps of each block.
    pub plans: &'a mut [B::StepPlan],
    pub buffers: &'a mut StepsBuffers<B>,
    /// Where the next states of a whole group of slots go, of a thread that has a set of its own: it exchanges it for that of the group, so that many
    /// groups need no second one. None where the stream's own is used.
    pub next: Option<&'a mut Option<RecurrentStates<B>>>,
}

/// The states of a stream, and what belongs to them.
struct StatesOfPush<'a, B: Backend> {
    states: &'a mut RecurrentStates<B>,
    next: &'a mut Option<RecurrentStates<B>>,
    journal: &'a mut Journal<B::Scalar>,
    /// Where states are looked at that may be other than finite while the output is finite.
    host_state: Option<&'a mut Vec<B::Scalar>>,
    exchanges: &'a mut u64,
    /// Number of sequences, and their rate.
    sizes: (usize, f64),
}

impl<B: Backend> StatesOfPush<'_, B> {
    /// Pushes as many time steps of each sequence as `lens` says, none or more. `x`: those of the first sequence, then those of
    /// the second, …, and `output` in the same order. The caller has checked the sizes, and moves the position on. Nothing has changed
    /// where it fails.
    fn push(
        self,
        through: StepsThrough<'_, B>,
        x: Input<'_, B::Scalar>,
        lens: &[usize],
        output: &mut [B::Scalar],
    ) -> Result<()> {
        let StepsThrough { be, config: c, store, net, plans, buffers, next } = through;
        let (batch, rate) = self.sizes;
        let steps = lens.iter().sum::<usize>();
        let (inputs, encoder) = (c.input, c.encoder);
        let (n, m) = (steps * c.features(), steps * c.decoder_outputs());
        let StepsBuffers { input, tokens, features, output: device_output, .. } = buffers;
        let mut size = 0;
        match x {
            Input::Values(x) => {
                input.ensure(be, steps * inputs)?;
                be.upload(input.get_mut(be, steps * inputs), x)?;
                if encoder != Encoder::Embedding {
                    size = steps * inputs;
                }
            }
            Input::Tokens(x) => {
                tokens.upload(be, x)?;
            }
        }
        features.iter_mut().try_for_each(|x| x.ensure_in_lines(be, n))?;
        device_output.ensure(be, m)?;
        self.journal.end();
        let next = match next {
            Some(next) if batch == GROUP => next,
            _ => self.next,
        };
        let next = match next {
            Some(next) => next,
            none => none.insert(RecurrentStates::new(be, c, batch)?),
        };
        let [a, b] = features;
        let (mut x, mut y) = (a, b);
        let pass = PassContext::at_rate(be, store, (steps, 1), rate);
        let input = EncoderInput { values: input.get(be, size), tokens: tokens.get() };
        net.encode_step(&pass, x.get_mut(be, n), input)?;
        for (i, (block, plan)) in net.blocks.iter_mut().zip(plans).enumerate() {
            let arrays = S4Steps {
                y: y.get_mut(be, n),
                state_end: next.view_mut(be, i),
                u: x.get(be, n),
                state0: self.states.view(be, i),
                lens,
                plan,
            };
            block.steps(&pass, arrays, &mut net.scratch)?;
            std::mem::swap(&mut x, &mut y);
            if let Some(feed_forward) = net.feed_forwards.get_mut(i) {
                let (to, from) = (y.get_mut(be, n), x.get(be, n));
                feed_forward.forward(&pass, to, from, None, &mut net.scratch)?;
                std::mem::swap(&mut x, &mut y);
            }
        }
        let ws = &mut net.scratch.ws;
        if net.output_stage.norm_step(&pass, y.get_mut(be, n), x.get(be, n), ws)? {
            std::mem::swap(&mut x, &mut y);
        }
        net.output_stage.decode_step(&pass, device_output.get_mut(be, m), x.get(be, n), ws)?;
        be.download(output, device_output.get(be, m))?;
        Stepper::check_finite(be, output, next, self.host_state)?;
        std::mem::swap(self.states, next);
        *self.exchanges += 1;
        Ok(())
    }
}
