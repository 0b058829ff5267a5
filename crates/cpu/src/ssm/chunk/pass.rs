//! One layer by chunks: all heads, sequences and passes forward, and backward to the gradients of the parameters.

use super::{
    backward::{BackwardJob, BackwardPass},
    constants::{head_constants, transpose},
    constants_backward::{self, head_constants_backward},
    forward::{ForwardJob, ForwardPass, PhiBlocks},
    states::RecurrenceGradients,
    tasks::{Lengths, TaskSplit, for_each},
};
use crate::{
    Cpu, Workspace,
    memory::refusal,
    ssm::{
        chains::{Chains, Dims},
        discretize::HeadState,
        params::{self, C64, Params64},
        rows::rows_by_head,
    },
};
use rayon::prelude::*;
use s4_backend::{Scalar, SsmGrads, SsmParams, SsmSpec};

/// T: measured best for N = 64, and a multiple of every SIMD width.
pub(crate) const CHUNK: usize = 64;

/// Sizes of one call: len is the array's number of time steps, padding included.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ChunkSizes<'a> {
    pub(crate) batch: usize,
    pub(crate) len: usize,
    /// (batch), checked to lie in 1..=len.
    pub(crate) lengths: Option<&'a [i32]>,
}

/// What [`ChunkPlan::forward`] writes and reads.
pub(crate) struct ChunkForward<'a, T> {
    /// (batch, channels·H, len)
    pub(crate) y: Option<&'a mut [T]>,
    /// (batch, H, N)
    pub(crate) state_end: Option<&'a mut [T]>,
    /// [`ChunkPlan::saved`] elements: the states entering the chunks.
    pub(crate) saved: Option<&'a mut [T]>,
    /// (batch, H, len)
    pub(crate) u: &'a [T],
    /// (batch, H, N)
    pub(crate) state0: Option<&'a [T]>,
    pub(crate) sizes: ChunkSizes<'a>,
    pub(crate) phi_blocks: PhiBlocks,
    /// Whether to add to y instead of overwriting it.
    pub(crate) accumulate: bool,
}

/// What [`ChunkPlan::backward`] writes and reads.
pub(crate) struct ChunkBackward<'a, T> {
    pub(crate) du: Option<&'a mut [T]>,
    /// Accumulates.
    pub(crate) dstate0: Option<&'a mut [T]>,
    pub(crate) dy: &'a [T],
    pub(crate) dstate_end: Option<&'a [T]>,
    pub(crate) u: &'a [T],
    /// The blocks of Φ that were run, each with its saved states; their dΦ are added up.
    pub(crate) parts: &'a [(PhiBlocks, &'a [T])],
    pub(crate) sizes: ChunkSizes<'a>,
    /// Whether to add to du instead of overwriting it.
    pub(crate) accumulate: bool,
}

/// The gradients that reach the constants of a layer.
struct ConstantGradients<'a, T> {
    /// (passes, H, groups, Φ)
    dphi: &'a [T],
    /// (passes, H, groups, [`RecurrenceGradients`])
    recurrence_grads: &'a [f64],
    groups: usize,
}

/// The constants of a layer, kept while (version, rate) stand still.
#[derive(Debug)]
pub(crate) struct ChunkPlan<T> {
    spec: SsmSpec,
    dims: Dims,
    built: Option<(u64, u64)>,
    heads: Vec<HeadState>,
    /// (H, passes, inputs, outputs): Φᵀ.
    phi_t: Vec<T>,
    /// (H, passes, outputs, inputs): Φ, made when a backward pass first needs it.
    phi: Vec<T>,
    phi_built: bool,
}

impl<T: Scalar> ChunkPlan<T> {
    pub(crate) fn new(spec: &SsmSpec, chunk: usize) -> Self {
        ChunkPlan {
            spec: *spec,
            dims: Dims::new(spec, chunk),
            built: None,
            heads: Vec::new(),
            phi_t: Vec::new(),
            phi: Vec::new(),
            phi_built: false,
        }
    }

    fn task_split(&self, sizes: &ChunkSizes<'_>) -> TaskSplit {
        TaskSplit::new(sizes.batch, sizes.len, self.dims.heads, self.dims.chunk)
    }

