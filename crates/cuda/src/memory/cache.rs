//! The free device memory that is kept for reuse.
//!
//! A buffer lives as long as a model, so each is an allocation of its own, and no memory is wasted. The scratch of
//! operations is taken and returned in reverse order, in sizes that differ from operation to operation: its large blocks
//! are cut from segments and joined again when they return, so that the memory of one operation's two blocks serves the
//! next one's three. Work of the queue runs in order, so a returned block may be used again at once; one that work beside the queue uses
//! comes back when the queue waits for that work (`allocator.rs`).

use crate::driver::Span;
use std::collections::BTreeMap;

/// Blocks of at least this many bytes are cut from segments; smaller ones stay whole, and requests of similar sizes
/// share them.
pub(crate) const LARGE: usize = 1 << 20;

/// The driver rounds large allocations up to multiples of this many bytes.
const PAGE: usize = 2 << 20;

/// How long a block is in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BlockUse {
    /// As long as its buffer.
    Buffer,
    /// Within an operation.
    Scratch,
}

/// The bytes that a request of `bytes` takes of a free block, or of the driver where there is none.
pub(crate) fn block_bytes_for(bytes: usize) -> usize {
    if bytes >= LARGE {
        return bytes.div_ceil(PAGE) * PAGE;
    }
    // Rounded up to an eighth of the power of two.
    let bytes = bytes.max(512);
    let step = (bytes.next_power_of_two() / 16).max(512);
    bytes.div_ceil(step) * step
}

/// SetAside memory of one device.
#[derive(Default)]
pub(crate) struct Cache {
    /// Whole allocations, by block_bytes.
    whole: BTreeMap<usize, Vec<Span>>,
    /// Segments: allocations that are cut into parts, by address.
    segments: BTreeMap<u64, Span>,
    /// The free parts of segments, by address.
    parts: BTreeMap<u64, Span>,
}

/// SetAside memory set aside: whole allocations and parts, without the segments that the parts belong to.
#[derive(Default)]
pub(crate) struct SetAside {
    whole: BTreeMap<usize, Vec<Span>>,
    parts: BTreeMap<u64, Span>,
}

impl SetAside {
    pub(crate) fn into_spans(self) -> impl Iterator<Item = Span> {
        self.whole.into_values().flatten().chain(self.parts.into_values())
    }
}

impl Cache {
    /// A free block of at least `bytes`.
    pub(crate) fn take(&mut self, bytes: usize, block_use: BlockUse) -> Option<Span> {
        let block_bytes = block_bytes_for(bytes);
        if block_bytes < LARGE {
            return self.take_whole(block_bytes, block_bytes + block_bytes / 2);
        }
        if block_use == BlockUse::Buffer {
            return self.take_whole(block_bytes, block_bytes + block_bytes / 16);
        }
        self.cut_from_free_parts(bytes).or_else(|| {
            // A free whole allocation becomes a segment.
            let segment = self.take_whole(block_bytes, usize::MAX)?;
            self.segments.insert(segment.ptr(), segment);
            self.parts.insert(segment.ptr(), segment);
            self.cut_from_free_parts(bytes)
        })
    }

    /// Takes the smallest whole block of `least` to `most` bytes.
    fn take_whole(&mut self, least: usize, most: usize) -> Option<Span> {
        let (&block_bytes, list) = self.whole.range_mut(least..=most).next()?;
        let span = list.pop();
        if list.is_empty() {
            self.whole.remove(&block_bytes);
        }
        span
    }

    /// Takes `bytes` from the start of the smallest free part that is large enough.
    fn cut_from_free_parts(&mut self, bytes: usize) -> Option<Span> {
        let bytes = bytes.div_ceil(512) * 512;
        let fits = self.parts.values().filter(|part| part.bytes() >= bytes);
        let part = *fits.min_by_key(|part| part.bytes())?;
        self.parts.remove(&part.ptr());
        if part.bytes() > bytes {
            let rest = part.part(bytes, part.bytes() - bytes);
            self.parts.insert(rest.ptr(), rest);
        }
        Some(part.part(0, bytes))
    }

