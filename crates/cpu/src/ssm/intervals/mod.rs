//! Whole sequences whose time steps have intervals of their own: a recurrence a step, exactly as `step.rs` has it.
//!
//! Ā and B̄ differ from step to step, so that there is no kernel and no matrix of a chunk. With τ = Δ·interval,
//!
//! ```text
//! x′ = x + F(Ax + Bu),    F = (e^{τA} − 1)/A by zero-order hold,    F = (I − τA/2)⁻¹τ bilinear,
//! ```
//!
//! in O(N) a step: A is diagonal, or diagonal plus low rank, where Woodbury gives the bilinear F. The increment is formed
//! apart and then added, all in f64: a slow mode keeps its digits.
//!
//! Each head of each sequence runs by itself. Forward saves the state before every [`CHUNK`] time steps; backward computes
//! the states of one chunk at a time once more, so that memory is N/CHUNK numbers a step and head.
//!
//! The backward direction of a bidirectional layer goes from the last step to the first over the same held input: u_t
//! lasts for the time interval_t before step t, in either direction.

mod head;
mod steps;
mod steps_backward;

use crate::{
    Cpu, Ints, Workspace,
    linalg::simd::Level,
    memory::tasks::{ThreadScratch, all_threads_scratch_len},
    ssm::{
        params::{Params64, accumulate, head_grads, head_grads_len},
        rows::rows_by_head,
    },
};
use head::{Cut, Modes, modes_len, width};
use rayon::prelude::*;
use s4_backend::{Scalar, SsmBackward, SsmCall, SsmForward, SsmSpec};
use std::ops::Range;
use steps::{CHUNK, Steps, steps_len};
use steps_backward::{Grads, grads_len};

/// Groups of sequences times heads of which backward makes one task each. Gradients of parameters are summed group by
/// group: the number is fixed, so that they do not depend on threads.
const MIN_TASKS: usize = 32;

/// Elements that forward saves: the state before each chunk, of either direction.
pub(crate) fn saved_len(spec: &SsmSpec, batch: usize, len: usize) -> usize {
    directions(spec).len() * batch * spec.heads * saved_row_len(spec, len)
}

/// Elements saved of one direction of one head of one sequence.
fn saved_row_len(spec: &SsmSpec, len: usize) -> usize {
    len.div_ceil(CHUNK) * spec.state
}

/// Order in which the time steps of a sequence are taken.
#[derive(Clone, Copy, PartialEq)]
enum Direction {
    /// Step j takes the input of time j, and time j has the output.
    Forward,
    /// Step j takes the input of time length − 1 − j, and the time before that has the output.
    Backward,
}

/// The directions of a layer, the first with the first half of the kernel channels.
fn directions(spec: &SsmSpec) -> &'static [Direction] {
    const BOTH: [Direction; 2] = [Direction::Forward, Direction::Backward];
    &BOTH[..1 + usize::from(spec.bidirectional)]
}

impl Direction {
    /// Number of steps of a sequence.
    fn steps(self, length: usize) -> usize {
        if self == Direction::Forward { length } else { length - 1 }
    }
    /// The time whose input step j takes.
    fn input(self, length: usize, j: usize) -> usize {
        if self == Direction::Forward { j } else { length - 1 - j }
    }
    /// The time whose output follows step j.
    fn output(self, length: usize, j: usize) -> usize {
        if self == Direction::Forward { j } else { length - 2 - j }
    }
}

/// The arrays of a call that every task reads.
struct Shared<'a, T: Scalar> {
    spec: SsmSpec,
    params: &'a Params64,
    /// (channels, H)
    d: &'a [T],
    u: &'a [T],
    state0: Option<&'a [T]>,
    intervals: &'a [T],
    lengths: Option<&'a [i32]>,
    len: usize,
}

