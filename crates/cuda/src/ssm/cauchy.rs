//! The convolution kernel K̄ by the paper's Algorithm 1 (`kernels/ssm/cauchy.cu`): C̃ = C(I − Ā^L′), Cauchy sums and Woodbury's
//! identity at the nodes of L′ samples, the next power of two of L, and an inverse transform, all in f64; a group of
//! heads at a time so that scratch stays bounded.

use super::{
    discretize::{Discrete, Layer, with_params},
    sizes::Sizes,
};
use crate::{
    device::Cuda,
    driver::{Arg, Span, args},
    memory::{DeviceBlock, Workspace},
};
use s4_backend::{Discretization, Error, KernelForward, Result};

/// Most bytes of scratch of one group of heads (a single head may take more).
const GROUP: usize = 256 << 20;
/// Longest transform in f64 of one row.
const ROW: usize = 2048;
/// Most samples of a kernel: log₂ of it.
const MOST_LOG: usize = 24;
/// Threads of the kernels that sum.
pub(super) const THREADS: usize = 128;

/// log₂ L′ for L samples: a transform of half as many points has eight or more.
fn log_of_nodes(len: usize) -> usize {
    (len.next_power_of_two().trailing_zeros() as usize).max(4)
}

/// One call: its layer, and how its nodes are transformed.
pub(super) struct CauchyCall<'a> {
    pub(super) op: &'static str,
    pub(super) layer: Layer<'a>,
    pub(super) sizes: Sizes,
    /// L
    pub(super) len: usize,
    /// log₂ L′
    pub(super) log: usize,
    pub(super) transform: HalfTransform,
}

/// The complex transform of M = L′/2 points, n1 rows of n2 points: one row where a block holds it.
#[derive(Clone, Copy, Debug)]
pub(super) struct HalfTransform {
    pub(super) n1: usize,
    pub(super) n2: usize,
}

impl HalfTransform {
    fn new(log: usize) -> HalfTransform {
        let points = 1 << (log - 1);
        // Columns have eight points or more.
        let n2 = if points <= ROW { points } else { ROW.min(points / 8) };
        HalfTransform { n1: points / n2, n2 }
    }

    /// Rows per block, threads per block, and bytes of shared memory.
    fn rows(self) -> (usize, u32, usize) {
        let together = (128 / (self.n2 / 8)).max(1);
        (together, (together * self.n2 / 8) as u32, 16 * self.n2 * together)
    }

    /// Columns per block, threads per block, and bytes of shared memory.
    fn columns(self) -> (usize, u32, usize) {
        let width = (2048 / self.n1).clamp(1, 256).min(self.n2);
        (width, (self.n1 / 8 * width) as u32, 16 * self.n1 * width)
    }
}

impl<'a> CauchyCall<'a> {
    pub(super) fn new(op: &'static str, layer: Layer<'a>, len: usize) -> Result<Self> {
        let spec = &layer.spec;
        if spec.discretization != Discretization::Bilinear {
            let expected = "bilinear discretization with algorithm 'cauchy', whose generating function it is";
            return Err(Error::unsupported(op, expected, spec.discretization));
        }
        if len > 1 << MOST_LOG {
            return Err(Error::value(
                op,
                format!("{} samples or fewer by 'cauchy' on CUDA", 1 << MOST_LOG),
                len,
            ));
        }
        let (sizes, log) = (Sizes::new(op, spec)?, log_of_nodes(len));
        Ok(CauchyCall { op, layer, sizes, len, log, transform: HalfTransform::new(log) })
    }

    /// M
    pub(super) fn points(&self) -> usize {
        1 << (self.log - 1)
    }

    /// How many heads are computed at a time, where each takes `bytes` beside its spectra.
    pub(super) fn group(&self, bytes: usize) -> usize {
        let each = 16 * self.points() * self.sizes.kc + bytes;
        // The second dimension of a grid counts a group's kernels.
        (GROUP / each).min(65535 / self.sizes.kc).clamp(1, self.sizes.heads.max(1))
    }

    /// Bytes of one matrix over the state, of one head.
    pub(super) fn matrix_bytes(&self) -> usize {
        8 * self.sizes.np * self.sizes.np
    }

    /// Blocks per head of a kernel that computes a matrix over the state in tiles.
    pub(super) fn tiles(&self) -> usize {
        self.sizes.np.div_ceil(64).pow(2)
    }

    pub(super) fn form(&self) -> Form {
        Form::of(self.sizes.rank)
    }
}

/// One of the ranks that kernels are compiled for, and sizes in doubles as in `kernels/ssm/cauchy.cuh` and
/// `cauchy_backward.cuh`.
#[derive(Clone, Copy)]
pub(super) struct Form {
    rank: usize,
    spectrum: &'static str,
    pub(super) sums_backward: &'static str,
}