    /// Adds an allocation that is used at once. As scratch only its first `bytes` are used, and the bytes after them are free.
    pub(crate) fn add(&mut self, span: Span, bytes: usize, block_use: BlockUse) -> Span {
        if span.bytes() < LARGE || block_use == BlockUse::Buffer {
            return span;
        }
        self.segments.insert(span.ptr(), span);
        self.parts.insert(span.ptr(), span);
        self.cut_from_free_parts(bytes).unwrap_or(span)
    }

    /// The segment that a block was cut from.
    fn segment(&self, span: Span) -> Option<Span> {
        let (_, &segment) = self.segments.range(..=span.ptr()).next_back()?;
        (span.ptr() < segment.ptr() + segment.bytes() as u64).then_some(segment)
    }

    /// Returns a block.
    pub(crate) fn put(&mut self, span: Span) {
        let Some(segment) = self.segment(span) else {
            self.whole.entry(span.bytes()).or_default().push(span);
            return;
        };
        let (mut from, mut to) = (span.ptr(), span.ptr() + span.bytes() as u64);
        // Joins it with free neighbours of the same segment; the next segment may begin right after.
        if let Some((&at, &before)) = self.parts.range(segment.ptr()..from).next_back()
            && at + before.bytes() as u64 == from
        {
            self.parts.remove(&at);
            from = at;
        }
        if to < segment.ptr() + segment.bytes() as u64
            && let Some(after) = self.parts.remove(&to)
        {
            to += after.bytes() as u64;
        }
        let joined = segment.part((from - segment.ptr()) as usize, (to - from) as usize);
        self.parts.insert(from, joined);
    }

    /// Takes all free memory out, to be put back by [`Cache::restore`].
    pub(crate) fn set_aside(&mut self) -> SetAside {
        SetAside { whole: std::mem::take(&mut self.whole), parts: std::mem::take(&mut self.parts) }
    }

    /// Puts back what was set aside, and gives what is free now.
    pub(crate) fn restore(&mut self, free: SetAside) -> SetAside {
        let now = self.set_aside();
        (self.whole, self.parts) = (free.whole, free.parts);
        now
    }

    /// Whether the free part is its whole segment.
    fn is_whole(segments: &BTreeMap<u64, Span>, part: &Span) -> bool {
        segments.get(&part.ptr()).is_some_and(|s| s.bytes() == part.bytes())
    }

    /// Bytes that [`Cache::drain`] would give.
    pub(crate) fn drainable(&self) -> usize {
        let parts = self.parts.values().filter(|part| Self::is_whole(&self.segments, part));
        self.whole.values().flatten().chain(parts).map(|span| span.bytes()).sum()
    }

