//! Scratch memory on huge pages, where the system has them.
//!
//! A transform of 8,192 points reads and writes its data, its scratch and the kernel's spectrum together: some 256 KiB a
//! thread, which fill a quarter of a second-level cache. On pages of 4 KiB the system scatters them, so that from
//! run to run more or fewer fall on the same lines of that cache; on one page of 2 MiB they lie side by side.
//! Measured: 10 % of a forward by FFT at 1,024 and 4,096 time steps.

use crate::memory::{counter::Counter, refusal::refuse};
use bytemuck::Pod;
use memmap2::{MmapMut, MmapOptions};
use s4_backend::{Result, host_memory};
use std::{
    marker::PhantomData,
    ops::{Deref, DerefMut},
};

/// Bytes of a huge page (x86-64; arm64 with pages of 4 KiB). Elsewhere this is an alignment that does no harm.
const PAGE: usize = 2 << 20;

/// Bytes from which a request gets pages of its own.
const LARGE: usize = 128 << 10;

/// `len` numbers with arbitrary contents.
#[derive(Debug)]
pub(crate) struct Scratch<E> {
    memory: ScratchMemory,
    len: usize,
    _element: PhantomData<E>,
}

#[derive(Debug)]
enum ScratchMemory {
    /// Bytes from `start` on.
    Pages(MmapMut, usize),
    /// Memory of the allocator, as u64 so that every element is aligned.
    Heap(Vec<u64>),
}

impl<E: Pod> Scratch<E> {
    /// Room for `capacity` elements, of which `len` will be written to.
    fn new(len: usize, capacity: usize) -> Result<Self> {
        const { assert!(align_of::<E>() <= align_of::<u64>()) }
        host_memory::check("s4-node", "scratch", len as u128 * size_of::<E>() as u128)?;
        let bytes = capacity.saturating_mul(size_of::<E>());
        let memory = match (bytes >= LARGE).then(|| map(bytes)).flatten() {
            Some(pages) => pages,
            None => ScratchMemory::Heap(host_memory::zeros(
                "s4-node",
                "scratch",
                bytes.div_ceil(size_of::<u64>()),
            )?),
        };
        Ok(Scratch { memory, len: capacity, _element: PhantomData })
    }

    fn bytes(&self) -> usize {
        self.len * size_of::<E>()
    }
}

/// Aligned pages; addresses that nobody touches cost no memory.
fn map(bytes: usize) -> Option<ScratchMemory> {
    let map =
        MmapOptions::new().len(bytes.checked_next_multiple_of(PAGE)?.checked_add(PAGE)?).map_anon().ok()?;
    // A wish: a system without huge pages refuses it, and ordinary ones serve.
    #[cfg(target_os = "linux")]
    let _ = map.advise(memmap2::Advice::HugePage);
    let start = map.as_ptr().align_offset(PAGE);
    (start <= PAGE).then_some(ScratchMemory::Pages(map, start))
}

impl<E: Pod> Deref for Scratch<E> {
    type Target = [E];
    fn deref(&self) -> &[E] {
        let bytes = self.bytes();
        match &self.memory {
            ScratchMemory::Pages(map, start) => bytemuck::cast_slice(&map[*start..][..bytes]),
            ScratchMemory::Heap(v) => bytemuck::cast_slice(&bytemuck::cast_slice::<_, u8>(v)[..bytes]),
        }
    }
}

impl<E: Pod> DerefMut for Scratch<E> {
    fn deref_mut(&mut self) -> &mut [E] {
        let bytes = self.bytes();
        match &mut self.memory {
            ScratchMemory::Pages(map, start) => bytemuck::cast_slice_mut(&mut map[*start..][..bytes]),
            ScratchMemory::Heap(v) => {
                bytemuck::cast_slice_mut(&mut bytemuck::cast_slice_mut::<_, u8>(v)[..bytes])
            }
        }
    }
}

/// Scratches that were given back, by capacity: a power of two of elements, as in `Pool`.
#[derive(Debug)]
pub(crate) struct HugePool<E> {
    free: Vec<Scratch<E>>,
    counter: Counter,
}

impl<E: Pod> HugePool<E> {
    pub(crate) fn new(counter: Counter) -> Self {
        HugePool { free: Vec::new(), counter }
    }

    pub(crate) fn take(&mut self, len: usize) -> Scratch<E> {
        let capacity = len.next_power_of_two();
        let mut scratch = match self.free.iter().position(|s| s.len == capacity) {
            Some(i) => self.free.swap_remove(i),
            None => {
                self.counter.bump();
                Scratch::new(len, capacity).unwrap_or_else(|error| refuse(error))
            }
        };
        scratch.len = len;
        scratch
    }

    pub(crate) fn give(&mut self, mut scratch: Scratch<E>) {
        scratch.len = scratch.len.next_power_of_two();
        self.free.push(scratch);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use num_complex::Complex;

    #[test]
    fn scratches_are_writable_to_their_ends_and_come_back() {
        let counter = Counter::default();
        let mut pool = HugePool::<Complex<f32>>::new(counter.clone());
        for len in [1, 1000, LARGE / 8, 3 * PAGE / 8 + 1] {
            let before = counter.get();
            let mut a = pool.take(len);
            assert_eq!(a.len(), len);
            a.fill(Complex::new(1.0, 2.0));
            assert!(a.iter().all(|&z| z == Complex::new(1.0, 2.0)));
            let at = a.as_ptr();
            if len * 8 >= LARGE {
                assert_eq!(at.align_offset(PAGE), 0);
            }
            pool.give(a);
            let b = pool.take(len);
            assert_eq!((b.as_ptr(), b.len()), (at, len));
            assert_eq!(counter.get(), before + 1);
            pool.give(b);
        }
    }
}
