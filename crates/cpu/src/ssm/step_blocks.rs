//! Time steps of many sequences, a block of up to T of them at a time: what each reads of the state, and what all of
//! them add to it, as two matrix products.
//!
//! With Ā = D₀ + Σ_r u_r v_r* (`discretize.rs`) the r-th low-rank coefficient of time step k is the number
//! w_k = v_r* x_k, and from the state x₀ before the block
//!
//! ```text
//! y_k = C Ā^{k+1} x₀ + Σ_{j≤k} K̄_{k−j} u_j + D u_k        w_k = v_r* Ā^k x₀ + Σ_{j<k} v_r* Ā^{k−1−j} B̄ u_j
//! x_T = x₀ + ((D₀^T − 1)∘x₀ + Σ_j D₀^{T−1−j} (B̄ u_j + Σ_r u_r w_j))
//! ```
//!
//! so a block costs 4(1 + R)N flops a time step however short it is, where Ā^T as a matrix costs 2N²/T. Rows of both
//! products are sequences (`step_tiles.rs`). As in [`step`](super::step) the increment is formed apart and then added. A
//! plain step at a time is the form that this must equal.
//!
//! A task takes some heads of all sequences. The states of these heads lie side by side in a sequence, but those of a head lie a power of
//! two apart from sequence to sequence, which is the same few sets of a cache. So a task gathers inputs, outputs and the new states of some
//! sequences in rows of its own, takes a few sequences at a time through each head, which reads the states where they stand, and writes
//! the new ones from there when all heads are done.

use crate::{
    Cpu, Level,
    linalg::{
        gemm::{Tile, Tiles},
        prefetch::{PastCaches, line, prefetch, prefetch_far, to_next_line},
        simd::simd,
    },
    memory::{refusal, tasks::ThreadScratch},
    ssm::{
        discretize::{Discrete, discretize, increment},
        params::Head,
        recurrence::{self, Transition},
        step_moves::{HEADS, Moves},
        step_sizes::{BLOCK, BlockSizes, HeadConstants},
        step_tiles::{self, TileRows},
    },
};
use s4_backend::{Scalar, SsmSpec};

/// Sequences that go through the heads of a task before others do, so that their rows and states stay in L2, and so that the constants of a
/// head are read for as many of them.
fn sequences_together(level: Level) -> usize {
    if level == Level::Avx512 { 64 } else { 36 }
}

/// Numbers of the states of a sequence in a task that are gathered without their padding before they are written.
const MOST_STATES: usize = HEADS * 128;

/// Tiles that a block of a head takes for so many sequences.
fn tiles_of_head(level: Level, sequences: usize) -> usize {
    sequences.div_ceil(step_tiles::rows_of_tile(level))
}

/// The constants of all heads of a layer.
#[derive(Default)]
pub(crate) struct StepBlocks<T> {
    constants: Vec<T>,
    /// Where they begin: with a cache line, so that none of their vectors lies in two.
    begin: usize,
}

impl<T: Scalar> StepBlocks<T> {
    /// Whether layers of this kind go by blocks: those of one channel.
    pub(crate) fn serve(spec: &SsmSpec) -> bool {
        spec.channels == 1
    }

    /// Makes room, once; the constants are then made by [`StepBlocks::fill`].
    pub(crate) fn allocate(&mut self, be: &Cpu<T>, spec: &SsmSpec) {
        if self.constants.is_empty() {
            be.inner.counter.bump();
            let len = spec.heads * BlockSizes::of(spec, be.level()).constants();
            self.constants = refusal::zeros("constants of blocks of steps", len + line::<T>());
            self.begin = to_next_line(&self.constants);
        }
    }

