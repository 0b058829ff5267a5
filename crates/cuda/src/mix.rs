//! The mix: activation, dropout, linear, gate, dropout, residual (`kernels/mix.cu` around the products of `gemm.rs`, or,
//! with GLU on Hopper, products that do it all: `kernels/mix90.cu`). Backward makes a = dropout(activation(s)) and
//! z = W a + b again.

use crate::{
    Cuda,
    dense::code,
    device::Span,
    launch::args,
    memory::{Block, same_len},
    rows::Rows,
};
use s4_backend::{random::DropKey, *};

type Ref<'a> = <Cuda as Memory>::Ref<'a>;
type Mut<'a> = <Cuda as Memory>::Mut<'a>;

/// One dropout of a call, as its kernels take it.
struct Drop {
    key: DropKey,
    threshold: u32,
    scale: f32,
    tied: bool,
}

impl Drop {
    fn new(spec: &MixSpec, key: DropKey, site: u32) -> Drop {
        let p = spec.dropout;
        let threshold = if p > 0.0 { DropKey::threshold(p) } else { 0 };
        Drop {
            key: DropKey { site: key.site + site, ..key },
            threshold,
            scale: (1.0 / (1.0 - p)) as f32,
            tied: spec.tied,
        }
    }
}

/// Appends a dropout's arguments.
macro_rules! drop_args {
    ($d:expr; $($x:expr),* $(,)?) => {
        args![$($x),*, $d.key.seed, $d.key.step, $d.key.site, $d.threshold, $d.scale, $d.tied]
    };
}

impl Cuda {
    fn mix_check(
        &self,
        op: &'static str,
        out: usize,
        s: usize,
        params: &MixParams<'_, Self>,
        spec: &MixSpec,
        batch: usize,
        len: usize,
    ) -> Result<()> {
        same_len(op, batch * spec.outputs * len, out)?;
        same_len(op, batch * spec.inputs * len, s)?;
        same_len(op, spec.rows() * spec.inputs, params.weight.len())?;
        same_len(op, spec.rows(), params.bias.len())
    }

    /// a = dropout(activation(s)); `None` where that is s itself.
    fn activated(
        &self,
        op: &'static str,
        s: Ref<'_>,
        spec: &MixSpec,
        key: DropKey,
        len: usize,
    ) -> Result<Option<Block>> {
        let drop = Drop::new(spec, key, 0);
        if spec.activation == Activation::Identity && drop.threshold == 0 {
            return Ok(None);
        }
        let a = self.scratch(op, s.len())?;
        let n = s.len();
        self.each(
            ("mix", "activate_drop"),
            n.div_ceil(4),
            drop_args![drop; &a, s, n, len, code(spec.activation)],
        )?;
        Ok(Some(a))
    }
}

/// f16 planes of one array: x·2^e = high (+ low).
struct Planes {
    high: Block,
    low: Option<Block>,
}

impl Planes {
    /// Where the low plane lies from the high one, in numbers; 0 where there is none.
    fn apart(high: u64, low: Option<u64>) -> u64 {
        low.map_or(0, |low| (low as i64 - high as i64).div_euclid(2) as u64)
    }

    fn stride(&self) -> u64 {
        Planes::apart(self.high.span().ptr(), self.low.as_ref().map(|l| l.span().ptr()))
    }
}

/// What a forward of the fused kernels keeps: largest magnitudes, the planes of W.
#[derive(Clone, Copy)]
struct Kept {
    largest: Span,
    high: Span,
    low: Option<Span>,
}

impl Kept {
    /// Floats before the planes.
    const HEAD: usize = 64;

    fn of(span: Span, weights: usize, pairs: bool) -> Kept {
        let (head, plane) = (4 * Kept::HEAD, 2 * weights);
        Kept {
            largest: span.part(0, 16),
            high: span.part(head, plane),
            low: pairs.then(|| span.part(head + plane, plane)),
        }
    }

    fn stride(&self) -> u64 {
        Planes::apart(self.high.ptr(), self.low.map(|l| l.ptr()))
    }
}

