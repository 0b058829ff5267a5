//! Pushes of streams in slots whose time steps go through the network together (`steps_together.rs`), group by group. Where the host has
//! several threads and there are as many groups or more, each group is one thread's work from its inputs to its outputs: nothing waits
//! for another thread within it, and what lies between two layers stays in that core's cache.

use crate::{
    config::{ModelConfig, NormKind},
    model::Model,
    network::Network,
    param::{ParamBuilder, ParamStore},
    recurrent_states::RecurrentStates,
    slot_arrays::{GROUP, OP, Pushed, RowsTogether},
    stepper::{StepOptions, Stepper},
    steps_buffers::StepsBuffers,
    steps_together::StepsThrough,
};
use s4_backend::{Backend, Error, Result};
use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::{Mutex, PoisonError},
};

/// What a thread needs for the pushes of any group, besides the parameters.
pub(crate) struct GroupWorker<B: Backend> {
    pub be: B,
    /// A network of its own, for what a network keeps between two operations; its parameters are those of the model.
    net: Network<B>,
    plans: Vec<B::StepPlan>,
    buffers: StepsBuffers<B>,
    /// The states after the next push.
    next: Option<RecurrentStates<B>>,
}

impl<B: Backend> GroupWorker<B> {
    /// What a push goes through on this thread.
    pub fn through<'a>(
        &'a mut self,
        config: &'a ModelConfig,
        store: &'a ParamStore<B>,
    ) -> StepsThrough<'a, B> {
        let GroupWorker { be, net, plans, buffers, next } = self;
        StepsThrough { be, config, store, net, plans, buffers, next: Some(next) }
    }

    /// One for each thread of the host that may work beside others; none where there is one thread, where there are more threads than
    /// groups, or where a network keeps more than parameters: the running statistics of batch norms.
    fn all(model: &Model<B>, plans: &[B::StepPlan], groups: usize) -> Result<Vec<Self>> {
        let handles = model.be.handles_of_threads();
        if !(2..=groups).contains(&handles.len()) || model.config.block.norm == NormKind::Batch {
            return Ok(Vec::new());
        }
        let worker = |be: B| {
            // Where its parameters lie follows from the configuration; their initial values are not used.
            let net = Network::new(&be, &model.config, &mut ParamBuilder::default())?;
            let plans = net.blocks.iter().zip(plans).map(|(b, plan)| be.step_plan_beside(plan, b.s4.spec()));
            let (plans, buffers) = (plans.collect::<Result<_>>()?, StepsBuffers::new(&be)?);
            Ok(GroupWorker { be, net, plans, buffers, next: None })
        };
        handles.into_iter().map(worker).collect()
    }
}

/// The pushes of one group.
pub(crate) struct GroupPush<'a, B: Backend> {
    stream: &'a mut Stepper<B>,
    pub part: Vec<usize>,
    /// Time steps of each sequence of the group.
    lens: Vec<usize>,
    pub rows: RowsTogether<B::Scalar>,
    /// Whether it has been computed; where it failed, nothing has changed.
    pub done: bool,
    /// A panic in it, for the caller to go on with once the other groups' outputs have been taken.
    pub panic: Option<Box<dyn Any + Send>>,
}

impl<'a, B: Backend> GroupPush<'a, B> {
    /// Some slots' pushes into their group, which `be` checks; `None` where they do not go together.
    pub fn new(
        (be, config): (&B, &ModelConfig),
        pushed: Pushed<'_, B::Scalar>,
        stream: &'a mut Stepper<B>,
        part: &[usize],
    ) -> Result<Option<Self>> {
        let mut lens = vec![0; stream.batch()];
        for &i in part {
            lens[pushed.pushes[i].slot % GROUP] = pushed.pushes[i].len;
        }
        if !stream.goes_together(config, &lens, &StepOptions::default()) {
            return Ok(None);
        }
        stream.refuse_torn(OP)?;
        let mut rows = RowsTogether::gather(pushed, part)?;
        stream.check_steps(OP, (be, config), rows.arrays().0, &lens)?;
        Ok(Some(GroupPush { stream, part: part.to_vec(), lens, rows, done: false, panic: None }))
    }

