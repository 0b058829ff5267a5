//! The SSM on whole sequences: chunked passes, or the paper's kernel and FFT convolution.

use crate::{
    Cuda, Ints,
    chunk::{Cut, Entering, MAX_PAIRS, Pack, Pass, Room, Sizes, T, cut},
    dense::check_lengths,
    device::Span,
    discrete::{Discrete, check_grads},
    launch::args,
    memory::{Block, same_len},
    sides::{Operands, OperandsOf, SidesBackward, Walk, aligned, cut_to_meet},
    turn::Turn,
};
use s4_backend::*;
use std::sync::Arc;

type Ref<'a> = <Cuda as Memory>::Ref<'a>;

/// What depends on parameters and rate alone, kept while they stand still.
pub struct SsmPlan {
    spec: SsmSpec,
    key: Option<(u64, u64, bool)>,
    kept: Option<Kept>,
    turn: Option<Turn>,
}

impl SsmPlan {
    fn check(&self, op: &'static str, spec: &SsmSpec) -> Result<()> {
        spec.check(op)?;
        if self.spec == *spec {
            return Ok(());
        }
        Err(Error::value(op, "the layer that the plan was made for", "another"))
    }
}

struct Kept {
    discrete: Discrete,
    /// Operands of the causal pass, and of the one that looks ahead.
    frags: [Option<Block>; 2],
    /// Those of both at once, instead (`sides.rs`).
    operands: Option<Operands>,
    /// Ā^(T·each) for the latest way of cutting.
    segment: Option<(usize, Arc<Block>)>,
    /// Ā^T in f64, to make it from.
    q: Arc<Block>,
}

/// Shapes of one call, checked.
pub(crate) struct Call<'a> {
    pub(crate) op: &'static str,
    pub(crate) spec: &'a SsmSpec,
    pub(crate) sizes: Sizes,
    pub(crate) batch: usize,
    pub(crate) len: usize,
    rate: f64,
    pub(crate) cut: Cut,
    /// Whether `sides.rs` can do it, as far as sizes decide.
    sides: bool,
    pub(crate) lengths: Option<&'a Ints>,
}

impl Call<'_> {
    /// States that enter the segments of one pass, which forward keeps for backward where sequences are cut.
    fn entering_len(&self) -> usize {
        if self.cut.segments > 1 {
            self.batch * self.cut.segments * self.sizes.heads * self.sizes.np
        } else {
            0
        }
    }

    fn saved_len(&self) -> usize {
        (1 + self.spec.bidirectional as usize) * self.entering_len()
    }

    /// The part of `saved` that belongs to the causal pass, or to the one that looks ahead.
    pub(crate) fn half(&self, saved: Span, flip: bool) -> Span {
        let bytes = 4 * self.entering_len();
        saved.part(flip as usize * bytes, bytes)
    }

    /// `saved` where it holds anything.
    fn saved(&self, saved: Option<Span>) -> Result<Option<Span>> {
        let Some(span) = saved.filter(|s| s.bytes() > 0) else { return Ok(None) };
        same_len(self.op, self.saved_len(), span.bytes() / 4)?;
        Ok((self.saved_len() > 0).then_some(span))
    }
}

