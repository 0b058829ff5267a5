//! The matrices of one chunk (`kernels/constants.cu`) and the chunk pass over sequences (`kernels/chunk.cu`).

use crate::{Cuda, Ints, device::Span, discrete::Discrete, launch::args, memory::Block};
use s4_backend::*;
use std::sync::Arc;

/// Steps of a chunk.
pub(crate) const T: usize = 64;

/// Largest N/2 of the chunk kernels.
pub(crate) const MAX_PAIRS: usize = 64;

/// Sizes of one layer's chunk kernels.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    pub(crate) heads: usize,
    pub(crate) pairs: usize,
    pub(crate) rank: usize,
    /// Kernels a head, both halves.
    pub(crate) kc: usize,
    /// N padded to what the kernels are made for.
    pub(crate) np: usize,
}

impl Sizes {
    pub(crate) fn new(op: &'static str, spec: &SsmSpec) -> Result<Sizes> {
        if spec.pairs() > MAX_PAIRS {
            return Err(Error::unsupported(
                op,
                format!("a state of at most {} on CUDA", 2 * MAX_PAIRS),
                spec.state,
            ));
        }
        let np = spec.state.next_power_of_two().max(32);
        Ok(Sizes { heads: spec.heads, pairs: spec.pairs(), rank: spec.rank, kc: spec.kernel_channels(), np })
    }
}

/// f64 sequences and matrices of every head.
pub(crate) struct Matrices {
    /// (H, R+1, T, P): Ā^j B̄, Ā^j U_r
    pub(crate) cols: Block,
    /// (H, kc, T+1, P): C Ā^j
    pub(crate) rows: Block,
    /// (H, R, T, P): Z_r D₀^j
    pub(crate) powers: Block,
    /// (H, kc, T)
    pub(crate) kern: Block,
    /// (H, NP, NP): Ā^T
    pub(crate) q: Arc<Block>,
}

/// Room for Ā^T in f64.
pub(crate) struct Room {
    pub(crate) block: Arc<Block>,
    /// It is there.
    pub(crate) filled: bool,
}

/// Which matrices a pass uses.
#[derive(Clone, Copy)]
pub(crate) struct Pack {
    /// First kernel of those used.
    pub(crate) k0: usize,
    /// How many.
    pub(crate) channels: usize,
    /// The second half of a two-sided kernel.
    pub(crate) flip: bool,
    /// The adjoint.
    pub(crate) backward: bool,
}

/// States (B, segments, H, NP) that enter the segments of a pass.
#[derive(Clone, Copy)]
pub(crate) enum Entering {
    /// Made, and not needed after it.
    Unknown,
    /// Made and kept.
    Kept(Span),
    /// Kept from an earlier pass over the same rows.
    Known(Span),
}

/// One chunk pass; arrays as in `chunk.cu`.
pub(crate) struct Pass<'a> {
    pub(crate) y: Option<Span>,
    pub(crate) x: Span,
    pub(crate) frags: &'a Block,
    pub(crate) state0: Option<Span>,
    pub(crate) entering: Entering,
    pub(crate) end: Option<Span>,
    pub(crate) states: Option<Span>,
    pub(crate) mid: Option<Span>,
    pub(crate) inject: Option<Span>,
    pub(crate) lengths: Option<&'a Ints>,
    pub(crate) batch: usize,
    pub(crate) len: usize,
    pub(crate) ins: usize,
    pub(crate) outs: usize,
    /// From the last chunk to the first.
    pub(crate) reverse: bool,
    /// Outputs depend on inputs at or before them (else at or after): half of Toep is skipped.
    pub(crate) lower: bool,
    /// y += instead of y =.
    pub(crate) add: bool,
}

/// How sequences are cut: segments of `each` chunks, a power of two where there are several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cut {
    pub(crate) segments: usize,
    pub(crate) each: usize,
    pub(crate) chunks: usize,
}

