//! Matrix products (`kernels/gemm.cu`) and the linear layer made of them.

use crate::{
    Precision,
    device::Span,
    launch::args,
    memory::{Cuda, same_len},
    rows::Rows,
};
use s4_backend::*;

/// One operand: where it starts, its strides along the two indices, and from one matrix of the batch to the next.
#[derive(Clone, Copy)]
pub(crate) struct Operand {
    pub(crate) at: Span,
    pub(crate) row: usize,
    pub(crate) col: usize,
    pub(crate) batch: usize,
}

impl Cuda {
    /// c\[z\] (m × n, rows `ldc` apart) = a\[z\] (m × k) · b\[z\] (k × n) + bias over rows or columns.
    #[allow(clippy::too_many_arguments)]
    fn gemm(
        &self,
        c: Operand,
        a: Operand,
        b: Operand,
        bias: (Option<Span>, Option<Span>),
        (m, n, k): (usize, usize, usize),
        batch: usize,
        parts: usize,
        part_stride: usize,
    ) -> Result<()> {
        // bf16 pairs hold 16 bits: within f32's class for sums of many terms, not for a few.
        let precision = self.inner.precision;
        let halves = self.halves() && (k >= 128 || precision != Precision::Highest);
        let one = precision == Precision::Bf16;
        let module = if self.warpgroups() { "gemm90" } else { "gemm16" };
        let kernel = match (a.col == 1, b.row == 1, halves, one) {
            (false, false, false, _) => ("gemm", "gemm_mn"),
            (true, false, false, _) => ("gemm", "gemm_kn"),
            (false, true, false, _) => ("gemm", "gemm_mk"),
            (true, true, false, _) => ("gemm", "gemm_kk"),
            (false, false, _, false) => (module, "gemm_mn_3"),
            (true, false, _, false) => (module, "gemm_kn_3"),
            (false, true, _, false) => (module, "gemm_mk_3"),
            (true, true, _, false) => (module, "gemm_kk_3"),
            (false, false, _, true) => (module, "gemm_mn_1"),
            (true, false, _, true) => (module, "gemm_kn_1"),
            (false, true, _, true) => (module, "gemm_mk_1"),
            (true, true, _, true) => (module, "gemm_kk_1"),
        };
        let aligned = |o: Operand, slow: usize, to: usize| {
            o.at.ptr() % (4 * to as u64) == 0 && slow % to == 0 && o.batch % to == 0
        };
        let vec = aligned(a, if a.col == 1 { a.row } else { a.col }, 4) as i32
            + 2 * aligned(b, if b.row == 1 { b.col } else { b.row }, 4) as i32
            + 4 * (aligned(c, c.row, 2) && part_stride % 2 == 0) as i32;
        // The grid's third side has a limit; larger batches go in parts.
        let most = 65535 / parts;
        for z in (0..batch).step_by(most) {
            let count = (batch - z).min(most);
            let at = |o: Operand| o.at.ptr() + 4 * (z * o.batch) as u64;
            self.launch(
                kernel,
                (n.div_ceil(128), m.div_ceil(128), count * parts),
                (256, 1),
                // Two stages of four planes of 10 KiB.
                if halves { 80 << 10 } else { 0 },
                args![
                    at(c),
                    at(a),
                    at(b),
                    bias.0,
                    bias.1,
                    m as i32,
                    n as i32,
                    k,
                    a.row,
                    a.col,
                    b.row,
                    b.col,
                    c.row,
                    a.batch,
                    b.batch,
                    c.batch,
                    part_stride,
                    parts as i32,
                    vec
                ],
            )?;
        }
        Ok(())
    }

    /// y (batch, m, n) = w (m × k) · x (batch, k, n) + bias (m).
    pub(crate) fn weight_times(
        &self,
        y: Span,
        w: Span,
        x: Span,
        bias: Option<Span>,
        (batch, m, k, n): (usize, usize, usize, usize),
    ) -> Result<()> {
        if n == 1 {
            let few = Rows {
                y,
                x,
                weight: w,
                bias,
                residual: None,
                batch,
                inputs: k,
                outputs: m,
                glu: false,
                activations: (0, 0),
            };
            if self.rows(&few)? {
                return Ok(());
            }
            // One product over the whole batch: y (batch × m) = x (batch × k) · wᵀ.
            let (c, a) =
                (Operand { at: y, row: m, col: 1, batch: 0 }, Operand { at: x, row: k, col: 1, batch: 0 });
            let b = Operand { at: w, row: 1, col: k, batch: 0 };
            return self.gemm(c, a, b, (None, bias), (batch, m, k), 1, 1, 0);
        }
        let c = Operand { at: y, row: n, col: 1, batch: m * n };
        let a = Operand { at: w, row: k, col: 1, batch: 0 };
        let b = Operand { at: x, row: n, col: 1, batch: k * n };
        self.gemm(c, a, b, (bias, None), (m, n, k), batch, 1, 0)
    }