impl Form {
    /// The form for layers of a rank.
    fn of(rank: usize) -> Form {
        match rank {
            0 => Form { rank: 0, spectrum: "cauchy_spectrum_0", sums_backward: "cauchy_sums_backward_0" },
            1 => Form { rank: 1, spectrum: "cauchy_spectrum_1", sums_backward: "cauchy_sums_backward_1" },
            2 => Form { rank: 2, spectrum: "cauchy_spectrum_2", sums_backward: "cauchy_sums_backward_2" },
            _ => Form { rank: 8, spectrum: "cauchy_spectrum_8", sums_backward: "cauchy_sums_backward_8" },
        }
    }

    fn sums(self) -> usize {
        (1 + self.rank).pow(2)
    }
    /// `Record<R>::SIZE`.
    pub(super) fn record(self) -> usize {
        2 + 2 * self.sums() + 8 + 2 * self.rank
    }
    /// Bytes of the records in shared memory, and of a pole in f32 of each pair.
    pub(super) fn shared(self, pairs: usize) -> usize {
        let records = if self.rank <= 2 { 8 * pairs * self.record() } else { 0 };
        records + 8 * pairs
    }
    /// `Fields<R>::SIZE`.
    pub(super) fn fields(self) -> usize {
        2 + 2 * self.sums() + 6 + 4 * self.rank
    }
    /// `Tile<R>::NODES`.
    pub(super) fn tile(self) -> usize {
        match self.rank {
            0 | 1 => 128,
            2 => 96,
            _ => 16,
        }
    }
    /// Bytes of `NodeGradients<R>` of a tile.
    pub(super) fn tile_bytes(self) -> usize {
        let own = if self.rank > 0 { 6 + 4 * self.rank } else { 0 };
        8 * self.tile() * (4 + 4 * self.sums() + own)
    }
}

/// The heads of a group, and what is computed of them before the sums.
pub(super) struct Group {
    pub(super) first: usize,
    pub(super) heads: usize,
    /// D₀, u and v of the group's heads.
    pub(super) d0: Span,
    pub(super) u: Span,
    pub(super) v: Span,
    /// Ā^(2^k) (group, np, np): the last one at the end, all from k = 0 where they were kept; none for a diagonal A.
    pub(super) powers: Vec<DeviceBlock>,
    /// (group, kc, P, record)
    pub(super) records: DeviceBlock,
}

impl Cuda {
    /// From `d`, of all heads, computes Ā^L′, C̃ and the records of the pairs of `heads` heads from `first` on.
    pub(super) fn cauchy_group(
        &self,
        c: &CauchyCall<'_>,
        d: &Discrete,
        (first, heads): (usize, usize),
        keep_powers: bool,
    ) -> Result<Group> {
        let Sizes { pairs, rank, kc, np, heads: all } = c.sizes;
        let of = |s: Span, each: usize| s.part(16 * first * each * pairs, 16 * heads * each * pairs);
        let (d0, u, v) = (of(d.d0(), 1), of(d.u(), rank), of(d.v(), rank));
        let c_tilde = self.block(c.op, 16 * heads * kc * pairs)?;
        let params_c = c.layer.params.c.span();
        let mut powers = Vec::new();
        if rank == 0 {
            let arguments = args![&c_tilde, params_c, d0, all, first, pairs, c.log];
            self.launch(("cauchy", "cauchy_c_tilde_diagonal"), (heads, kc, 1), (64, 1), 0, arguments)?;
        } else {
            powers = self.cauchy_powers(c, (d0, u, v), heads, keep_powers)?;
            let arguments = args![&c_tilde, params_c, &powers[powers.len() - 1], all, first, pairs, np];
            self.launch(("cauchy", "cauchy_c_tilde"), (heads, kc, 1), (128, 1), 0, arguments)?;
        }
        let records = self.scratch64(c.op, heads * kc * pairs * c.form().record())?;
        let arguments = with_params(args![&records, &c_tilde, c.len, first], &c.layer);
        self.launch(("cauchy", "cauchy_records"), (heads, kc, 1), (32, 1), 0, &arguments)?;
        Ok(Group { first, heads, d0, u, v, powers, records })
    }

    /// Ā^(2^k) for k up to log₂ L′, or the last of them alone.
    fn cauchy_powers(
        &self,
        c: &CauchyCall<'_>,
        (d0, u, v): (Span, Span, Span),
        heads: usize,
        keep: bool,
    ) -> Result<Vec<DeviceBlock>> {
        let Sizes { pairs, rank, np, .. } = c.sizes;
        let matrix = || self.block(c.op, heads * c.matrix_bytes());
        let a_bar = matrix()?;
        let total = heads * np * np;
        let arguments = args![&a_bar, d0, u, v, pairs, rank, np, total];
        self.launch_elementwise(("cauchy", "cauchy_a_bar"), total, arguments)?;
        let (mut powers, mut spare) = (vec![a_bar], None);
        for _ in 0..c.log {
            let target = match spare.take() {
                Some(block) => block,
                None => matrix()?,
            };
            let arguments = args![&target, &powers[powers.len() - 1], np];
            self.launch(("chunk_matrices", "square"), (heads, c.tiles(), 1), (256, 1), 0, arguments)?;
            powers.push(target);
            if !keep {
                spare = Some(powers.swap_remove(0));
            }
        }
        Ok(powers)
    }