impl<'a, T: Scalar> Shared<'a, T> {
    fn of(
        call: &SsmCall<'a, Cpu<T>>,
        params: &'a Params64,
        (d, u, state0): (&'a [T], &'a [T], Option<&'a [T]>),
        intervals: &'a [T],
    ) -> Self {
        let lengths = call.options.lengths.map(Ints::as_slice);
        Shared { spec: call.spec, params, d, u, state0, intervals, lengths, len: call.len }
    }
    fn length(&self, row: usize) -> usize {
        self.lengths.map_or(self.len, |lengths| lengths[row] as usize)
    }
    /// Inputs of a head of a sequence.
    fn inputs(&self, row: usize, head: usize) -> &'a [T] {
        &self.u[(row * self.spec.heads + head) * self.len..][..self.length(row)]
    }
    /// Reads inputs and intervals of the steps of a chunk.
    fn gather(
        &self,
        steps: &mut Steps<'_>,
        (row, head): (usize, usize),
        direction: Direction,
        chunk: Range<usize>,
    ) {
        let (u, length) = (self.inputs(row, head), self.length(row));
        let intervals = &self.intervals[row * self.len..][..length];
        for (slot, j) in chunk.enumerate() {
            let t = direction.input(length, j);
            (steps.u[slot], steps.intervals[slot]) = (Scalar::to_f64(u[t]), Scalar::to_f64(intervals[t]));
        }
    }
}

/// Writes a state (2, N/2) as a vector of padded modes; zeros without one.
fn load_state<T: Scalar>(to: &mut [f64], from: Option<&[T]>, width: usize) {
    to.fill(0.0);
    if let Some(from) = from {
        let pairs = from.len() / 2;
        for (n, x) in from.iter().enumerate() {
            to[n % pairs + n / pairs * width] = Scalar::to_f64(*x);
        }
    }
}

/// Writes what [`load_state`] reads.
fn store_state<T: Scalar>(to: &mut [T], from: &[f64], width: usize) {
    let pairs = to.len() / 2;
    for (n, to) in to.iter_mut().enumerate() {
        *to = T::from_f64(from[n % pairs + n / pairs * width]);
    }
}

/// The outputs of one head of one sequence.
struct ForwardTask<'a, T> {
    row: usize,
    head: usize,
    /// Rows of y, one a channel.
    y: &'a mut [&'a mut [T]],
    state_end: Option<&'a mut [T]>,
    /// What is saved of each direction.
    saved: &'a mut [&'a mut [T]],
}

impl<T: Scalar> ForwardTask<'_, T> {
    fn run(self, level: Level, shared: &Shared<'_, T>, scratch: &mut [f64]) {
        let (spec, mut scratch) = (&shared.spec, Cut(scratch));
        let modes = Modes::load(&mut scratch, &shared.params.head(self.head));
        let mut steps = Steps::take(&mut scratch, modes.width, spec);
        let (width, state) = (modes.width, spec.state);
        let (length, u) = (shared.length(self.row), shared.inputs(self.row, self.head));
        for (channel, y) in self.y.iter_mut().enumerate() {
            let d = shared.d[channel * spec.heads + self.head];
            for (y, &u) in y.iter_mut().zip(u) {
                *y = d * u;
            }
            y[length..].fill(T::zero());
        }
        for (at, &direction) in directions(spec).iter().enumerate() {
            let state_at = (self.row * spec.heads + self.head) * state;
            let state0 = shared.state0.map(|x| &x[state_at..][..state]);
            load_state(&mut steps.states[..2 * width], state0, width);
            let count = direction.steps(length);
            let mut saved = self.saved.get_mut(at).map(|saved| saved.chunks_exact_mut(state));
            for begin in (0..count).step_by(CHUNK) {
                let chunk = begin..(begin + CHUNK).min(count);
                let n = chunk.len();
                if let Some(saved) = saved.as_mut().and_then(Iterator::next) {
                    store_state(saved, &steps.states[..2 * width], width);
                }
                shared.gather(&mut steps, (self.row, self.head), direction, chunk);
                steps.run(level, &modes, n);
                steps.outputs(level, &modes, at * spec.channels, n);
                for (y, out) in self.y.iter_mut().zip(steps.y.chunks_exact(CHUNK)) {
                    for (t, out) in out[..n].iter().enumerate() {
                        let y = &mut y[direction.output(length, begin + t)];
                        *y = T::from_f64(Scalar::to_f64(*y) + out);
                    }
                }
                steps.advance(width, n);
            }
            saved.into_iter().flatten().for_each(|rest| rest.fill(T::zero()));
        }
        if let Some(state_end) = self.state_end {
            store_state(state_end, &steps.states[..2 * width], width);
        }
    }
}

