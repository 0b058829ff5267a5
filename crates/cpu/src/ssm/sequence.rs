//! The SSM as one operation, parameters and u to y, by any of its algorithms.
//!
//! `fft` and `cauchy` differ in how they make the kernel: by blocks of powers (`kernel.rs`) or by the paper's
//! Algorithm 1 (`cauchy/`). Both then convolve, and send states, which a kernel does not have, by chunks.

use crate::{
    Cpu, Ints, Workspace,
    ssm::{
        chunk::{CHUNK, ChunkBackward, ChunkForward, ChunkPlan, ChunkSizes, PhiBlocks},
        intervals,
        params::shorten,
    },
};
use s4_backend::{
    Algorithm, ConvBackward, ConvForward, KernelBackward, KernelForward, Result, Scalar, SsmBackward,
    SsmCall, SsmForward, SsmParams, SsmSpec,
};

/// Constants of one layer between calls: the kernel of the algorithms that have one, the chunk constants.
#[derive(Debug)]
pub struct SsmPlan<T> {
    spec: SsmSpec,
    chunk: ChunkPlan<T>,
    kernel: Vec<T>,
    kernel_built: Option<KernelKey>,
}

/// What a kept kernel depends on: it is computed again when one of these differs.
#[derive(Clone, Copy, Debug, PartialEq)]
struct KernelKey {
    version: u64,
    rate: f64,
    len: usize,
    algorithm: Algorithm,
}

/// All blocks of Φ: y and the next state, from the input and from the state.
const WHOLE: PhiBlocks = PhiBlocks { toep: true, v: true, w: true };
/// The response of y to the initial state alone.
const FROM_STATE: PhiBlocks = PhiBlocks { toep: false, v: false, w: true };
/// The end state alone.
const TO_STATE: PhiBlocks = PhiBlocks { toep: false, v: true, w: false };

impl<T: Scalar> SsmPlan<T> {
    /// An empty plan.
    pub(crate) fn new(spec: &SsmSpec) -> Result<Self> {
        spec.check("ssm_plan")?;
        Ok(SsmPlan::with_chunk(spec, CHUNK))
    }

    pub(crate) fn with_chunk(spec: &SsmSpec, chunk: usize) -> Self {
        SsmPlan { spec: *spec, chunk: ChunkPlan::new(spec, chunk), kernel: Vec::new(), kernel_built: None }
    }

    /// Elements of `saved` with this plan's chunks.
    pub(crate) fn saved_len(&self, be: &Cpu<T>, call: &SsmCall<'_, Cpu<T>>) -> usize {
        match be.chosen_algorithm(call) {
            _ if call.options.intervals.is_some() => intervals::saved_len(&call.spec, call.batch, call.len),
            Algorithm::Chunk => self.chunk.saved(call.batch, call.len),
            _ => 0,
        }
    }

    /// K̄ of the call, made unless it stands already; (kernel channels, H, kernel length).
    fn kernel(
        &mut self,
        be: &Cpu<T>,
        params: &SsmParams<'_, Cpu<T>>,
        call: &SsmCall<'_, Cpu<T>>,
        algorithm: Algorithm,
        ws: &mut Workspace<T>,
    ) -> Result<()> {
        let (spec, len, rate) = (call.spec, call.kernel_len(), call.options.rate);
        let key = KernelKey { version: call.version, rate, len, algorithm };
        if self.kernel_built == Some(key) {
            return Ok(());
        }
        self.kernel_built = None;
        let size = spec.kernel_channels() * spec.heads * len;
        if self.kernel.capacity() < size {
            be.inner.counter.bump();
        }
        self.kernel.resize(size, T::zero());
        let args = KernelForward { kernel: &mut self.kernel[..], params: shorten(params), spec, len, rate };
        match algorithm {
            Algorithm::Cauchy => be.kernel_by_cauchy(args, ws)?,
            _ => be.kernel_by_blocks(args, ws)?,
        }
        self.kernel_built = Some(key);
        Ok(())
    }
}

/// Time steps from which chunks take less time than the transform, forward and backward together and made anew each
/// time: a kernel is shared by all sequences, so the more sequences the later (benches/RESULTS.md, "Crossovers of `auto`").
fn crossover(rows: usize) -> usize {
    match rows {
        ..=2 => 2048,
        3..=4 => 8192,
        5..16 => 32_768,
        _ => 65_536,
    }
}

