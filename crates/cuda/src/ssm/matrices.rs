//! The matrices of one chunk (`kernels/ssm/chunk_matrices.cu`): Toep, V, W and Q of DESIGN §2, "Chunked state passing".

use super::{
    discretize::Discrete,
    sizes::{Sizes, T},
};
use crate::{
    device::Cuda,
    driver::{Span, args},
    memory::DeviceBlock,
};
use s4_backend::Result;
use std::sync::Arc;

/// The sequences and matrices of one chunk, of every head, in f64 (`kernels/ssm/chunk_matrices.cu` defines them).
pub(super) struct Matrices {
    /// (H, R+1, T, P): Ā^j B̄, Ā^j u_r
    pub(super) cols: DeviceBlock,
    /// (H, kc, T+1, P): C Ā^j
    pub(super) rows: DeviceBlock,
    /// (H, R, T, P): v_r D₀^j
    pub(super) powers: DeviceBlock,
    /// (H, kc, T): K̄_j for j < T
    pub(super) kern: DeviceBlock,
    /// (H, NP, NP): Ā^T
    pub(super) q: Arc<DeviceBlock>,
}

/// Memory of Ā^T (H, NP, NP) in f64.
pub(super) struct TransitionBuffer {
    pub(super) block: Arc<DeviceBlock>,
    /// Whether it holds Ā^T already.
    pub(super) filled: bool,
}

/// The range of a head's convolution kernels that one pass applies, and their direction in time.
#[derive(Clone, Copy, Debug)]
pub(super) struct KernelRange {
    /// Index of the first kernel.
    pub(super) first: usize,
    /// Number of kernels.
    pub(super) count: usize,
    /// Whether they apply to later inputs (in a bidirectional layer).
    pub(super) anticausal: bool,
}

impl KernelRange {
    /// The kernels of the causal direction and of the anticausal one, of a layer with so many channels.
    pub(super) fn causal_and_anticausal(channels: usize) -> [KernelRange; 2] {
        [false, true].map(|anticausal| KernelRange {
            first: if anticausal { channels } else { 0 },
            count: channels,
            anticausal,
        })
    }
}

/// Which operands [`Cuda::pack`] makes.
#[derive(Clone, Copy)]
pub(super) struct FragmentsOf {
    pub(super) kernels: KernelRange,
    /// Whether the operands are those of the adjoint pass.
    pub(super) adjoint: bool,
}

impl Cuda {
    /// Computes the sequences, the first T elements of the kernels and, unless `q` is filled, Ā^T.
    pub(super) fn matrices(
        &self,
        op: &'static str,
        d: &Discrete,
        c: Span,
        s: Sizes,
        q: TransitionBuffer,
    ) -> Result<Matrices> {
        let Sizes { heads, pairs, rank, kc, np } = s;
        let m = Matrices {
            cols: self.block(op, 16 * heads * (rank + 1) * T * pairs)?,
            rows: self.block(op, 16 * heads * kc * (T + 1) * pairs)?,
            powers: self.block(op, 16 * heads * rank * T * pairs)?,
            kern: self.scratch64(op, heads * kc * T)?,
            q: q.block,
        };
        self.launch(
            ("chunk_matrices", "sequences"),
            (heads, 1 + 2 * rank + kc, 1),
            (32, 1),
            0,
            args![&m.cols, &m.rows, &m.powers, d.d0(), d.u(), d.v(), d.b_bar(), c, heads, pairs, rank, kc],
        )?;
        self.launch(
            ("chunk_matrices", "short_kernel"),
            (heads, kc, 1),
            (4 * T as u32, 1),
            0,
            args![&m.kern, &m.cols, &m.rows, pairs, rank, kc],
        )?;
        if !q.filled {
            self.launch(
                ("chunk_matrices", "transition"),
                (heads, np.div_ceil(64).pow(2), 1),
                (256, 1),
                0,
                args![&*m.q, &m.cols, &m.powers, d.d0(), pairs, rank, np],
            )?;
        }
        Ok(m)
    }

    /// Memory for Ā^T within one operation.
    pub(super) fn transition_buffer(&self, op: &'static str, s: Sizes) -> Result<TransitionBuffer> {
        Ok(TransitionBuffer { block: Arc::new(self.scratch64(op, s.transition_len())?), filled: false })
    }

    /// The matrices as the operands (fragments) of a chunk pass.
    pub(super) fn pack(
        &self,
        op: &'static str,
        m: &Matrices,
        d: Option<Span>,
        s: Sizes,
        p: FragmentsOf,
    ) -> Result<DeviceBlock> {
        let Sizes { heads, pairs, rank, kc, np } = s;
        let KernelRange { first, count: channels, anticausal } = p.kernels;
        let (w, v) = if p.adjoint { (1, channels) } else { (channels, 1) };
        let total = 32 * (channels * 32 + w * np / 16 * 8 + v * np / 2 + np / 16 * np / 8);
        let fragments = self.block(op, 16 * heads * total)?;
        self.launch(
            ("chunk_matrices", "pack"),
            (heads, 4, 1),
            (256, 1),
            0,
            args![
                &fragments, &m.kern, &*m.q, &m.cols, &m.rows, d, heads, pairs, rank, kc, first, channels, np,
                anticausal, p.adjoint
            ],
        )?;
        Ok(fragments)
    }

    /// Ā^(T·chunks_per_segment) − 1 in f32, `chunks_per_segment` a power of two: into `ahead` as the scan over segments
    /// multiplies by it, and into `back` as the scan's adjoint does. Both (H, NP, NP).
    pub(super) fn segment_matrices(
        &self,
        op: &'static str,
        q: &DeviceBlock,
        s: Sizes,
        chunks_per_segment: usize,
        ahead: &DeviceBlock,
        back: Option<&DeviceBlock>,
    ) -> Result<()> {
        let n = s.heads * s.np * s.np;
        let squarings = chunks_per_segment.trailing_zeros();
        if s.np <= 64 {
            return self.launch(
                ("chunk_matrices", "segment_power"),
                (s.heads, 1, 1),
                (256, 1),
                8 * 64 * 68,
                args![ahead, back, q, s.np, squarings],
            );
        }
        let (mut power, mut spare) = (None, None);
        for _ in 0..squarings {
            let target = match spare.take() {
                Some(b) => b,
                None => self.scratch64(op, n)?,
            };
            let source = power.as_ref().unwrap_or(q);
            let grid = (s.heads, s.np.div_ceil(64).pow(2), 1);
            self.launch(("chunk_matrices", "square"), grid, (256, 1), 0, args![&target, source, s.np])?;
            spare = power.replace(target);
        }
        for (f, transposed) in [(Some(ahead), true), (back, false)] {
            let Some(f) = f else { continue };
            let arguments = args![f, power.as_ref().unwrap_or(q), s.np, n, transposed];
            self.launch_elementwise(("chunk_matrices", "minus_identity"), n, arguments)?;
        }
        Ok(())
    }
}
