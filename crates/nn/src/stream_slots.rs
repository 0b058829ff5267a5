//! Independent streams of one model that are computed together: each has a slot, and a push takes any of the slots, each
//! with as many time steps as it has to give. A slot gives what a stream of its own would give.
//!
//! The states stand in groups of slots, each of them a stream of as many sequences. Where the backend takes time steps of
//! many sequences together, each with as many as it has, half of a group's slots and more are pushed where they stand;
//! elsewhere (and with intervals, or pools over time) all slots of a group that push equally many time steps. Others are
//! gathered: their states are copied into a stream of a power of two sequences, whose rest has zero states and inputs, and
//! back when the push has succeeded.

use crate::{
    batch::Input,
    check,
    groups_together::{GroupPush, GroupsTogether, caught},
    model::Model,
    slot_arrays::{GROUP, OP, Pushed, RowArrays, RowsTogether, SlotPush, begins_of, slots_of},
    stepper::{StepOptions, Stepper},
};
use num_traits::Zero;
use s4_backend::{Backend, Error, Result, host_memory};
use std::{collections::BTreeMap, ops::Range, panic::resume_unwind};

/// What a push gives.
#[derive(Debug)]
pub struct SlotOutputs<T> {
    /// Outputs (time steps, decoder outputs) of each push, one after the other; zeros for those that failed.
    pub outputs: Vec<T>,
    /// The pushes that failed, by their index. Their slots are as they were before.
    pub errors: Vec<(usize, Error)>,
}

/// Streams of one model in slots. The parameters stay in the model, which every push is given.
pub struct StreamSlots<B: Backend> {
    pub(crate) be: B,
    rate: f64,
    /// Time steps of each slot so far.
    pub(crate) positions: Vec<u64>,
    /// The states: those of slots 0 to 63, those of slots 64 to 127, ….
    pub(crate) groups: Vec<Stepper<B>>,
    /// Streams that slots are gathered in, by their number of sequences.
    gathered: BTreeMap<usize, Stepper<B>>,
    /// What time steps that go together go through.
    pub(crate) together: GroupsTogether<B>,
}

impl<B: Backend> Model<B> {
    /// Streams in `slots` slots, all from zero states. `ERR_S4_UNSUPPORTED` where the model's layers are two-sided or
    /// truncated.
    pub fn stream_slots(&self, slots: usize, rate: f64) -> Result<StreamSlots<B>> {
        let (op, c) = ("SequenceModel.streams", &self.config);
        let spec = c.block.layer.spec();
        let states = check::elements(op, "states", &[slots, c.layers, spec.heads, spec.state])?;
        if self.be.device_id() == "cpu" {
            host_memory::check(op, "the states", (states * size_of::<B::Scalar>()) as u128)?;
        }
        let mut groups = host_memory::reserved(op, "the groups of slots", 0, slots.div_ceil(GROUP))?;
        for first in (0..slots).step_by(GROUP) {
            groups.push(self.stream(GROUP.min(slots - first), rate)?);
        }
        let positions = host_memory::zeros(op, "the positions", slots)?;
        let (be, gathered) = (self.be.clone(), BTreeMap::new());
        let together = GroupsTogether::new(self, groups.len())?;
        Ok(StreamSlots { be, rate, positions, groups, gathered, together })
    }
}

impl<B: Backend> StreamSlots<B> {
    /// Number of slots.
    pub fn slots(&self) -> usize {
        self.positions.len()
    }

    /// Time steps of one slot that short pushes without intervals should have together at the most, where four streams or more push: what is
    /// longer goes another way, which is slower until it is several times as long. `None` where more are always quicker.
    pub fn steps_of_push(&self, model: &Model<B>) -> Option<usize> {
        let pools_over_time = self.groups.first().is_some_and(|group| !group.pool.carries_nothing());
        if pools_over_time { None } else { self.be.most_steps_together(model.net.blocks.first()?.s4.spec()) }
    }

    /// Time steps of a slot so far.
    pub fn position(&self, slot: usize) -> Result<u64> {
        self.check_slot("LiveStream.position", slot)?;
        Ok(self.positions[slot])
    }