    /// The constants of head number h, whose D is `d`.
    pub(crate) fn fill(
        &mut self,
        (spec, level): (&SsmSpec, Level),
        (h, head): (usize, &Head<'_>),
        d: f64,
        at: &mut Discrete,
    ) {
        let sizes = BlockSizes::of(spec, level);
        let (n, slots) = (spec.state, sizes.slots);
        discretize(at, head);
        let constants = &mut self.constants[self.begin + h * sizes.constants()..][..sizes.constants()];
        let (to_outputs, rest) = constants.split_at_mut(sizes.to_outputs());
        let (to_state, powers) = rest.split_at_mut(sizes.to_state());
        let columns = at.columns();
        let rows = Transition { d0: &at.d0, out: &at.v, inn: &at.u };
        let advance = |x: &mut Vec<f64>, a: Transition<'_>| {
            let mut next = vec![0.0; n];
            recurrence::step(&mut next, x, a);
            *x = next;
        };
        // Slot 0 reads by C from the state after the time step, slots 1 to R by v_r* from that before it.
        for slot in 0..slots {
            let mut row = match slot {
                0 => at.c.clone(),
                r => at.v[(r - 1) * n..][..n].to_vec(),
            };
            // What the time step reads of an input j steps back.
            let mut responses = [0.0; BLOCK];
            for (k, response) in responses.iter_mut().enumerate() {
                if slot == 0 {
                    *response = recurrence::pair_dot(&row, &at.b_bar);
                    advance(&mut row, rows);
                }
                for (i, &x) in row.iter().enumerate() {
                    let sign = if i < n / 2 { 2.0 } else { -2.0 };
                    to_outputs[sizes.to_output_at(sizes.state_at(i), (k, slot))] = T::from_f64(sign * x);
                }
                if slot > 0 {
                    *response = recurrence::pair_dot(&row, &at.b_bar);
                    advance(&mut row, rows);
                }
            }
            for k in 0..BLOCK {
                for j in 0..BLOCK {
                    let response = match (slot, k.checked_sub(j)) {
                        (0, Some(0)) => responses[0] + d,
                        (0, Some(ago)) => responses[ago],
                        (_, Some(ago)) if ago > 0 => responses[ago - 1],
                        _ => 0.0,
                    };
                    to_outputs[sizes.to_output_at(sizes.state() + j, (k, slot))] = T::from_f64(response);
                }
            }
        }
        // Rows of the last time step first: D₀^0, D₀^1, ….
        let diagonal = Transition { d0: columns.d0, out: &[], inn: &[] };
        for slot in 0..slots {
            let mut column = match slot {
                0 => at.b_bar.clone(),
                r => at.u[(r - 1) * n..][..n].to_vec(),
            };
            for j in (0..BLOCK).rev() {
                for (i, &x) in column.iter().enumerate() {
                    to_state[sizes.to_state_at((j, slot), sizes.state_at(i))] = T::from_f64(x);
                }
                advance(&mut column, diagonal);
            }
        }
        // D₀^{k+1} − 1 = (D₀^k − 1) D₀ + (D₀ − 1).
        let mut first = vec![0.0; n];
        increment(&mut first, head);
        let mut power = first.clone();
        for to in powers.chunks_exact_mut(sizes.state()) {
            for (i, &x) in power.iter().enumerate() {
                to[sizes.state_at(i)] = T::from_f64(x);
            }
            advance(&mut power, diagonal);
            for (x, first) in power.iter_mut().zip(&first) {
                *x += first;
            }
        }
    }

    fn head(&self, h: usize, sizes: &BlockSizes) -> HeadConstants<'_, T> {
        let constants = &self.constants[self.begin + h * sizes.constants()..][..sizes.constants()];
        let (to_outputs, rest) = constants.split_at(sizes.to_outputs());
        let (to_state, powers) = rest.split_at(sizes.to_state());
        HeadConstants { to_outputs, to_state, powers }
    }
}