/// The gradients of one head of a group of sequences.
struct BackwardTask<'a, T> {
    rows: Range<usize>,
    head: usize,
    /// Rows of du, one a sequence; none where it is not wanted.
    du: &'a mut [&'a mut [T]],
    dstate0: &'a mut [&'a mut [T]],
    /// Gradients of the parameters but D, and of D by channel.
    grads: &'a mut [crate::ssm::params::C64],
    dd: &'a mut [f64],
}

/// What the tasks of a backward read besides [`Shared`].
struct SharedGrads<'a, T> {
    dy: &'a [T],
    dstate_end: Option<&'a [T]>,
    /// (batch, directions, H, chunks, N)
    saved: &'a [T],
}

impl<T: Scalar> BackwardTask<'_, T> {
    fn run(mut self, level: Level, shared: &Shared<'_, T>, given: &SharedGrads<'_, T>, scratch: &mut [f64]) {
        let (spec, mut scratch) = (&shared.spec, Cut(scratch));
        let modes = Modes::load(&mut scratch, &shared.params.head(self.head));
        let mut steps = Steps::take(&mut scratch, modes.width, spec);
        let mut grads = Grads::take(&mut scratch, modes.width, spec);
        let du = scratch.take(shared.len);
        for (slot, row) in self.rows.clone().enumerate() {
            let length = shared.length(row);
            let du = &mut du[..length];
            self.through_d(shared, given, row, du);
            for at in (0..directions(spec).len()).rev() {
                self.direction((level, shared, given), (row, at), (&modes, &mut steps, &mut grads), du);
            }
            if let Some(dstate0) = self.dstate0.get_mut(slot) {
                store_state(dstate0, grads.state, modes.width);
            }
            if let Some(to) = self.du.get_mut(slot) {
                to.iter_mut().zip(&*du).for_each(|(to, &x)| *to = T::from_f64(x));
                to[length..].fill(T::zero());
            }
        }
        grads.add_to(&mut head_grads(self.grads, spec), spec.pairs());
    }

    /// The gradients of u and D by y = Du.
    fn through_d(&mut self, shared: &Shared<'_, T>, given: &SharedGrads<'_, T>, row: usize, du: &mut [f64]) {
        let (spec, u) = (&shared.spec, shared.inputs(row, self.head));
        du.fill(0.0);
        for (channel, dd) in self.dd.iter_mut().enumerate() {
            let feature = channel * spec.heads + self.head;
            let d = Scalar::to_f64(shared.d[feature]);
            let dy = &given.dy[(row * spec.outputs() + feature) * shared.len..][..du.len()];
            for ((du, &dy), &u) in du.iter_mut().zip(dy).zip(u) {
                *du += d * Scalar::to_f64(dy);
                *dd += Scalar::to_f64(dy) * Scalar::to_f64(u);
            }
        }
    }

    /// Goes back over the steps of one direction; `grads.state` is then the gradient of the state before them.
    fn direction(
        &self,
        (level, shared, given): (Level, &Shared<'_, T>, &SharedGrads<'_, T>),
        (row, at): (usize, usize),
        (modes, steps, grads): (&Modes<'_>, &mut Steps<'_>, &mut Grads<'_>),
        du: &mut [f64],
    ) {
        let (spec, head, length, width) = (&shared.spec, self.head, du.len(), modes.width);
        let (direction, state) = (directions(spec)[at], spec.state);
        let state_at = (row * spec.heads + head) * state;
        load_state(grads.state, given.dstate_end.map(|x| &x[state_at..][..state]), width);
        let saved_row = saved_row_len(spec, shared.len);
        let saved_at = ((row * directions(spec).len() + at) * spec.heads + head) * saved_row;
        let saved = &given.saved[saved_at..][..saved_row];
        let count = direction.steps(length);
        for number in (0..count.div_ceil(CHUNK)).rev() {
            let chunk = number * CHUNK..((number + 1) * CHUNK).min(count);
            let n = chunk.len();
            load_state(&mut steps.states[..2 * width], Some(&saved[number * state..][..state]), width);
            shared.gather(steps, (row, head), direction, chunk.clone());
            for (channel, to) in steps.y.chunks_exact_mut(CHUNK).enumerate() {
                let feature = channel * spec.heads + head;
                let dy = &given.dy[(row * spec.outputs() + feature) * shared.len..][..length];
                for (to, j) in to.iter_mut().zip(chunk.clone()) {
                    *to = Scalar::to_f64(dy[direction.output(length, j)]);
                }
            }
            steps.run(level, modes, n);
            grads.run(level, modes, steps, (at * spec.channels, n));
            for (part, j) in steps.u[..n].iter().zip(chunk) {
                du[direction.input(length, j)] += part;
            }
        }
    }
}

