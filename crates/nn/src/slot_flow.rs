//! Pushes into slots, one behind the other, each of slots of one group: a thread of the host takes the next of them as soon as it has ended
//! with one, so that none waits for another. What cannot go so is computed by [`StreamSlots::push`] on all threads, in its turn.

use crate::{
    batch::Input,
    check,
    config::ModelConfig,
    groups_together::{GroupPush, GroupWorker, caught},
    model::Model,
    param::ParamStore,
    push_queue::PushQueue,
    slot_arrays::{GROUP, OP, Pushed, SlotPush, begins_of},
    stepper::Stepper,
    stream_slots::{SlotOutputs, StreamSlots},
};
use s4_backend::{Backend, Result};
use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Mutex, MutexGuard, PoisonError},
};

/// What a push into slots gives, or the panic that it ended with.
pub type SlotResult<T> = std::result::Result<Result<SlotOutputs<T>>, Box<dyn Any + Send>>;

/// The arguments of [`StreamSlots::push`].
pub type SlotArguments<'a, T> = (&'a [SlotPush], Input<'a, T>, Option<&'a [T]>);

/// A push into slots that waits for its turn. None that is in a queue with it, without the turn of something else between them, has a slot in common with
/// it.
pub trait QueuedPush<T>: Send {
    /// Slots whose streams begin anew before it.
    fn reset(&self) -> &[usize];
    /// The pushes, their input and their intervals, as [`StreamSlots::push`] takes them.
    fn arguments(&self) -> Result<SlotArguments<'_, T>>;
    /// Takes what the push gives.
    fn end(self, result: SlotResult<T>);
}

/// The groups that no thread has taken, and the number of time steps of each slot so far.
struct Flow<'a, B: Backend> {
    groups: Vec<Option<&'a mut Stepper<B>>>,
    positions: &'a mut [u64],
}

impl<B: Backend> StreamSlots<B> {
    /// About how many slots one push of a queue should be given, where more of them wait, and how many such pushes should be in it: so many that
    /// no thread is without one. `None` where more are always quicker.
    pub fn pushes_of_queue(&self) -> Option<[usize; 2]> {
        match self.be.handles_of_threads().len() {
            0 => None,
            // A group is one thread's work.
            threads if self.has_flow() => Some([GROUP, threads + 1]),
            threads => Some([threads * GROUP, 2]),
        }
    }

    /// Whether each thread takes groups of its own. Where it has one at the most all go together; a mean, maximum or sum over time so far needs one time
    /// step after the other.
    fn has_flow(&self) -> bool {
        let carries_nothing = self.groups.first().is_some_and(|group| group.pool.carries_nothing());
        (2..self.groups.len()).contains(&self.be.handles_of_threads().len()) && carries_nothing
    }

    /// Computes the pushes of a queue whose turn it is, until there are no more.
    pub fn push_queue<P: QueuedPush<B::Scalar>>(&mut self, model: &mut Model<B>, queue: &PushQueue<P>) {
        loop {
            self.flow(model, queue);
            let Some(push) = queue.take() else { return };
            let pushed = catch_unwind(AssertUnwindSafe(|| {
                let (pushes, x, intervals) = push.arguments()?;
                push.reset().iter().try_for_each(|&slot| self.reset(slot))?;
                self.push(model, pushes, x, intervals)
            }));
            push.end(pushed);
        }
    }

    /// The pushes of one group each, by as many threads as there are for them, if any, until one comes that is none of those.
    fn flow<P: QueuedPush<B::Scalar>>(&mut self, model: &mut Model<B>, queue: &PushQueue<P>) {
        if !self.has_flow() {
            return;
        }
        let (be, workers) = self.together.workers(model);
        if workers.is_empty() {
            return;
        }
        let (config, store) = (&model.config, &model.store);
        // Nothing within may share its work with other threads: who waits for another thread of the pool may be given a thread's whole part of
        // this, which then waits for him.
        let groups = self.groups.iter_mut().map(Some).collect();
        let flow = Mutex::new(Flow { groups, positions: &mut self.positions });
        be.side_by_side(workers, |worker| {
            let thread = queue.enter();
            while let Some((number, push)) = thread.take() {
                match push_one(worker, (config, store), &flow, &push) {
                    Some(result) => push.end(result),
                    None => thread.put_back(number, push),
                }
            }
        });
    }
}