    /// Removes every allocation that is free as a whole, to be returned to the device.
    pub(crate) fn drain(&mut self) -> Vec<Span> {
        let mut freed: Vec<Span> = std::mem::take(&mut self.whole).into_values().flatten().collect();
        let segments = &mut self.segments;
        self.parts.retain(|at, part| {
            let whole = Self::is_whole(segments, part);
            if whole {
                segments.remove(at);
                freed.push(*part);
            }
            !whole
        });
        freed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MB: usize = 1 << 20;

    /// A cache and a driver that counts what it gave.
    #[derive(Default)]
    struct Device {
        cache: Cache,
        next: u64,
        taken: usize,
        calls: usize,
    }

    impl Device {
        fn block(&mut self, bytes: usize, block_use: BlockUse) -> Span {
            self.cache.take(bytes, block_use).unwrap_or_else(|| {
                let block_bytes = block_bytes_for(bytes);
                let span = Span::at(4096 + self.next, block_bytes);
                self.next += block_bytes as u64;
                self.taken += block_bytes;
                self.calls += 1;
                self.cache.add(span, bytes, block_use)
            })
        }
    }

    fn apart(blocks: &[Span]) -> bool {
        let end = |s: &Span| s.ptr() + s.bytes() as u64;
        blocks
            .iter()
            .enumerate()
            .all(|(i, a)| blocks[..i].iter().all(|b| end(a) <= b.ptr() || end(b) <= a.ptr()))
    }

    #[test]
    fn classes_hold_their_size_and_waste_little() {
        for bytes in [0, 1, 512, 513, 8191, 8192, 8193, 1_000_000, 123_456_789] {
            let c = block_bytes_for(bytes);
            assert!(c >= bytes && c % 512 == 0);
            assert!(c <= bytes.max(512) + bytes / 8 + 512, "{bytes} became {c}");
        }
    }

    #[test]
    fn two_blocks_of_scratch_are_another_operations_three() {
        let mut d = Device::default();
        for round in 0..3 {
            let held = [d.block(200 * MB, BlockUse::Scratch), d.block(100 * MB, BlockUse::Scratch)];
            assert!(apart(&held));
            held.into_iter().for_each(|b| d.cache.put(b));
            let held = [100, 99, 98].map(|m| d.block(m * MB + 7, BlockUse::Scratch));
            assert!(apart(&held));
            held.into_iter().for_each(|b| d.cache.put(b));
            assert_eq!((d.taken, d.calls), (300 * MB, 2), "round {round}");
        }
        let whole = d.cache.drain();
        assert_eq!(whole.iter().map(|s| s.bytes()).sum::<usize>(), 300 * MB);
        assert!(d.cache.take(MB, BlockUse::Scratch).is_none());
    }

    #[test]
    fn neighbouring_segments_stay_two() {
        let mut d = Device::default();
        let two = [d.block(10 * MB, BlockUse::Scratch), d.block(10 * MB, BlockUse::Scratch)];
        assert_eq!(two[0].ptr() + 10 * MB as u64, two[1].ptr());
        two.into_iter().for_each(|b| d.cache.put(b));
        assert!(d.cache.take(11 * MB, BlockUse::Scratch).is_none());
        assert_eq!(d.cache.drain().len(), 2);
    }

    #[test]
    fn buffers_are_whole_and_serve_as_scratch_once_freed() {
        let mut d = Device::default();
        let scratch = d.block(64 * MB, BlockUse::Scratch);
        d.cache.put(scratch);
        // Not cut from the free scratch, which would then be too small.
        let buffer = d.block(32 * MB, BlockUse::Buffer);
        assert_eq!(d.calls, 2);
        d.cache.put(buffer);
        assert_eq!(d.block(31 * MB, BlockUse::Buffer).bytes(), 32 * MB);
        assert_eq!(d.calls, 2);
        d.cache.put(buffer);
        let held = [60, 20, 10].map(|m| d.block(m * MB, BlockUse::Scratch));
        assert!(apart(&held));
        assert_eq!(d.calls, 2);
        assert!(d.cache.drain().is_empty(), "memory in use was given away");
    }

    #[test]
    fn what_is_set_aside_is_out_of_reach() {
        let mut d = Device::default();
        let [a, b] = [8, 8].map(|m| d.block(m * MB, BlockUse::Scratch));
        let small = d.block(1000, BlockUse::Scratch);
        d.cache.put(a);
        d.cache.put(small);
        let common = d.cache.set_aside();
        let own = d.block(4 * MB, BlockUse::Scratch);
        assert!(apart(&[a, b, own]));
        d.cache.put(b);
        d.cache.put(own);
        let mut spans: Vec<Span> = d.cache.restore(common).into_spans().collect();
        spans.sort_by_key(|s| s.ptr());
        assert_eq!(spans.iter().map(|s| s.bytes()).collect::<Vec<_>>(), [8 * MB, 4 * MB]);
        spans.into_iter().for_each(|s| d.cache.put(s));
        assert_eq!(d.cache.drain().len(), 4);
    }

    /// A thousand requests of random sizes in random order: no two blocks overlap, and all memory is free in the end.
    #[test]
    fn blocks_never_overlap() {
        let mut d = Device::default();
        let mut held: Vec<Span> = Vec::new();
        let mut seed = 1u64;
        let mut draw = |n: usize| {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (seed >> 33) as usize % n
        };
        for _ in 0..1000 {
            if held.len() > 20 || (!held.is_empty() && draw(2) == 0) {
                d.cache.put(held.swap_remove(draw(held.len())));
            } else {
                let block_use = if draw(4) == 0 { BlockUse::Buffer } else { BlockUse::Scratch };
                let most = if draw(2) == 0 { 10_000 } else { 40 * MB };
                let bytes = draw(most);
                let block = d.block(bytes, block_use);
                assert!(block.bytes() >= bytes);
                held.push(block);
                assert!(apart(&held));
            }
        }
        held.into_iter().for_each(|b| d.cache.put(b));
        assert_eq!(d.cache.drain().iter().map(|s| s.bytes()).sum::<usize>(), d.taken);
    }
}
