//! The recurrence in O(N) (paper Theorem 2): one fused pass over a head's state per time step.
//!
//! With Ā = D₀ + Σ_r u_r v_r* (`discretize.rs`): x′ = x + ((D₀ − 1)∘x + Σ_r u_r (v_r* x) + B̄u), y = 2Re(C x′) + D u.
//! Inner products run over conjugate pairs: 2Re of the sums over the N/2 that are stored. The increment is formed
//! apart and then added: a slow mode's Ā rounded to f32 would be off by 6e-8 a step and drift; Ā − 1 rounded is
//! off by 6e-8 of itself.

use crate::{
    Cpu, Level, Workspace,
    linalg::{math::fma, simd::simd},
    memory::tasks::all_threads_scratch_len,
    ssm::{
        discretize::{Discrete, discretize, increment},
        params::{Head, Params64},
        step_blocks::{BlockedSteps, StepBlocks},
        step_simd::SequenceStepSimd,
    },
};
use rayon::prelude::*;
use s4_backend::{
    Result, Scalar, SsmParams, SsmSpec, SsmStep, SsmSteps, check_layer, checks, host_memory, steps_one_by_one,
};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

/// Sums run over this many lanes side by side, so that they vectorise without reordering at run time.
const LANES: usize = 16;
/// Heads × pairs from which a step is worth several threads.
const PARALLEL: usize = 1 << 16;

/// Time steps of a sequence up to which blocks of steps are quicker than chunks, and of all sequences from which they are
/// quicker than a step at a time.
const MOST_TOGETHER: usize = 64;
const FEWEST_TOGETHER: usize = 64;
/// Sequences with time steps, from which their products fill a tile of registers.
const FEWEST_SEQUENCES: usize = 4;

/// Constants of one layer's recurrence at one (version, rate).
pub struct StepPlan<T> {
    spec: SsmSpec,
    key: Option<(u64, u64)>,
    /// heads × [`ConstantLayout::stride`]
    constants: Vec<T>,
    head_in_f64: HeadInF64,
    /// What blocks of time steps are computed by; plans of several threads share it.
    blocks: Arc<RwLock<KeptBlocks<T>>>,
    /// Number, first row and length of each sequence of a call.
    sequences: Vec<[usize; 3]>,
    /// Constants of one head at another interval, and its Δ by pair.
    scratch: Vec<T>,
    dt: Vec<f64>,
}

/// The constants of blocks of time steps, and what they were made for.
struct KeptBlocks<T> {
    key: Option<(u64, u64)>,
    blocks: StepBlocks<T>,
}

/// One head in f64.
struct HeadInF64 {
    discrete: Discrete,
    /// N: D₀ − 1.
    increment: Vec<f64>,
}

impl HeadInF64 {
    /// Writes the constants of a head in the order of [`ConstantLayout`].
    fn constants<T: Scalar>(&mut self, dst: &mut [T], head: &Head<'_>) {
        let HeadInF64 { discrete, increment: d0_minus_1 } = self;
        discretize(discrete, head);
        increment(d0_minus_1, head);
        let blocks = [&*d0_minus_1, &discrete.b_bar, &discrete.u, &discrete.v, &discrete.c];
        for (dst, x) in dst.iter_mut().zip(blocks.into_iter().flatten()) {
            *dst = T::from_f64(*x);
        }
    }
}

/// Where a head's constants lie: blocks of 2·pairs numbers, real parts first.
#[derive(Clone, Copy)]
struct ConstantLayout {
    pairs: usize,
    rank: usize,
    channels: usize,
}

impl ConstantLayout {
    fn of(spec: &SsmSpec) -> Self {
        ConstantLayout { pairs: spec.pairs(), rank: spec.rank, channels: spec.channels }
    }
    /// D₀ − 1; B̄; u, v (R each); C (channels).
    fn blocks(&self) -> usize {
        2 + 2 * self.rank + self.channels
    }
    fn stride(&self) -> usize {
        self.blocks() * 2 * self.pairs
    }
    #[inline(always)]
    fn block<'a, T>(&self, constants: &'a [T], block: usize) -> (&'a [T], &'a [T]) {
        constants[block * 2 * self.pairs..][..2 * self.pairs].split_at(self.pairs)
    }
}

/// The most time steps of a sequence that are quicker by [`Cpu::time_steps`] than by chunks; `None` where it takes only one at a time.
pub(crate) fn most_together(spec: &SsmSpec) -> Option<usize> {
    StepBlocks::<f32>::serve(spec).then_some(MOST_TOGETHER)
}