/// What all tasks of one call share.
pub(crate) struct BlockedSteps<'a, T> {
    pub(crate) spec: &'a SsmSpec,
    pub(crate) blocks: &'a StepBlocks<T>,
    /// (time steps, H)
    pub(crate) u: &'a [T],
    /// (batch, H, N)
    pub(crate) state0: &'a [T],
    /// (batch, 3): number of a sequence, its first row of u, and its time steps, those with the most first.
    pub(crate) sequences: &'a [[usize; 3]],
}

/// Where a task's rows of numbers and its new states lie in a thread's scratch.
#[derive(Clone, Copy)]
struct TaskSizes {
    /// Distance of the rows of two heads: with room for a tile that begins with the last of them, and one cache line more, so that the rows
    /// of several heads lie in different sets of a cache.
    head: usize,
    /// Distance of the new states of two sequences.
    ends: usize,
    /// Numbers of both.
    rows: usize,
    all_ends: usize,
}

impl TaskSizes {
    fn of(sizes: &BlockSizes, level: Level) -> Self {
        let together = sequences_together(level);
        let head = (together + 2 * step_tiles::MOST_ROWS) * sizes.row() + 16;
        let ends = HEADS * sizes.state() + 16;
        TaskSizes { head, ends, rows: HEADS * head, all_ends: together * ends }
    }
}

/// States and inputs that the next sequences of a task are read from, and the constants of its next head, asked for while others are computed.
struct Ahead<'a, T> {
    steps: &'a BlockedSteps<'a, T>,
    sequences: &'a [[usize; 3]],
    /// Number of the first head.
    head: usize,
    /// Numbers of the states of the task's heads, and how many of them have been asked for of the first sequence.
    states: usize,
    at: usize,
    /// Lines that are asked for at a time.
    lines: usize,
    constants: ConstantsAhead<'a, T>,
}

/// The constants of a head that is computed next.
#[derive(Default)]
struct ConstantsAhead<'a, T> {
    /// What is asked for now, and the increments that come then, of which each part begins with what fewer time steps do not need.
    now: &'a [T],
    then: &'a [T],
    part: usize,
    unused: usize,
    /// Numbers that are asked for at a time.
    numbers: usize,
}

impl<'a, T: Scalar> ConstantsAhead<'a, T> {
    /// What `len` time steps need, in `tiles` parts.
    fn new(of: &HeadConstants<'a, T>, sizes: &BlockSizes, (tiles, len): (usize, usize)) -> Self {
        let (now, then) = (&of.to_outputs[..sizes.to_outputs_of(len)], of.to_state);
        let (part, unused) = (sizes.to_state_part(BLOCK), sizes.to_state_part(BLOCK - len));
        let numbers = now.len() + then.len() / part * (part - unused);
        let numbers = numbers.div_ceil(tiles.max(1)).next_multiple_of(line::<T>());
        ConstantsAhead { now, then, part, unused, numbers }
    }

    fn ask(&mut self) {
        let mut numbers = self.numbers;
        while numbers > 0 {
            if self.now.is_empty() {
                let Some((part, rest)) = self.then.split_at_checked(self.part) else { return };
                (self.now, self.then) = (&part[self.unused..], rest);
            }
            let (now, later) = self.now.split_at(numbers.min(self.now.len()));
            prefetch_far(now);
            (self.now, numbers) = (later, numbers - now.len());
        }
    }
}