impl Cuda {
    fn shape<'a>(
        &self,
        op: &'static str,
        spec: &'a SsmSpec,
        (batch, len, rate): (usize, usize, f64),
        lengths: Option<&'a Ints>,
    ) -> Result<Call<'a>> {
        if batch == 0 || len == 0 {
            return Err(Error::value(op, "1 or more rows and samples", format!("{batch} × {len}")));
        }
        check_lengths(op, lengths, batch)?;
        let sizes = Sizes::new(op, spec)?;
        let sides = self.sides(spec, sizes, len);
        let cut = if sides && spec.bidirectional {
            cut_to_meet(batch, spec.heads, len, self.processors(), self.inner.precision.products())
        } else {
            cut(batch, spec.heads, len, self.processors())
        };
        // One direction: 64 rows go together.
        let sides = sides && (spec.bidirectional || batch * cut.segments >= 48);
        Ok(Call { op, spec, sizes, batch, len, rate, cut, sides, lengths })
    }

    /// Ā^(T·each) for the scans of the pass and of its adjoint, where sequences are cut.
    fn segments(&self, c: &Call<'_>, q: &Block, backward: bool) -> Result<[Option<Arc<Block>>; 2]> {
        if c.cut.segments == 1 {
            return Ok([None, None]);
        }
        let make = || self.scratch(c.op, c.sizes.heads * c.sizes.np * c.sizes.np).map(Arc::new);
        let (ahead, back) = (make()?, backward.then(make).transpose()?);
        self.segment_matrices(c.op, q, c.sizes, c.cut.each, &ahead, back.as_deref())?;
        Ok([Some(ahead), back])
    }

    fn prepare(&self, c: &Call<'_>, params: &SsmParams<'_, Self>, sides: bool, q: Room) -> Result<Kept> {
        let discrete = self.discretise(c.op, params, c.spec, c.rate)?;
        let matrices = self.matrices(c.op, &discrete, params.c.span(), c.sizes, q)?;
        if sides {
            let of = OperandsOf { both: c.spec.bidirectional, backward: false, outputs: true };
            let operands = Some(self.operands(c.op, &matrices, params.d.span(), c.sizes, of)?);
            return Ok(Kept { discrete, frags: [None, None], operands, segment: None, q: matrices.q });
        }
        let channels = c.spec.channels;
        let pack = |flip: bool| {
            let p = Pack { k0: if flip { channels } else { 0 }, channels, flip, backward: false };
            self.pack(c.op, &matrices, (!flip).then(|| params.d.span()), c.sizes, p)
        };
        let frags = [Some(pack(false)?), c.spec.bidirectional.then(|| pack(true)).transpose()?];
        Ok(Kept { discrete, frags, operands: None, segment: None, q: matrices.q })
    }

    fn chunk_forward(
        &self,
        y: Span,
        state_end: Option<Span>,
        saved: Option<Span>,
        u: Ref<'_>,
        state0: Option<Ref<'_>>,
        c: &Call<'_>,
        kept: &mut Kept,
    ) -> Result<()> {
        let Sizes { heads, pairs, rank, np, .. } = c.sizes;
        let rows = c.batch * heads;
        if c.cut.segments > 1 && kept.segment.as_ref().is_none_or(|(each, _)| *each != c.cut.each) {
            let [ahead, _] = self.segments(c, &kept.q, false)?;
            kept.segment = ahead.map(|b| (c.cut.each, b));
        }
        let segment = kept.segment.as_ref().filter(|_| c.cut.segments > 1).map(|(_, b)| &**b);
        if let Some(operands) = &kept.operands {
            let entering = |flip| saved.map_or(Entering::Unknown, |s| Entering::Kept(c.half(s, flip)));
            let walk = Walk {
                y: Some(y),
                x: u.span(),
                operands,
                entering: [entering(false), entering(c.spec.bidirectional)],
                lengths: c.lengths,
                batch: c.batch,
                len: c.len,
                reverse: false,
            };
            return self.walk(c.op, &walk, c.sizes, c.cut, segment);
        }
        let state0 = state0.map(|s| self.pad_state(c.op, s.span(), rows, 2 * pairs, np)).transpose()?;
        let mid = state_end.map(|_| self.scratch(c.op, rows * np)).transpose()?;
        for (flip, frags) in kept.frags.iter().enumerate() {
            let Some(frags) = frags else { continue };
            let flip = flip == 1;
            let pass = Pass {
                y: Some(y),
                x: u.span(),
                frags,
                state0: state0.as_ref().map(|s| s.span()).filter(|_| !flip),
                entering: saved.map_or(Entering::Unknown, |s| Entering::Kept(c.half(s, flip))),
                end: None,
                states: None,
                mid: mid.as_ref().map(|m| m.span()).filter(|_| !flip),
                inject: None,
                lengths: c.lengths,
                batch: c.batch,
                len: c.len,
                ins: 1,
                outs: c.spec.channels,
                reverse: flip,
                lower: !flip,
                add: flip,
            };
            self.pass(c.op, &pass, c.sizes, c.cut, segment)?;
        }
        if let (Some(end), Some(mid)) = (state_end, &mid) {
            let d = &kept.discrete;
            self.launch(
                ("tail", "tail"),
                (c.batch, heads, 1),
                (32, 1),
                0,
                args![end, mid, u, c.lengths, d.d0(), d.u(), d.z(), d.bb(), heads, pairs, rank, np, c.len],
            )?;
        }
        Ok(())
    }

    /// Gradients by the adjoint passes; chunk states are made again. `kernel`: u is an impulse and there is no D
    /// (the call is a kernel's gradient).
    fn chunk_backward(
        &self,
        du: Option<Span>,
        dstate0: Option<Span>,
        grads: &SsmGrads<'_, Self>,
        dy: Span,
        dstate_end: Option<Span>,
        saved: Option<Span>,
        u: Span,
        state0: Option<Span>,
        params: &SsmParams<'_, Self>,
        c: &Call<'_>,
        halves: &[(usize, usize, bool)],
        with_d: bool,
        turn: Option<&Turn>,
    ) -> Result<()> {
        let (op, Sizes { heads, pairs, rank, kc, np }) = (c.op, c.sizes);
        let (rows, side) = (c.batch * heads, T + np);
        let discrete = self.discretise(op, params, c.spec, c.rate)?;
        let q = match turn {
            Some(turn) => Room { block: turn.q.clone(), filled: true },
            None => self.room(op, c.sizes)?,
        };
        let m = self.matrices(op, &discrete, params.c.span(), c.sizes, q)?;
        let [ahead, back] = match turn.and_then(|t| t.scans(c.cut.each)) {
            Some(both) if c.cut.segments > 1 => both.clone().map(Some),
            _ => self.segments(c, &m.q, true)?,
        };
        let state0 = state0.map(|s| self.pad_state(op, s, rows, 2 * pairs, np)).transpose()?;
        let deals = if dstate_end.is_some() { c.batch.min(8) } else { 0 };
        let slots = 1 + 2 * rank + kc + deals;
        let slot = self.block(op, 16 * heads * slots * (2 + 2 * rank) * pairs)?;
        let dkern = self.scratch64(op, heads * kc * T)?;
        let d = &discrete;

        let mut products: Vec<Block> = Vec::new();
        let mut dtail = None;
        let plain = state0.is_none() && dstate_end.is_none() && dstate0.is_none() && with_d;
        let spans: Vec<Span> = [Some(dy), Some(u), du].into_iter().flatten().collect();
        let sides = c.sides && plain && aligned(&spans);
        if sides {
            let b = SidesBackward {
                du,
                dy,
                u,
                saved,
                d: params.d.span(),
                segment: [ahead.as_deref(), back.as_deref()],
            };
            products = self.sides_backward(c, &b, &m)?;
            for (g, &(k0, channels, flip)) in products.iter().zip(halves) {
                let dd = (!flip).then(|| grads.d.span());
                self.kernel_gradient(&dkern, dd, g, c.sizes, (k0, channels, flip))?;
            }
        }
        for &(k0, channels, flip) in halves.iter().filter(|_| !sides) {
            let pack = |backward| Pack { k0, channels, flip, backward };
            let dspan = (with_d && !flip).then(|| params.d.span());
            let forward = self.pack(op, &m, dspan, c.sizes, pack(false))?;
            let adjoint = self.pack(op, &m, dspan, c.sizes, pack(true))?;
            let size = heads * c.batch * c.cut.chunks * np;
            let (s, ds) = (self.scratch(op, size)?, self.scratch(op, size)?);
            let mid = dstate_end.map(|_| self.scratch(op, rows * np)).transpose()?;
            let mut pass = Pass {
                y: None,
                x: u,
                frags: &forward,
                state0: state0.as_ref().map(|s| s.span()),
                entering: saved.map_or(Entering::Unknown, |s| Entering::Known(c.half(s, flip))),
                end: None,
                states: Some(s.span()),
                mid: mid.as_ref().map(|m| m.span()),
                inject: None,
                lengths: c.lengths,
                batch: c.batch,
                len: c.len,
                ins: 1,
                outs: channels,
                reverse: flip,
                lower: !flip,
                add: false,
            };
            self.pass(op, &pass, c.sizes, c.cut, ahead.as_deref())?;
            let mut inject = None;
            if let (Some(dend), Some(mid)) = (dstate_end, &mid) {
                let (i, t) = (self.scratch(op, rows * np)?, self.scratch(op, rows * T)?);
                let keep = self.block(op, 16 * heads * deals * T * pairs)?;
                self.launch(
                    ("tail", "tail_backward"),
                    (heads, deals, 1),
                    (32, 1),
                    0,
                    args![
                        &i,
                        &t,
                        &slot,
                        &keep,
                        dend,
                        mid,
                        u,
                        c.lengths,
                        d.d0(),
                        d.u(),
                        d.z(),
                        d.bb(),
                        c.batch,
                        heads,
                        pairs,
                        rank,
                        np,
                        c.len,
                        slots,
                        slots - deals
                    ],
                )?;
                (inject, dtail) = (Some(i), Some(t));
            }
            let end = dstate0.map(|_| self.scratch(op, rows * np)).transpose()?;
            pass = Pass {
                y: du,
                x: dy,
                frags: &adjoint,
                state0: None,
                entering: Entering::Unknown,
                end: end.as_ref().map(|e| e.span()),
                states: Some(ds.span()),
                mid: None,
                inject: inject.as_ref().map(|i| i.span()),
                lengths: c.lengths,
                batch: c.batch,
                len: c.len,
                ins: channels,
                outs: 1,
                reverse: !flip,
                lower: flip,
                add: flip,
            };
            self.pass(op, &pass, c.sizes, c.cut, back.as_deref())?;
            if let (Some(out), Some(end)) = (dstate0, &end) {
                let n = rows * 2 * pairs;
                let one = args![out, end, c.batch, heads, 2 * pairs, np, 1usize, 0usize];
                self.each(("chunk", "cut_state"), n, one)?;
            }
            products.push(self.products(c, dy, &ds, u, &s, channels, side)?);
            let g = products.last().expect("just pushed");
            let dd = (with_d && !flip).then(|| grads.d.span());
            self.kernel_gradient(&dkern, dd, g, c.sizes, (k0, channels, flip))?;
        }
        let (g0, g1) = (&products[0], products.get(1));
        let size = heads * rank * T * pairs;
        let (ga, gb) = (self.block(op, 16 * size)?, self.block(op, 16 * size)?);
        if rank > 0 {
            self.launch(
                ("constants_backward", "transition_gradient"),
                (heads, rank, 2 * (2 * pairs).div_ceil(64)),
                (256, 1),
                0,
                args![&ga, &gb, g0, g1, &m.cols, &m.powers, pairs, rank, side, side * side],
            )?;
        }
        self.launch(
            (
                "constants_backward",
                if pairs <= 32 { "sequences_backward_32" } else { "sequences_backward_64" },
            ),
            (heads, 1 + 2 * rank + kc, 1),
            (64, 1),
            4 * 16 * 256,
            args![
                &slot,
                &grads.c,
                &dkern,
                &ga,
                &gb,
                g0,
                g1,
                &m.cols,
                &m.rows,
                &m.powers,
                d.d0(),
                d.u(),
                d.z(),
                heads,
                pairs,
                rank,
                kc,
                halves[0].1,
                side,
                side * side,
                heads * side * side,
                slots
            ],
        )?;
        self.discretise_backward(op, grads, &slot, slots, params, c.spec, c.rate)?;
        if let (Some(du), Some(t)) = (du, &dtail) {
            let n = rows * T;
            self.each(("tail", "add_tail"), n, args![du, t, c.lengths, c.batch, heads, c.len])?;
        }
        Ok(())
    }

    /// K̄ as the response of the recurrence to an impulse: the chunk pass on u = (1, 0, 0, …), D left out.
    pub(crate) fn impulse_kernel(
        &self,
        op: &'static str,
        kernel: Span,
        params: &SsmParams<'_, Self>,
        spec: &SsmSpec,
        len: usize,
        rate: f64,
    ) -> Result<()> {
        let c = self.shape(op, spec, (1, len, rate), None)?;
        let discrete = self.discretise(op, params, spec, rate)?;
        let m = self.matrices(op, &discrete, params.c.span(), c.sizes, self.room(op, c.sizes)?)?;
        let p = Pack { k0: 0, channels: c.sizes.kc, flip: false, backward: false };
        let frags = self.pack(op, &m, None, c.sizes, p)?;
        let [segment, _] = self.segments(&c, &m.q, false)?;
        let u = self.impulse(op, spec.heads, len)?;
        let pass = Pass {
            y: Some(kernel),
            x: u.span(),
            frags: &frags,
            state0: None,
            entering: Entering::Unknown,
            end: None,
            states: None,
            mid: None,
            inject: None,
            lengths: None,
            batch: 1,
            len,
            ins: 1,
            outs: c.sizes.kc,
            reverse: false,
            lower: true,
            add: false,
        };
        self.pass(op, &pass, c.sizes, c.cut, segment.as_deref())
    }

    /// Gradients of [`Cuda::impulse_kernel`].
    pub(crate) fn impulse_kernel_backward(
        &self,
        op: &'static str,
        grads: &SsmGrads<'_, Self>,
        dkernel: Span,
        params: &SsmParams<'_, Self>,
        spec: &SsmSpec,
        len: usize,
        rate: f64,
    ) -> Result<()> {
        check_grads(op, grads, spec)?;
        let c = self.shape(op, spec, (1, len, rate), None)?;
        let u = self.impulse(op, spec.heads, len)?;
        let all = [(0, c.sizes.kc, false)];
        self.chunk_backward(
            None,
            None,
            grads,
            dkernel,
            None,
            None,
            u.span(),
            None,
            params,
            &c,
            &all,
            false,
            None,
        )
    }

    fn impulse(&self, op: &'static str, heads: usize, len: usize) -> Result<Block> {
        let u = self.scratch(op, heads * len)?;
        self.each(("chunk", "impulse"), heads * len, args![&u, heads, len])?;
        Ok(u)
    }
}

