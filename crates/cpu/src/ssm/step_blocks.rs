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
//! products are sequences. As in [`step`](super::step) the increment is formed apart and then added. A plain step at a
//! time is the form that this must equal.

use crate::{
    Cpu, Level,
    linalg::{
        gemm::{Tile, Tiles},
        math::fma,
        register_tiles::{NonzeroPart, Product, product},
        simd::simd,
    },
    memory::{refusal, tasks::ThreadScratch},
    ssm::{
        discretize::{Discrete, discretize, increment},
        params::Head,
        recurrence::{self, Transition},
    },
};
use s4_backend::{Scalar, SsmSpec};

/// T: time steps of a block.
pub(crate) const BLOCK: usize = 16;
/// Heads of a task: its inputs and outputs of a time step are a cache line.
const HEADS: usize = 16;
/// Sequences that go through a head together, so that their arrays stay in L1.
const SEQUENCES: usize = 32;

/// Sizes of a head's constants.
#[derive(Clone, Copy, Debug)]
struct Sizes {
    /// N
    state: usize,
    /// 1 + R: numbers of a time step, (y, w_1, …) and (u, w_1, …).
    slots: usize,
}

impl Sizes {
    fn of(spec: &SsmSpec) -> Self {
        Sizes { state: spec.state, slots: 1 + spec.rank }
    }
    /// Numbers of a block's time steps.
    fn width(&self) -> usize {
        self.slots * BLOCK
    }
    /// N + T: what the first product reads of a sequence.
    fn inputs(&self) -> usize {
        self.state + BLOCK
    }
    /// [`Constants::to_outputs`], then `to_state`, then `powers`.
    fn lens(&self) -> [usize; 3] {
        [self.inputs() * self.width(), self.width() * self.state, BLOCK * self.state]
    }
    fn len(&self) -> usize {
        self.lens().iter().sum()
    }
    /// Scratch of a task.
    fn scratch(&self) -> usize {
        SEQUENCES * (self.inputs() + self.width() + self.state)
    }
}

/// The constants of one head.
struct Constants<'a, T> {
    /// (N + T, T·slots): from [x₀ | u] to (y, w_1, …) of each time step.
    to_outputs: &'a [T],
    /// (T·slots, N): from (u, w_1, …) of each time step to the state's increment.
    to_state: &'a [T],
    /// (T, N): D₀^k − 1 for k = 1, 2, ….
    powers: &'a [T],
}

/// The constants of all heads of a layer.
#[derive(Default)]
pub(crate) struct StepBlocks<T> {
    constants: Vec<T>,
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
            self.constants =
                refusal::zeros("constants of blocks of steps", spec.heads * Sizes::of(spec).len());
        }
    }

    /// The constants of head number h, whose D is `d`.
    pub(crate) fn fill(&mut self, spec: &SsmSpec, (h, head): (usize, &Head<'_>), d: f64, at: &mut Discrete) {
        let sizes = Sizes::of(spec);
        let (n, slots, width) = (sizes.state, sizes.slots, sizes.width());
        discretize(at, head);
        let [to_outputs, to_state, _] = sizes.lens();
        let (to_outputs, rest) = self.constants[h * sizes.len()..][..sizes.len()].split_at_mut(to_outputs);
        let (to_state, powers) = rest.split_at_mut(to_state);
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
                let column = k * slots + slot;
                for (i, &x) in row.iter().enumerate() {
                    let sign = if i < n / 2 { 2.0 } else { -2.0 };
                    to_outputs[i * width + column] = T::from_f64(sign * x);
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
                    to_outputs[(n + j) * width + k * slots + slot] = T::from_f64(response);
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
                for (to, &x) in to_state[(j * slots + slot) * n..][..n].iter_mut().zip(&column) {
                    *to = T::from_f64(x);
                }
                advance(&mut column, diagonal);
            }
        }
        // D₀^{k+1} − 1 = (D₀^k − 1) D₀ + (D₀ − 1).
        let mut first = vec![0.0; n];
        increment(&mut first, head);
        let mut power = first.clone();
        for to in powers.chunks_exact_mut(n) {
            for (to, &x) in to.iter_mut().zip(&power) {
                *to = T::from_f64(x);
            }
            advance(&mut power, diagonal);
            for (x, first) in power.iter_mut().zip(&first) {
                *x += first;
            }
        }
    }

    fn head(&self, h: usize, sizes: &Sizes) -> Constants<'_, T> {
        let [to_outputs, to_state, _] = sizes.lens();
        let (to_outputs, rest) = self.constants[h * sizes.len()..][..sizes.len()].split_at(to_outputs);
        let (to_state, powers) = rest.split_at(to_state);
        Constants { to_outputs, to_state, powers }
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

