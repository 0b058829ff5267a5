//! Brings a stream back to where it stood before a push that has failed: the states that were copied before, and the pushes since
//! once more ([`crate::journal`]).

use crate::{
    journal::Journal,
    model::Model,
    recurrent_states::RecurrentStates,
    stepper::{StepOptions, Stepper},
};
use s4_backend::{Backend, Error, Result};
use std::panic::{AssertUnwindSafe, catch_unwind};

impl<B: Backend> Stepper<B> {
    /// Copies the states where the last copy serves no longer.
    pub(crate) fn keep(&mut self, model: &Model<B>) -> Result<()> {
        let (be, version) = (self.be.clone(), model.store.version());
        if self.journal.serves(version) {
            return Ok(());
        }
        self.journal.end();
        if self.next_or_kept_states.is_none() {
            self.next_or_kept_states = Some(RecurrentStates::new(&be, &model.config, self.batch)?);
        }
        if let Some(kept) = &mut self.next_or_kept_states {
            kept.copy_from(&be, &self.states)?;
        }
        let n = self.pool.len();
        self.kept_pool.ensure(&be, n)?;
        be.copy(self.kept_pool.get_mut(&be, n), self.pool.carried.get(&be, n))?;
        self.kept_position = self.position;
        self.journal.begin(version);
        Ok(())
    }

    /// Back to the states before a push that has failed: those that were copied, and every push since once more. Where that
    /// fails too the stream is torn.
    pub(crate) fn go_back(&mut self, model: &mut Model<B>) {
        self.torn = true;
        // The replay asks for nothing that was not there before, so that it fails only on a device that is lost, or where
        // memory that was given back is no longer there.
        let replayed = catch_unwind(AssertUnwindSafe(|| self.replay(model)));
        self.torn = !matches!(replayed, Ok(Ok(())));
    }

    /// Restores the copy and replays the pushes since.
    fn replay(&mut self, model: &mut Model<B>) -> Result<()> {
        let be = self.be.clone();
        if let Some(kept) = &self.next_or_kept_states {
            self.states.copy_from(&be, kept)?;
        }
        let n = self.pool.len();
        be.copy(self.pool.carried.get_mut(&be, n), self.kept_pool.get(&be, n))?;
        self.position = self.kept_position;
        let journal = std::mem::replace(&mut self.journal, Journal::new());
        let replayed = journal.pushes().try_for_each(|(x, len, interval)| {
            let opts = StepOptions { interval };
            (0..len).try_for_each(|t| self.push_time_step(model, x, (t, len), &opts, None))
        });
        self.journal = journal;
        replayed
    }

    /// Refuses work on the states of a push that has failed and could not be undone.
    pub(crate) fn refuse_torn(&self, op: &'static str) -> Result<()> {
        match self.torn {
            false => Ok(()),
            true => Err(Error::unsupported(
                op,
                "reset() or restore() of a stream whose last push failed and could not be undone",
                "that stream",
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Input, ModelConfig};
    use s4_backend::Code;
    use s4_cpu::Cpu;

    /// A model of two blocks, whose stream fails between them where the plan of the second is taken away.
    fn stream(json: &str) -> (Model<Cpu<f32>>, Stepper<Cpu<f32>>) {
        let config = ModelConfig::from_json(json).unwrap();
        let model = Model::new(Cpu::new(1).unwrap(), config).unwrap();
        let stream = model.stream(2, 1.0).unwrap();
        (model, stream)
    }
    const CONFIGS: [&str; 2] = [
        r#"{"features": 4, "state": 4, "layers": 2, "input": 1, "output": 3}"#,
        r#"{"features": 4, "state": 4, "layers": 2, "input": 1, "output": 3, "pooling": "mean"}"#,
    ];
    /// The numbers of a saved state.
    fn saved(stream: &Stepper<Cpu<f32>>) -> Vec<u8> {
        stream.save().unwrap()
    }

    #[test]
    fn a_push_that_unwinds_leaves_the_stream_where_it_stood() {
        for json in CONFIGS {
            let (mut model, mut stream) = stream(json);
            let options = StepOptions::default();
            let mut y = [0.0; 6];
            for x in [[0.1, 0.2], [0.3, -0.4], [0.5, 0.6]] {
                stream.push(&mut model, Input::Values(&x), 1, &options, &mut y).unwrap();
            }
            let before = saved(&stream);
            // Room for the outputs of the first of three time steps: the second step's end has no place.
            let x = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
            let unwound = catch_unwind(AssertUnwindSafe(|| {
                stream.push_by_recurrence(&mut model, Input::Values(&x), 3, &options, &mut y[..3])
            }));
            assert!(unwound.is_err(), "{json}");
            assert_eq!(saved(&stream), before, "{json}");
            assert_eq!(stream.position(), 3);
            let mut next = [0.0; 6];
            stream.push(&mut model, Input::Values(&[0.7, 0.8]), 1, &options, &mut next).unwrap();
            let mut other = model.stream(2, 1.0).unwrap();
            other.restore(&before).unwrap();
            other.push(&mut model, Input::Values(&[0.7, 0.8]), 1, &options, &mut y).unwrap();
            assert_eq!(next, y, "{json}");
        }
    }

    #[test]
    fn a_push_that_cannot_be_undone_is_refused_until_a_reset() {
        for json in CONFIGS {
            let (mut model, mut stream) = stream(json);
            let options = StepOptions::default();
            let mut y = [0.0; 6];
            let x = Input::Values(&[0.1, 0.2]);
            stream.push(&mut model, x, 1, &options, &mut y).unwrap();
            let before = saved(&stream);
            let tear = |stream: &mut Stepper<Cpu<f32>>, model: &mut Model<Cpu<f32>>| {
                let plan = stream.plans.pop().unwrap();
                let mut y = [0.0; 6];
                let push = || stream.push(model, x, 1, &options, &mut y);
                assert!(catch_unwind(AssertUnwindSafe(push)).is_err(), "{json}");
                stream.plans.push(plan);
            };
            tear(&mut stream, &mut model);
            let refused = |result: Result<()>| assert_eq!(result.unwrap_err().code, Code::Unsupported);
            refused(stream.push(&mut model, x, 1, &options, &mut y));
            refused(stream.push_new(&mut model, x, 1, &options).map(drop));
            refused(stream.save().map(drop));
            refused(stream.fork(&model).map(drop));
            stream.restore(&before).unwrap();
            assert_eq!(saved(&stream), before);
            stream.push(&mut model, x, 1, &options, &mut y).unwrap();
            tear(&mut stream, &mut model);
            refused(stream.save().map(drop));
            stream.reset().unwrap();
            let mut first = [0.0; 6];
            stream.push(&mut model, x, 1, &options, &mut first).unwrap();
            let mut fresh = model.stream(2, 1.0).unwrap();
            fresh.push(&mut model, x, 1, &options, &mut y).unwrap();
            assert_eq!(first, y, "{json}");
        }
    }
}
