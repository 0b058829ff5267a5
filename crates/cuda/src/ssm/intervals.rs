//! Whole sequences whose time steps have intervals of their own (`kernels/ssm/intervals*.cu`).

use super::discretize::{GradientSpans, Layer, ParameterGradients, with_params};
use crate::{
    device::Cuda,
    driver::{Span, args},
    memory::{Buf, DeviceBlock},
};
use s4_backend::{Discretization, Memory, Mode, Result, SsmBackward, SsmCall, SsmForward, SsmSpec};

/// Time steps between saved states, as `STEPS` in `kernels/ssm/intervals.cuh`.
const STEPS: usize = 32;

/// Fewest chunks of [`STEPS`] time steps that a segment is worth.
const LEAST_CHUNKS: usize = 4;

/// Warps of one multiprocessor that `intervals_diagonal_backward.cu` fits, which is what it takes to hide latencies.
const WARPS_PER_PROCESSOR: usize = 16;

/// What going through a segment twice costs, first for its end state: a factor of the time of one pass, in tenths.
const TWICE: usize = 16;

/// Most parts that gradients are summed up in before they are added: several times what runs at once.
const MOST_PARTS: usize = 1 << 14;

/// Directions of a layer: 2 of a bidirectional one.
fn directions(spec: &SsmSpec) -> usize {
    1 + usize::from(spec.bidirectional)
}

/// Elements that forward saves: the state before every [`STEPS`] time steps, of either direction.
pub(super) fn saved_len(spec: &SsmSpec, batch: usize, len: usize) -> usize {
    batch * directions(spec) * spec.heads * len.div_ceil(STEPS) * spec.state
}

/// Pairs that each lane of a warp has.
fn pairs_per_lane(spec: &SsmSpec) -> usize {
    spec.pairs().div_ceil(32)
}

/// How the sequences of a call are cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Segments {
    count: usize,
    /// Of [`STEPS`] time steps, in each segment but the last.
    chunks: usize,
}

/// The cut of sequences of `len` with the shortest time, by rounds of warps that run at once; `rows` heads of sequences.
fn cut(rows: usize, len: usize, processors: usize) -> Segments {
    let all = len.div_ceil(STEPS);
    let at_once = processors * WARPS_PER_PROCESSOR;
    let time = |s: &Segments| {
        let passes = if s.count > 1 { TWICE } else { 10 };
        s.chunks * (rows * s.count).div_ceil(at_once) * passes
    };
    let halvings = (0..all.ilog2()).map(|k| all.div_ceil(2 << k)).filter(|&chunks| chunks >= LEAST_CHUNKS);
    let cuts = halvings.map(|chunks| Segments { count: all.div_ceil(chunks), chunks });
    std::iter::once(Segments { count: 1, chunks: all }).chain(cuts).min_by_key(time).expect("one at least")
}

/// Groups of sequences whose gradients are summed up together, as few as keep the number of parts in bounds; `parts` of one
/// sequence.
fn groups(batch: usize, parts: usize) -> usize {
    let sequences = (batch * parts).div_ceil(MOST_PARTS.max(parts));
    batch.div_ceil(sequences)
}

