//! A mix with GLU by Hopper's products that do it all (`kernels/mix90.cu`, `kernels/mix_planes90.cu`), below `highest`.

use crate::{
    Cuda, Precision,
    dense::code,
    device::Span,
    launch::{Arg, Map, Number, args},
    memory::{Block, same_len},
    mix::{Drop, drop_args},
};
use s4_backend::{random::DropKey, *};

/// Shared memory of a product: stages of a 128 × 64 and of a 64 × 256 box of f16, what comes and goes besides, barriers,
/// and what alignment takes.
const SHARED: usize = 3 * (48 << 10) + (64 << 10) + (2 << 10);
/// The same of the weight's gradient.
const SHARED_DW: usize = 4 * (48 << 10) + (2 << 10);
/// Steps of time of a tile.
const WIDTH: usize = 256;
/// Forward keeps planes of a up to this size for backward; larger ones are made again.
const KEPT: usize = 60 << 20;
/// Backward goes through the batch in parts whose dz has at most this many bytes.
const PART: usize = 112 << 20;

/// What `mix_planes` does: planes by guessed powers of two, those that did not fit, or a for backward.
const GUESS: i32 = 0;
const FIT: i32 = 1;
const AGAIN: i32 = 2;

/// Sizes of a call.
pub(crate) struct Fused<'a> {
    spec: &'a MixSpec,
    batch: usize,
    len: usize,
}

/// What forward keeps for backward: largest magnitudes, the plane of W, bits of both masks, the plane of a.
struct Kept {
    largest: Span,
    w: Span,
    masks: Option<[Span; 2]>,
    a: Option<Span>,
}

impl Fused<'_> {
    /// Rows of W and dz, of z₁ and z₂ in turn, eight by eight.
    fn rows(&self) -> usize {
        self.spec.outputs.div_ceil(8) * 16
    }

    fn columns(&self) -> usize {
        self.len.div_ceil(WIDTH)
    }

    /// Tiles of a product of `rows` rows.
    fn tiles(&self, rows: usize, batch: usize) -> usize {
        rows.div_ceil(128) * self.columns() * batch
    }

    /// Bytes of the parts of [`Kept`].
    fn sizes(&self) -> [usize; 5] {
        let spec = self.spec;
        // As the kernels ask: below the smallest threshold nothing is drawn, so nothing is kept.
        let masks = match DropKey::threshold(spec.dropout) > 0 {
            true => [
                self.tiles(self.rows(), self.batch) * 256 * 8,
                self.batch * self.columns() * spec.inputs * 32,
            ],
            false => [0, 0],
        };
        let a = self.a_bytes(self.batch);
        [16, 2 * self.rows() * spec.inputs, masks[0], masks[1], if a <= KEPT { a } else { 0 }]
            .map(|n| n.next_multiple_of(128))
    }

    fn a_bytes(&self, batch: usize) -> usize {
        2 * batch * self.spec.inputs * self.len
    }

    fn kept(&self, span: Span) -> Kept {
        let mut at = 0;
        let mut parts = self.sizes().map(|size| {
            at += size;
            span.part(at - size, size)
        });
        let some = |span: Span| (span.bytes() > 0).then_some(span);
        let masks = some(parts[2]).map(|m| [m, parts[3]]);
        parts[0] = parts[0].part(0, 16);
        Kept { largest: parts[0], w: parts[1], masks, a: some(parts[4]) }
    }

    /// (batch, features, len) in boxes.
    fn map(
        &self,
        op: &'static str,
        span: Span,
        number: Number,
        (batch, rows): (usize, usize),
        height: usize,
    ) -> Result<Map> {
        Map::new(op, span, number, (batch, rows, self.len), height)
    }
}