/// Kernel length of a call by FFT.
fn kernel_len(call: &SsmCall) -> usize {
    call.spec.truncate.map_or(call.len, |m| m.min(call.len))
}

impl SsmOps for Cuda {
    type SsmPlan = SsmPlan;

    fn ssm_plan(&self, spec: &SsmSpec) -> Result<SsmPlan> {
        spec.check("ssm_plan")?;
        Sizes::new("ssm_plan", spec)?;
        Ok(SsmPlan { spec: *spec, key: None, kept: None, turn: None })
    }

    fn ssm_algorithm(&self, call: &SsmCall) -> Result<Algorithm> {
        let cut_short = kernel_len(call) < call.len;
        match call.algorithm {
            Algorithm::Fft => Ok(Algorithm::Fft),
            Algorithm::Auto if cut_short || call.spec.pairs() > MAX_PAIRS => Ok(Algorithm::Fft),
            Algorithm::Chunk if cut_short => {
                Err(Error::unsupported("ssm_algorithm", "algorithm 'fft' for a truncated kernel", "'chunk'"))
            }
            _ => Ok(Algorithm::Chunk),
        }
    }

    /// The states that enter the segments, where sequences are cut; backward makes again all else that it needs.
    fn ssm_saved_len(&self, call: &SsmCall) -> usize {
        match self.ssm_algorithm(call) {
            Ok(Algorithm::Chunk) => self
                .shape("ssm_saved_len", &call.spec, (call.batch, call.len, call.rate), None)
                .map_or(0, |c| c.saved_len()),
            _ => 0,
        }
    }