    /// Elements that [`ChunkPlan::forward`] saves.
    pub(crate) fn saved_len(spec: &SsmSpec, chunk: usize, batch: usize, len: usize) -> usize {
        Dims::new(spec, chunk).passes * spec.state_len(batch) * len.div_ceil(chunk)
    }

    pub(crate) fn saved(&self, batch: usize, len: usize) -> usize {
        Self::saved_len(&self.spec, self.dims.chunk, batch, len)
    }

    /// Builds Φᵀ of every head, unless it was built for this version and rate.
    pub(crate) fn prepare(
        &mut self,
        be: &Cpu<T>,
        params: &SsmParams<'_, Cpu<T>>,
        rate: f64,
        version: u64,
        ws: &mut Workspace<T>,
    ) {
        let key = (version, rate.to_bits());
        if self.built == Some(key) {
            return;
        }
        let (spec, dims) = (self.spec, self.dims);
        if self.heads.is_empty() {
            be.inner.counter.bump();
            let phi_t = refusal::zeros("constants of chunks", spec.heads * dims.passes * dims.phi());
            // Λ, B̄, C and the rows of the low rank, and as much for their gradients.
            let vectors = 2 * (3 + 2 * spec.rank + spec.kernel_channels());
            refusal::require_memory::<f64>("discretised heads", spec.heads * vectors * spec.state);
            self.heads = vec![HeadState::zeroed(&spec); spec.heads];
            self.phi_t = phi_t;
        }
        (self.built, self.phi_built) = (None, false);
        let loaded = Params64::load(params, &spec, rate, ws);
        for (h, at) in self.heads.iter_mut().enumerate() {
            for (channel, d) in at.d.iter_mut().enumerate() {
                *d = params.d[channel * spec.heads + h].to_f64();
            }
        }
        let size = Chains::len(&dims);
        let mut scratch64 = ws.f64.take(size * be.threads());
        let jobs: Vec<_> = (self.heads.iter_mut())
            .zip(self.phi_t.chunks_exact_mut(dims.passes * dims.phi()))
            .enumerate()
            .collect();
        for_each(be, jobs, (&mut [], 0), (&mut scratch64, size), |(h, (at, phi_t)), _, scratch| {
            head_constants(be.level(), phi_t, at, &loaded.head(h), &dims, scratch)
        });
        ws.f64.give(scratch64);
        loaded.give(ws);
        self.built = Some(key);
    }

    /// Φ from Φᵀ.
    fn prepare_backward(&mut self, be: &Cpu<T>) {
        if self.phi_built {
            return;
        }
        if self.phi.is_empty() {
            be.inner.counter.bump();
            self.phi = refusal::zeros("constants of chunks", self.phi_t.len());
        }
        let (dims, size) = (self.dims, self.dims.phi());
        let level = be.level();
        let transpose = |(phi, phi_t): (&mut [T], &[T])| {
            level.run(
                #[inline(always)]
                || transpose(phi, phi_t, &dims),
            )
        };
        if be.threads() == 1 {
            self.phi.chunks_exact_mut(size).zip(self.phi_t.chunks_exact(size)).for_each(transpose);
        } else {
            be.install(|| {
                self.phi.par_chunks_exact_mut(size).zip(self.phi_t.par_chunks_exact(size)).for_each(transpose)
            });
        }
        self.phi_built = true;
    }