fn lock<'a, 'b, B: Backend>(flow: &'a Mutex<Flow<'b, B>>) -> MutexGuard<'a, Flow<'b, B>> {
    flow.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A push of slots of one group, on this thread. `None` where it does not go so, or fails: nothing has changed then but that slots have been reset.
fn push_one<B: Backend, P: QueuedPush<B::Scalar>>(
    worker: &mut GroupWorker<B>,
    (config, store): (&ModelConfig, &ParamStore<B>),
    flow: &Mutex<Flow<'_, B>>,
    push: &P,
) -> Option<SlotResult<B::Scalar>> {
    let (pushes, x, intervals) = push.arguments().ok()?;
    let group = group_of(pushes, push.reset())?;
    let stream = {
        let mut flow = lock(flow);
        let stream = flow.groups.get_mut(group)?;
        let batch = stream.as_ref()?.batch();
        let slots = pushes.iter().map(|push| push.slot).chain(push.reset().iter().copied());
        let are_slots = slots.map(|slot| slot % GROUP).all(|slot| slot < batch);
        // Where few of its slots push they are gathered with others.
        if intervals.is_some() || !are_slots || 2 * pushes.len() < batch {
            return None;
        }
        stream.take()?
    };
    let pushed = catch_unwind(AssertUnwindSafe(|| {
        caught(|| in_group(worker, (config, store), stream, (push.reset(), pushes, x)))
    }));
    let mut flow = lock(flow);
    if let Some(place) = flow.groups.get_mut(group) {
        *place = Some(stream);
    }
    for &slot in push.reset() {
        flow.positions[slot] = 0;
    }
    match pushed {
        Ok(Ok(Some(outputs))) => {
            for push in pushes {
                flow.positions[push.slot] += push.len as u64;
            }
            Some(Ok(Ok(SlotOutputs { outputs, errors: Vec::new() })))
        }
        Ok(_) => None,
        Err(panic) => Some(Err(panic)),
    }
}

/// The group of all slots of a push.
fn group_of(pushes: &[SlotPush], reset: &[usize]) -> Option<usize> {
    let group = pushes.first()?.slot / GROUP;
    let slots = pushes.iter().map(|push| push.slot).chain(reset.iter().copied());
    slots.map(|slot| slot / GROUP).all(|other| other == group).then_some(group)
}

/// The outputs of a push into slots of one group, in ascending order; `None` where it does not go so. Nothing has changed then, nor where it fails,
/// but that slots have been reset.
fn in_group<B: Backend>(
    worker: &mut GroupWorker<B>,
    (config, store): (&ModelConfig, &ParamStore<B>),
    stream: &mut Stepper<B>,
    (reset, pushes, x): (&[usize], &[SlotPush], Input<'_, B::Scalar>),
) -> Result<Option<Vec<B::Scalar>>> {
    let [input, output] = [config.input, config.decoder_outputs()];
    let (begins, steps) = begins_of(pushes)?;
    let has_its_shape = match x {
        Input::Values(x) => check::elements(OP, "input", &[steps, input])? == x.len(),
        Input::Tokens(x) => steps == x.len(),
    };
    let are_in_order = pushes.is_sorted_by(|a, b| a.slot < b.slot);
    if !has_its_shape || !are_in_order || pushes.iter().any(|push| push.has_intervals) {
        return Ok(None);
    }
    for &slot in reset {
        stream.reset_sequence(&worker.be, slot % GROUP)?;
    }
    let pushed = Pushed { pushes, begins: &begins, x, intervals: None, input, output };
    let part: Vec<_> = (0..pushes.len()).collect();
    let Some(mut job) = GroupPush::new((&worker.be, config), pushed, stream, &part)? else { return Ok(None) };
    job.push(worker.through(config, store));
    if let Some(panic) = job.panic {
        std::panic::resume_unwind(panic);
    }
    Ok(job.done.then_some(job.rows.outputs))
}
