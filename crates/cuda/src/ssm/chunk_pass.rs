//! The chunk pass over sequences (`kernels/ssm/chunk_pass*.cu`), for every layer, one direction per call.

use super::{
    segments::SegmentSplit,
    sizes::{Sizes, T},
};
use crate::{
    device::Cuda,
    driver::{Span, args},
    memory::{DeviceBlock, Ints},
};
use s4_backend::Result;

/// States (B, segments, H, NP) that enter the segments of a pass.
#[derive(Clone, Copy)]
pub(super) enum Entering {
    /// Computed by the pass, and not needed after it.
    Computed,
    /// Computed by the pass and kept.
    ComputedInto(Span),
    /// Kept from an earlier pass over these sequences.
    Given(Span),
}

/// One chunk pass; arrays as in `kernels/ssm/chunk_pass.cu`.
pub(super) struct Pass<'a> {
    pub(super) y: Option<Span>,
    pub(super) x: Span,
    pub(super) fragments: &'a DeviceBlock,
    pub(super) state0: Option<Span>,
    pub(super) entering: Entering,
    pub(super) end: Option<Span>,
    pub(super) states: Option<Span>,
    pub(super) state_at_end_chunk: Option<Span>,
    pub(super) dstate_at_end_chunk: Option<Span>,
    pub(super) lengths: Option<&'a Ints>,
    pub(super) batch: usize,
    pub(super) len: usize,
    pub(super) ins: usize,
    pub(super) outs: usize,
    /// From the last chunk to the first.
    pub(super) last_to_first: bool,
    /// Outputs depend on inputs at or before them (else at or after them), so that the zero triangle of Toep is
    /// skipped.
    pub(super) lower: bool,
    /// Adds to y instead of overwriting it.
    pub(super) accumulate: bool,
}

/// One launch of a pass over all segments.
struct PassLaunch {
    y: Option<Span>,
    init: Option<Span>,
    end: Option<Span>,
    /// Whether the states that enter the chunks are wanted as well.
    computes_entering_states: bool,
}

/// Launch of `chunk_pass_f16.cu` and, where 64 segments go together, of `chunk_pass_f16_sm90.cu`: 16 segments per warp,
/// as many warps per block as shared memory holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct F16Launch {
    warps: usize,
    blocks: usize,
    shared: usize,
}

impl F16Launch {
    fn choose(rows: usize, np: usize, shared_memory: usize, warpgroups: bool) -> F16Launch {
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
        F16Launch { warps, blocks: needed.div_ceil(warps), shared: matrices + warps * warp }
    }
}

/// Name of the kernel of chunk_pass_f16*.cu that computes: only states (None), outputs from inputs at or before them
/// (Some(true)), at or after them (Some(false)).
fn f16_kernel(np: usize, products: usize, outputs: Option<bool>) -> &'static str {
    let names = match (np, products) {
        (32, 3) => ["states_32", "lower_32_3", "upper_32_3"],
        (32, _) => ["states_32", "lower_32_1", "upper_32_1"],
        (_, 3) => ["states_64", "lower_64_3", "upper_64_3"],
        _ => ["states_64", "lower_64_1", "upper_64_1"],
    };
    names[outputs.map_or(0, |lower| if lower { 1 } else { 2 })]
}

