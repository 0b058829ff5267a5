//! A push in which the time steps of all sequences go through the network together: its dense parts see each time step as a
//! row of one batch, and the states move on by as many steps as each sequence has. For a push of few time steps into many
//! sequences, where a backend has a form of the recurrence that is quicker so.

use crate::{
    batch::Input,
    config::Encoder,
    encoder::EncoderInput,
    model::Model,
    pass_options::PassContext,
    recurrent_states::RecurrentStates,
    s4::S4Steps,
    stepper::{StepOptions, Stepper},
    steps_buffers::StepsBuffers,
};
use s4_backend::{Backend, Result};

impl<B: Backend> Stepper<B> {
    /// Whether a push of these many time steps of each sequence goes together. A mean, maximum or sum over time so far, and
    /// intervals, need one time step after the other.
    pub(crate) fn goes_together(
        &self,
        model: &Model<B>,
        lens: &[usize],
        opts: &StepOptions<'_, B::Scalar>,
    ) -> bool {
        opts.interval.is_none()
            && self.pool.carries_nothing()
            && self.be.takes_steps_together(model.net.blocks[0].s4.spec(), lens)
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
        let goes = self.goes_together(model, &lens, opts);
        let pushed = match goes {
            true => self.push_together(model, None, x, &lens, output),
            false => Ok(()),
        };
        self.together.lens = lens;
        pushed?;
        self.position += if goes { len as u64 } else { 0 };
        Ok(goes)
    }

    /// Pushes as many time steps of each sequence as `lens` says, none or more. `x`: those of the first sequence, then those of
    /// the second, …, and `output` in the same order. The caller has checked the sizes, and moves the position on. `plans`: the
    /// backend's plan for the time steps of each block, where many streams share them. Nothing has changed where it fails.
    pub(crate) fn push_together(
        &mut self,
        model: &mut Model<B>,
        plans: Option<&mut [B::StepPlan]>,
        x: Input<'_, B::Scalar>,
        lens: &[usize],
        output: &mut [B::Scalar],
    ) -> Result<()> {
        let be = self.be.clone();
        let steps = lens.iter().sum::<usize>();
        let c = &model.config;
        let (inputs, encoder) = (c.input, c.encoder);
        let (n, m) = (steps * c.features(), steps * c.decoder_outputs());
        let StepsBuffers { input, tokens, features, output: device_output, .. } = &mut self.together;
        let mut size = 0;
        match x {
            Input::Values(x) => {
                input.ensure(&be, steps * inputs)?;
                be.upload(input.get_mut(&be, steps * inputs), x)?;
                if encoder != Encoder::Embedding {
                    size = steps * inputs;
                }
            }
            Input::Tokens(x) => {
                tokens.upload(&be, x)?;
            }
        }
        features.iter_mut().try_for_each(|x| x.ensure(&be, n))?;
        device_output.ensure(&be, m)?;
        self.journal.end();
        let next = match &mut self.next_or_kept_states {
            Some(next) => next,
            none => none.insert(RecurrentStates::new(&be, c, self.batch)?),
        };
        let plans = plans.unwrap_or(&mut self.plans);
        let [a, b] = features;
        let (mut x, mut y) = (a, b);
        let net = &mut model.net;
        let pass = PassContext::at_rate(&be, &model.store, (steps, 1), self.rate);
        let input = EncoderInput { values: input.get(&be, size), tokens: tokens.get() };
        net.encode_step(&pass, x.get_mut(&be, n), input)?;
        for (i, (block, plan)) in net.blocks.iter_mut().zip(plans).enumerate() {
            let arrays = S4Steps {
                y: y.get_mut(&be, n),
                state_end: next.view_mut(&be, i),
                u: x.get(&be, n),
                state0: self.states.view(&be, i),
                lens,
                plan,
            };
            block.steps(&pass, arrays, &mut net.scratch)?;
            std::mem::swap(&mut x, &mut y);
            if let Some(feed_forward) = net.feed_forwards.get_mut(i) {
                let (to, from) = (y.get_mut(&be, n), x.get(&be, n));
                feed_forward.forward(&pass, to, from, None, &mut net.scratch)?;
                std::mem::swap(&mut x, &mut y);
            }
        }
        let ws = &mut net.scratch.ws;
        if net.output_stage.norm_step(&pass, y.get_mut(&be, n), x.get(&be, n), ws)? {
            std::mem::swap(&mut x, &mut y);
        }
        net.output_stage.decode_step(&pass, device_output.get_mut(&be, m), x.get(&be, n), ws)?;
        be.download(output, device_output.get(&be, m))?;
        let host_state = self.may_hide_nonfinite_states.then_some(&mut self.host_state);
        Self::check_finite(&be, output, next, host_state)?;
        std::mem::swap(&mut self.states, next);
        self.state_exchanges += 1;
        Ok(())
    }
}