impl Cuda {
    /// Whether the kernels of `mix90.cu` serve: rows of the arrays begin at multiples of 16 bytes, and there is enough to
    /// do.
    pub(crate) fn fused<'a>(&self, spec: &'a MixSpec, batch: usize, len: usize) -> Option<Fused<'a>> {
        let fused = Fused { spec, batch, len };
        let most =
            [spec.inputs, spec.rows(), len, batch, spec.rows() * spec.inputs].into_iter().max().unwrap_or(0);
        let serves = self.inner.precision != Precision::Highest
            && spec.glu
            && len % 8 == 0
            && spec.inputs % 8 == 0
            && batch * len >= 512
            && most < 1 << 30
            && fused.tiles(fused.rows().max(spec.inputs), batch) < 1 << 30
            && self.warpgroups();
        serves.then_some(fused)
    }

    /// Floats that forward keeps for backward.
    pub(crate) fn mix_kept_len(&self, spec: &MixSpec, batch: usize, len: usize) -> usize {
        self.fused(spec, batch, len).map_or(0, |f| f.sizes().iter().sum::<usize>() / 4)
    }

    /// `x`, or a copy of it where boxes can be taken from.
    fn lined(&self, op: &'static str, x: Span) -> Result<(Span, Option<Block>)> {
        let (at, own) = self.place(op, x)?;
        if own.is_some() {
            self.inner.queue.copy(at, x)?;
        }
        Ok((at, own))
    }

    /// `y`, or a place of its size where boxes can be put, to be copied.
    fn place(&self, op: &'static str, y: Span) -> Result<(Span, Option<Block>)> {
        if y.ptr() % 16 == 0 {
            return Ok((y, None));
        }
        let own = self.block(op, y.bytes())?;
        Ok((own.span().part(0, y.bytes()), Some(own)))
    }

    /// One of the products that go through tiles: as many blocks as multiprocessors.
    fn tiled(&self, name: &'static str, tiles: usize, args: &[Arg]) -> Result<()> {
        self.launch(("mix90", name), (tiles.min(self.processors()), 1, 1), (384, 1), SHARED, args)
    }

    pub(crate) fn mix_y_fused(
        &self,
        fused: &Fused<'_>,
        y: Span,
        saved: Option<Span>,
        s: Span,
        residual: Option<Span>,
        params: &MixParams<'_, Self>,
        key: DropKey,
    ) -> Result<()> {
        const OP: &str = "mix_forward";
        let &Fused { spec, batch, len } = fused;
        let (rows, inputs, outputs) = (fused.rows(), spec.inputs, spec.outputs);
        let size = fused.sizes().iter().sum();
        let own;
        let span = match saved {
            Some(span) => {
                same_len(OP, size / 4, span.bytes() / 4)?;
                span
            }
            None => {
                own = self.block(OP, size)?;
                own.span().part(0, size)
            }
        };
        let (kept, kept_copy) = self.place(OP, span)?;
        let k = fused.kept(kept);
        let a_bytes = fused.a_bytes(batch);
        let a_own = k.a.is_none().then(|| self.block(OP, a_bytes)).transpose()?;
        let a = k.a.or(a_own.as_ref().map(|b| b.span())).expect("one of the two");
        let masks = k.masks.map_or([None, None], |m| m.map(Some));
        let (s, _s) = self.lined(OP, s)?;

        self.zero(k.largest)?;
        let drop = Drop::new(spec, key, 0);
        let lines = batch * inputs;
        let blocks = (lines * fused.columns()).div_ceil(8).min(16 * self.processors());
        for mode in [GUESS, FIT] {
            self.launch(
                ("mix_planes90", "mix_planes"),
                (blocks, 2, 1),
                (256, 1),
                0,
                drop_args![
                    drop; a, k.w, masks[1], k.largest, s, params.weight, 0usize, lines, len, outputs, inputs, mode,
                    code(spec.activation)
                ],
            )?;
        }

        let (to, own) = self.place(OP, y)?;
        let (past, _past) = residual.map_or(Ok((to, None)), |r| self.lined(OP, r))?;
        let drop = Drop::new(spec, key, 1);
        self.tiled(
            "mix_forward",
            fused.tiles(rows, batch),
            drop_args![
                drop;
                fused.map(OP, to, Number::F32, (batch, outputs), 32)?,
                fused.map(OP, past, Number::F32, (batch, outputs), 32)?,
                Map::new(OP, k.w, Number::F16, (1, rows, inputs), 128)?,
                fused.map(OP, a, Number::F16, (batch, inputs), 64)?,
                masks[0], k.largest, params.bias, outputs, inputs, len, batch, residual.is_some()
            ],
        )?;
        if own.is_some() {
            self.inner.queue.copy(y, to)?;
        }
        if kept_copy.is_some() && saved.is_some() {
            self.inner.queue.copy(span, kept)?;
        }
        Ok(())
    }

    pub(crate) fn mix_gradients_fused(
        &self,
        fused: &Fused<'_>,
        ds: Span,
        grads: &MixGrads<'_, Self>,
        dy: Span,
        s: Span,
        saved: Span,
        params: &MixParams<'_, Self>,
        key: DropKey,
    ) -> Result<()> {
        const OP: &str = "mix_backward";
        let &Fused { spec, batch, len } = fused;
        let (rows, inputs, outputs, f) = (fused.rows(), spec.inputs, spec.outputs, code(spec.activation));
        same_len(OP, fused.sizes().iter().sum::<usize>() / 4, saved.bytes() / 4)?;
        let (saved, _saved) = self.lined(OP, saved)?;
        let (s, _s) = self.lined(OP, s)?;
        let (dy, _dy) = self.lined(OP, dy)?;
        let (to, own) = self.place(OP, ds)?;
        let k = fused.kept(saved);
        let masks = k.masks.map_or([None, None], |m| m.map(Some));
        let first = Drop::new(spec, key, 0);
        let scale = first.scale;

        let columns = fused.columns();
        let sums = self.scratch(OP, batch * columns * rows)?;
        let parts = (batch * rows * len * 2).div_ceil(PART).clamp(1, batch);
        let portion = batch.div_ceil(parts);
        let (dw, width) = if inputs <= 128 { ("mix_dw_128", 128) } else { ("mix_dw_256", 256) };
        let sides = (rows.div_ceil(128), inputs.div_ceil(width));
        let w_rows = Map::new(OP, k.w, Number::F16, (1, rows, inputs), 128)?;
        let w_boxes = Map::new(OP, k.w, Number::F16, (1, rows, inputs), 64)?;
        for b0 in (0..batch).step_by(portion) {
            let count = portion.min(batch - b0);
            let back = self.block(OP, 16)?;
            let back = back.span().part(0, 16);
            self.zero(back)?;
            let lines = count * outputs;
            let some = dy.part(4 * b0 * outputs * len, 4 * lines * len);
            self.launch(
                ("mix_planes90", "mix_sample"),
                (64, 1, 1),
                (256, 1),
                0,
                args![back, some, lines, len],
            )?;

            let a_own = k.a.is_none().then(|| self.block(OP, fused.a_bytes(count))).transpose()?;
            if let Some(a) = &a_own {
                let lines = count * inputs;
                let blocks = (lines * columns).div_ceil(8).min(16 * self.processors());
                self.launch(
                    ("mix_planes90", "mix_planes"),
                    (blocks, 1, 1),
                    (256, 1),
                    0,
                    drop_args![
                        first; a, k.w, masks[1], k.largest, s, params.weight, b0 * inputs, lines, len, outputs, inputs,
                        AGAIN, f
                    ],
                )?;
            }
            let (a, a0, a_count) = match (&a_own, k.a) {
                (None, Some(a)) => (a, b0, batch),
                (own, _) => (own.as_ref().expect("made above").span(), 0, count),
            };
            let dz = self.block(OP, 2 * count * rows * len)?;
            let dz = dz.span();
            for again in [false, true] {
                self.tiled(
                    "mix_dz",
                    fused.tiles(rows, count),
                    args![
                        fused.map(OP, dz, Number::F16, (count, rows), 64)?,
                        fused.map(OP, dy, Number::F32, (batch, outputs), 32)?,
                        w_rows,
                        fused.map(OP, a, Number::F16, (a_count, inputs), 64)?,
                        &sums,
                        masks[0],
                        k.largest,
                        back,
                        params.bias,
                        b0,
                        a0,
                        outputs,
                        inputs,
                        len,
                        count,
                        again,
                        scale
                    ],
                )?;
            }

            // As many parts of the sum as fill the chip once, of eight steps or more.
            let steps = count * len.div_ceil(64);
            let slices_count = (self.processors() / (sides.0 * sides.1)).clamp(1, steps.div_ceil(8));
            let slices = self.scratch(OP, slices_count * rows * inputs)?;
            self.launch(
                ("mix90", dw),
                (sides.0, sides.1, slices_count),
                (384, 1),
                SHARED_DW,
                args![
                    fused.map(OP, dz, Number::F16, (count, rows), 128)?,
                    fused.map(OP, a, Number::F16, (a_count, inputs), width / 2)?,
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
            self.each(
                ("mix_planes90", "mix_dw_sum"),
                rows * inputs / 4,
                args![&grads.weight, &slices, slices_count, outputs, inputs],
            )?;
            self.tiled(
                "mix_ds",
                fused.tiles(inputs, count),
                args![
                    fused.map(OP, to, Number::F32, (batch, inputs), 64)?,
                    fused.map(OP, s, Number::F32, (batch, inputs), 64)?,
                    w_boxes,
                    fused.map(OP, dz, Number::F16, (count, rows), 64)?,
                    masks[1],
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
        let grid = (rows.div_ceil(32), 1, 1);
        self.launch(
            ("mix_planes90", "mix_db"),
            grid,
            (32, 32),
            0,
            args![&grads.bias, &sums, batch * columns, outputs],
        )?;
        if own.is_some() {
            self.inner.queue.copy(ds, to)?;
        }
        Ok(())
    }
}
