//! Memory that is read once and written once in a while, such as the states of many streams: brought to the caches before it is needed, and
//! written past them. Neither changes anything but time.

use bytemuck::Pod;

/// Bytes of a cache line.
const LINE: usize = 64;

/// Numbers of type T in a cache line.
pub(crate) const fn line<T>() -> usize {
    LINE / size_of::<T>()
}

/// Numbers of `x` before its first whole cache line.
pub(crate) fn to_next_line<T>(x: &[T]) -> usize {
    x.as_ptr().align_offset(LINE).min(x.len()).min(line::<T>())
}

/// Asks for the cache line of element `i` of `x`, if there is one.
#[inline(always)]
pub(crate) fn prefetch<T>(x: &[T], i: usize) {
    #[cfg(target_arch = "x86_64")]
    if i < x.len() {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: the address is that of an element; the instruction belongs to SSE, which every x86-64 has, and reads or writes nothing.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(x.as_ptr().add(i).cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (x, i);
}

/// As [`prefetch`], of each line of `x`, to the second level of the caches: what is read in order is found there early enough.
#[inline(always)]
pub(crate) fn prefetch_far<T>(x: &[T]) {
    #[cfg(target_arch = "x86_64")]
    for x in x.chunks(line::<T>()) {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        // SAFETY: as in `prefetch`.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(x.as_ptr().cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = x;
}

/// Writes that go past the caches. Its end makes them come before all that this thread writes after it, so that another thread that is told
/// of them finds them.
pub(crate) struct PastCaches(());

impl PastCaches {
    pub(crate) fn begin() -> Self {
        PastCaches(())
    }

    /// `to` ← `from`, of which whole cache lines are written without being read.
    pub(crate) fn write<T: Pod>(&mut self, to: &mut [T], from: &[T]) {
        assert_eq!(to.len(), from.len(), "PastCaches::write");
        #[cfg(target_arch = "x86_64")]
        if size_of_val(to) >= 2 * LINE && LINE % size_of::<T>() == 0 {
            use std::arch::x86_64::{_mm_loadu_si128, _mm_stream_si128};
            let before = to.as_ptr().align_offset(LINE).min(to.len());
            let lines = (to.len() - before) / line::<T>();
            let (first, rest) = to.split_at_mut(before);
            let (middle, last) = rest.split_at_mut(lines * line::<T>());
            let (first_from, rest) = from.split_at(before);
            let (middle_from, last_from) = rest.split_at(lines * line::<T>());
            if before > 0 {
                first.copy_from_slice(first_from);
            }
            if !last.is_empty() {
                last.copy_from_slice(last_from);
            }
            let (to, from) = (middle.as_mut_ptr().cast::<u8>(), middle_from.as_ptr().cast::<u8>());
            for i in (0..lines * LINE).step_by(16) {
                // SAFETY: `middle` and `middle_from` have `lines` whole lines of bytes each, of which these are 16, and `middle` begins with
                // a line; the instructions belong to SSE2, which every x86-64 has. Dropping this value orders the writes before any that
                // another thread could learn of them by.
                unsafe { _mm_stream_si128(to.add(i).cast(), _mm_loadu_si128(from.add(i).cast())) };
            }
            return;
        }
        to.copy_from_slice(from);
    }
}

impl Drop for PastCaches {
    fn drop(&mut self) {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: an instruction of SSE, which every x86-64 has, without operands.
        unsafe {
            std::arch::x86_64::_mm_sfence()
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cache_line_begins_there() {
        let x = vec![0.0f32; 100];
        for begin in 0..20 {
            let at = to_next_line(&x[begin..]);
            assert!(at < 16 && (x[begin + at..].as_ptr() as usize) % 64 == 0, "{begin}: {at}");
        }
        assert!(to_next_line(&[0.0f64; 3][..]) <= 3 && to_next_line::<f32>(&[]) == 0);
    }

    #[test]
    fn copies_are_whole() {
        for begin in 0..20 {
            for len in [0, 1, 15, 16, 31, 32, 33, 64, 200] {
                let from: Vec<f32> = (0..len).map(|i| i as f32 + 0.5).collect();
                let mut to = vec![-1.0f32; begin + len + 17];
                PastCaches::begin().write(&mut to[begin..begin + len], &from);
                prefetch(&to, begin + len + 100);
                prefetch_far(&from);
                assert!(to[..begin].iter().chain(&to[begin + len..]).all(|&x| x == -1.0));
                assert_eq!(to[begin..begin + len], from);
            }
        }
        let from: Vec<f64> = (0..100).map(f64::from).collect();
        let mut to = vec![0.0; 100];
        PastCaches::begin().write(&mut to, &from);
        assert_eq!(to, from);
    }
}
