//! What a stream refuses: input that does not fit, and outputs or states that are not finite.

use crate::{
    batch::Input,
    config::ModelConfig,
    input_check::check_input,
    model::Model,
    recurrent_states::RecurrentStates,
    stepper::{OP, Stepper, StreamSizes},
};
use s4_backend::{Backend, CallOptions, Code, Error, Result, host_memory};

impl<B: Backend> Stepper<B> {
    /// Refuses a push of wrong input, or with another model than the stream was made of.
    pub(crate) fn check_push(
        &self,
        op: &'static str,
        model: &Model<B>,
        x: Input<'_, B::Scalar>,
        len: usize,
    ) -> Result<()> {
        self.check_push_of(op, (&self.be, &model.config), x, (self.batch, len))
    }

    /// [`Stepper::check_push`] of an input of these sizes, (batch, len).
    pub(crate) fn check_push_of(
        &self,
        op: &'static str,
        (be, config): (&B, &ModelConfig),
        x: Input<'_, B::Scalar>,
        (batch, len): (usize, usize),
    ) -> Result<()> {
        if StreamSizes::of(config) != self.sizes {
            return Err(Error::value(op, "the model that the stream was made of", "another"));
        }
        if let Input::Values(x) = x
            && !be.all_finite(x)
        {
            return Err(not_finite("finite numbers in input", "NaN or infinity"));
        }
        let call = CallOptions { rate: self.rate, ..Default::default() };
        check_input(op, (be, config), (x, batch, len), call)
    }

    /// Refuses time steps of wrong input, or for another model than the stream was made of.
    pub(crate) fn check_steps(
        &self,
        op: &'static str,
        (be, config): (&B, &ModelConfig),
        x: Input<'_, B::Scalar>,
        lens: &[usize],
    ) -> Result<()> {
        let steps = lens.iter().sum();
        match lens.len() == self.batch {
            true => self.check_push_of(op, (be, config), x, (steps, 1)),
            false => Err(Error::shape(op, format!("{} lengths", self.batch), lens.len())),
        }
    }

    /// Refuses outputs, and states behind them, that are not finite.
    pub(crate) fn check_finite(
        be: &B,
        output: &[B::Scalar],
        states: &RecurrentStates<B>,
        host_state: Option<&mut Vec<B::Scalar>>,
    ) -> Result<()> {
        if !be.all_finite(output) {
            return Err(not_finite("finite outputs", "NaN or infinity"));
        }
        let Some(host_state) = host_state else { return Ok(()) };
        host_memory::resize(OP, "a state", host_state, be.ref_len(states.view(be, 0)))?;
        for i in 0..states.blocks.len() {
            be.download(host_state, states.view(be, i))?;
            if !be.all_finite(host_state) {
                return Err(not_finite("a finite state", format!("NaN or infinity in block {i}")));
            }
        }
        Ok(())
    }
}

fn not_finite(expected: &str, got: impl std::fmt::Display) -> Error {
    Error::new(Code::NonFinite, OP, expected, got)
}