    /// dx (batch, k, n) = wᵀ · dy (batch, m, n), w (m × k).
    pub(crate) fn weight_t_times(
        &self,
        dx: Span,
        w: Span,
        dy: Span,
        (batch, m, k, n): (usize, usize, usize, usize),
    ) -> Result<()> {
        if n == 1 {
            let (c, a) =
                (Operand { at: dx, row: k, col: 1, batch: 0 }, Operand { at: dy, row: m, col: 1, batch: 0 });
            let b = Operand { at: w, row: k, col: 1, batch: 0 };
            return self.gemm(c, a, b, (None, None), (batch, k, m), 1, 1, 0);
        }
        let c = Operand { at: dx, row: n, col: 1, batch: k * n };
        let a = Operand { at: w, row: 1, col: k, batch: 0 };
        let b = Operand { at: dy, row: n, col: 1, batch: m * n };
        self.gemm(c, a, b, (None, None), (k, n, m), batch, 1, 0)
    }

    /// dw (m × k) += Σ_b dy\[b\] · x\[b\]ᵀ: parts of the sum side by side, then added in order.
    pub(crate) fn weight_gradient(
        &self,
        dw: Span,
        dy: Span,
        x: Span,
        (batch, m, k, n): (usize, usize, usize, usize),
    ) -> Result<()> {
        let tiles = m.div_ceil(128) * k.div_ceil(128);
        let (count, a, b, depth) = if n == 1 {
            let a = Operand { at: dy, row: 1, col: m, batch: 0 };
            let b = Operand { at: x, row: k, col: 1, batch: 0 };
            (1, a, b, batch)
        } else {
            let a = Operand { at: dy, row: n, col: 1, batch: m * n };
            let b = Operand { at: x, row: 1, col: n, batch: k * n };
            (batch, a, b, n)
        };
        // Enough blocks to fill the chip, parts of at least 256 terms; a function of the sizes alone.
        let want = 512usize.div_ceil(tiles * count).max(1);
        let parts = depth.div_ceil(256).clamp(1, want);
        let slices = self.scratch("linear_backward", count * parts * m * k)?;
        let c = Operand { at: slices.span(), row: k, col: 1, batch: parts * m * k };
        self.gemm(c, a, b, (None, None), (m, k, depth), count, parts, m * k)?;
        self.each(("gemm", "reduce_parts"), m * k, args![dw, &slices, m * k, (count * parts) as i32])
    }

    /// db (m) += sums of dy (batch, m, n) over rows and time.
    pub(crate) fn bias_gradient(
        &self,
        db: Span,
        dy: Span,
        (batch, m, n): (usize, usize, usize),
    ) -> Result<()> {
        if n == 1 {
            let grid = (m.div_ceil(32), 1, 1);
            return self.launch(("gemm", "col_sums"), grid, (32, 8), 0, args![db, dy, batch, m as i32]);
        }
        self.launch(("gemm", "row_sums"), (m, 1, 1), (512, 1), 0, args![db, dy, batch as i32, m as i32, n])
    }

    /// y = W x + b.
    pub(crate) fn linear_y(
        &self,
        y: &<Self as Memory>::Mut<'_>,
        x: <Self as Memory>::Ref<'_>,
        weight: <Self as Memory>::Ref<'_>,
        bias: Option<<Self as Memory>::Ref<'_>>,
        s: &LinearShape,
    ) -> Result<()> {
        let op = "linear_forward";
        same_len(op, s.batch * s.outputs * s.len, y.len())?;
        same_len(op, s.batch * s.inputs * s.len, x.len())?;
        same_len(op, s.outputs * s.inputs, weight.len())?;
        if let Some(b) = bias {
            same_len(op, s.outputs, b.len())?;
        }
        self.weight_times(
            y.span(),
            weight.span(),
            x.span(),
            bias.map(|b| b.span()),
            (s.batch, s.outputs, s.inputs, s.len),
        )
    }
}