impl<'a, T: Scalar> Ahead<'a, T> {
    /// What is read for some sequences and some heads, while others, about as many, take `len` time steps.
    fn new(
        level: Level,
        steps: &'a BlockedSteps<'a, T>,
        (sequences, head): (&'a [[usize; 3]], usize),
        len: usize,
    ) -> Self {
        let SsmSpec { heads, state, .. } = *steps.spec;
        let count = HEADS.min(heads.saturating_sub(head));
        let states = count * state;
        let sequences = if count == 0 { &[] } else { sequences };
        let lines = sequences.len() * states.div_ceil(line::<T>());
        let tiles = len.div_ceil(BLOCK) * HEADS * tiles_of_head(level, sequences.len());
        let lines = lines.div_ceil(tiles.max(1));
        Ahead { steps, sequences, head, states, at: 0, lines, constants: ConstantsAhead::default() }
    }

    /// Now the constants of head h are the next, in `tiles` parts; `len` time steps are what they are needed for.
    fn expect(&mut self, h: usize, sizes: &BlockSizes, parts: (usize, usize)) {
        self.constants = match h < self.steps.spec.heads {
            true => ConstantsAhead::new(&self.steps.blocks.head(h, sizes), sizes, parts),
            false => ConstantsAhead::default(),
        };
    }

    fn ask(&mut self) {
        let SsmSpec { heads, state, .. } = *self.steps.spec;
        self.constants.ask();
        for _ in 0..self.lines {
            let Some(&[sequence, row, len]) = self.sequences.first() else { return };
            prefetch(self.steps.state0, (sequence * heads + self.head) * state + self.at);
            self.at += line::<T>();
            if self.at >= self.states {
                (self.at, self.sequences) = (0, &self.sequences[1..]);
                for k in 0..len.min(BLOCK) {
                    prefetch(self.steps.u, (row + k) * heads + self.head);
                }
            }
        }
    }
}

impl<T: Scalar> BlockedSteps<'_, T> {
    /// Elements of scratch for each thread.
    pub(crate) fn scratch(spec: &SsmSpec, level: Level) -> usize {
        let sizes = BlockSizes::of(spec, level);
        let task = TaskSizes::of(&sizes, level);
        task.rows + task.all_ends + step_tiles::MOST_ROWS * sizes.state() + line::<T>()
    }

    /// `y` (time steps, H) and `state_end` (batch, H, N).
    pub(crate) fn run(&self, be: &Cpu<T>, y: &mut [T], state_end: &mut [T], scratch: &mut [T]) {
        let (heads, state) = (self.spec.heads, self.spec.state);
        let scratch = ThreadScratch::new(scratch, Self::scratch(self.spec, be.level()));
        let (steps, batch) = (y.len() / heads, self.sequences.len());
        let ends = Tiles::new(state_end, 1, batch, heads * state, HEADS * state);
        let (pushed, idle) = self.sequences.split_at(self.sequences.partition_point(|&[.., len]| len > 0));
        Tiles::new(y, 1, steps, heads, HEADS).for_each_with(be, ends, |mut y, mut ends| {
            let mut scratch = scratch.lock();
            for &[sequence, ..] in idle {
                let end = ends.row(sequence);
                end.copy_from_slice(&self.state0[(sequence * heads + y.start()) * state..][..end.len()]);
            }
            let together = sequences_together(be.level());
            let mut parts = pushed.chunks(together).peekable();
            while let Some(sequences) = parts.next() {
                // What is computed next: other sequences, or, as a rule, the next heads of the first ones.
                let next = match parts.peek() {
                    Some(next) => (*next, y.start()),
                    None => (&pushed[..together.min(pushed.len())], y.start() + HEADS),
                };
                let ahead = Ahead::new(be.level(), self, next, sequences[0][2]);
                self.some(be.level(), sequences, (&mut y, &mut ends), ahead, &mut scratch);
            }
        });
    }