    fn ssm_forward(
        &self,
        y: Self::Mut<'_>,
        state_end: Option<Self::Mut<'_>>,
        saved: Option<Self::Mut<'_>>,
        u: Self::Ref<'_>,
        state0: Option<Self::Ref<'_>>,
        lengths: Option<&Self::Ints>,
        params: &SsmParams<'_, Self>,
        call: &SsmCall,
        plan: &mut Self::SsmPlan,
        _ws: &mut Self::Workspace,
    ) -> Result<()> {
        const OP: &str = "ssm_forward";
        let (spec, batch, len) = (&call.spec, call.batch, call.len);
        plan.check(OP, spec)?;
        let states = state0.is_some() || state_end.is_some();
        let fft = self.choose(OP, call, states)?;
        same_len(OP, batch * spec.outputs() * len, y.len())?;
        same_len(OP, batch * spec.heads * len, u.len())?;
        for n in [state0.map(|s| s.len()), state_end.as_ref().map(|s| s.len())].into_iter().flatten() {
            same_len(OP, spec.state_len(batch), n)?;
        }
        if fft {
            crate::discrete::check_params(OP, params, spec)?;
            check_lengths(OP, lengths, batch)?;
            let shape = conv_shape(call);
            let kernel = self.scratch(OP, spec.kernel_channels() * spec.heads * shape.kernel_len)?;
            self.impulse_kernel(OP, kernel.span(), params, spec, shape.kernel_len, call.rate)?;
            return self.convolve(
                OP,
                y.span(),
                u.span(),
                kernel.span(),
                Some(params.d.span()),
                lengths,
                &shape,
            );
        }
        let c = self.shape(OP, spec, (batch, len, call.rate), lengths)?;
        let (state_end, saved) = (state_end.map(|s| s.span()), saved.map(|s| s.span()));
        let sides = c.sides && !states && aligned(&[y.span(), u.span()]);
        if let Some(saved) = saved {
            // Backward follows, and other parameters after it: most matrices are not worth their memory.
            let last = plan.turn.take();
            (plan.key, plan.kept) = (None, None);
            let mut turn = self.turn(OP, c.sizes, last)?;
            let room = Room { block: turn.q.clone(), filled: false };
            let mut once = self.prepare(&c, params, sides, room)?;
            if c.cut.segments > 1 {
                self.turn_scans(&c, &mut turn)?;
                once.segment = turn.scans(c.cut.each).map(|[ahead, _]| (c.cut.each, ahead.clone()));
            }
            self.chunk_forward(y.span(), state_end, c.saved(Some(saved))?, u, state0, &c, &mut once)?;
            turn.key = Some((call.version, call.rate.to_bits()));
            plan.turn = Some(turn);
            return Ok(());
        }
        let key = Some((call.version, call.rate.to_bits(), sides));
        if plan.key != key || plan.kept.is_none() {
            plan.kept = None;
            plan.kept = Some(self.prepare(&c, params, sides, self.room(OP, c.sizes)?)?);
            plan.key = key;
        }
        let kept = plan.kept.as_mut().expect("made above");
        self.chunk_forward(y.span(), state_end, None, u, state0, &c, kept)
    }

