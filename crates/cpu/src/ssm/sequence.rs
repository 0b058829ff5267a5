//! The SSM as one operation: parameters and u to y, by `fft` (the paper) or by chunks.

use crate::{
    Cpu, Ints, Workspace,
    memory::cpu::expect_len,
    ssm::{
        chunk::{CHUNK, ChunkPlan, Sizes, Terms},
        params::check_grads,
    },
};
use s4_backend::{
    Algorithm, ConvOps, ConvShape, Error, KernelOps, Result, Scalar, SsmCall, SsmGrads, SsmOps, SsmParams,
    SsmSpec,
};

/// Constants of one layer between calls: the kernel of the `fft` algorithm, the chunk constants of the other.
#[derive(Debug)]
pub struct SsmPlan<T> {
    spec: SsmSpec,
    chunk: ChunkPlan<T>,
    kernel: Vec<T>,
    /// (version, rate, length) that `kernel` stands for.
    kernel_built: Option<(u64, u64, usize)>,
}

/// Everything that a chunk does.
const WHOLE: Terms = Terms { direct: true, input: true, output: true };
/// The response of y to the initial state alone.
const FROM_STATE: Terms = Terms { direct: false, input: false, output: true };
/// The end state alone.
const TO_STATE: Terms = Terms { direct: false, input: true, output: false };

impl<T: Scalar> SsmPlan<T> {
    pub(crate) fn with_chunk(spec: &SsmSpec, chunk: usize) -> Self {
        SsmPlan { spec: *spec, chunk: ChunkPlan::new(spec, chunk), kernel: Vec::new(), kernel_built: None }
    }

    /// Elements of `saved` with this plan's chunks.
    #[cfg(test)]
    pub(crate) fn saved_len(&self, call: &SsmCall) -> usize {
        self.chunk.saved(&Sizes { batch: call.batch, len: call.len, lengths: None })
    }

    /// K̄ of the call, made unless it stands already; (kernel channels, H, kernel length).
    fn kernel(
        &mut self,
        be: &Cpu<T>,
        params: &SsmParams<'_, Cpu<T>>,
        call: &SsmCall,
        ws: &mut Workspace<T>,
    ) -> Result<()> {
        let len = kernel_len(call);
        let key = (call.version, call.rate.to_bits(), len);
        if self.kernel_built == Some(key) {
            return Ok(());
        }
        self.kernel_built = None;
        let size = call.spec.kernel_channels() * call.spec.heads * len;
        if self.kernel.capacity() < size {
            be.inner.counter.bump();
        }
        self.kernel.resize(size, T::zero());
        be.kernel_forward(&mut self.kernel, params, &call.spec, len, call.rate, ws)?;
        self.kernel_built = Some(key);
        Ok(())
    }
}

fn kernel_len(call: &SsmCall) -> usize {
    call.spec.truncate.map_or(call.len, |m| m.min(call.len))
}

/// Samples from which chunks take less time than the transform, forward and backward together and made anew each
/// time: a kernel is shared by all rows, so the more rows the later (benches/RESULTS.md, "Crossovers of `auto`").
fn crossover(rows: usize) -> usize {
    match rows {
        ..=2 => 2048,
        3..=4 => 8192,
        5..16 => 32_768,
        _ => 65_536,
    }
}

fn conv_shape(call: &SsmCall) -> ConvShape {
    ConvShape {
        batch: call.batch,
        heads: call.spec.heads,
        channels: call.spec.channels,
        len: call.len,
        kernel_len: kernel_len(call),
        two_sided: call.spec.bidirectional,
    }
}