/// Whether sequences of these lengths are quicker by [`Cpu::time_steps`] than a time step of all at a time, or by chunks.
pub(crate) fn quicker_together(spec: &SsmSpec, lens: &[usize]) -> bool {
    let steps = lens.iter().sum::<usize>();
    let longest = lens.iter().copied().max().unwrap_or(0);
    let sequences = lens.iter().filter(|&&len| len > 0).count();
    most_together(spec).is_some_and(|most| (2..=most).contains(&longest))
        && sequences >= FEWEST_SEQUENCES
        && steps >= FEWEST_TOGETHER
}

/// Sums of lanes in a fixed tree, the same at every instruction set.
#[inline(always)]
fn fold<T: Scalar>(mut acc: [T; LANES]) -> T {
    let mut width = LANES / 2;
    while width > 0 {
        for k in 0..width {
            acc[k] += acc[k + width];
        }
        width /= 2;
    }
    acc[0]
}

/// Real and imaginary parts in groups of LANES elements, and the elements of both parts after the last whole group.
type LanesAndRest<'a, T> = ([&'a [[T; LANES]]; 2], [&'a [T]; 2]);

#[inline(always)]
fn split<'a, T>((re, im): (&'a [T], &'a [T])) -> LanesAndRest<'a, T> {
    let ((re, re_tail), (im, im_tail)) = (re.as_chunks(), im.as_chunks());
    ([re, im], [re_tail, im_tail])
}

/// Re Σ a·b in lanes.
#[inline(always)]
fn dot<T: Scalar, const FMA: bool>(a: (&[T], &[T]), b: (&[T], &[T])) -> T {
    let mut acc = [T::zero(); LANES];
    let ([a_re, a_im], a_tail) = split(a);
    let ([b_re, b_im], b_tail) = split(b);
    let one = |acc: T, a: (T, T), b: (T, T)| fma::<T, FMA>(a.0, b.0, fma::<T, FMA>(-a.1, b.1, acc));
    for (((a_re, a_im), b_re), b_im) in a_re.iter().zip(a_im).zip(b_re).zip(b_im) {
        for k in 0..LANES {
            acc[k] = one(acc[k], (a_re[k], a_im[k]), (b_re[k], b_im[k]));
        }
    }
    for k in 0..a_tail[0].len() {
        acc[k] = one(acc[k], (a_tail[0][k], a_tail[1][k]), (b_tail[0][k], b_tail[1][k]));
    }
    fold(acc)
}

/// x ← x + (a∘x + Σ u_r w_r + b·input) with a = D₀ − 1 and w_r = v_r* x.
#[inline(always)]
fn advance<T: Scalar, const FMA: bool>(
    layout: ConstantLayout,
    k: &[T],
    (x_re, x_im): (&mut [T], &mut [T]),
    w: &[T; 8],
    input: T,
) {
    let (a, b) = (layout.block(k, 0), layout.block(k, 1));
    let n = layout.pairs;
    let (x_re, x_im) = (&mut x_re[..n], &mut x_im[..n]);
    let (a_re, a_im, b_re, b_im) = (&a.0[..n], &a.1[..n], &b.0[..n], &b.1[..n]);
    if layout.rank == 1 {
        let u = layout.block(k, 2);
        let (u_re, u_im, w) = (&u.0[..n], &u.1[..n], w[0]);
        for i in 0..n {
            let (re, im) = (x_re[i], x_im[i]);
            let (step_re, step_im) =
                (fma::<T, FMA>(u_re[i], w, b_re[i] * input), fma::<T, FMA>(u_im[i], w, b_im[i] * input));
            x_re[i] = re + fma::<T, FMA>(a_re[i], re, fma::<T, FMA>(-a_im[i], im, step_re));
            x_im[i] = im + fma::<T, FMA>(a_re[i], im, fma::<T, FMA>(a_im[i], re, step_im));
        }
        return;
    }
    for i in 0..n {
        let (re, im) = (x_re[i], x_im[i]);
        let (mut step_re, mut step_im) = (b_re[i] * input, b_im[i] * input);
        for (r, &w) in w.iter().enumerate().take(layout.rank) {
            let u = layout.block(k, 2 + r);
            (step_re, step_im) = (fma::<T, FMA>(u.0[i], w, step_re), fma::<T, FMA>(u.1[i], w, step_im));
        }
        x_re[i] = re + fma::<T, FMA>(a_re[i], re, fma::<T, FMA>(-a_im[i], im, step_re));
        x_im[i] = im + fma::<T, FMA>(a_re[i], im, fma::<T, FMA>(a_im[i], re, step_im));
    }
}

/// One time step of one head: updates its state `x` (real parts, then imaginary parts) and calls
/// `emit(channel, 2Re(C x′))` for each channel.
#[inline(always)]
fn step_head<T: Scalar, const FMA: bool>(
    layout: ConstantLayout,
    k: &[T],
    x: &mut [T],
    u: T,
    mut emit: impl FnMut(usize, T),
) {
    let ConstantLayout { pairs, rank, channels } = layout;
    let two = T::one() + T::one();
    let (x_re, x_im) = x[..2 * pairs].split_at_mut(pairs);
    let mut w = [T::zero(); 8];
    for (r, w) in w.iter_mut().enumerate().take(rank) {
        *w = two * dot::<T, FMA>(layout.block(k, 2 + rank + r), (x_re, x_im));
    }
    advance::<T, FMA>(layout, k, (x_re, x_im), &w, u);
    for channel in 0..channels {
        emit(channel, two * dot::<T, FMA>(layout.block(k, 2 + 2 * rank + channel), (x_re, x_im)));
    }
}

/// One time step of one sequence: the states and inputs of all its heads.
struct SequenceStep<'a, T> {
    constants: &'a [T],
    d: &'a [T],
    y: &'a mut [T],
    state: &'a mut [T],
    u: &'a [T],
}

