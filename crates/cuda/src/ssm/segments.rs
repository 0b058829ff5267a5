//! How sequences are cut into segments, which are computed in parallel.

use super::sizes::T;

/// How the sequences of a call are cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cut {
    pub(super) segments: usize,
    /// Chunks of a segment; a power of two where there are several segments.
    pub(super) each: usize,
    /// Chunks of the sequence.
    pub(super) chunks: usize,
}

/// One segment where the sequences fill half the chip, else enough segments for about sixteen warps per multiprocessor.
pub(super) fn cut(batch: usize, heads: usize, len: usize, processors: usize) -> Cut {
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

/// Most chunks of a segment whose states fit in shared memory, where the other direction reads them.
fn most_chunks(products: usize) -> usize {
    if products == 3 { 8 } else { 16 }
}

/// The cut for a pass over both directions at once: segments as long as shared memory allows, and shorter where there
/// are too few sequences to fill the chip.
pub(super) fn cut_bidirectional(
    batch: usize,
    heads: usize,
    len: usize,
    processors: usize,
    products: usize,
) -> Cut {
    let chunks = len.div_ceil(T);
    let most = most_chunks(products);
    let blocks = |each: usize| heads * (batch * chunks.div_ceil(each)).div_ceil(64);
    if chunks <= most && (chunks <= 4 || blocks(chunks) >= processors) {
        return Cut { segments: 1, each: chunks, chunks };
    }
    let mut each = most.min(chunks.next_power_of_two());
    while each > 4 && blocks(each) < processors {
        each /= 2;
    }
    let segments = chunks.div_ceil(each);
    if segments == 1 { Cut { segments: 1, each: chunks, chunks } } else { Cut { segments, each, chunks } }
}

#[cfg(test)]
mod tests {
    use super::*;

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