/// Shared memory of a product: three stages of four panels of 8 KiB.
const STAGES: usize = 3 * 4 * (8 << 10);

/// Bytes of dz from which backward goes through the batch in two halves, so that it needs half of them at once.
const LARGE: usize = 32 << 20;

impl Cuda {
    /// Whether the kernels of `mix90.cu` serve: below `highest`, whose three products of pairs are slower there (sCIFAR's
    /// training step 35.0 ms against 31.3) than the general ones with the pointwise kernels around them. Their pieces are eight numbers, their tiles 128 steps of time.
    fn fused(&self, spec: &MixSpec, batch: usize, len: usize) -> bool {
        let fits = batch <= 65535 && len.div_ceil(128) <= 65535 && spec.rows() * spec.inputs < 1 << 31;
        !self.pairs()
            && spec.glu
            && len % 8 == 0
            && spec.inputs % 8 == 0
            && batch * len >= 512
            && fits
            && self.warpgroups()
    }

    /// Products of planes: three of pairs, or one.
    fn pairs(&self) -> bool {
        self.inner.precision.products() == 3
    }

    fn planes(&self, op: &'static str, len: usize) -> Result<Planes> {
        Ok(Planes {
            high: self.block(op, 2 * len)?,
            low: self.pairs().then(|| self.block(op, 2 * len)).transpose()?,
        })
    }

    /// Floats that forward keeps for backward.
    pub(crate) fn mix_kept_len(&self, spec: &MixSpec, batch: usize, len: usize) -> usize {
        if !self.fused(spec, batch, len) {
            return 0;
        }
        let weights = spec.rows() * spec.inputs;
        Kept::HEAD + if self.pairs() { weights } else { weights.div_ceil(2) }
    }

    fn mix_largest(&self, to: Span, x: Span) -> Result<()> {
        let n = x.bytes() / 4;
        self.each(("mix90", "mix_largest"), n.div_ceil(16), args![to, x, n])
    }

    /// The planes of a for rows `b0` … `b0 + count` of the batch.
    fn mix_a(
        &self,
        op: &'static str,
        s: Span,
        largest: Span,
        spec: &MixSpec,
        key: DropKey,
        (b0, count): (usize, usize),
        len: usize,
    ) -> Result<Planes> {
        let drop = Drop::new(spec, key, 0);
        let (first, n) = (b0 * spec.inputs * len, count * spec.inputs * len);
        let a = self.planes(op, n)?;
        let low = a.low.as_ref();
        self.each(
            ("mix90", "mix_activate"),
            n / 4,
            drop_args![drop; &a.high, low, s, largest, first, n, len, code(spec.activation)],
        )?;
        Ok(a)
    }

    fn mix_y_fused(
        &self,
        op: &'static str,
        y: Span,
        saved: Option<Span>,
        s: Span,
        residual: Option<Span>,
        params: &MixParams<'_, Self>,
        spec: &MixSpec,
        key: DropKey,
        (batch, len): (usize, usize),
    ) -> Result<()> {
        let size = self.mix_kept_len(spec, batch, len);
        let own;
        let span = match saved {
            Some(span) => {
                same_len(op, size, span.bytes() / 4)?;
                span
            }
            None => {
                own = self.scratch(op, size)?;
                own.span()
            }
        };
        let (w, weights) = (params.weight.span(), spec.rows() * spec.inputs);
        let kept = Kept::of(span, weights, self.pairs());
        self.zero(kept.largest)?;
        self.mix_largest(kept.largest.part(0, 4), s)?;
        self.mix_largest(kept.largest.part(4, 4), w)?;
        self.each(
            ("mix90", "mix_weight"),
            weights / 4,
            args![kept.high, kept.low, w, kept.largest, weights],
        )?;
        let a = self.mix_a(op, s, kept.largest, spec, key, (0, batch), len)?;
        let drop = Drop::new(spec, key, 1);
        let name = if self.pairs() { "mix_forward_3" } else { "mix_forward_1" };
        self.launch(
            ("mix90", name),
            (spec.outputs.div_ceil(64), len.div_ceil(128), batch),
            (256, 1),
            STAGES,
            drop_args![
                drop; y, kept.largest, kept.high, kept.stride(), &a.high, a.stride(), params.bias, residual,
                spec.outputs, spec.inputs, len, code(spec.activation)
            ],
        )
    }