    /// Runs the whole batch by chunks: writes y, end states and saved states where they are wanted. [`ChunkPlan::prepare`]
    /// must have been called for these parameters.
    pub(crate) fn forward(&self, be: &Cpu<T>, args: ChunkForward<'_, T>, ws: &mut Workspace<T>) {
        let ChunkForward { mut y, state_end, mut saved, u, state0, sizes, phi_blocks, accumulate } = args;
        let sizes = &sizes;
        let (d, task_split) = (&self.dims, self.task_split(sizes));
        let mut ends = state_end.map(|s| rows_by_head(s, d.state, d.heads));
        for pass in 0..d.passes {
            let run = ForwardPass {
                level: be.level(),
                dims: *d,
                task_split,
                phi_blocks,
                reversed: pass == 1,
                accumulate: accumulate || pass == 1,
                u,
                state0,
                lengths: Lengths { len: sizes.len, sequence_lengths: sizes.lengths },
            };
            let mut ys = (y.as_deref_mut())
                .map(|y| rows_by_head(y, sizes.len, d.heads))
                .unwrap_or_default()
                .into_iter();
            let mut ends = ends.take().unwrap_or_default().into_iter();
            let saved_per_sequence = task_split.chunks * d.state;
            let mut saved = (saved.as_deref_mut())
                .map(|saved| &mut saved[pass * d.heads * sizes.batch * saved_per_sequence..]);
            let mut jobs = Vec::with_capacity(d.heads * task_split.tasks_per_head());
            for head in 0..d.heads {
                for sequences in task_split.task_sequences() {
                    let task_saved = saved.take().map(|remaining| {
                        let (task_saved, later_tasks) =
                            remaining.split_at_mut(sequences.len() * saved_per_sequence);
                        saved = Some(later_tasks);
                        task_saved
                    });
                    jobs.push(ForwardJob {
                        head,
                        y: ys.by_ref().take(sequences.len() * d.channels).collect(),
                        state_end: ends.by_ref().take(sequences.len()).collect(),
                        saved: task_saved,
                        sequences,
                    });
                }
            }
            let (size, size64) = (run.scratch(), run.scratch64());
            let mut scratch = ws.real.take(size * be.threads());
            let mut scratch64 = ws.f64.take(size64 * be.threads());
            for_each(be, jobs, (&mut scratch, size), (&mut scratch64, size64), |job, scratch, scratch64| {
                let phi_t = &self.phi_t[(job.head * d.passes + pass) * d.phi()..][..d.phi()];
                let a = &self.heads[job.head].discrete;
                run.run(job, phi_t, a, scratch, scratch64)
            });
            ws.real.give(scratch);
            ws.f64.give(scratch64);
        }
    }

    /// Gradients of what [`ChunkPlan::forward`] gave.
    pub(crate) fn backward(
        &mut self,
        be: &Cpu<T>,
        args: ChunkBackward<'_, T>,
        grads: &mut SsmGrads<'_, Cpu<T>>,
        params: &SsmParams<'_, Cpu<T>>,
        rate: f64,
        ws: &mut Workspace<T>,
    ) {
        let ChunkBackward { mut du, mut dstate0, dy, dstate_end, u, parts, sizes, mut accumulate } = args;
        let sizes = &sizes;
        self.prepare_backward(be);
        let (d, task_split) = (self.dims, self.task_split(sizes));
        let groups = task_split.tasks_per_head();
        let recurrence_grads_len = RecurrenceGradients::len(d.state, d.rank);
        // The gradient of an end state adds to du, which therefore holds zeros before the first pass.
        if let Some(du) = du.as_deref_mut().filter(|_| !accumulate && dstate_end.is_some()) {
            du.fill(T::zero());
            accumulate = true;
        }
        // (passes, H, groups)
        let mut dphi = ws.real.take(d.passes * d.heads * groups * d.phi());
        let mut recurrence_grads = ws.f64.take_zeroed(d.passes * d.heads * groups * recurrence_grads_len);
        for pass in 0..d.passes {
            for (part, &(phi_blocks, saved)) in parts.iter().enumerate() {
                let run = BackwardPass {
                    level: be.level(),
                    dims: d,
                    task_split,
                    phi_blocks,
                    reversed: pass == 1,
                    accumulate,
                    overwrite_dphi: part == 0,
                    dy,
                    dstate_end: if phi_blocks.v { dstate_end } else { None },
                    u,
                    lengths: Lengths { len: sizes.len, sequence_lengths: sizes.lengths },
                };
                let mut dus = (du.as_deref_mut())
                    .map(|du| rows_by_head(du, sizes.len, d.heads))
                    .unwrap_or_default()
                    .into_iter();
                let mut dstates = (dstate0.as_deref_mut())
                    .map(|ds| rows_by_head(ds, d.state, d.heads))
                    .unwrap_or_default()
                    .into_iter();
                let per_pass = d.heads * groups;
                let mut dphis = dphi[pass * per_pass * d.phi()..].chunks_exact_mut(d.phi());
                let mut all_recurrence_grads = recurrence_grads[pass * per_pass * recurrence_grads_len..]
                    .chunks_exact_mut(recurrence_grads_len);
                let saved_per_sequence = task_split.chunks * d.state;
                let saved = &saved[pass * d.heads * sizes.batch * saved_per_sequence..];
                let mut jobs = Vec::with_capacity(per_pass);
                for head in 0..d.heads {
                    for sequences in task_split.task_sequences() {
                        let from = (head * sizes.batch + sequences.start) * saved_per_sequence;
                        let (Some(dphi), Some(recurrence_grads)) =
                            (dphis.next(), all_recurrence_grads.next())
                        else {
                            continue;
                        };
                        jobs.push(BackwardJob {
                            head,
                            du: dus.by_ref().take(sequences.len()).collect(),
                            dstate0: dstates.by_ref().take(sequences.len()).collect(),
                            saved: &saved[from..][..sequences.len() * saved_per_sequence],
                            dphi,
                            recurrence_grads,
                            sequences,
                        });
                    }
                }
                let (size, size64) = (run.scratch(), run.scratch64());
                let mut scratch = ws.real.take(size * be.threads());
                let mut scratch64 = ws.f64.take(size64 * be.threads());
                let pools = ((&mut scratch[..], size), (&mut scratch64[..], size64));
                for_each(be, jobs, pools.0, pools.1, |job, scratch, scratch64| {
                    let phi = &self.phi[(job.head * d.passes + pass) * d.phi()..][..d.phi()];
                    let a = &self.heads[job.head].discrete;
                    run.run(job, phi, a, scratch, scratch64)
                });
                accumulate = true;
                ws.real.give(scratch);
                ws.f64.give(scratch64);
            }
        }
        self.parameters(
            be,
            grads,
            ConstantGradients { dphi: &dphi, recurrence_grads: &recurrence_grads, groups },
            params,
            rate,
            ws,
        );
        ws.real.give(dphi);
        ws.f64.give(recurrence_grads);
    }