fn sizes<'a, T: Scalar>(call: &SsmCall<'a, Cpu<T>>) -> ChunkSizes<'a> {
    ChunkSizes { batch: call.batch, len: call.len, lengths: call.options.lengths.map(Ints::as_slice) }
}

/// A copy of x (batch, any, len) that is 0 beyond each sequence's own length; `None` where all have len.
fn zeroed_beyond_lengths<T: Scalar>(
    x: &[T],
    sizes: &ChunkSizes<'_>,
    ws: &mut Workspace<T>,
) -> Option<Vec<T>> {
    sizes.lengths?;
    let mut copy = ws.real.take(x.len());
    copy.copy_from_slice(x);
    zero_beyond_lengths(&mut copy, sizes);
    Some(copy)
}

/// Sets x (batch, any, len) to 0 beyond each sequence's own length.
fn zero_beyond_lengths<T: Scalar>(x: &mut [T], sizes: &ChunkSizes<'_>) {
    let Some(lengths) = sizes.lengths else { return };
    let per_row = x.len() / sizes.batch;
    for (x, &length) in x.chunks_exact_mut(per_row).zip(lengths) {
        for x in x.chunks_exact_mut(sizes.len) {
            x[length as usize..].fill(T::zero());
        }
    }
}

impl<T: Scalar> Cpu<T> {
    /// What `Auto` means for this call; the others mean themselves.
    pub fn chosen_algorithm(&self, call: &SsmCall<'_, Self>) -> Algorithm {
        match call.options.algorithm {
            Algorithm::Auto if call.is_truncated() || call.len < crossover(call.batch) => Algorithm::Fft,
            Algorithm::Auto => Algorithm::Chunk,
            other => other,
        }
    }

    /// Elements that forward of this call saves for backward.
    pub(crate) fn sequence_saved_len(&self, call: &SsmCall<'_, Self>) -> usize {
        match self.chosen_algorithm(call) {
            _ if call.options.intervals.is_some() => intervals::saved_len(&call.spec, call.batch, call.len),
            Algorithm::Chunk => ChunkPlan::<T>::saved_len(&call.spec, CHUNK, call.batch, call.len),
            _ => 0,
        }
    }

    /// See [`SsmForward`].
    pub(crate) fn sequence_forward(
        &self,
        args: SsmForward<'_, Self>,
        plan: &mut SsmPlan<T>,
        ws: &mut Workspace<T>,
    ) -> Result<()> {
        args.check(self, &plan.spec, plan.saved_len(self, &args.call))?;
        if let Some(intervals) = args.call.options.intervals {
            self.forward_with_intervals(args, intervals, ws);
            return Ok(());
        }
        let SsmForward { y, state_end, saved, u, state0, params, call } = args;
        let (sizes, rate, version) = (sizes(&call), call.options.rate, call.version);
        let algorithm = self.chosen_algorithm(&call);
        // A call with a start or end state that saves nothing computes its states by chunks in any case, so `auto` chooses
        // chunks for its outputs too.
        let stream = saved.is_none() && (state0.is_some() || state_end.is_some());
        let stream = stream && call.options.algorithm == Algorithm::Auto;
        if stream || algorithm == Algorithm::Chunk {
            plan.chunk.prepare(self, &params, rate, version, ws);
            let y = Some(y);
            let args =
                ChunkForward { y, state_end, saved, u, state0, sizes, phi_blocks: WHOLE, accumulate: false };
            plan.chunk.forward(self, args, ws);
            return Ok(());
        }
        plan.kernel(self, &params, &call, algorithm, ws)?;
        let own = zeroed_beyond_lengths(u, &sizes, ws);
        let conv = ConvForward {
            y: &mut *y,
            u: own.as_deref().unwrap_or(u),
            kernel: &plan.kernel[..],
            d: Some(params.d),
            shape: call.conv_shape(),
        };
        self.conv_by_fft(conv, ws)?;
        if let Some(own) = own {
            zero_beyond_lengths(y, &sizes);
            ws.real.give(own);
        }
        // The states go by chunks: what x₀ adds to y, and the state at the end.
        if state0.is_some() || state_end.is_some() {
            plan.chunk.prepare(self, &params, rate, version, ws);
        }
        let states = |y, state_end, phi_blocks| ChunkForward {
            y,
            state_end,
            saved: None,
            u,
            state0,
            sizes,
            phi_blocks,
            accumulate: true,
        };
        if state0.is_some() {
            plan.chunk.forward(self, states(Some(y), None, FROM_STATE), ws);
        }
        if state_end.is_some() {
            plan.chunk.forward(self, states(None, state_end, TO_STATE), ws);
        }
        Ok(())
    }