    fn ssm_backward(
        &self,
        du: Option<Self::Mut<'_>>,
        dstate0: Option<Self::Mut<'_>>,
        grads: SsmGrads<'_, Self>,
        dy: Self::Ref<'_>,
        dstate_end: Option<Self::Ref<'_>>,
        u: Self::Ref<'_>,
        state0: Option<Self::Ref<'_>>,
        saved: Self::Ref<'_>,
        lengths: Option<&Self::Ints>,
        params: &SsmParams<'_, Self>,
        call: &SsmCall,
        plan: &mut Self::SsmPlan,
        _ws: &mut Self::Workspace,
    ) -> Result<()> {
        const OP: &str = "ssm_backward";
        let (spec, batch, len) = (&call.spec, call.batch, call.len);
        plan.check(OP, spec)?;
        let states = state0.is_some() || dstate_end.is_some() || dstate0.is_some();
        let fft = self.choose(OP, call, states)?;
        check_grads(OP, &grads, spec)?;
        same_len(OP, batch * spec.outputs() * len, dy.len())?;
        same_len(OP, batch * spec.heads * len, u.len())?;
        if let Some(du) = &du {
            same_len(OP, u.len(), du.len())?;
        }
        let given = [state0.map(|s| s.len()), dstate_end.map(|s| s.len()), dstate0.as_ref().map(|s| s.len())];
        for n in given.into_iter().flatten() {
            same_len(OP, spec.state_len(batch), n)?;
        }
        if fft {
            crate::discrete::check_params(OP, params, spec)?;
            check_lengths(OP, lengths, batch)?;
            let shape = conv_shape(call);
            let size = spec.kernel_channels() * spec.heads * shape.kernel_len;
            let (kernel, dkernel) = (self.scratch(OP, size)?, self.scratch(OP, size)?);
            self.impulse_kernel(OP, kernel.span(), params, spec, shape.kernel_len, call.rate)?;
            self.zero(dkernel.span())?;
            self.convolve_backward(
                OP,
                du.map(|d| d.span()),
                dkernel.span(),
                Some(grads.d.span()),
                dy.span(),
                u.span(),
                kernel.span(),
                Some(params.d.span()),
                lengths,
                &shape,
            )?;
            return self.impulse_kernel_backward(
                OP,
                &grads,
                dkernel.span(),
                params,
                spec,
                shape.kernel_len,
                call.rate,
            );
        }
        let c = self.shape(OP, spec, (batch, len, call.rate), lengths)?;
        let channels = spec.channels;
        let halves = [(0, channels, false), (channels, channels, true)];
        let halves = &halves[..1 + spec.bidirectional as usize];
        self.chunk_backward(
            du.map(|d| d.span()),
            dstate0.map(|s| s.span()),
            &grads,
            dy.span(),
            dstate_end.map(|s| s.span()),
            c.saved(Some(saved.span()))?,
            u.span(),
            state0.map(|s| s.span()),
            params,
            &c,
            halves,
            true,
            plan.turn.as_ref().filter(|t| t.key == Some((call.version, call.rate.to_bits()))),
        )
    }
}

impl Cuda {
    /// Whether a call goes by FFT. States are the recurrence's, so a call that has them goes by chunks: both
    /// algorithms mean the same.
    fn choose(&self, op: &'static str, call: &SsmCall, states: bool) -> Result<bool> {
        if states && (call.spec.bidirectional || call.spec.truncate.is_some()) {
            return Err(Error::unsupported(op, "no state with a two-sided or truncated layer", "a state"));
        }
        Ok(self.ssm_algorithm(call)? == Algorithm::Fft && !states)
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