    fn mix_gradients_fused(
        &self,
        op: &'static str,
        ds: Span,
        grads: &MixGrads<'_, Self>,
        dy: Span,
        s: Span,
        saved: Span,
        params: &MixParams<'_, Self>,
        spec: &MixSpec,
        key: DropKey,
        (batch, len): (usize, usize),
    ) -> Result<()> {
        same_len(op, self.mix_kept_len(spec, batch, len), saved.bytes() / 4)?;
        let (rows, inputs, f) = (spec.rows(), spec.inputs, code(spec.activation));
        let kept = Kept::of(saved, rows * inputs, self.pairs());
        let largest = self.block(op, 16)?;
        let largest = largest.span().part(0, 16);
        self.inner.queue.copy(largest, kept.largest)?;
        self.mix_largest(largest.part(12, 4), dy)?;
        let tiles = len.div_ceil(128);
        let sums = self.scratch(op, batch * tiles * rows)?;
        let names = match self.pairs() {
            true => ["mix_dz_3", "mix_dw_3", "mix_ds_3"],
            false => ["mix_dz_1", "mix_dw_1", "mix_ds_1"],
        };
        let portion = if batch * rows * len * 4 > LARGE { batch.div_ceil(2) } else { batch };
        for b0 in (0..batch).step_by(portion) {
            let count = portion.min(batch - b0);
            let a = self.mix_a(op, s, largest, spec, key, (b0, count), len)?;
            let dz = self.planes(op, count * rows * len)?;
            let drop = Drop::new(spec, key, 1);
            let scale = drop.scale;
            self.launch(
                ("mix90", names[0]),
                (spec.outputs.div_ceil(64), tiles, count),
                (256, 1),
                STAGES,
                drop_args![
                    drop; &dz.high, dz.stride(), &sums, dy, largest, kept.high, kept.stride(), &a.high, a.stride(),
                    params.bias, b0, spec.outputs, inputs, len, f
                ],
            )?;
            // As many parts of the sum as fill the chip once, of eight steps or more.
            let sides = (inputs.div_ceil(128), rows.div_ceil(128));
            let steps = count * len.div_ceil(if self.pairs() { 32 } else { 64 });
            let parts = (2 * self.processors() / (sides.0 * sides.1)).clamp(1, steps.div_ceil(8));
            let slices = self.scratch(op, parts * rows * inputs)?;
            self.launch(
                ("mix90", names[1]),
                (sides.0, sides.1, parts),
                (256, 1),
                STAGES,
                args![
                    &slices,
                    largest,
                    &dz.high,
                    dz.stride(),
                    &a.high,
                    a.stride(),
                    count,
                    rows,
                    inputs,
                    len,
                    f,
                    scale
                ],
            )?;
            let n = rows * inputs;
            self.each(("gemm", "reduce_parts"), n, args![&grads.weight, &slices, n, parts])?;
            let drop = Drop::new(spec, key, 0);
            self.launch(
                ("mix90", names[2]),
                (sides.0, tiles, count),
                (256, 1),
                STAGES,
                drop_args![
                    drop; ds, s, largest, kept.high, kept.stride(), &dz.high, dz.stride(), b0, rows, inputs, len, f
                ],
            )?;
        }
        let parts = batch * tiles;
        let grid = (rows.div_ceil(32), 1, 1);
        self.launch(("mix90", "mix_db"), grid, (32, 32), 0, args![&grads.bias, &sums, parts, rows])
    }