impl<T: Scalar> SequenceStep<'_, T> {
    fn step(self, layout: ConstantLayout, level: Level) {
        let SequenceStep { constants, d, y, state, u } = self;
        let ConstantLayout { pairs, rank, channels } = layout;
        if channels == 1 && rank <= 1 {
            let vectors = SequenceStepSimd { constants, d, y: &mut *y, state: &mut *state, u, pairs, rank };
            if vectors.step(level) {
                return;
            }
        }
        simd!(level, FMA => SequenceStep { constants, d, y, state, u }.heads::<FMA>(layout));
    }

    #[inline(always)]
    fn heads<const FMA: bool>(self, layout: ConstantLayout) {
        let SequenceStep { constants, d, y, state, u } = self;
        let heads = u.len();
        let constants = constants.chunks_exact(layout.stride());
        let states = state.chunks_exact_mut(2 * layout.pairs);
        for (h, ((k, x), &u)) in constants.zip(states).zip(u).enumerate() {
            step_head::<T, FMA>(layout, k, x, u, |channel, out| {
                let at = channel * heads + h;
                y[at] = fma::<T, FMA>(d[at], u, out);
            });
        }
    }
}

impl<T: Scalar> StepPlan<T> {
    fn refresh(&mut self, params: &SsmParams<'_, Cpu<T>>, rate: f64, version: u64, ws: &mut Workspace<T>) {
        let key = (version, rate.to_bits());
        if self.key == Some(key) {
            return;
        }
        let loaded = Params64::load(params, &self.spec, rate, ws);
        let stride = ConstantLayout::of(&self.spec).stride();
        for (h, constants) in self.constants.chunks_exact_mut(stride).enumerate() {
            self.head_in_f64.constants(constants, &loaded.head(h));
        }
        loaded.give(ws);
        self.key = Some(key);
    }
}

impl<T: Scalar> KeptBlocks<T> {
    /// The constants of this version and rate. The first of several threads that ask for new ones makes them.
    fn at<'a>(
        shared: &'a RwLock<Self>,
        be: &Cpu<T>,
        (params, spec): (&SsmParams<'_, Cpu<T>>, &SsmSpec),
        (rate, version): (f64, u64),
        at: &mut Discrete,
        ws: &mut Workspace<T>,
    ) -> RwLockReadGuard<'a, Self> {
        let key = Some((version, rate.to_bits()));
        loop {
            let kept = shared.read().unwrap_or_else(PoisonError::into_inner);
            if kept.key == key {
                return kept;
            }
            drop(kept);
            let mut kept = shared.write().unwrap_or_else(PoisonError::into_inner);
            if kept.key != key {
                // What is half made is of nothing.
                kept.key = None;
                kept.blocks.allocate(be, spec);
                let loaded = Params64::load(params, spec, rate, ws);
                for h in 0..spec.heads {
                    kept.blocks.fill((spec, be.level()), (h, &loaded.head(h)), params.d[h].to_f64(), at);
                }
                loaded.give(ws);
                kept.key = key;
            }
        }
    }
}

impl<T: Scalar> StepPlan<T> {
    /// An empty plan.
    ///
    /// # Errors
    /// The errors of [`check_layer`].
    pub fn new(be: &Cpu<T>, spec: &SsmSpec) -> Result<Self> {
        check_layer("step_plan", spec)?;
        be.inner.counter.bump();
        let layout = ConstantLayout::of(spec);
        Ok(StepPlan {
            spec: *spec,
            key: None,
            constants: host_memory::zeros("step_plan", "constants of steps", spec.heads * layout.stride())?,
            blocks: Arc::new(RwLock::new(KeptBlocks { key: None, blocks: StepBlocks::default() })),
            sequences: Vec::new(),
            head_in_f64: HeadInF64 { discrete: Discrete::zeroed(spec), increment: vec![0.0; spec.state] },
            scratch: vec![T::zero(); layout.stride()],
            dt: vec![0.0; spec.pairs()],
        })
    }