impl Cuda {
    fn run(&self, p: &Pass<'_>, s: Sizes, segment_split: SegmentSplit, r: PassLaunch) -> Result<()> {
        let PassLaunch { y, init, end, computes_entering_states } = r;
        let vec = p.len % 4 == 0 && p.x.is_aligned() && y.is_none_or(Span::is_aligned);
        let keep = |x: Option<Span>| x.filter(|_| computes_entering_states);
        if p.ins == 1 && p.outs == 1 && s.np <= 64 && self.multiplies_split16() {
            let rows = p.batch * segment_split.segments;
            let warpgroups = self.multiplies_by_warpgroups() && rows >= 48;
            let h = F16Launch::choose(rows, s.np, self.shared_memory(), warpgroups);
            let name = f16_kernel(s.np, self.precision().products(), y.map(|_| p.lower));
            return self.launch(
                (if warpgroups { "chunk_pass_f16_sm90" } else { "chunk_pass_f16" }, name),
                (h.blocks, s.heads, 1),
                (32 * h.warps as u32, 1),
                h.shared,
                args![
                    y,
                    p.x,
                    p.fragments,
                    init,
                    end,
                    keep(p.states),
                    keep(p.state_at_end_chunk),
                    p.dstate_at_end_chunk,
                    p.lengths,
                    p.batch,
                    s.heads,
                    segment_split.segments,
                    segment_split.chunks_per_segment,
                    segment_split.chunks,
                    p.last_to_first,
                    p.accumulate,
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
        let tiles = (p.batch * segment_split.segments).div_ceil(16);
        let warps = tiles.min(4);
        self.launch(
            ("chunk_pass", name),
            (tiles.div_ceil(warps), s.heads, 1),
            (32 * warps as u32, 1),
            0,
            args![
                y,
                p.x,
                p.fragments,
                init,
                end,
                keep(p.states),
                keep(p.state_at_end_chunk),
                p.dstate_at_end_chunk,
                p.lengths,
                p.batch,
                s.heads,
                p.ins,
                p.outs,
                segment_split.segments,
                segment_split.chunks_per_segment,
                segment_split.chunks,
                p.last_to_first,
                p.lower,
                p.accumulate,
                vec,
                p.len
            ],
        )
    }

    /// Runs a pass. Where sequences are cut into segments: first what each segment adds to the state, then a scan over
    /// segments, then the pass. `segment`: from [`Cuda::segment_matrices`], present where there are several segments.
    /// `p.end` (B, H, NP): the state that leaves the whole sequence.
    pub(super) fn pass(
        &self,
        op: &'static str,
        p: &Pass<'_>,
        s: Sizes,
        segment_split: SegmentSplit,
        segment: Option<&DeviceBlock>,
    ) -> Result<()> {
        let Some(segment) = segment else {
            let whole = PassLaunch { y: p.y, init: p.state0, end: p.end, computes_entering_states: true };
            return self.run(p, s, segment_split, whole);
        };
        let entering_len = p.batch * segment_split.segments * s.heads * s.np;
        let entering_states;
        let init = match p.entering {
            Entering::Given(span) => {
                let end = p.end.map(|_| self.scratch(op, entering_len)).transpose()?;
                let end_span = end.as_ref().map(|e| e.span());
                self.run(
                    p,
                    s,
                    segment_split,
                    PassLaunch { y: p.y, init: Some(span), end: end_span, computes_entering_states: true },
                )?;
                return self.leaving(p, s, segment_split, end.as_ref());
            }
            Entering::ComputedInto(span) => span,
            Entering::Computed => {
                entering_states = self.scratch(op, entering_len)?;
                entering_states.span()
            }
        };
        let end = self.scratch(op, entering_len)?;
        self.run(
            p,
            s,
            segment_split,
            PassLaunch { y: None, init: None, end: Some(end.span()), computes_entering_states: false },
        )?;
        let scan = self.scan_kernel(s.np, p.batch);
        self.launch(
            ("segment_scan", scan.name),
            (p.batch.div_ceil(scan.sequences), s.heads, 1),
            (scan.threads, 1),
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
                segment_split.segments,
                p.last_to_first
            ],
        )?;
        let wanted = p.end.map(|_| &end);
        let end_span = wanted.map(|e| e.span());
        self.run(
            p,
            s,
            segment_split,
            PassLaunch { y: p.y, init: Some(init), end: end_span, computes_entering_states: true },
        )?;
        self.leaving(p, s, segment_split, wanted)
    }

    /// Copies the state that leaves the last segment to `p.end`.
    fn leaving(
        &self,
        p: &Pass<'_>,
        s: Sizes,
        segment_split: SegmentSplit,
        end: Option<&DeviceBlock>,
    ) -> Result<()> {
        let (Some(sequence_end), Some(end)) = (p.end, end) else { return Ok(()) };
        let last = if p.last_to_first { 0 } else { segment_split.segments - 1 };
        let n = p.batch * s.heads * s.np;
        self.launch_elementwise(
            ("states", "cut_state"),
            n,
            args![sequence_end, end, p.batch, s.heads, s.np, s.np, segment_split.segments, last],
        )
    }

    /// A copy of states (B, H, N) padded with zeros to (B, H, NP).
    pub(super) fn pad_state(
        &self,
        op: &'static str,
        state: Span,
        rows: usize,
        n: usize,
        np: usize,
    ) -> Result<DeviceBlock> {
        let padded = self.scratch(op, rows * np)?;
        self.launch_elementwise(("states", "pad_state"), rows * np, args![&padded, state, rows, n, np])?;
        Ok(padded)
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
                    let h = F16Launch::choose(rows, np, shared, warpgroups);
                    assert!(h.warps >= 1 && h.shared + 1024 <= shared, "{h:?}");
                    assert!(h.blocks * h.warps * 16 >= rows, "{h:?}");
                    assert!(!warpgroups || h.warps % 4 == 0, "{h:?}");
                }
            }
        }
    }
}