/// The rule and the pairs a lane, as names of diagonal kernels end.
fn diagonal_kernel(names: [&'static str; 4], spec: &SsmSpec) -> &'static str {
    let bilinear = usize::from(spec.discretization == Discretization::Bilinear);
    names[2 * bilinear + pairs_per_lane(spec) - 1]
}

/// Module and kernel for layers with P: that of rank one, or that of any rank, by the pairs a lane.
fn low_rank_kernel(
    rank_one: [&'static str; 2],
    any_rank: [&'static str; 2],
    spec: &SsmSpec,
) -> (&'static str, &'static str) {
    let pairs = pairs_per_lane(spec) - 1;
    if spec.rank == 1 {
        ("intervals_rank_one", rank_one[pairs])
    } else {
        ("intervals_low_rank", any_rank[pairs])
    }
}

/// One direction of the sequences of a call by a diagonal A.
struct Way<'a> {
    op: &'static str,
    call: SsmCall<'a, Cuda>,
    intervals: Span,
    /// What the intervals of every [`STEPS`] time steps are together, as `Chunk` of `kernels/ssm/intervals.cuh`; `None` where A has a low-rank part.
    chunks: Option<DeviceBlock>,
    layer: Layer<'a>,
    cut: Segments,
    anticausal: usize,
}

impl Way<'_> {
    /// Warps that go through all segments of all heads.
    fn items(&self) -> usize {
        self.call.batch * self.call.spec.heads * self.cut.count
    }
}

impl Cuda {
    /// [`SsmForward`] of a call with intervals.
    pub(super) fn forward_with_intervals(&self, args: &SsmForward<'_, Self>, intervals: &Buf) -> Result<()> {
        const OP: &str = "ssm_forward";
        let spec = &args.call.spec;
        let intervals = self.view(intervals, 0..self.len(intervals)).span();
        let layer = Layer { params: args.params, spec: *spec, rate: args.call.options.rate };
        for anticausal in 0..directions(spec) {
            if spec.mode == Mode::S4 {
                self.low_rank_forward(args, intervals, &layer, anticausal)?;
                continue;
            }
            let cut = cut(args.call.batch * spec.heads, args.call.len, self.processors());
            let chunks = Some(self.chunks(OP, &args.call, intervals, anticausal)?);
            let way = Way { op: OP, call: args.call, intervals, chunks, layer, cut, anticausal };
            self.diagonal_forward(args, &way)?;
        }
        Ok(())
    }

    /// The sums and the longest of the intervals of every [`STEPS`] time steps of one direction.
    fn chunks(
        &self,
        op: &'static str,
        call: &SsmCall<'_, Self>,
        intervals: Span,
        anticausal: usize,
    ) -> Result<DeviceBlock> {
        let count = call.batch * call.len.div_ceil(STEPS);
        let chunks = self.scratch64(op, 2 * count)?;
        self.launch_elementwise(
            ("intervals", "intervals_chunks"),
            32 * count,
            args![&chunks, intervals, call.options.lengths, call.len, anticausal, call.batch],
        )?;
        Ok(chunks)
    }

    fn low_rank_forward(
        &self,
        args: &SsmForward<'_, Self>,
        intervals: Span,
        layer: &Layer<'_>,
        anticausal: usize,
    ) -> Result<()> {
        let SsmForward { y, state_end, saved, u, state0, params, call } = args;
        let spec = &call.spec;
        let kernel = low_rank_kernel(
            ["intervals_forward_rank_one_1", "intervals_forward_rank_one_2"],
            ["intervals_forward_low_rank_1", "intervals_forward_low_rank_2"],
            spec,
        );
        let arguments = with_params(
            args![
                y,
                state_end.as_ref(),
                saved.as_ref(),
                *u,
                *state0,
                intervals,
                call.options.lengths,
                params.c,
                params.d,
                spec.channels,
                call.len,
                directions(spec),
                anticausal,
                call.batch
            ],
            layer,
        );
        let warps = if spec.rank == 1 { 4 } else { 1 };
        let blocks = (spec.heads * call.batch).div_ceil(warps);
        self.launch(kernel, (blocks, 1, 1), (32 * warps as u32, 1), 0, &arguments)
    }

    fn diagonal_forward(&self, args: &SsmForward<'_, Self>, way: &Way<'_>) -> Result<()> {
        const WARPS: usize = 4;
        let SsmForward { y, state_end, saved, u, state0, params, call } = args;
        let spec = &call.spec;
        let names = [
            "intervals_ends_zoh_1",
            "intervals_ends_zoh_2",
            "intervals_ends_bilinear_1",
            "intervals_ends_bilinear_2",
        ];
        let ends = ("intervals_diagonal", diagonal_kernel(names, spec));
        let entries = self.entries(way, ends, WARPS, u.span(), state0.map(|s| s.span()))?;
        let names = [
            "intervals_forward_zoh_1",
            "intervals_forward_zoh_2",
            "intervals_forward_bilinear_1",
            "intervals_forward_bilinear_2",
        ];
        let arguments = with_params(
            args![
                y,
                state_end.as_ref(),
                saved.as_ref(),
                *u,
                *state0,
                entries.as_ref(),
                way.intervals,
                way.chunks.as_ref(),
                call.options.lengths,
                params.c,
                params.d,
                spec.channels,
                call.len,
                directions(spec),
                way.anticausal,
                way.items(),
                way.cut.count,
                way.cut.chunks
            ],
            &way.layer,
        );
        let blocks = way.items().div_ceil(WARPS);
        let kernel = ("intervals_diagonal", diagonal_kernel(names, spec));
        self.launch(kernel, (blocks, 1, 1), (32 * WARPS as u32, 1), 0, &arguments)
    }

    /// The states that enter the segments, or with an adjoint kernel the gradients of those that leave them, from u or dy and
    /// the first of them; `None` where there is one segment.
    fn entries(
        &self,
        way: &Way<'_>,
        ends: (&'static str, &'static str),
        warps: usize,
        inputs: Span,
        first: Option<Span>,
    ) -> Result<Option<DeviceBlock>> {
        if way.cut.count == 1 {
            return Ok(None);
        }
        let Way { call, layer, .. } = way;
        let (pairs, rows) = (call.spec.pairs(), call.batch * call.spec.heads);
        let states = self.scratch64(way.op, 2 * way.items() * pairs)?;
        let products = self.scratch64(way.op, 2 * way.items() * pairs)?;
        let arguments = with_params(
            args![
                &states,
                &products,
                inputs,
                way.intervals,
                way.chunks.as_ref(),
                call.options.lengths,
                layer.params.c,
                call.spec.channels,
                call.len,
                way.anticausal,
                way.items(),
                way.cut.count,
                way.cut.chunks
            ],
            layer,
        );
        let blocks = way.items().div_ceil(warps);
        self.launch(ends, (blocks, 1, 1), (32 * warps as u32, 1), 0, &arguments)?;
        let back = ends.0 == BACKWARD;
        self.launch_elementwise(
            ("intervals_diagonal", "intervals_scan"),
            rows * pairs,
            args![&states, &products, first, rows, pairs, way.cut.count, back],
        )?;
        Ok(Some(states))
    }

    /// [`SsmBackward`] of a call with intervals.
    pub(super) fn backward_with_intervals(
        &self,
        args: &SsmBackward<'_, Self>,
        intervals: &Buf,
    ) -> Result<()> {
        const OP: &str = "ssm_backward";
        let SsmBackward { grads, params, call, .. } = args;
        let (spec, batch) = (&call.spec, call.batch);
        let (heads, pairs, rank, channels) = (spec.heads, spec.pairs(), spec.rank, spec.channels);
        let intervals = self.view(intervals, 0..self.len(intervals)).span();
        let layer = Layer { params: *params, spec: *spec, rate: call.options.rate };
        let grads = GradientSpans::from(grads);
        let cut = match spec.mode {
            Mode::S4 => Segments { count: 1, chunks: call.len.div_ceil(STEPS) },
            Mode::S4d => cut(batch * heads, call.len, self.processors()),
        };
        let groups = groups(batch, heads * cut.count);
        let count = groups * cut.count;
        let sums = Sums {
            groups,
            parts: self.scratch64(OP, heads * count * directions(spec) * (5 + 2 * rank) * pairs)?,
            dc: self.scratch64(OP, 2 * count * directions(spec) * channels * heads * pairs)?,
            dd: self.scratch64(OP, count * channels * heads)?,
        };
        self.zero(sums.dc.span())?;
        for anticausal in 0..directions(spec) {
            let chunks = match spec.mode {
                Mode::S4 => None,
                Mode::S4d => Some(self.chunks(OP, call, intervals, anticausal)?),
            };
            let way = Way { op: OP, call: *call, intervals, chunks, layer, cut, anticausal };
            match spec.mode {
                Mode::S4 => self.low_rank_backward(args, &sums, &way)?,
                Mode::S4d => self.diagonal_backward(args, &sums, &way)?,
            }
        }
        let of_parameters = ParameterGradients::new(self, OP, spec)?;
        let (dt, re, im) = (of_parameters.dt(), of_parameters.re(), of_parameters.im());
        let arguments = with_params(
            args![dt, re, im, of_parameters.b(), of_parameters.p(), &sums.parts, count * directions(spec)],
            &layer,
        );
        self.launch(("intervals", "intervals_sum"), (heads, 1, 1), (256, 1), 0, &arguments)?;
        self.add_parameter_gradients(grads, &of_parameters, spec)?;
        let outputs = directions(spec) * channels * heads * pairs;
        self.launch_elementwise(
            ("intervals", "intervals_add_c"),
            outputs,
            args![grads.c, &sums.dc, count, outputs],
        )?;
        let outputs = channels * heads;
        self.launch_elementwise(
            ("intervals", "intervals_add_d"),
            outputs,
            args![grads.d, &sums.dd, count, outputs],
        )
    }

    fn low_rank_backward(&self, args: &SsmBackward<'_, Self>, sums: &Sums, way: &Way<'_>) -> Result<()> {
        let SsmBackward { du, dstate0, dy, dstate_end, u, saved, params, call, .. } = args;
        let spec = &call.spec;
        let kernel = low_rank_kernel(
            ["intervals_backward_rank_one_1", "intervals_backward_rank_one_2"],
            ["intervals_backward_low_rank_1", "intervals_backward_low_rank_2"],
            spec,
        );
        let lane_pairs = pairs_per_lane(spec);
        // (warps of a block, bytes of shared memory of a warp): the Scratch of the one, the states of the other
        let (warps, shared) = match spec.rank {
            1 => (4 / lane_pairs, STEPS * 8 + lane_pairs * 32 * (8 * STEPS + 8 * 9)),
            rank => (1, 16 * 32 * lane_pairs * (STEPS + rank)),
        };
        let arguments = with_params(
            args![
                du.as_ref(),
                dstate0.as_ref(),
                &sums.parts,
                &sums.dc,
                &sums.dd,
                *dy,
                *dstate_end,
                *saved,
                *u,
                way.intervals,
                call.options.lengths,
                params.c,
                params.d,
                spec.channels,
                call.len,
                directions(spec),
                way.anticausal,
                call.batch,
                sums.groups
            ],
            &way.layer,
        );
        let blocks = (spec.heads * sums.groups).div_ceil(warps);
        self.launch(kernel, (blocks, 1, 1), (32 * warps as u32, 1), warps * shared, &arguments)
    }

    fn diagonal_backward(&self, args: &SsmBackward<'_, Self>, sums: &Sums, way: &Way<'_>) -> Result<()> {
        let SsmBackward { du, dstate0, dy, dstate_end, u, saved, params, call, .. } = args;
        let spec = &call.spec;
        // A block has as much shared memory with one pair a lane as with two.
        let warps = 4 / pairs_per_lane(spec);
        let names = [
            "intervals_adjoint_ends_zoh_1",
            "intervals_adjoint_ends_zoh_2",
            "intervals_adjoint_ends_bilinear_1",
            "intervals_adjoint_ends_bilinear_2",
        ];
        let ends = (BACKWARD, diagonal_kernel(names, spec));
        let entries = self.entries(way, ends, warps, dy.span(), dstate_end.map(|s| s.span()))?;
        let names = match spec.channels {
            1 => [
                "intervals_backward_one_zoh_1",
                "intervals_backward_one_zoh_2",
                "intervals_backward_one_bilinear_1",
                "intervals_backward_one_bilinear_2",
            ],
            _ => [
                "intervals_backward_many_zoh_1",
                "intervals_backward_many_zoh_2",
                "intervals_backward_many_bilinear_1",
                "intervals_backward_many_bilinear_2",
            ],
        };
        let arguments = with_params(
            args![
                du.as_ref(),
                dstate0.as_ref(),
                &sums.parts,
                &sums.dc,
                &sums.dd,
                *dy,
                *dstate_end,
                entries.as_ref(),
                *saved,
                *u,
                way.intervals,
                way.chunks.as_ref(),
                call.options.lengths,
                params.c,
                params.d,
                spec.channels,
                call.len,
                directions(spec),
                way.anticausal,
                call.batch,
                sums.groups,
                way.cut.count,
                way.cut.chunks
            ],
            &way.layer,
        );
        let blocks = (sums.groups * way.cut.count * spec.heads).div_ceil(warps);
        let kernel = (BACKWARD, diagonal_kernel(names, spec));
        let shared = warps * scratch_bytes(pairs_per_lane(spec));
        self.launch(kernel, (blocks, 1, 1), (32 * warps as u32, 1), shared, &arguments)
    }
}

/// The module of the kernels that go back in time.
const BACKWARD: &str = "intervals_diagonal_backward";

/// Bytes of a `Scratch` of `kernels/ssm/intervals_diagonal_backward.cu`.
const fn scratch_bytes(pairs_per_lane: usize) -> usize {
    let ahead = 16 + 32 * 4 * (2 + 2 * pairs_per_lane);
    ahead + STEPS * (8 + 4) + pairs_per_lane * 32 * (8 * STEPS + 8 * (6 + 6))
}

/// What the kernels of a backward pass sum up, by groups of sequences and segments.
struct Sums {
    groups: usize,
    /// The gradients of Δ, Λ, B and P.
    parts: DeviceBlock,
    dc: DeviceBlock,
    dd: DeviceBlock,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_cover_the_sequence_and_fill_the_chip() {
        for (rows, len) in [(1, 1), (1, 31), (128, 1 << 20), (2048, 16384), (100_000, 5), (6, 4129)] {
            let s = cut(rows, len, 132);
            assert!(s.count * s.chunks >= len.div_ceil(STEPS), "{rows} of {len}: {s:?}");
            assert!((s.count - 1) * s.chunks < len.div_ceil(STEPS), "{rows} of {len}: {s:?}");
        }
        assert_eq!(cut(2048, 16384, 132).count, 1);
        assert_eq!(cut(128, 16384, 132), Segments { count: 16, chunks: 32 });
        assert_eq!(cut(1, 96, 132).count, 1);
    }

    #[test]
    fn scratch_is_as_large_as_the_kernels_have_it() {
        assert_eq!([1, 2].map(scratch_bytes), [12176, 23696]);
    }

    #[test]
    fn parts_stay_in_bounds() {
        for (batch, parts) in [(1, 1), (16, 128), (100_000, 1), (70_000, 512), (3, 1 << 20)] {
            let groups = groups(batch, parts);
            assert!(groups >= 1 && groups <= batch);
            assert!(groups == 1 || groups * parts <= MOST_PARTS, "{batch} of {parts}: {groups}");
        }
        assert_eq!(groups(16, 128), 16);
    }
}
