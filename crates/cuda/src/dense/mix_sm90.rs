//! A mix with GLU on Hopper: kernels whose matrix products include the gate, dropout and the residual
//! (`kernels/dense/mix_sm90.cu`, `kernels/dense/mix_f16_copies_sm90.cu`): one product of f16 numbers, or in
//! [`Precision::Highest`](crate::Precision::Highest) three of pairs of them.

use super::{
    dropout::{DropoutKey, drop_args},
    f16_copies::F16CopiesMode,
};
use crate::{
    device::Cuda,
    driver::{Arg, ElementType, Span, TensorMap, args},
    memory::{DeviceBlock, Ints},
    ssm::{ChunkRowSizes, ChunkRows},
};
use s4_backend::{MixBackward, MixCall, MixForward, MixSpec, Result};

/// Shared memory of mix_forward, mix_dz and mix_ds, bytes: three stages of a 128 × 64 and of a 64 × 256 box of f16, or of
/// both planes of 128 × 32 and 32 × 256 pairs, two staging areas, barriers, and what alignment takes.
const SHARED_BYTES: usize = 3 * (48 << 10) + (64 << 10) + (2 << 10);
/// Shared memory of mix_dw_128 and mix_dw_256, bytes: four stages. (The kernels for pairs take the same.)
const SHARED_DW_BYTES: usize = 4 * (48 << 10) + (2 << 10);
/// Time steps of a tile.
pub(super) const TILE_STEPS: usize = 256;
/// Backward goes through the batch in portions whose dz has at most this many bytes. dz and a of a portion take about what an SSM's backward
/// pass takes as scratch.
const MAX_DZ_BYTES: usize = 256 << 20;

/// Most steps of 64 terms in one part of a sum over time of products of pairs. The tensor cores cut off what is below the last bit of a
/// sum when they add three products of 16 terms to it, so 64 steps may cost 2e-5 of the sum.
const MAX_SUM_STEPS: usize = 64;

/// A mix call that the kernels of mix_sm90.cu serve (GLU, on Hopper), with its sizes.
pub(super) struct HopperMix<'a> {
    pub(super) call: &'a MixCall,
    pub(super) spec: &'a MixSpec,
    pub(super) batch: usize,
    pub(super) len: usize,
    /// Products of f16 numbers that make one product: 1, or 3 of pairs.
    pub(super) products: usize,
    /// Whether backward writes ds as rows for an SSM; of single numbers.
    pub(super) rows_of_ds: bool,
}

/// The kernels for single f16 numbers, and for pairs.
struct Kernels {
    copies: &'static str,
    forward: &'static str,
    dz: &'static str,
    ds: &'static str,
    /// Of at most 128 inputs, of more.
    dw: [&'static str; 2],
}
const SINGLE: Kernels = Kernels {
    copies: "mix_f16_copies",
    forward: "mix_forward",
    dz: "mix_dz",
    ds: "mix_ds",
    dw: ["mix_dw_128", "mix_dw_256"],
};
const PAIRS: Kernels = Kernels {
    copies: "mix_f16_copies_pairs",
    forward: "mix_forward_pairs",
    dz: "mix_dz_pairs",
    ds: "mix_ds_pairs",
    dw: ["mix_dw_128_pairs", "mix_dw_256_pairs"],
};

impl HopperMix<'_> {
    /// Rows of the f16 copies of W and dz: z₁ and z₂ of the outputs alternately, eight by eight.
    pub(super) fn rows(&self) -> usize {
        self.spec.outputs.div_ceil(8) * 16
    }