    /// y = mix(s) (+ residual).
    pub(crate) fn mix_y(
        &self,
        y: Mut<'_>,
        saved: Option<Mut<'_>>,
        s: Ref<'_>,
        residual: Option<Ref<'_>>,
        params: &MixParams<'_, Self>,
        spec: &MixSpec,
        key: DropKey,
        batch: usize,
        len: usize,
    ) -> Result<()> {
        const OP: &str = "mix_forward";
        self.mix_check(OP, y.len(), s.len(), params, spec, batch, len)?;
        if let Some(r) = residual {
            same_len(OP, y.len(), r.len())?;
        }
        // A stream's step keeps nothing and drops nothing: one kernel.
        let few = Rows {
            y: y.span(),
            x: s.span(),
            weight: params.weight.span(),
            bias: Some(params.bias.span()),
            residual: residual.map(|r| r.span()),
            batch,
            inputs: spec.inputs,
            outputs: spec.outputs,
            glu: spec.glu,
            activations: (code(spec.activation), code(spec.final_activation)),
        };
        if len == 1 && saved.is_none() && spec.dropout == 0.0 && self.rows(&few)? {
            return Ok(());
        }
        let saved = saved.map(|s| s.span());
        if self.fused(spec, batch, len) {
            let residual = residual.map(|r| r.span());
            return self.mix_y_fused(
                OP,
                y.span(),
                saved,
                s.span(),
                residual,
                params,
                spec,
                key,
                (batch, len),
            );
        }
        let a = self.activated(OP, s, spec, key, len)?;
        let a = a.as_ref().map_or(s.span(), |a| a.span());
        let z = self.scratch(OP, batch * spec.rows() * len)?;
        let sizes = (batch, spec.rows(), spec.inputs, len);
        self.weight_times(z.span(), params.weight.span(), a, Some(params.bias.span()), sizes)?;
        let (drop, n) = (Drop::new(spec, key, 1), y.len());
        self.each(
            ("mix", "gate"),
            n.div_ceil(4),
            drop_args![drop; &y, &z, residual, n, len, spec.outputs, spec.glu, code(spec.final_activation)],
        )
    }

    /// ds overwrites, dW and db accumulate.
    pub(crate) fn mix_gradients(
        &self,
        ds: Mut<'_>,
        grads: MixGrads<'_, Self>,
        dy: Ref<'_>,
        s: Ref<'_>,
        saved: Ref<'_>,
        params: &MixParams<'_, Self>,
        spec: &MixSpec,
        key: DropKey,
        batch: usize,
        len: usize,
    ) -> Result<()> {
        const OP: &str = "mix_backward";
        self.mix_check(OP, dy.len(), s.len(), params, spec, batch, len)?;
        same_len(OP, s.len(), ds.len())?;
        same_len(OP, params.weight.len(), grads.weight.len())?;
        same_len(OP, params.bias.len(), grads.bias.len())?;
        if self.fused(spec, batch, len) {
            let (ds, dy, s, saved) = (ds.span(), dy.span(), s.span(), saved.span());
            return self.mix_gradients_fused(OP, ds, &grads, dy, s, saved, params, spec, key, (batch, len));
        }
        let a = self.activated(OP, s, spec, key, len)?;
        let at = a.as_ref().map_or(s.span(), |a| a.span());
        let sizes = (batch, spec.rows(), spec.inputs, len);
        let dz = self.scratch(OP, batch * spec.rows() * len)?;
        self.weight_times(dz.span(), params.weight.span(), at, Some(params.bias.span()), sizes)?;
        let (drop, n) = (Drop::new(spec, key, 1), dy.len());
        self.each(
            ("mix", "gate_backward"),
            n.div_ceil(4),
            drop_args![drop; &dz, dy, &dz, n, len, spec.outputs, spec.glu, code(spec.final_activation)],
        )?;
        self.weight_gradient(grads.weight.span(), dz.span(), at, sizes)?;
        self.bias_gradient(grads.bias.span(), dz.span(), (batch, spec.rows(), len))?;
        self.weight_t_times(ds.span(), params.weight.span(), dz.span(), sizes)?;
        if a.is_some() {
            let (drop, n) = (Drop::new(spec, key, 0), s.len());
            self.each(
                ("mix", "activate_drop_backward"),
                n.div_ceil(4),
                drop_args![drop; &ds, s, n, len, code(spec.activation)],
            )?;
        }
        Ok(())
    }
}