/// An array (batch, any, H, row length) by head, or nothing for each head where there is no array.
fn optional_rows<T>(array: Option<&mut [T]>, row_len: usize, heads: usize) -> Vec<Vec<&mut [T]>> {
    let Some(array) = array else { return (0..heads).map(|_| Vec::new()).collect() };
    let mut rows = rows_by_head(array, row_len, heads);
    let per_head = rows.len() / heads;
    let mut by_head: Vec<_> = (0..heads).map(|_| rows.split_off(rows.len() - per_head)).collect();
    by_head.reverse();
    by_head
}

/// Cuts `count` items off the front of a list.
fn cut_front<'a, X>(items: &mut &'a mut [X], count: usize) -> &'a mut [X] {
    let count = count.min(items.len());
    let (front, rest) = std::mem::take(items).split_at_mut(count);
    *items = rest;
    front
}

impl<T: Scalar> Cpu<T> {
    /// [`SsmForward`] of a call with intervals.
    pub(crate) fn forward_with_intervals(
        &self,
        args: SsmForward<'_, Self>,
        intervals: &[T],
        ws: &mut Workspace<T>,
    ) {
        let SsmForward { y, state_end, saved, u, state0, params, call } = args;
        let (spec, batch, len) = (call.spec, call.batch, call.len);
        let loaded = Params64::load(&params, &spec, call.options.rate, ws);
        let shared = Shared::of(&call, &loaded, (params.d, u, state0), intervals);
        let (width, heads) = (width(&spec), spec.heads);
        let scratch_len = modes_len(&spec) + steps_len(width, &spec);
        let mut scratch = ws.f64.take(all_threads_scratch_len(self, scratch_len));
        {
            let scratch = ThreadScratch::new(&mut scratch, scratch_len);
            let mut y = optional_rows(Some(y), len, heads);
            let mut ends = optional_rows(state_end, spec.state, heads);
            let mut saved = optional_rows(saved, saved_row_len(&spec, len), heads);
            let mut tasks = Vec::with_capacity(batch * heads);
            for (head, ((y, ends), saved)) in y.iter_mut().zip(&mut ends).zip(&mut saved).enumerate() {
                let (mut y, mut saved, mut ends) = (&mut y[..], &mut saved[..], ends.iter_mut());
                for row in 0..batch {
                    let y = cut_front(&mut y, spec.channels);
                    let saved = cut_front(&mut saved, directions(&spec).len());
                    let state_end = ends.next().map(|end| &mut **end);
                    tasks.push(ForwardTask { row, head, y, state_end, saved });
                }
            }
            let level = self.inner.level;
            self.install(|| {
                tasks.into_par_iter().for_each(|task| {
                    let scratch = &mut **scratch.lock();
                    task.run(level, &shared, scratch);
                });
            });
        }
        ws.f64.give(scratch);
        loaded.give(ws);
    }