    /// Pushes the next time steps of some slots, each slot once. `x`: (time steps of all pushes, input), or as many tokens;
    /// `intervals`: as many ratios to the time step of training, where any of the pushes has some. An error where the call
    /// itself is wrong; what is wrong with one push is an error of that push alone.
    pub fn push(
        &mut self,
        model: &mut Model<B>,
        pushes: &[SlotPush],
        x: Input<'_, B::Scalar>,
        intervals: Option<&[B::Scalar]>,
    ) -> Result<SlotOutputs<B::Scalar>> {
        if pushes.is_empty() {
            return Ok(SlotOutputs { outputs: Vec::new(), errors: Vec::new() });
        }
        let (input, width) = (model.config.input, model.config.decoder_outputs());
        pushes.iter().try_for_each(|push| self.check_slot(OP, push.slot))?;
        let (begins, steps) = begins_of(pushes)?;
        match x {
            Input::Values(x) => check::shaped(OP, "input", x, &[steps, input])?,
            Input::Tokens(x) => check::shaped(OP, "tokens", x, &[steps])?,
        };
        if let Some(intervals) = intervals {
            check::shaped(OP, "intervals", intervals, &[steps])?;
        }
        let n = check::elements(OP, "output", &[steps, width])?;
        let outputs = host_memory::zeros("s4-node", "a result", n)?;
        let mut order: Vec<usize> = host_memory::reserved(OP, "the pushes", 0, pushes.len())?;
        order.extend(0..pushes.len());
        order.sort_unstable_by_key(|&i| pushes[i].slot);
        if let Some(pair) = order.windows(2).find(|pair| pushes[pair[0]].slot == pushes[pair[1]].slot) {
            return Err(Error::value(OP, "each slot once", format!("slot {} twice", pushes[pair[0]].slot)));
        }
        let pushed = Pushed { pushes, begins: &begins, x, intervals, input, output: width };
        let mut result = SlotOutputs { outputs, errors: Vec::new() };
        let mut order = self.push_together(model, pushed, &order, &mut result);
        // Slots whose pools depend on the number of time steps so far go together where that is equal.
        let by_position = !self.groups.iter().all(|group| group.pool.carries_nothing());
        let position = |slot: usize| if by_position { self.positions[slot] } else { 0 };
        let key = |i: usize| (pushes[i].len, pushes[i].has_intervals, position(pushes[i].slot));
        order.sort_by_key(|&i| key(i));
        let runs: Vec<Range<usize>> = runs_of_equal(order.len(), |a, b| key(order[a]) == key(order[b]));
        for run in runs {
            self.push_run(model, pushed, &order[run], &mut result);
        }
        result.errors.sort_unstable_by_key(|&(i, _)| i);
        Ok(result)
    }

    /// Pushes, sorted by slot, whose time steps go through the network together. Gives the others, and those that fail.
    fn push_together(
        &mut self,
        model: &mut Model<B>,
        pushed: Pushed<'_, B::Scalar>,
        order: &[usize],
        result: &mut SlotOutputs<B::Scalar>,
    ) -> Vec<usize> {
        let group_of = |i: usize| pushed.pushes[i].slot / GROUP;
        let (mut whole, mut scattered, mut rest) = (Vec::new(), Vec::new(), Vec::new());
        for part in order.chunk_by(|&a, &b| group_of(a) == group_of(b)) {
            let (part, others): (Vec<usize>, Vec<usize>) =
                part.iter().partition(|&&i| !pushed.pushes[i].has_intervals);
            rest.extend(others);
            let Some(&first) = part.first() else { continue };
            let group = group_of(first);
            if 2 * part.len() < self.groups[group].batch() {
                scattered.extend(part);
                continue;
            }
            whole.push((group, part));
        }
        rest.extend(self.push_groups_together(model, pushed, whole, result));
        for part in scattered.chunks(GROUP) {
            if !matches!(caught(|| self.push_gathered_together(model, pushed, part, result)), Ok(true)) {
                rest.extend(part);
            }
        }
        rest
    }

