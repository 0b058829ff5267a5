//! How sequences are cut into segments, which are computed in parallel.

use super::sizes::T;
use crate::device::Cuda;

/// The kernel of the scan over segments (`kernels/ssm/segment_scan.cu`).
pub(super) struct ScanKernel {
    pub(super) name: &'static str,
    /// Sequences of a block, and its threads.
    pub(super) sequences: usize,
    pub(super) threads: u32,
}

impl Cuda {
    /// The scan over states padded to `np`, of `batch` sequences.
    pub(super) fn scan_kernel(&self, np: usize, batch: usize) -> ScanKernel {
        let (name, sequences, threads) = match (np, batch) {
            (64, 5..) if self.multiplies_split16() => ("scan_64_16", 16, 32),
            (32, 1) => ("scan_32_1", 1, 128),
            (32, _) => ("scan_32_4", 4, 32),
            (64, 1) => ("scan_64_1", 1, 256),
            (64, _) => ("scan_64_4", 4, 64),
            (_, 1) => ("scan_128_1", 1, 512),
            _ => ("scan_128_4", 4, 128),
        };
        ScanKernel { name, sequences, threads }
    }
}

/// How the sequences of a call are cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SegmentSplit {
    pub(super) segments: usize,
    /// Chunks of a segment; a power of two where there are several segments.
    pub(super) chunks_per_segment: usize,
    /// Chunks of the sequence.
    pub(super) chunks: usize,
}

/// One segment where the sequences fill half the chip, else enough segments for about sixteen warps per multiprocessor.
pub(super) fn split_for_passes(batch: usize, heads: usize, len: usize, processors: usize) -> SegmentSplit {
    let chunks = len.div_ceil(T);
    let warps =
        |chunks_per_segment: usize| heads * (batch * chunks.div_ceil(chunks_per_segment)).div_ceil(16);
    if warps(chunks) >= 4 * processors {
        return SegmentSplit { segments: 1, chunks_per_segment: chunks, chunks };
    }
    let mut chunks_per_segment = chunks.next_power_of_two();
    while chunks_per_segment > 4 && warps(chunks_per_segment) < 16 * processors {
        chunks_per_segment /= 2;
    }
    let segments = chunks.div_ceil(chunks_per_segment);
    if segments == 1 {
        SegmentSplit { segments: 1, chunks_per_segment: chunks, chunks }
    } else {
        SegmentSplit { segments, chunks_per_segment, chunks }
    }
}

/// Most chunks of a segment whose states fit in shared memory, where the other direction reads them.
pub(super) fn most_chunks(products: usize) -> usize {
    if products == 3 { 8 } else { 16 }
}

/// The split for a pass over both directions at once: segments as long as shared memory allows, and shorter where there
/// are too few sequences to fill the chip.
pub(super) fn split_bidirectional(
    batch: usize,
    heads: usize,
    len: usize,
    processors: usize,
    products: usize,
) -> SegmentSplit {
    let chunks = len.div_ceil(T);
    let most = most_chunks(products);
    let blocks =
        |chunks_per_segment: usize| heads * (batch * chunks.div_ceil(chunks_per_segment)).div_ceil(64);
    if chunks <= most && (chunks <= 4 || blocks(chunks) >= processors) {
        return SegmentSplit { segments: 1, chunks_per_segment: chunks, chunks };
    }
    let mut chunks_per_segment = most.min(chunks.next_power_of_two());
    while chunks_per_segment > 4 && blocks(chunks_per_segment) < processors {
        chunks_per_segment /= 2;
    }
    let segments = chunks.div_ceil(chunks_per_segment);
    if segments == 1 {
        SegmentSplit { segments: 1, chunks_per_segment: chunks, chunks }
    } else {
        SegmentSplit { segments, chunks_per_segment, chunks }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_cover_the_sequence() {
        for (batch, heads, len) in
            [(1, 1, 1), (16, 256, 16384), (1, 64, 1 << 20), (256, 256, 1024), (3, 5, 1000)]
        {
            let c = split_for_passes(batch, heads, len, 132);
            assert_eq!(c.chunks, len.div_ceil(64));
            assert!(
                c.chunks_per_segment * c.segments >= c.chunks
                    && c.chunks_per_segment * (c.segments - 1) < c.chunks,
                "{c:?}"
            );
            assert!(c.segments == 1 || c.chunks_per_segment.is_power_of_two());
        }
        assert_eq!(split_for_passes(256, 256, 1024, 132).segments, 1);
        assert!(split_for_passes(1, 64, 1 << 20, 132).segments > 100);
    }
}