/// Sizes and lengths, checked.
fn check<'a>(
    op: &'static str,
    call: &SsmCall,
    plan_spec: &SsmSpec,
    u: usize,
    y: usize,
    states: &[Option<usize>],
    lengths: Option<&'a Ints>,
) -> Result<Sizes<'a>> {
    call.spec.check(op)?;
    if *plan_spec != call.spec {
        return Err(Error::value(op, "the layer that the plan was made for", "another"));
    }
    if call.batch == 0 || call.len == 0 {
        return Err(Error::shape(
            op,
            "one row and one sample or more",
            format!("{} × {}", call.batch, call.len),
        ));
    }
    if !(call.rate.is_finite() && call.rate > 0.0) {
        return Err(Error::value(op, "a finite rate above 0", call.rate));
    }
    let rows = call.batch * call.len;
    expect_len(op, rows * call.spec.heads, u)?;
    expect_len(op, rows * call.spec.outputs(), y)?;
    for len in states.iter().flatten() {
        if call.spec.bidirectional || call.spec.truncate.is_some() {
            return Err(Error::unsupported(
                op,
                "no state with a two-sided layer or a truncated kernel",
                "a state",
            ));
        }
        expect_len(op, call.spec.state_len(call.batch), *len)?;
    }
    let lengths = lengths.map(|l| l.as_slice());
    if let Some(lengths) = lengths {
        let good = |&l: &i32| l >= 1 && l as usize <= call.len;
        match lengths.get(..call.batch) {
            None => return Err(Error::shape(op, format!("{} lengths", call.batch), lengths.len())),
            Some(own) => {
                if let Some(bad) = own.iter().find(|l| !good(l)) {
                    return Err(Error::value(op, format!("lengths from 1 to {}", call.len), bad));
                }
            }
        }
    }
    Ok(Sizes { batch: call.batch, len: call.len, lengths })
}

/// Copies rows and puts zeros beyond each row's own length.
fn masked<T: Scalar>(x: &[T], sizes: &Sizes<'_>, ws: &mut Workspace<T>) -> Option<Vec<T>> {
    sizes.lengths?;
    let mut copy = ws.real.take(x.len());
    copy.copy_from_slice(x);
    mask(&mut copy, sizes);
    Some(copy)
}

/// Zeros beyond each row's own length; `x`: (batch, any, len).
fn mask<T: Scalar>(x: &mut [T], sizes: &Sizes<'_>) {
    let Some(lengths) = sizes.lengths else { return };
    let per_row = x.len() / sizes.batch;
    for (x, &length) in x.chunks_exact_mut(per_row).zip(lengths) {
        for x in x.chunks_exact_mut(sizes.len) {
            x[length as usize..].fill(T::zero());
        }
    }
}

impl<T: Scalar> SsmOps for Cpu<T> {
    type SsmPlan = SsmPlan<T>;

    fn ssm_plan(&self, spec: &SsmSpec) -> Result<SsmPlan<T>> {
        spec.check("ssm_plan")?;
        Ok(SsmPlan::with_chunk(spec, CHUNK))
    }

    fn ssm_algorithm(&self, call: &SsmCall) -> Result<Algorithm> {
        match (call.algorithm, call.spec.truncate) {
            (Algorithm::Chunk, Some(_)) => {
                Err(Error::unsupported("ssm", "algorithm 'fft' or 'auto' with a truncated kernel", "'chunk'"))
            }
            (Algorithm::Auto, Some(_)) => Ok(Algorithm::Fft),
            (Algorithm::Auto, None) if call.len < crossover(call.batch) => Ok(Algorithm::Fft),
            (Algorithm::Auto, None) => Ok(Algorithm::Chunk),
            (other, _) => Ok(other),
        }
    }

    fn ssm_saved_len(&self, call: &SsmCall) -> usize {
        match self.ssm_algorithm(call) {
            Ok(Algorithm::Chunk) => ChunkPlan::<T>::saved_len(&call.spec, CHUNK, call.batch, call.len),
            _ => 0,
        }
    }

    fn ssm_forward(
        &self,
        y: &mut [T],
        state_end: Option<&mut [T]>,
        saved: Option<&mut [T]>,
        u: &[T],
        state0: Option<&[T]>,
        lengths: Option<&Ints>,
        params: &SsmParams<'_, Self>,
        call: &SsmCall,
        plan: &mut SsmPlan<T>,
        ws: &mut Workspace<T>,
    ) -> Result<()> {
        let op = "ssm_forward";
        let states = [state_end.as_ref().map(|s| s.len()), state0.map(|s| s.len())];
        let sizes = check(op, call, &plan.spec, u.len(), y.len(), &states, lengths)?;
        // What is only streamed has its states go by chunks anyway, so `auto` takes them for all of it.
        let stream = saved.is_none() && (state0.is_some() || state_end.is_some());
        let stream = stream && call.algorithm == Algorithm::Auto && call.spec.truncate.is_none();
        if stream || self.ssm_algorithm(call)? == Algorithm::Chunk {
            plan.chunk.prepare(self, params, call.rate, call.version, ws)?;
            if let Some(saved) = &saved {
                expect_len(op, plan.chunk.saved(&sizes), saved.len())?;
            }
            plan.chunk.forward(self, Some(y), state_end, saved, u, state0, &sizes, WHOLE, false, ws);
            return Ok(());
        }
        plan.kernel(self, params, call, ws)?;
        let shape = conv_shape(call);
        let own = masked(u, &sizes, ws);
        self.conv_forward(y, own.as_deref().unwrap_or(u), &plan.kernel, Some(params.d), &shape, ws)?;
        if let Some(own) = own {
            mask(y, &sizes);
            ws.real.give(own);
        }
        // The states go by chunks: what x₀ adds to y, and the state at the end.
        if state0.is_some() || state_end.is_some() {
            plan.chunk.prepare(self, params, call.rate, call.version, ws)?;
        }
        if state0.is_some() {
            plan.chunk.forward(self, Some(y), None, None, u, state0, &sizes, FROM_STATE, true, ws);
        }
        if state_end.is_some() {
            plan.chunk.forward(self, None, state_end, None, u, state0, &sizes, TO_STATE, false, ws);
        }
        Ok(())
    }