/// One segment where rows fill half the chip, else enough of them for about sixteen warps a multiprocessor.
pub(crate) fn cut(batch: usize, heads: usize, len: usize, processors: usize) -> Cut {
    let chunks = len.div_ceil(T);
    let warps = |each: usize| heads * (batch * chunks.div_ceil(each)).div_ceil(16);
    if warps(chunks) >= 4 * processors {
        return Cut { segments: 1, each: chunks, chunks };
    }
    let mut each = chunks.next_power_of_two();
    while each > 4 && warps(each) < 16 * processors {
        each /= 2;
    }
    let segments = chunks.div_ceil(each);
    if segments == 1 { Cut { segments: 1, each: chunks, chunks } } else { Cut { segments, each, chunks } }
}

/// Launch shape of `chunk16.cu` and, where 64 rows go together, `chunk90.cu`: 16 rows a warp, as many warps a block as
/// shared memory holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Halves {
    warps: usize,
    blocks: usize,
    shared: usize,
}

impl Halves {
    fn choose(rows: usize, np: usize, shared_memory: usize, warpgroups: bool) -> Halves {
        let (k, n) = (np / 16, np / 8);
        let (together, matrices) = if warpgroups {
            (4, 4 * (T * T + 2 * T * np + np * np))
        } else {
            (1, 512 * (20 + 8 * k + 4 * n + k * n))
        };
        let warp = 16 * (2 * 4 * T + 32);
        let needed = rows.div_ceil(16).next_multiple_of(together);
        let most = ((shared_memory - 1024 - matrices) / warp).min(16) / together * together;
        let warps = needed.min(most);
        Halves { warps, blocks: needed.div_ceil(warps), shared: matrices + warps * warp }
    }
}

/// Kernels of those files: states only, outputs from inputs before them, outputs from inputs after them.
fn halves_kernel(np: usize, products: usize, outputs: Option<bool>) -> &'static str {
    let names = match (np, products) {
        (32, 3) => ["states_32", "lower_32_3", "upper_32_3"],
        (32, _) => ["states_32", "lower_32_1", "upper_32_1"],
        (_, 3) => ["states_64", "lower_64_3", "upper_64_3"],
        _ => ["states_64", "lower_64_1", "upper_64_1"],
    };
    names[outputs.map_or(0, |lower| if lower { 1 } else { 2 })]
}

impl Cuda {
    /// Whether this chip and build multiply 16-bit pairs (`half.cuh`).
    pub(crate) fn halves(&self) -> bool {
        self.inner.modules.generation(&self.inner.queue) >= 80
    }

    /// Whether warpgroups multiply (`wgmma.cuh`): Hopper's machine code.
    pub(crate) fn warpgroups(&self) -> bool {
        self.inner.modules.generation(&self.inner.queue) == 90
    }

    /// Shared memory that one block may have, bytes.
    pub(crate) fn shared_memory(&self) -> usize {
        crate::kernels::shared_memory(self.inner.queue.info.capability)
    }