    fn kernels(&self) -> &'static Kernels {
        if self.products == 1 { &SINGLE } else { &PAIRS }
    }

    /// Planes of an operand: its numbers, or their high and low parts.
    fn planes(&self) -> usize {
        if self.products == 1 { 1 } else { 2 }
    }

    /// Bytes of the f16 copy of `n` numbers.
    pub(super) fn copy_bytes(&self, n: usize) -> usize {
        2 * self.planes() * n
    }

    /// Tiles along time.
    pub(super) fn columns(&self) -> usize {
        self.len.div_ceil(TILE_STEPS)
    }

    /// Tiles of a product whose result is (batch, rows, len).
    pub(super) fn tiles(&self, rows: usize, batch: usize) -> usize {
        rows.div_ceil(128) * self.columns() * batch
    }

    /// An array (batch, rows, len) of f32 for the copy engine, in boxes of `height` rows.
    fn map_f32(
        &self,
        op: &'static str,
        span: Span,
        (batch, rows): (usize, usize),
        height: usize,
    ) -> Result<TensorMap> {
        TensorMap::new(op, span, ElementType::F32, (batch, rows, self.len), (height, 128))
    }

    /// The f16 copy of an array (batch, rows, len), or of W, (1, rows, inputs), in boxes of `shape`: rows, and bytes of a row. A matrix of
    /// pairs counts as two, its planes.
    fn map_copy(
        &self,
        op: &'static str,
        span: Span,
        (batch, rows, len): (usize, usize, usize),
        shape: (usize, usize),
    ) -> Result<TensorMap> {
        TensorMap::new(op, span, ElementType::F16, (self.planes() * batch, rows, len), shape)
    }

    /// The boxes of an operand of which a step of a product takes `height` rows along its fast index.
    fn along(&self, height: usize) -> (usize, usize) {
        (height, 128 / self.planes())
    }

    /// The boxes of an operand of which a step of a product takes whole rows.
    fn across(&self) -> (usize, usize) {
        (64 / self.planes(), 128)
    }
}