    fn ssm_backward(
        &self,
        mut du: Option<&mut [T]>,
        mut dstate0: Option<&mut [T]>,
        mut grads: SsmGrads<'_, Self>,
        dy: &[T],
        dstate_end: Option<&[T]>,
        u: &[T],
        state0: Option<&[T]>,
        saved: &[T],
        lengths: Option<&Ints>,
        params: &SsmParams<'_, Self>,
        call: &SsmCall,
        plan: &mut SsmPlan<T>,
        ws: &mut Workspace<T>,
    ) -> Result<()> {
        let op = "ssm_backward";
        let states =
            [dstate0.as_ref().map(|s| s.len()), dstate_end.map(|s| s.len()), state0.map(|s| s.len())];
        let sizes = check(op, call, &plan.spec, u.len(), dy.len(), &states, lengths)?;
        check_grads(op, &grads, &call.spec)?;
        if let Some(du) = du.as_deref_mut() {
            expect_len(op, u.len(), du.len())?;
        }
        if let Some(dstate0) = dstate0.as_deref_mut() {
            dstate0.fill(T::zero());
        }
        let (rate, version) = (call.rate, call.version);
        if self.ssm_algorithm(call)? == Algorithm::Chunk {
            plan.chunk.prepare(self, params, rate, version, ws)?;
            expect_len(op, plan.chunk.saved(&sizes), saved.len())?;
            let parts = [(WHOLE, saved)];
            return plan.chunk.backward(
                self, du, dstate0, &mut grads, dy, dstate_end, u, &parts, &sizes, false, params, rate, ws,
            );
        }
        plan.kernel(self, params, call, ws)?;
        let (own_u, own_dy) = (masked(u, &sizes, ws), masked(dy, &sizes, ws));
        let mut dkernel = ws.real.take_zeroed(plan.kernel.len());
        self.conv_backward(
            du.as_deref_mut(),
            &mut dkernel,
            Some(&mut *grads.d),
            own_dy.as_deref().unwrap_or(dy),
            own_u.as_deref().unwrap_or(u),
            &plan.kernel,
            Some(params.d),
            &conv_shape(call),
            ws,
        )?;
        if let Some(du) = du.as_deref_mut() {
            mask(du, &sizes);
        }
        self.kernel_backward(grads.reborrow(self), &dkernel, params, &call.spec, kernel_len(call), rate, ws)?;
        ws.real.give(dkernel);
        for own in [own_u, own_dy].into_iter().flatten() {
            ws.real.give(own);
        }
        if state0.is_none() && dstate_end.is_none() && dstate0.is_none() {
            return Ok(());
        }
        // Neither pass over the states saved them: once more, then back.
        plan.chunk.prepare(self, params, rate, version, ws)?;
        let size = plan.chunk.saved(&sizes);
        let mut free = ws.real.take(size);
        let mut driven = ws.real.take(size);
        plan.chunk.forward(self, None, None, Some(&mut free), u, state0, &sizes, FROM_STATE, false, ws);
        let mut parts = vec![(FROM_STATE, &free[..])];
        if dstate_end.is_some() {
            plan.chunk.forward(self, None, None, Some(&mut driven), u, state0, &sizes, TO_STATE, false, ws);
            parts.push((TO_STATE, &driven[..]));
        }
        plan.chunk.backward(
            self, du, dstate0, &mut grads, dy, dstate_end, u, &parts, &sizes, true, params, rate, ws,
        )?;
        ws.real.give(free);
        ws.real.give(driven);
        Ok(())
    }
}