    /// See [`SsmBackward`].
    pub(crate) fn sequence_backward(
        &self,
        args: SsmBackward<'_, Self>,
        plan: &mut SsmPlan<T>,
        ws: &mut Workspace<T>,
    ) -> Result<()> {
        args.check(self, &plan.spec, plan.saved_len(self, &args.call))?;
        if let Some(intervals) = args.call.options.intervals {
            self.backward_with_intervals(args, intervals, ws);
            return Ok(());
        }
        let SsmBackward { mut du, mut dstate0, mut grads, dy, dstate_end, u, state0, saved, params, call } =
            args;
        let (spec, sizes, rate, version) = (call.spec, sizes(&call), call.options.rate, call.version);
        if let Some(dstate0) = dstate0.as_deref_mut() {
            dstate0.fill(T::zero());
        }
        let algorithm = self.chosen_algorithm(&call);
        if algorithm == Algorithm::Chunk {
            plan.chunk.prepare(self, &params, rate, version, ws);
            let parts = &[(WHOLE, saved)];
            let args = ChunkBackward { du, dstate0, dy, dstate_end, u, parts, sizes, accumulate: false };
            plan.chunk.backward(self, args, &mut grads, &params, rate, ws);
            return Ok(());
        }
        plan.kernel(self, &params, &call, algorithm, ws)?;
        let (own_u, own_dy) = (zeroed_beyond_lengths(u, &sizes, ws), zeroed_beyond_lengths(dy, &sizes, ws));
        let mut dkernel = ws.real.take_zeroed(plan.kernel.len());
        let conv = ConvBackward {
            du: du.as_deref_mut(),
            dkernel: &mut dkernel[..],
            dd: Some(&mut *grads.d),
            dy: own_dy.as_deref().unwrap_or(dy),
            u: own_u.as_deref().unwrap_or(u),
            kernel: &plan.kernel[..],
            d: Some(params.d),
            shape: call.conv_shape(),
        };
        self.conv_backward(conv, ws)?;
        if let Some(du) = du.as_deref_mut() {
            zero_beyond_lengths(du, &sizes);
        }
        let kernel = KernelBackward {
            grads: grads.reborrow(self),
            dkernel: &dkernel[..],
            params: shorten(&params),
            spec,
            len: call.kernel_len(),
            rate,
        };
        match algorithm {
            Algorithm::Cauchy => self.kernel_by_cauchy_backward(kernel, ws)?,
            _ => self.kernel_backward(kernel, ws)?,
        }
        ws.real.give(dkernel);
        for own in [own_u, own_dy].into_iter().flatten() {
            ws.real.give(own);
        }
        if state0.is_none() && dstate_end.is_none() && dstate0.is_none() {
            return Ok(());
        }
        // Neither pass over the states saved them: once more, then back.
        plan.chunk.prepare(self, &params, rate, version, ws);
        let size = plan.chunk.saved(call.batch, call.len);
        let (mut free, mut driven) = (ws.real.take(size), ws.real.take(size));
        let mut save = |saved: &mut [T], phi_blocks| {
            let saved = Some(saved);
            let args = ChunkForward {
                y: None,
                state_end: None,
                saved,
                u,
                state0,
                sizes,
                phi_blocks,
                accumulate: false,
            };
            plan.chunk.forward(self, args, ws);
        };
        save(&mut free, FROM_STATE);
        if dstate_end.is_some() {
            save(&mut driven, TO_STATE);
        }
        let parts = [(FROM_STATE, &free[..]), (TO_STATE, &driven[..])];
        let parts = &parts[..if dstate_end.is_some() { 2 } else { 1 }];
        let args = ChunkBackward { du, dstate0, dy, dstate_end, u, parts, sizes, accumulate: true };
        plan.chunk.backward(self, args, &mut grads, &params, rate, ws);
        ws.real.give(free);
        ws.real.give(driven);
        Ok(())
    }
}