    /// Pushes of some slots of some groups, where their states stand: the number of each group, in ascending order, with its pushes. Gives
    /// those that do not go together or fail, of which nothing has changed.
    fn push_groups_together(
        &mut self,
        model: &mut Model<B>,
        pushed: Pushed<'_, B::Scalar>,
        parts: Vec<(usize, Vec<usize>)>,
        result: &mut SlotOutputs<B::Scalar>,
    ) -> Vec<usize> {
        let (mut rest, mut jobs) = (Vec::new(), Vec::with_capacity(parts.len()));
        let mut streams = self.groups.iter_mut().enumerate();
        for (group, part) in parts {
            let stream = streams.find(|(i, _)| *i == group).map(|(_, stream)| stream);
            match stream
                .map(|stream| caught(|| GroupPush::new((&self.be, &model.config), pushed, stream, &part)))
            {
                Some(Ok(Some(job))) => jobs.push(job),
                _ => rest.extend(part),
            }
        }
        self.together.push(model, &mut jobs);
        let computed: Vec<_> =
            jobs.into_iter().map(|job| (job.part, job.rows, job.done, job.panic)).collect();
        let mut panicked = None;
        for (part, rows, done, panic) in computed {
            match done {
                true => self.take_outputs(pushed, &part, &rows.outputs, result),
                false => rest.extend(part),
            }
            panicked = panicked.or(panic);
        }
        // Only now: the states of the groups that are done have moved on, and so have their positions.
        if let Some(panic) = panicked {
            resume_unwind(panic);
        }
        rest
    }

    /// As [`StreamSlots::push_groups_together`], of slots of any groups, whose states are copied. False where they do not go together; nothing
    /// has changed then, nor where that fails.
    fn push_gathered_together(
        &mut self,
        model: &mut Model<B>,
        pushed: Pushed<'_, B::Scalar>,
        part: &[usize],
        result: &mut SlotOutputs<B::Scalar>,
    ) -> Result<bool> {
        let batch = part.len().next_power_of_two();
        let mut lens = vec![0; batch];
        for (len, &i) in lens.iter_mut().zip(part) {
            *len = pushed.pushes[i].len;
        }
        let mut stream = self.gathered_stream(model, batch)?;
        if !stream.goes_together(&model.config, &lens, &StepOptions::default()) {
            self.gathered.insert(batch, stream);
            return Ok(false);
        }
        let slots = slots_of(pushed, part);
        let done = RowsTogether::gather(pushed, part).and_then(|mut rows| {
            self.copy_to(&mut stream, &slots)?;
            let (x, output) = rows.arrays();
            stream.check_steps(OP, (&self.be, &model.config), x, &lens)?;
            stream.push_through(self.together.through(model), x, &lens, output)?;
            self.copy_from(&stream, &slots)?;
            Ok(rows)
        });
        self.gathered.insert(batch, stream);
        self.take_outputs(pushed, part, &done?.outputs, result);
        Ok(true)
    }

    /// Pushes of equal length, sorted by slot.
    fn push_run(
        &mut self,
        model: &mut Model<B>,
        pushed: Pushed<'_, B::Scalar>,
        run: &[usize],
        result: &mut SlotOutputs<B::Scalar>,
    ) {
        let mut rest = Vec::new();
        for part in run.chunk_by(|&a, &b| pushed.pushes[a].slot / GROUP == pushed.pushes[b].slot / GROUP) {
            let group = pushed.pushes[part[0]].slot / GROUP;
            let is_whole = part.len() == self.groups[group].batch();
            if !(is_whole && caught(|| self.push_group(model, pushed, (group, part), result)).is_ok()) {
                rest.extend_from_slice(part);
            }
        }
        for part in rest.chunks(GROUP) {
            self.push_gathered(model, pushed, part, result);
        }
    }

    /// Pushes of all slots of a group, where its states stand. Nothing has changed where that fails.
    fn push_group(
        &mut self,
        model: &mut Model<B>,
        pushed: Pushed<'_, B::Scalar>,
        (group, part): (usize, &[usize]),
        result: &mut SlotOutputs<B::Scalar>,
    ) -> Result<()> {
        let position = self.positions[pushed.pushes[part[0]].slot];
        let stream = &mut self.groups[group];
        stream.position = position;
        let arrays = RowArrays::gather(pushed, part, part.len())?;
        let mut output = host_memory::zeros(OP, "the outputs", part.len() * arrays.len * pushed.output)?;
        let options = StepOptions { interval: arrays.intervals.as_deref() };
        stream.push(model, arrays.input(), arrays.len, &options, &mut output)?;
        self.take_outputs(pushed, part, &output, result);
        Ok(())
    }

