//! Matrix products of dense layers (`kernels/dense/gemm*.cu`).

use super::matvec::Matvec;
use crate::{
    Precision,
    device::Cuda,
    driver::{Span, args},
};
use s4_backend::{Activation, Result};

/// One operand: where it starts, its strides along rows and columns, and from one matrix of the batch to the next.
#[derive(Clone, Copy)]
pub(super) struct Operand {
    pub(super) at: Span,
    pub(super) row: usize,
    pub(super) col: usize,
    pub(super) batch: usize,
}

/// c\[z\] (m × n) = a\[z\] (m × k) · b\[z\] (k × n) + bias. The sum over k is cut into `parts` ranges, whose results
/// lie `part_stride` apart in c.
struct Product {
    c: Operand,
    a: Operand,
    b: Operand,
    /// One per row of c, and one per column.
    bias: [Option<Span>; 2],
    /// m, n, k
    sizes: (usize, usize, usize),
    batch: usize,
    parts: usize,
    part_stride: usize,
}

impl Product {
    fn new(c: Operand, a: Operand, b: Operand, sizes: (usize, usize, usize), batch: usize) -> Product {
        Product { c, a, b, bias: [None; 2], sizes, batch, parts: 1, part_stride: 0 }
    }
}

impl Cuda {
    fn gemm(&self, p: &Product) -> Result<()> {
        let &Product { c, a, b, bias, sizes: (m, n, k), batch, parts, part_stride } = p;
        // Split bf16 holds 16 bits: as exact as f32 for sums of many terms, not for few.
        let precision = self.precision();
        let split = self.multiplies_split16() && (k >= 128 || precision != Precision::Highest);
        let single_bf16_term = precision == Precision::Bf16;
        let module = if self.multiplies_by_warpgroups() { "gemm_bf16_sm90" } else { "gemm_bf16" };
        let kernel = match (a.col == 1, b.row == 1, split, single_bf16_term) {
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
        // The third dimension of a grid has a limit; larger batches take several launches.
        let most = 65535 / parts;
        for z in (0..batch).step_by(most) {
            let count = (batch - z).min(most);
            let at = |o: Operand| {
                let skipped = 4 * z * o.batch;
                o.at.part(skipped, o.at.bytes() - skipped)
            };
            self.launch(
                kernel,
                (n.div_ceil(128), m.div_ceil(128), count * parts),
                (256, 1),
                // Two stages of four planes (high and low parts of A and of B) of 10 KiB.
                if split { 80 << 10 } else { 0 },
                args![
                    at(c),
                    at(a),
                    at(b),
                    bias[0],
                    bias[1],
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
    pub(super) fn weight_times(
        &self,
        y: Span,
        w: Span,
        x: Span,
        bias: Option<Span>,
        (batch, m, k, n): (usize, usize, usize, usize),
    ) -> Result<()> {
        if n == 1 {
            let few = Matvec {
                y,
                x,
                weight: w,
                bias,
                residual: None,
                batch,
                inputs: k,
                outputs: m,
                glu: false,
                activations: [Activation::Identity; 2],
            };
            if self.matvec(&few)? {
                return Ok(());
            }
            // One product for the whole batch: y (batch × m) = x (batch × k) · wᵀ.
            let (c, a) =
                (Operand { at: y, row: m, col: 1, batch: 0 }, Operand { at: x, row: k, col: 1, batch: 0 });
            let b = Operand { at: w, row: 1, col: k, batch: 0 };
            let product = Product::new(c, a, b, (batch, m, k), 1);
            return self.gemm(&Product { bias: [None, bias], ..product });
        }
        let c = Operand { at: y, row: n, col: 1, batch: m * n };
        let a = Operand { at: w, row: k, col: 1, batch: 0 };
        let b = Operand { at: x, row: n, col: 1, batch: k * n };
        self.gemm(&Product { bias: [bias, None], ..Product::new(c, a, b, (m, n, k), batch) })
    }

    /// dx (batch, k, n) = wᵀ · dy (batch, m, n), w (m × k).
    pub(super) fn weight_t_times(
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
            return self.gemm(&Product::new(c, a, b, (batch, k, m), 1));
        }
        let c = Operand { at: dx, row: n, col: 1, batch: k * n };
        let a = Operand { at: w, row: 1, col: k, batch: 0 };
        let b = Operand { at: dy, row: n, col: 1, batch: m * n };
        self.gemm(&Product::new(c, a, b, (k, n, m), batch))
    }

    /// dw (m × k) += Σ_b dy\[b\] · x\[b\]ᵀ: ranges of the sum are computed at the same time, then added in order.
    pub(super) fn weight_gradient(
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
        // Enough blocks to fill the chip, of at least 256 terms each; a function of the sizes alone.
        let want = 512usize.div_ceil(tiles * count).max(1);
        let parts = depth.div_ceil(256).clamp(1, want);
        let slices = self.scratch("linear_backward", count * parts * m * k)?;
        let c = Operand { at: slices.span(), row: k, col: 1, batch: parts * m * k };
        let product = Product::new(c, a, b, (m, k, depth), count);
        self.gemm(&Product { parts, part_stride: m * k, ..product })?;
        self.launch_elementwise(
            ("gemm", "reduce_parts"),
            m * k,
            args![dw, &slices, m * k, (count * parts) as i32],
        )
    }

    /// db (m) += sums of dy (batch, m, n) over sequences and time steps.
    pub(super) fn bias_gradient(
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
}