    /// Some sequences of the heads of a task.
    fn some(
        &self,
        level: Level,
        sequences: &[[usize; 3]],
        (y, ends): (&mut Tile<'_, T>, &mut Tile<'_, T>),
        mut ahead: Ahead<'_, T>,
        scratch: &mut [T],
    ) {
        let (heads, n, h, count) = (self.spec.heads, self.spec.state, y.start(), y.cols());
        let sizes = BlockSizes::of(self.spec, level);
        let task = TaskSizes::of(&sizes, level);
        let (row_len, state, tile_rows) = (sizes.row(), sizes.state(), step_tiles::rows_of_tile(level));
        let begin = to_next_line(scratch);
        let (rows, scratch) = scratch[begin..].split_at_mut(task.rows);
        let (new_states, copies) = scratch.split_at_mut(task.all_ends);
        let moves = Moves::new(level, count, task.head);
        let longest = sequences.first().map_or(0, |&[.., len]| len);
        for first in (0..longest).step_by(BLOCK) {
            let pushed = &sequences[..sequences.partition_point(|&[.., len]| len > first)];
            let most = (longest - first).min(BLOCK);
            simd!(level, _FMA => for (i, &[_, row, len]) in pushed.iter().enumerate() {
                let (len, u) = ((len - first).min(BLOCK), &self.u[(row + first) * heads + h..]);
                moves.put_inputs(&mut rows[i * row_len..], (u, heads), [len, most]);
            });
            for (local, rows) in rows.chunks_exact_mut(task.head).take(count).enumerate() {
                let constants = self.blocks.head(h + local, &sizes);
                let next = match local + 1 < count {
                    true => h + local + 1,
                    // The same heads again: the next block of time steps, or other sequences.
                    false if first + BLOCK < longest => h,
                    false => ahead.head,
                };
                ahead.expect(next, &sizes, (tiles_of_head(level, pushed.len()), most));
                for (tile, sequences) in pushed.chunks(tile_rows).enumerate() {
                    ahead.ask();
                    let begin = tile * tile_rows;
                    let ends = &mut new_states[begin * task.ends + local * state..];
                    // A later block begins with the states that the one before it has written, and states that are padded have to be copied.
                    let is_direct = first == 0 && sizes.is_whole();
                    let state_of = |&[sequence, ..]: &[usize; 3]| {
                        &self.state0[(sequence * heads + h + local) * n..][..n]
                    };
                    if !is_direct {
                        for (i, sequence) in sequences.iter().enumerate() {
                            let copy = &mut copies[i * state..][..state];
                            match first {
                                0 => sizes.put_state(copy, state_of(sequence)),
                                _ => copy.copy_from_slice(&ends[i * task.ends..][..state]),
                            }
                        }
                    }
                    let states = std::array::from_fn(|i| match is_direct {
                        true => state_of(&sequences[i.min(sequences.len() - 1)]),
                        false => &copies[i * state..][..state],
                    });
                    let mut lens = [0; step_tiles::MOST_ROWS];
                    for (len, sequence) in lens.iter_mut().zip(sequences) {
                        *len = (sequence[2] - first).min(BLOCK);
                    }
                    let (sizes, constants, rows) = (&sizes, &constants, &mut rows[begin * row_len..]);
                    let (count, end_stride) = (sequences.len(), task.ends);
                    let tile =
                        TileRows { sizes, constants, states, ends, end_stride, rows, count, len: lens[0] };
                    step_tiles::steps(level, tile, &lens[..count]);
                }
            }
            simd!(level, _FMA => for (i, &[_, row, len]) in pushed.iter().enumerate() {
                let len = (len - first).min(BLOCK);
                moves.take_outputs(y, row + first, &rows[i * row_len + sizes.output()..], len);
            });
        }
        let mut past_caches = PastCaches::begin();
        for (&[sequence, ..], from) in sequences.iter().zip(new_states.chunks_exact(task.ends)) {
            let (end, from) = (ends.row(sequence), &from[..count * state]);
            if sizes.is_whole() {
                past_caches.write(end, from);
                continue;
            }
            if end.len() > MOST_STATES {
                for (end, from) in end.chunks_exact_mut(n).zip(from.chunks_exact(state)) {
                    sizes.take_state(end, from);
                }
                continue;
            }
            let states = &mut [T::zero(); MOST_STATES][..end.len()];
            simd!(level, _FMA => for (end, from) in states.chunks_exact_mut(n).zip(from.chunks_exact(state)) {
                sizes.take_state(end, from);
            });
            past_caches.write(end, states);
        }
    }
}