    /// Pushes of any slots. Where they fail together they are tried in halves, so that the error is that of the push which
    /// is at fault, and the others go on.
    fn push_gathered(
        &mut self,
        model: &mut Model<B>,
        pushed: Pushed<'_, B::Scalar>,
        part: &[usize],
        result: &mut SlotOutputs<B::Scalar>,
    ) {
        match caught(|| self.try_push_gathered(model, pushed, part)) {
            Ok(output) => self.take_outputs(pushed, part, &output, result),
            Err(error) if part.len() == 1 => {
                let error = Error { op: OP.into(), ..error };
                result.errors.push((part[0], error));
            }
            Err(_) => {
                let (first, second) = part.split_at(part.len() / 2);
                self.push_gathered(model, pushed, first, result);
                self.push_gathered(model, pushed, second, result);
            }
        }
    }

    fn try_push_gathered(
        &mut self,
        model: &mut Model<B>,
        pushed: Pushed<'_, B::Scalar>,
        part: &[usize],
    ) -> Result<Vec<B::Scalar>> {
        let batch = part.len().next_power_of_two();
        let arrays = RowArrays::gather(pushed, part, batch)?;
        let mut output = host_memory::zeros(OP, "the outputs", batch * arrays.len * pushed.output)?;
        let mut stream = self.gathered_stream(model, batch)?;
        let slots = slots_of(pushed, part);
        let options = StepOptions { interval: arrays.intervals.as_deref() };
        let done = self
            .copy_to(&mut stream, &slots)
            .and_then(|()| stream.push_once(model, arrays.input(), arrays.len, &options, &mut output))
            .and_then(|()| self.copy_from(&stream, &slots));
        self.gathered.insert(batch, stream);
        done.map(|()| output)
    }

    /// A stream of `batch` sequences to gather slots in; the caller gives it back to `gathered`.
    fn gathered_stream(&mut self, model: &Model<B>, batch: usize) -> Result<Stepper<B>> {
        match self.gathered.remove(&batch) {
            Some(stream) => Ok(stream),
            None => model.stream(batch, self.rate),
        }
    }

    /// Copies the states of slots to the first sequences of a stream, and zeroes those of the rest.
    fn copy_to(&self, stream: &mut Stepper<B>, slots: &[usize]) -> Result<()> {
        let be = &self.be;
        stream.journal.end();
        stream.torn = false;
        stream.position = self.positions[slots[0]];
        for (first, slot, count) in consecutive(slots) {
            let group = &self.groups[slot / GROUP];
            group.refuse_torn(OP)?;
            stream.copy_sequences(be, first, (group, slot % GROUP), count)?;
        }
        stream.zero_sequences(be, slots.len()..stream.batch())
    }

    /// The reverse of [`StreamSlots::copy_to`].
    fn copy_from(&mut self, stream: &Stepper<B>, slots: &[usize]) -> Result<()> {
        for (first, slot, count) in consecutive(slots) {
            let group = &mut self.groups[slot / GROUP];
            group.journal.end();
            group.copy_sequences(&self.be, slot % GROUP, (stream, first), count)?;
        }
        Ok(())
    }

    /// Puts the outputs of a part's streams to the places of its pushes, and moves their positions on.
    fn take_outputs(
        &mut self,
        pushed: Pushed<'_, B::Scalar>,
        part: &[usize],
        output: &[B::Scalar],
        result: &mut SlotOutputs<B::Scalar>,
    ) {
        let mut rest = output;
        for &i in part {
            let len = pushed.pushes[i].len;
            let (y, after) = rest.split_at(len * pushed.output);
            rest = after;
            result.outputs[pushed.begins[i] * pushed.output..][..y.len()].copy_from_slice(y);
            self.positions[pushed.pushes[i].slot] += len as u64;
        }
    }

    /// Sets a slot back to zero states and position 0.
    pub fn reset(&mut self, slot: usize) -> Result<()> {
        self.check_slot("LiveStream.reset", slot)?;
        self.groups[slot / GROUP].reset_sequence(&self.be, slot % GROUP)?;
        self.positions[slot] = 0;
        Ok(())
    }

