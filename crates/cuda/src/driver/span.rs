//! Addresses of device memory.

/// Device memory that is known to be inside one live allocation. Made by [`Queue::alloc`] and cut smaller.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    ptr: u64,
    bytes: usize,
}

impl Span {
    /// A whole allocation of the driver's.
    pub(super) fn of_allocation(ptr: u64, bytes: usize) -> Span {
        Span { ptr, bytes }
    }
    /// An address range of no device, for tests of the allocator.
    #[cfg(test)]
    pub(crate) fn at(ptr: u64, bytes: usize) -> Span {
        Span { ptr, bytes }
    }
    /// The address, for a kernel.
    pub(crate) fn ptr(self) -> u64 {
        self.ptr
    }
    pub(crate) fn bytes(self) -> usize {
        self.bytes
    }
    /// Whether the address is a multiple of 16 bytes, as access by four floats needs it.
    pub(crate) fn is_aligned(self) -> bool {
        self.ptr % 16 == 0
    }
    /// The address where it stands, as a kernel's argument is given to the driver.
    pub(super) fn address(&self) -> &u64 {
        &self.ptr
    }
    fn end(self) -> u64 {
        self.ptr + self.bytes as u64
    }
    /// Whether the two have a byte in common.
    pub(super) fn overlaps(self, other: Span) -> bool {
        self.ptr.max(other.ptr) < self.end().min(other.end())
    }
    /// Whether `other` lies within.
    pub(super) fn contains(self, other: Span) -> bool {
        self.ptr <= other.ptr && other.end() <= self.end()
    }
    /// A part. Panics outside (a bug of the caller).
    pub(crate) fn part(self, offset: usize, bytes: usize) -> Span {
        assert!(offset <= self.bytes && bytes <= self.bytes - offset, "view outside its buffer");
        Span { ptr: self.ptr + offset as u64, bytes }
    }
}