impl<'a> HopperMix<'a> {
    /// The call, or `None` where the general kernels serve it: those of `mix_sm90.cu` need rows that begin at multiples
    /// of 16 bytes, and enough work.
    pub(super) fn if_supported(be: &Cuda, call: &'a MixCall) -> Option<HopperMix<'a>> {
        let &MixCall { ref spec, batch, len, .. } = call;
        let hopper =
            HopperMix { call, spec, batch, len, products: be.precision().products(), rows_of_ds: false };
        let most =
            [spec.inputs, spec.rows(), len, batch, spec.rows() * spec.inputs].into_iter().max().unwrap_or(0);
        let serves = spec.glu
            && len % 8 == 0
            && spec.inputs % 8 == 0
            && batch * len >= 512
            && most < 1 << 30
            && hopper.tiles(hopper.rows().max(spec.inputs), batch) < 1 << 30
            && be.multiplies_by_warpgroups();
        serves.then_some(hopper)
    }

    /// As [`HopperMix::if_supported`], with ds as rows.
    pub(super) fn if_gives_chunk_rows(be: &Cuda, call: &'a MixCall) -> Option<HopperMix<'a>> {
        let rows = ChunkRowSizes::of((call.spec.inputs, call.batch), call.len);
        HopperMix::if_supported(be, call)
            .filter(|hopper| hopper.products == 1 && rows.fits())
            .map(|hopper| HopperMix { rows_of_ds: true, ..hopper })
    }

    /// Number of f32 elements that forward saves for backward.
    pub(super) fn saved_len(&self) -> usize {
        self.saved_part_bytes().iter().sum::<usize>() / 4
    }
}

impl Cuda {
    /// `x`, or a copy of it at an address from which the copy engine can read boxes, and what owns the copy.
    pub(super) fn aligned_copy(&self, op: &'static str, x: Span) -> Result<(Span, Option<DeviceBlock>)> {
        let (at, own) = self.aligned_place(op, x)?;
        if own.is_some() {
            self.copy_span(at, x)?;
        }
        Ok((at, own))
    }

    /// `y`, or scratch of its size at an address to which the copy engine can write boxes, to be copied to y
    /// afterwards.
    pub(super) fn aligned_place(&self, op: &'static str, y: Span) -> Result<(Span, Option<DeviceBlock>)> {
        if y.is_aligned() {
            return Ok((y, None));
        }
        let own = self.block(op, y.bytes())?;
        Ok((own.span().part(0, y.bytes()), Some(own)))
    }

    /// Launches a kernel whose blocks, one per multiprocessor, go through all tiles.
    fn tiled(&self, name: &'static str, tiles: usize, args: &[Arg]) -> Result<()> {
        self.launch(("mix_sm90", name), (tiles.min(self.processors()), 1, 1), (384, 1), SHARED_BYTES, args)
    }
}

impl HopperMix<'_> {
    /// Number of f32 elements of the moments that forward leaves for a batch norm.
    pub(super) fn moments_len(&self) -> usize {
        2 * self.spec.outputs * self.batch * self.columns()
    }

    /// moments: where those of y go, of time steps up to `lengths`.
    pub(super) fn forward(
        &self,
        be: &Cuda,
        args: &MixForward<'_, Cuda>,
        (moments, lengths): (Option<Span>, Option<&Ints>),
    ) -> Result<()> {
        const OP: &str = "mix_forward";
        let &HopperMix { call, spec, batch, len, .. } = self;
        let MixForward { y, saved, s, residual, params, .. } = args;
        let (y, saved, residual) = (y.span(), saved.as_ref().map(|s| s.span()), residual.map(|r| r.span()));
        let (rows, inputs, outputs) = (self.rows(), spec.inputs, spec.outputs);
        let saved_bytes = self.saved_part_bytes().iter().sum();
        let own;
        let span = match saved {
            Some(span) => span,
            None => {
                own = be.block(OP, saved_bytes)?;
                own.span().part(0, saved_bytes)
            }
        };
        let (kept, kept_copy) = be.aligned_place(OP, span)?;
        let k = self.saved_parts(kept);
        let (a, _a) = Self::kept_or_own(be, OP, k.a, self.a_bytes(batch))?;
        let (w, _w) = Self::kept_or_own(be, OP, k.w, self.w_bytes())?;
        let (activation_masks, _activation_masks) = self.activation_masks(be, OP, k.activation_masks)?;
        let (s, _s) = be.aligned_copy(OP, s.span())?;

        be.zero(k.largest)?;
        let drop = DropoutKey::new(call, 0);
        let lines = batch * inputs;
        let blocks = (lines * self.columns()).div_ceil(8).min(16 * be.processors());
        for mode in [F16CopiesMode::Guess, F16CopiesMode::Fit] {
            be.launch(
                ("mix_f16_copies_sm90", self.kernels().copies),
                (blocks, 2, 1),
                (256, 1),
                0,
                drop_args![
                    drop; a, w, k.slopes, activation_masks, k.largest, s, params.weight, 0usize, lines, len, outputs, inputs, mode.code(),
                    spec.activation.code()
                ],
            )?;
        }

        let (to, own) = be.aligned_place(OP, y)?;
        let (residual_or_y, _residual_copy) = residual.map_or(Ok((to, None)), |r| be.aligned_copy(OP, r))?;
        let drop = DropoutKey::new(call, 1);
        be.tiled(
            self.kernels().forward,
            self.tiles(rows, batch),
            drop_args![
                drop;
                self.map_f32(OP, to, (batch, outputs), 32)?,
                self.map_f32(OP, residual_or_y, (batch, outputs), 32)?,
                self.map_copy(OP, w, (1, rows, inputs), self.along(128))?,
                self.map_copy(OP, a, (batch, inputs, len), self.across())?,
                k.gate_masks, k.largest, params.bias, moments, lengths, outputs, inputs, len, batch,
                residual.is_some()
            ],
        )?;
        if own.is_some() {
            be.copy_span(y, to)?;
        }
        if kept_copy.is_some() && saved.is_some() {
            be.copy_span(span, kept)?;
        }
        Ok(())
    }

    /// lengths: from which on rows of ds are 0.
    pub(super) fn backward(
        &self,
        be: &Cuda,
        args: &MixBackward<'_, Cuda>,
        lengths: Option<&Ints>,
    ) -> Result<()> {
        const OP: &str = "mix_backward";
        let &HopperMix { call, spec, batch, len, .. } = self;
        let MixBackward { ds, grads, dy, s, saved, params, .. } = args;
        let (ds, dy, s, saved) = (ds.span(), dy.span(), s.span(), saved.span());
        let (rows, inputs, outputs) = (self.rows(), spec.inputs, spec.outputs);
        let f = spec.activation.code();
        let (saved, _saved) = be.aligned_copy(OP, saved)?;
        let (s, _s) = if self.rows_of_ds { (s, None) } else { be.aligned_copy(OP, s)? };
        let (dy, _dy) = be.aligned_copy(OP, dy)?;
        let (to, own) = be.aligned_place(OP, ds)?;
        let k = self.saved_parts(saved);
        let chunk_rows = self.rows_of_ds.then(|| ChunkRowSizes::of((inputs, batch), len));
        if let Some(sizes) = &chunk_rows {
            be.zero(sizes.parts(to).largest)?;
        }
        let parts = self.copy_bytes(batch * rows * len).div_ceil(MAX_DZ_BYTES).clamp(1, batch);
        let portion = batch.div_ceil(parts);
        // The largest first, so that small blocks do not begin where these would fit.
        let dz = be.block(OP, self.copy_bytes(portion * rows * len))?;
        let a_own = k.a.is_none().then(|| be.block(OP, self.a_bytes(portion))).transpose()?;
        let (w, w_own) = Self::kept_or_own(be, OP, k.w, self.w_bytes())?;
        let (activation_masks, _activation_masks) = self.activation_masks(be, OP, k.activation_masks)?;
        let (first, second) = (DropoutKey::new(call, 0), DropoutKey::new(call, 1));
        let scale = first.scale;

        // Sums over the parts of the parameters' gradients: ds needs nothing of them. Beside the queue they would hold their memory for longer,
        // of which 'highest' is to take little unless the work is gathered and so small.
        let beside =
            be.beside(if self.products == 1 || be.spends_memory() { batch * outputs * len } else { 0 });
        let columns = self.columns();
        let sums = be.scratch(OP, batch * columns * rows)?;
        let [dw_128, dw_256] = self.kernels().dw;
        let (dw, width) = if inputs <= 128 { (dw_128, 128) } else { (dw_256, 256) };
        let tiles = (rows.div_ceil(128), inputs.div_ceil(width));
        let w_rows = self.map_copy(OP, w, (1, rows, inputs), self.along(128))?;
        let w_boxes = self.map_copy(OP, w, (1, rows, inputs), self.across())?;
        for b0 in (0..batch).step_by(portion) {
            let count = portion.min(batch - b0);
            let back = be.block(OP, 16)?;
            let back = back.span().part(0, 16);
            be.zero(back)?;
            let lines = count * outputs;
            let portion_dy = dy.part(4 * b0 * outputs * len, 4 * lines * len);
            be.launch(
                ("mix_f16_copies_sm90", "mix_largest_of_subset"),
                (64, 1, 1),
                (256, 1),
                0,
                args![back, portion_dy, lines, len],
            )?;

            if let Some(a) = &a_own {
                let lines = count * inputs;
                let blocks = (lines * columns).div_ceil(8).min(16 * be.processors());
                let arrays = if b0 == 0 && w_own.is_some() { 2 } else { 1 };
                be.launch(
                    ("mix_f16_copies_sm90", self.kernels().copies),
                    (blocks, arrays, 1),
                    (256, 1),
                    0,
                    drop_args![
                        first; a, w, None::<Span>, activation_masks, k.largest, s, params.weight, b0 * inputs, lines, len, outputs, inputs,
                        F16CopiesMode::Recompute.code(), f
                    ],
                )?;
            }
            let (a, a0, a_count) = match (&a_own, k.a) {
                (None, Some(a)) => (a, b0, batch),
                (own, _) => (own.as_ref().expect("made above").span(), 0, count),
            };
            let dz = dz.span();
            for fit in [false, true] {
                be.tiled(
                    self.kernels().dz,
                    self.tiles(rows, count),
                    drop_args![
                        second;
                        self.map_copy(OP, dz, (count, rows, len), (64, 128))?,
                        self.map_f32(OP, dy, (batch, outputs), 32)?,
                        w_rows,
                        self.map_copy(OP, a, (a_count, inputs, len), self.across())?,
                        &sums,
                        k.gate_masks,
                        k.largest,
                        back,
                        params.bias,
                        b0,
                        a0,
                        outputs,
                        inputs,
                        len,
                        count,
                        fit
                    ],
                )?;
            }

            // As many parts of the sum as fill the chip once, of eight steps or more.
            let steps = count * len.div_ceil(64);
            let filling = (be.processors() / (tiles.0 * tiles.1)).clamp(1, steps.div_ceil(8));
            // Of pairs as often as many, so that none is too long.
            let times = if self.products == 1 { 1 } else { steps.div_ceil(filling * MAX_SUM_STEPS) };
            let slices_count = (filling * times).min(65_535);
            let slices = be.scratch(OP, slices_count * rows * inputs)?;
            be.launch(
                ("mix_sm90", dw),
                (tiles.0, tiles.1, slices_count),
                (384, 1),
                SHARED_DW_BYTES,
                args![
                    self.map_copy(OP, dz, (count, rows, len), self.along(128))?,
                    self.map_copy(OP, a, (a_count, inputs, len), self.along(width / 2))?,
                    &slices,
                    k.largest,
                    back,
                    a0,
                    rows,
                    inputs,
                    len,
                    count,
                    scale
                ],
            )?;
            beside.launch_elementwise(
                ("mix_f16_copies_sm90", "mix_dw_sum"),
                rows * inputs / 4,
                args![&grads.weight, &slices, slices_count, outputs, inputs],
            )?;
            if b0 + count == batch {
                beside.launch(
                    ("mix_f16_copies_sm90", "mix_db"),
                    (rows.div_ceil(32), 1, 1),
                    (32, 32),
                    0,
                    args![&grads.bias, &sums, batch * columns, outputs],
                )?;
            }
            if let (Some(sizes), Some(slopes)) = (&chunk_rows, k.slopes) {
                let ChunkRows { values, exponents, largest } = sizes.parts(to);
                be.tiled(
                    "mix_ds_rows",
                    self.tiles(inputs, count),
                    args![
                        sizes.map(OP, values)?,
                        self.map_copy(OP, slopes, (batch, inputs, len), (64, 128))?,
                        w_boxes,
                        self.map_copy(OP, dz, (count, rows, len), self.across())?,
                        exponents,
                        largest,
                        lengths,
                        k.largest,
                        back,
                        b0,
                        outputs,
                        inputs,
                        len,
                        batch,
                        count,
                        scale
                    ],
                )?;
                continue;
            }
            be.tiled(
                self.kernels().ds,
                self.tiles(inputs, count),
                args![
                    self.map_f32(OP, to, (batch, inputs), 64)?,
                    self.map_f32(OP, s, (batch, inputs), 64)?,
                    w_boxes,
                    self.map_copy(OP, dz, (count, rows, len), self.across())?,
                    activation_masks,
                    k.largest,
                    back,
                    b0,
                    outputs,
                    inputs,
                    len,
                    count,
                    f,
                    scale
                ],
            )?;
        }
        if own.is_some() {
            be.copy_span(ds, to)?;
        }
        Ok(())
    }
}