    /// The state of a slot, as a stream of one sequence saves it.
    pub fn save(&mut self, model: &Model<B>, slot: usize) -> Result<Vec<u8>> {
        self.check_slot("LiveStream.save", slot)?;
        let mut stream = self.gathered_stream(model, 1)?;
        let saved = self.copy_to(&mut stream, &[slot]).and_then(|()| stream.save());
        self.gathered.insert(1, stream);
        saved
    }

    /// Sets a slot to a state that it, another slot or a stream of one sequence has saved. `ERR_S4_CHECKPOINT`, with nothing
    /// changed, where it is none.
    pub fn restore(&mut self, model: &Model<B>, slot: usize, saved: &[u8]) -> Result<()> {
        self.check_slot("LiveStream.restore", slot)?;
        let mut stream = self.gathered_stream(model, 1)?;
        let restored = stream.restore(saved).and_then(|()| self.copy_from(&stream, &[slot]));
        let position = stream.position();
        self.gathered.insert(1, stream);
        restored?;
        self.positions[slot] = position;
        Ok(())
    }

    fn check_slot(&self, op: &'static str, slot: usize) -> Result<()> {
        match slot < self.slots() {
            true => Ok(()),
            false => Err(Error::value(op, format!("a slot below {}", self.slots()), slot)),
        }
    }
}

impl<B: Backend> Stepper<B> {
    /// As [`Stepper::push`], of a stream that nobody goes on with when it fails: its states are then of no moment.
    fn push_once(
        &mut self,
        model: &mut Model<B>,
        x: Input<'_, B::Scalar>,
        len: usize,
        opts: &StepOptions<'_, B::Scalar>,
        output: &mut [B::Scalar],
    ) -> Result<()> {
        self.check_push(OP, model, x, len)?;
        if self.push_if_together(model, x, len, opts, output)? {
            return Ok(());
        }
        match self.goes_by_recurrence(len, opts) {
            true => self.take_time_steps(model, x, len, opts, output),
            false => self.push_by_forward(model, x, len, output),
        }
    }

    /// Copies states and pools of `count` sequences of `other`, from sequence `from` on, to sequences `to` and after.
    fn copy_sequences(
        &mut self,
        be: &B,
        to: usize,
        (other, from): (&Self, usize),
        count: usize,
    ) -> Result<()> {
        self.states.copy_sequences(be, to, (&other.states, from), count)?;
        let n = self.pool.len() / self.batch;
        let source = other.pool.carried.range(be, from * n..(from + count) * n);
        be.copy(self.pool.carried.range_mut(be, to * n..(to + count) * n), source)
    }

    /// A sequence begins anew.
    pub(crate) fn reset_sequence(&mut self, be: &B, sequence: usize) -> Result<()> {
        self.journal.end();
        self.zero_sequences(be, sequence..sequence + 1)
    }

    /// Zeroes states and pools of the sequences of a range.
    fn zero_sequences(&mut self, be: &B, range: Range<usize>) -> Result<()> {
        let n = self.pool.len() / self.batch;
        be.fill(self.pool.carried.range_mut(be, range.start * n..range.end * n), B::Scalar::zero())?;
        self.states.zero_sequences(be, range)
    }
}

/// Runs of consecutive slots within a group, in the order given: index of the first, its slot, and how many.
fn consecutive(slots: &[usize]) -> impl Iterator<Item = (usize, usize, usize)> + '_ {
    let mut first = 0;
    slots.chunk_by(|&a, &b| b == a + 1 && b % GROUP != 0).map(move |run| {
        let begin = first;
        first += run.len();
        (begin, run[0], run.len())
    })
}

/// The ranges of 0 … `count` in which each element is equal to the one before it.
fn runs_of_equal(count: usize, is_equal: impl Fn(usize, usize) -> bool) -> Vec<Range<usize>> {
    let mut runs: Vec<Range<usize>> = Vec::new();
    for i in 0..count {
        match runs.last_mut() {
            Some(run) if is_equal(run.start, i) => run.end = i + 1,
            _ => runs.push(i..i + 1),
        }
    }
    runs
}