    /// Sums dΦ of each head over its sequence groups, in order, and leads it to the parameters.
    fn parameters(
        &mut self,
        be: &Cpu<T>,
        grads: &mut SsmGrads<'_, Cpu<T>>,
        constant_grads: ConstantGradients<'_, T>,
        params: &SsmParams<'_, Cpu<T>>,
        rate: f64,
        ws: &mut Workspace<T>,
    ) {
        let ConstantGradients { dphi, recurrence_grads, groups } = constant_grads;
        let (d, spec) = (self.dims, &self.spec);
        let loaded = Params64::load(params, spec, rate, ws);
        let flat_len = params::head_grads_len(spec);
        let mut flat = ws.c64.take(d.heads * flat_len);
        flat.fill(C64::default());
        let recurrence_grads_len = RecurrenceGradients::len(d.state, d.rank);
        let (size64, size) = constants_backward::scratch_len(&d);
        let mut scratch = ws.real.take(size * be.threads());
        let mut scratch64 = ws.f64.take(size64 * be.threads());
        let jobs: Vec<_> = self.heads.iter_mut().zip(flat.chunks_exact_mut(flat_len)).enumerate().collect();
        let pools = ((&mut scratch[..], size), (&mut scratch64[..], size64));
        for_each(be, jobs, pools.0, pools.1, |(h, (at, flat)), scratch, scratch64| {
            let of = |pass: usize| (pass * d.heads + h) * groups;
            at.ddiscrete.clear();
            for pass in 0..d.passes {
                for recurrence_grads in recurrence_grads[of(pass) * recurrence_grads_len..]
                    .chunks_exact(recurrence_grads_len)
                    .take(groups)
                {
                    let g = &mut at.ddiscrete;
                    let gradients = g.d0.iter_mut().chain(&mut g.u).chain(&mut g.v).chain(&mut g.b_bar);
                    for (to, from) in gradients.zip(recurrence_grads) {
                        *to += from;
                    }
                }
            }
            let mut grad = params::head_grads(flat, spec);
            let dphi = |pass: usize| &dphi[of(pass) * d.phi()..][..groups * d.phi()];
            let (level, head) = (be.level(), loaded.head(h));
            head_constants_backward(level, &mut grad, at, &head, dphi, &d, (scratch64, scratch));
        });
        ws.real.give(scratch);
        params::accumulate(grads, &mut flat, params, spec, rate);
        for (h, at) in self.heads.iter().enumerate() {
            for (channel, dd) in at.dd.iter().enumerate() {
                grads.d[channel * d.heads + h] += T::from_f64(*dd);
            }
        }
        ws.f64.give(scratch64);
        ws.c64.give(flat);
        loaded.give(ws);
    }
}