    /// [`SsmBackward`] of a call with intervals.
    pub(crate) fn backward_with_intervals(
        &self,
        args: SsmBackward<'_, Self>,
        intervals: &[T],
        ws: &mut Workspace<T>,
    ) {
        let SsmBackward { du, dstate0, mut grads, dy, dstate_end, u, state0, saved, params, call } = args;
        let (spec, batch, len, rate) = (call.spec, call.batch, call.len, call.options.rate);
        let loaded = Params64::load(&params, &spec, rate, ws);
        let shared = Shared::of(&call, &loaded, (params.d, u, state0), intervals);
        let given = SharedGrads { dy, dstate_end, saved };
        let (width, heads) = (width(&spec), spec.heads);
        let scratch_len = modes_len(&spec) + steps_len(width, &spec) + grads_len(width, &spec) + len;
        let mut scratch = ws.f64.take(all_threads_scratch_len(self, scratch_len));
        let groups = MIN_TASKS.div_ceil(heads).min(batch);
        let (stride, channels) = (head_grads_len(&spec), spec.channels);
        let mut head_grads = ws.c64.take_zeroed(groups * heads * stride);
        let mut dd = ws.f64.take_zeroed(groups * heads * channels);
        {
            let scratch = ThreadScratch::new(&mut scratch, scratch_len);
            let mut du = optional_rows(du, len, heads);
            let mut dstates = optional_rows(dstate0, spec.state, heads);
            let mut tasks = Vec::with_capacity(groups * heads);
            let sums =
                head_grads.chunks_exact_mut(groups * stride).zip(dd.chunks_exact_mut(groups * channels));
            for (head, ((du, dstates), (grads, dd))) in du.iter_mut().zip(&mut dstates).zip(sums).enumerate()
            {
                let (mut du, mut dstates) = (&mut du[..], &mut dstates[..]);
                let sums = grads.chunks_exact_mut(stride).zip(dd.chunks_exact_mut(channels));
                for (group, (grads, dd)) in sums.enumerate() {
                    let rows = group * batch / groups..(group + 1) * batch / groups;
                    let (du, dstate0) = (cut_front(&mut du, rows.len()), cut_front(&mut dstates, rows.len()));
                    tasks.push(BackwardTask { rows, head, du, dstate0, grads, dd });
                }
            }
            let level = self.inner.level;
            self.install(|| {
                tasks.into_par_iter().for_each(|task| {
                    let scratch = &mut **scratch.lock();
                    task.run(level, &shared, &given, scratch);
                });
            });
        }
        // The groups of each head, one after the other, into the first of all.
        for head in 0..heads {
            let of_head = &mut head_grads[head * groups * stride..][..groups * stride];
            let (sum, others) = of_head.split_at_mut(stride);
            for other in others.chunks_exact(stride) {
                sum.iter_mut().zip(other).for_each(|(sum, x)| *sum += x);
            }
            head_grads.copy_within(head * groups * stride..(head * groups + 1) * stride, head * stride);
            for channel in 0..channels {
                let sum: f64 = (0..groups).map(|g| dd[(head * groups + g) * channels + channel]).sum();
                grads.d[channel * heads + head] += T::from_f64(sum);
            }
        }
        accumulate(&mut grads, &mut head_grads[..heads * stride], &params, &spec, rate);
        ws.f64.give(dd);
        ws.c64.give(head_grads);
        ws.f64.give(scratch);
        loaded.give(ws);
    }
}