    /// Every matrix of the parameters. `q` has room for Ā^T, or has it already.
    pub(crate) fn matrices(
        &self,
        op: &'static str,
        d: &Discrete,
        c: Span,
        s: Sizes,
        q: Room,
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
            ("constants", "sequences"),
            (heads, 1 + 2 * rank + kc, 1),
            (32, 1),
            0,
            args![&m.cols, &m.rows, &m.powers, d.d0(), d.u(), d.z(), d.bb(), c, heads, pairs, rank, kc],
        )?;
        self.launch(
            ("constants", "short_kernel"),
            (heads, kc, 1),
            (4 * T as u32, 1),
            0,
            args![&m.kern, &m.cols, &m.rows, pairs, rank, kc],
        )?;
        if !q.filled {
            self.launch(
                ("constants", "transition"),
                (heads, np.div_ceil(64).pow(2), 1),
                (256, 1),
                0,
                args![&*m.q, &m.cols, &m.powers, d.d0(), pairs, rank, np],
            )?;
        }
        Ok(m)
    }

    /// Room for Ā^T within one operation.
    pub(crate) fn room(&self, op: &'static str, s: Sizes) -> Result<Room> {
        Ok(Room { block: Arc::new(self.scratch64(op, s.heads * s.np * s.np)?), filled: false })
    }

    /// The matrices as the operands of a pass.
    pub(crate) fn pack(
        &self,
        op: &'static str,
        m: &Matrices,
        d: Option<Span>,
        s: Sizes,
        p: Pack,
    ) -> Result<Block> {
        let Sizes { heads, pairs, rank, kc, np } = s;
        let (w, v) = if p.backward { (1, p.channels) } else { (p.channels, 1) };
        let total = 32 * (p.channels * 32 + w * np / 16 * 8 + v * np / 2 + np / 16 * np / 8);
        let frags = self.block(op, 16 * heads * total)?;
        self.launch(
            ("constants", "pack"),
            (heads, 4, 1),
            (256, 1),
            0,
            args![
                &frags, &m.kern, &*m.q, &m.cols, &m.rows, d, heads, pairs, rank, kc, p.k0, p.channels, np,
                p.flip, p.backward
            ],
        )?;
        Ok(frags)
    }

    /// Ā^(T·each) − 1 in f32 as the scan over segments multiplies by it, `each` a power of two, and, into `back`, as its
    /// adjoint does. Both (H, NP, NP).
    pub(crate) fn segment_matrices(
        &self,
        op: &'static str,
        q: &Block,
        s: Sizes,
        each: usize,
        ahead: &Block,
        back: Option<&Block>,
    ) -> Result<()> {
        let n = s.heads * s.np * s.np;
        let squarings = each.trailing_zeros();
        if s.np <= 64 {
            return self.launch(
                ("constants", "segment_power"),
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
            self.launch(("constants", "square"), grid, (256, 1), 0, args![&target, source, s.np])?;
            spare = power.replace(target);
        }
        for (f, transposed) in [(Some(ahead), true), (back, false)] {
            let Some(f) = f else { continue };
            let all = args![f, power.as_ref().unwrap_or(q), s.np, n, transposed];
            self.each(("constants", "less_one"), n, all)?;
        }
        Ok(())
    }

    fn run(
        &self,
        p: &Pass<'_>,
        s: Sizes,
        cut: Cut,
        y: Option<Span>,
        init: Option<Span>,
        end: Option<Span>,
        full: bool,
    ) -> Result<()> {
        let aligned = |x: Span| x.ptr() % 16 == 0;
        let vec = p.len % 4 == 0 && aligned(p.x) && y.is_none_or(aligned);
        let keep = |x: Option<Span>| x.filter(|_| full);
        if p.ins == 1 && p.outs == 1 && s.np <= 64 && self.halves() {
            let rows = p.batch * cut.segments;
            let warpgroups = self.warpgroups() && rows >= 48;
            let h = Halves::choose(rows, s.np, self.shared_memory(), warpgroups);
            let name = halves_kernel(s.np, self.inner.precision.products(), y.map(|_| p.lower));
            return self.launch(
                (if warpgroups { "chunk90" } else { "chunk16" }, name),
                (h.blocks, s.heads, 1),
                (32 * h.warps as u32, 1),
                h.shared,
                args![
                    y,
                    p.x,
                    p.frags,
                    init,
                    end,
                    keep(p.states),
                    keep(p.mid),
                    p.inject,
                    p.lengths,
                    p.batch,
                    s.heads,
                    cut.segments,
                    cut.each,
                    cut.chunks,
                    p.reverse,
                    p.add,
                    vec,
                    p.len
                ],
            );
        }
        let name = match s.np {
            32 => "pass_32",
            64 => "pass_64",
            _ => "pass_128",
        };
        let tiles = (p.batch * cut.segments).div_ceil(16);
        let warps = tiles.min(4);
        self.launch(
            ("chunk", name),
            (tiles.div_ceil(warps), s.heads, 1),
            (32 * warps as u32, 1),
            0,
            args![
                y,
                p.x,
                p.frags,
                init,
                end,
                keep(p.states),
                keep(p.mid),
                p.inject,
                p.lengths,
                p.batch,
                s.heads,
                p.ins,
                p.outs,
                cut.segments,
                cut.each,
                cut.chunks,
                p.reverse,
                p.lower,
                p.add,
                vec,
                p.len
            ],
        )
    }

    /// A pass; where the sequence is cut, first what each segment adds to the state, then a scan, then the pass.
    /// `segment`: from [`Cuda::segment_matrices`], present where there are several segments.
    /// `p.end` (B, H, NP) is the state that leaves the whole sequence.
    pub(crate) fn pass(
        &self,
        op: &'static str,
        p: &Pass<'_>,
        s: Sizes,
        cut: Cut,
        segment: Option<&Block>,
    ) -> Result<()> {
        let Some(segment) = segment else {
            return self.run(p, s, cut, p.y, p.state0, p.end, true);
        };
        let size = p.batch * cut.segments * s.heads * s.np;
        let own;
        let init = match p.entering {
            Entering::Known(span) => {
                let end = p.end.map(|_| self.scratch(op, size)).transpose()?;
                self.run(p, s, cut, p.y, Some(span), end.as_ref().map(|e| e.span()), true)?;
                return self.leaving(p, s, cut, end.as_ref());
            }
            Entering::Kept(span) => span,
            Entering::Unknown => {
                own = self.scratch(op, size)?;
                own.span()
            }
        };
        let end = self.scratch(op, size)?;
        self.run(p, s, cut, None, None, Some(end.span()), false)?;
        let (name, rows, threads) = match (s.np, p.batch) {
            (32, 1) => ("scan_32_1", 1, 128),
            (32, _) => ("scan_32_4", 4, 32),
            (64, 1) => ("scan_64_1", 1, 256),
            (64, _) => ("scan_64_4", 4, 64),
            (_, 1) => ("scan_128_1", 1, 512),
            _ => ("scan_128_4", 4, 128),
        };
        self.launch(
            ("chunk", name),
            (p.batch.div_ceil(rows), s.heads, 1),
            (threads, 1),
            0,
            args![
                init,
                None::<Span>,
                &end,
                None::<Span>,
                p.state0,
                segment,
                p.batch,
                s.heads,
                cut.segments,
                p.reverse
            ],
        )?;
        let wanted = p.end.map(|_| &end);
        self.run(p, s, cut, p.y, Some(init), wanted.map(|e| e.span()), true)?;
        self.leaving(p, s, cut, wanted)
    }

    /// The state that leaves the last segment, out of those that leave each.
    fn leaving(&self, p: &Pass<'_>, s: Sizes, cut: Cut, end: Option<&Block>) -> Result<()> {
        let (Some(out), Some(end)) = (p.end, end) else { return Ok(()) };
        let last = if p.reverse { 0 } else { cut.segments - 1 };
        let n = p.batch * s.heads * s.np;
        self.each(
            ("chunk", "cut_state"),
            n,
            args![out, end, p.batch, s.heads, s.np, s.np, cut.segments, last],
        )
    }

    /// (B, H, N) → (B, H, NP).
    pub(crate) fn pad_state(
        &self,
        op: &'static str,
        state: Span,
        rows: usize,
        n: usize,
        np: usize,
    ) -> Result<Block> {
        let out = self.scratch(op, rows * np)?;
        self.each(("chunk", "pad_state"), rows * np, args![&out, state, rows, n, np])?;
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_fit_in_shared_memory_and_cover_the_rows() {
        for np in [32, 64] {
            for (shared, warpgroups) in
                [(99 << 10, false), (163 << 10, false), (227 << 10, false), (227 << 10, true)]
            {
                for rows in [1, 16, 17, 64, 256, 5000] {
                    let h = Halves::choose(rows, np, shared, warpgroups);
                    assert!(h.warps >= 1 && h.shared + 1024 <= shared, "{h:?}");
                    assert!(h.blocks * h.warps * 16 >= rows, "{h:?}");
                    assert!(!warpgroups || h.warps % 4 == 0, "{h:?}");
                }
            }
        }
    }

    #[test]
    fn cuts_cover_the_sequence() {
        for (batch, heads, len) in
            [(1, 1, 1), (16, 256, 16384), (1, 64, 1 << 20), (256, 256, 1024), (3, 5, 1000)]
        {
            let c = cut(batch, heads, len, 132);
            assert_eq!(c.chunks, len.div_ceil(64));
            assert!(c.each * c.segments >= c.chunks && c.each * (c.segments - 1) < c.chunks, "{c:?}");
            assert!(c.segments == 1 || c.each.is_power_of_two());
        }
        assert_eq!(cut(256, 256, 1024, 132).segments, 1);
        assert!(cut(1, 64, 1 << 20, 132).segments > 100);
    }
}