impl<T: Scalar> BlockedSteps<'_, T> {
    /// Elements of scratch for each thread.
    pub(crate) fn scratch(spec: &SsmSpec) -> usize {
        Sizes::of(spec).scratch()
    }

    /// `y` (time steps, H) and `state_end` (batch, H, N).
    pub(crate) fn run(&self, be: &Cpu<T>, y: &mut [T], state_end: &mut [T], scratch: &mut [T]) {
        let (heads, state) = (self.spec.heads, self.spec.state);
        let scratch = ThreadScratch::new(scratch, Self::scratch(self.spec));
        let (steps, batch) = (y.len() / heads, self.sequences.len());
        let ends = Tiles::new(state_end, 1, batch, heads * state, HEADS * state);
        Tiles::new(y, 1, steps, heads, HEADS).for_each_with(be, ends, |mut y, mut ends| {
            let mut scratch = scratch.lock();
            for sequences in self.sequences.chunks(SEQUENCES) {
                for local in 0..y.cols() {
                    self.head(be.level(), local, sequences, &mut y, &mut ends, &mut scratch);
                }
            }
        });
    }

    /// Some sequences of one head, which is number `local` of the tile.
    fn head(
        &self,
        level: Level,
        local: usize,
        sequences: &[[usize; 3]],
        y: &mut Tile<'_, T>,
        ends: &mut Tile<'_, T>,
        scratch: &mut [T],
    ) {
        let (heads, h) = (self.spec.heads, y.start() + local);
        let sizes = Sizes::of(self.spec);
        let Sizes { state: n, slots } = sizes;
        let (inputs, width) = (sizes.inputs(), sizes.width());
        let Constants { to_outputs, to_state, powers } = self.blocks.head(h, &sizes);
        let (x, rest) = scratch.split_at_mut(SEQUENCES * inputs);
        let (out, rest) = rest.split_at_mut(SEQUENCES * width);
        let increment = &mut rest[..SEQUENCES * n];
        for (x, &[sequence, ..]) in x.chunks_exact_mut(inputs).zip(sequences) {
            x[..n].copy_from_slice(&self.state0[(sequence * heads + h) * n..][..n]);
        }
        let longest = sequences.first().map_or(0, |&[.., len]| len);
        for first in (0..longest).step_by(BLOCK) {
            let count = sequences.partition_point(|&[.., len]| len > first);
            let most = (longest - first).min(BLOCK);
            for (x, &[_, row, len]) in x.chunks_exact_mut(inputs).zip(&sequences[..count]) {
                let len = (len - first).min(BLOCK);
                let u = &self.u[(row + first) * heads + h..];
                for (x, u) in x[n..n + len].iter_mut().zip(u.iter().step_by(heads)) {
                    *x = *u;
                }
                x[n + len..].fill(T::zero());
            }
            product(
                level,
                Product {
                    size: [count, (most * slots).next_multiple_of(16).min(width), n + most],
                    a: x,
                    lda: inputs,
                    b: to_outputs,
                    ldb: width,
                    c: out,
                    ldc: width,
                    accumulate: false,
                    nonzero_part: NonzeroPart::Full,
                },
            );
            let rows = x.chunks_exact(inputs).zip(out.chunks_exact_mut(width));
            for ((x, out), &[_, row, len]) in rows.zip(&sequences[..count]) {
                let len = (len - first).min(BLOCK);
                for (k, out) in out.chunks_exact_mut(slots).enumerate().take(len) {
                    y.row(row + first + k)[local] = out[0];
                    out[0] = x[n + k];
                }
                // The last time steps stand last, behind zeros.
                if len < most {
                    out.copy_within(..len * slots, (most - len) * slots);
                    out[..(most - len) * slots].fill(T::zero());
                }
            }
            product(
                level,
                Product {
                    size: [count, n, most * slots],
                    a: out,
                    lda: width,
                    b: &to_state[(BLOCK - most) * slots * n..],
                    ldb: n,
                    c: increment,
                    ldc: n,
                    accumulate: false,
                    nonzero_part: NonzeroPart::Full,
                },
            );
            simd!(level, FMA => {
                let rows = x.chunks_exact_mut(inputs).zip(increment.chunks_exact(n));
                for ((x, increment), &[.., len]) in rows.zip(&sequences[..count]) {
                    let power = &powers[((len - first).min(BLOCK) - 1) * n..][..n];
                    add_increment::<T, FMA>(&mut x[..n], increment, power);
                }
            });
        }
        for (x, &[sequence, ..]) in x.chunks_exact(inputs).zip(sequences) {
            ends.row(sequence)[local * n..][..n].copy_from_slice(&x[..n]);
        }
    }
}

/// x ← x + (p∘x + increment), elementwise complex.
#[inline(always)]
fn add_increment<T: Scalar, const FMA: bool>(x: &mut [T], increment: &[T], p: &[T]) {
    let h = p.len() / 2;
    let (x_re, x_im) = x.split_at_mut(h);
    let (add_re, add_im) = increment.split_at(h);
    let (p_re, p_im) = p.split_at(h);
    let (x_im, add_im, p_im) = (&mut x_im[..h], &add_im[..h], &p_im[..h]);
    for i in 0..h {
        let (re, im) = (x_re[i], x_im[i]);
        x_re[i] = re + fma::<T, FMA>(p_re[i], re, fma::<T, FMA>(-p_im[i], im, add_re[i]));
        x_im[i] = im + fma::<T, FMA>(p_re[i], im, fma::<T, FMA>(p_im[i], re, add_im[i]));
    }
}