    /// A plan for the same layer with constants of blocks in common.
    pub(crate) fn beside(&self, be: &Cpu<T>) -> Result<Self> {
        Ok(StepPlan { blocks: self.blocks.clone(), ..StepPlan::new(be, &self.spec)? })
    }
}

impl<T: Scalar> Cpu<T> {
    /// See [`SsmSteps`].
    ///
    /// # Errors
    /// The errors of [`SsmSteps::check`].
    pub fn time_steps(
        &self,
        args: SsmSteps<'_, Self>,
        plan: &mut StepPlan<T>,
        ws: &mut Workspace<T>,
    ) -> Result<()> {
        args.check(self)?;
        checks::plan_is_for_layer("ssm_steps", &plan.spec, &args.spec)?;
        if !StepBlocks::<T>::serve(&args.spec) {
            return steps_one_by_one(self, args, |args| self.time_step(args, plan, ws));
        }
        let SsmSteps { y, state_end, u, state0, lens, params, spec, rate, version } = args;
        let StepPlan { blocks, sequences, head_in_f64, .. } = plan;
        let at = &mut head_in_f64.discrete;
        let kept = KeptBlocks::at(blocks, self, (&params, &spec), (rate, version), at, ws);
        let mut row = 0;
        sequences.clear();
        for (sequence, &len) in lens.iter().enumerate() {
            sequences.push([sequence, row, len]);
            row += len;
        }
        sequences.sort_unstable_by_key(|&[sequence, _, len]| (std::cmp::Reverse(len), sequence));
        let mut scratch =
            ws.real.take(all_threads_scratch_len(self, BlockedSteps::<T>::scratch(&spec, self.level())));
        let steps = BlockedSteps { spec: &spec, blocks: &kept.blocks, u, state0, sequences: &sequences[..] };
        steps.run(self, y, state_end, &mut scratch);
        ws.real.give(scratch);
        Ok(())
    }

    /// See [`SsmStep`].
    ///
    /// # Errors
    /// The errors of [`SsmStep::check`].
    pub fn time_step(
        &self,
        args: SsmStep<'_, Self>,
        plan: &mut StepPlan<T>,
        ws: &mut Workspace<T>,
    ) -> Result<()> {
        args.check(self, &plan.spec)?;
        let SsmStep { y, state, u, interval, params, spec, batch, rate, version } = args;
        let spec = &spec;
        let (heads, size) = (spec.heads, spec.state);
        plan.refresh(&params, rate, version, ws);
        let layout = ConstantLayout::of(spec);
        let level = self.inner.level;
        let d = params.d;
        let StepPlan { constants, scratch, head_in_f64, dt, .. } = plan;
        let row = |y: &mut [T], state: &mut [T], u: &[T]| {
            SequenceStep { constants: &*constants, d, y, state, u }.step(layout, level);
        };
        let one = T::one();
        let regular = |b: usize| interval.is_none_or(|r| r[b] == one);
        let rows = y
            .chunks_exact_mut(spec.outputs())
            .zip(state.chunks_exact_mut(heads * size))
            .zip(u.chunks_exact(heads))
            .enumerate();
        if interval.is_none() && batch > 1 && batch * heads * layout.pairs >= PARALLEL {
            self.install(|| {
                y.par_chunks_exact_mut(spec.outputs())
                    .zip(state.par_chunks_exact_mut(heads * size))
                    .zip(u.par_chunks_exact(heads))
                    .for_each(|((y, state), u)| row(y, state, u));
            });
            return Ok(());
        }
        let mut source = None;
        for (b, ((y, state), u)) in rows {
            if regular(b) {
                row(y, state, u);
                continue;
            }
            // Another interval: the O(N) constants of each head are rebuilt for this sequence.
            let ratio = interval.map_or(1.0, |r| r[b].to_f64());
            if source.is_none() {
                source = Some(Params64::load(&params, spec, rate, ws));
            }
            let Some(source) = &source else { continue };
            for h in 0..heads {
                let head = source.head(h);
                for (scaled, dt) in dt.iter_mut().zip(head.dt) {
                    *scaled = dt * ratio;
                }
                head_in_f64.constants(scratch, &head.with_dt(dt));
                step_head::<T, false>(
                    layout,
                    scratch,
                    &mut state[h * size..][..size],
                    u[h],
                    |channel, out| {
                        let at = channel * heads + h;
                        y[at] = out + d[at] * u[h];
                    },
                );
            }
        }
        if let Some(source) = source {
            source.give(ws);
        }
        Ok(())
    }
}