    /// Computes it.
    pub fn push(&mut self, through: StepsThrough<'_, B>) {
        let (x, output) = self.rows.arrays();
        let pushed = || caught(|| self.stream.push_through(through, x, &self.lens, output));
        match catch_unwind(AssertUnwindSafe(pushed)) {
            Ok(pushed) => self.done = pushed.is_ok(),
            Err(panic) => self.panic = Some(panic),
        }
    }
}

/// What the pushes of all groups go through.
pub(crate) struct GroupsTogether<B: Backend> {
    be: B,
    /// The backend's plan for the time steps of each block, and buffers for them.
    plans: Vec<B::StepPlan>,
    buffers: StepsBuffers<B>,
    groups: usize,
    /// Made by the first push that may use them: that is off the host's event loop.
    workers: Option<Vec<GroupWorker<B>>>,
}

impl<B: Backend> GroupsTogether<B> {
    /// For the streams of a model in so many groups.
    pub fn new(model: &Model<B>, groups: usize) -> Result<Self> {
        let be = model.be.clone();
        let plans = model.net.blocks.iter().map(|b| b.s4.new_step_plan(&be)).collect::<Result<Vec<_>>>()?;
        let buffers = StepsBuffers::new(&be)?;
        Ok(GroupsTogether { be, plans, buffers, groups, workers: None })
    }

    /// What one push goes through at a time, on all threads.
    pub fn through<'a>(&'a mut self, model: &'a mut Model<B>) -> StepsThrough<'a, B> {
        let GroupsTogether { be, plans, buffers, .. } = self;
        let Model { config, store, net, .. } = model;
        StepsThrough { be, config, store, net, plans, buffers, next: None }
    }

    /// What each thread needs that may compute groups beside others, with the backend that has the threads. Without the memory for them, none: the
    /// threads share each operation then.
    pub fn workers(&mut self, model: &Model<B>) -> (&B, &mut [GroupWorker<B>]) {
        let GroupsTogether { be, plans, groups, workers, .. } = self;
        let made = || caught(|| GroupWorker::all(model, plans, *groups)).unwrap_or_default();
        (be, workers.get_or_insert_with(made))
    }

    /// Computes the pushes of some groups, and says of each whether that is done.
    pub fn push(&mut self, model: &mut Model<B>, jobs: &mut [GroupPush<'_, B>]) {
        if jobs.len() > 1 {
            self.workers(model);
        }
        let workers = match &mut self.workers {
            // Where no more than half the threads had a group, all of them are quicker at one group after the other.
            Some(workers) if jobs.len() > 1 && 2 * jobs.len() > workers.len() && !workers.is_empty() => {
                workers
            }
            _ => return jobs.iter_mut().for_each(|job| job.push(self.through(model))),
        };
        // Each thread begins with one of the largest groups, so that what it asks memory for does not depend on who is quicker; the rest
        // go to whoever is done.
        jobs.sort_by_key(|job| std::cmp::Reverse(job.lens.iter().sum::<usize>()));
        let (config, store) = (&model.config, &model.store);
        let (first, waiting) = jobs.split_at_mut(workers.len().min(jobs.len()));
        let waiting = Mutex::new(waiting.iter_mut());
        let mut items: Vec<_> = workers.iter_mut().zip(first).collect();
        self.be.side_by_side(&mut items, |(worker, first)| {
            let mut next = Some(&mut **first);
            while let Some(job) = next {
                job.push(worker.through(config, store));
                next = waiting.lock().unwrap_or_else(PoisonError::into_inner).next();
            }
        });
    }
}

/// Runs `work`. Memory that is refused deep within an operation unwinds with its error, which is given as one.
pub(crate) fn caught<R>(work: impl FnOnce() -> Result<R>) -> Result<R> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(result) => result,
        Err(payload) => match payload.downcast::<Error>() {
            Ok(error) => Err(*error),
            Err(payload) => resume_unwind(payload),
        },
    }
}