    /// K̄ by Algorithm 1: the numbers of `kernel_forward` by another way. The kernel of a head whose |Λ|Δ is too small or too
    /// large for it (`LEAST` and `MOST` of `kernels/ssm/cauchy.cu`) is NaN: the host does not know the parameters.
    ///
    /// # Errors
    /// The errors of [`KernelForward::check`], and `ERR_S4_UNSUPPORTED` for zero-order hold.
    pub fn kernel_by_cauchy(&self, args: KernelForward<'_, Self>, _ws: &mut Workspace) -> Result<()> {
        args.check(self)?;
        let KernelForward { kernel, params, spec, len, rate } = args;
        self.cauchy_kernel("kernel_by_cauchy", kernel.span(), Layer { params, spec, rate }, len)
    }

    /// K̄ (kc, H, L) of a layer.
    pub(super) fn cauchy_kernel(
        &self,
        op: &'static str,
        kernel: Span,
        layer: Layer<'_>,
        len: usize,
    ) -> Result<()> {
        let c = CauchyCall::new(op, layer, len)?;
        let Sizes { heads, pairs, kc, .. } = c.sizes;
        let d = self.discretize(op, &layer)?;
        let group = c.group(if c.sizes.rank > 0 { 2 * c.matrix_bytes() } else { 0 });
        let form = c.form();
        for first in (0..heads).step_by(group) {
            let g = self.cauchy_group(&c, &d, (first, group.min(heads - first)), false)?;
            let z = self.block(op, 16 * c.points() * kc * g.heads)?;
            self.launch(
                ("cauchy", form.spectrum),
                ((c.points() / 2 + 1).div_ceil(THREADS), g.heads * kc, 1),
                (THREADS as u32, 1),
                form.shared(pairs),
                args![&z, &g.records, pairs, c.log, c.transform.n1, c.transform.n2],
            )?;
            self.cauchy_transform(&c, &z, kernel, (&g, false))?;
        }
        Ok(())
    }

    /// From the spectra of a group to its kernels, or, `adjoint`, from the kernels to the spectra that a transform of their
    /// samples in pairs gives.
    pub(super) fn cauchy_transform(
        &self,
        c: &CauchyCall<'_>,
        z: &DeviceBlock,
        kernel: Span,
        (g, adjoint): (&Group, bool),
    ) -> Result<()> {
        let (kernels, HalfTransform { n1, n2 }) = (g.heads * c.sizes.kc, c.transform);
        let (total, (together, row_threads, row_bytes)) = (kernels * n1, c.transform.rows());
        let rows = |name: &'static str, arguments: &[Arg]| {
            let grid = (total.div_ceil(together), 1, 1);
            self.launch(("cauchy_fft", name), grid, (row_threads, 1), row_bytes, arguments)
        };
        let of_kernel = args![kernel, c.sizes.kc, c.sizes.heads, g.first, c.len];
        if n1 == 1 {
            let name = if adjoint { "cauchy_rows_of_kernel" } else { "cauchy_rows_to_kernel" };
            return rows(name, &[of_kernel, &args![z, total, n2][..]].concat());
        }
        let (width, threads, bytes) = c.transform.columns();
        let columns = |name: &'static str| {
            let arguments = [of_kernel, &args![z, n1, n2, width][..]].concat();
            let grid = (n2 / width * kernels, 1, 1);
            self.launch(("cauchy_fft", name), grid, (threads, 1), bytes, &arguments)
        };
        let plain = |sign: i32| rows("cauchy_rows", args![z, total, n2, sign]);
        if adjoint {
            columns("cauchy_columns_of_kernel")?;
            return plain(-1);
        }
        plain(1)?;
        columns("cauchy_columns_to_kernel")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Shared memory of a block on Turing, the least of the chips.
    const SHARED: usize = 64 << 10;

    #[test]
    fn transforms_fit_in_a_block_of_any_chip() {
        for len in (1..=70).chain([1000, 1 << 12, (1 << 12) + 1, 100_000, 1 << 20, 1 << MOST_LOG]) {
            let log = log_of_nodes(len);
            let t = HalfTransform::new(log);
            let points = t.n1 * t.n2;
            assert!(2 * points == 1 << log && 2 * points >= len && points >= 8, "{len}: {t:?}");
            assert!(2 * points == 16 || points < len, "{len}: {t:?}");
            let (together, threads, bytes) = t.rows();
            assert!(threads as usize == together * t.n2 / 8 && threads <= 256 && bytes <= SHARED, "{t:?}");
            if t.n1 > 1 {
                let (width, threads, bytes) = t.columns();
                assert!(t.n1 >= 8 && t.n2 % width == 0, "{t:?}");
                assert!((32..=512).contains(&threads) && bytes <= SHARED, "{t:?}");
            }
        }
    }

    #[test]
    fn sums_fit_in_a_block_of_any_chip() {
        for rank in 0..=8 {
            let form = Form::of(rank);
            assert!(form.rank >= rank && form.shared(64) + form.tile_bytes() <= SHARED, "{rank}");
            assert!(form.tile() <= THREADS);
        }
    }
}
