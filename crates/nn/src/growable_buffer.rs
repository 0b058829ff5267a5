//! Buffers on the device that grow to the largest size asked for and are then reused, so that a steady call allocates
//! nothing.

use s4_backend::{Backend, Result};
use std::ops::Range;

/// A buffer that is as large as the largest size asked for so far. Smaller arrays use its beginning.
pub(crate) struct GrowableBuffer<B: Backend> {
    buf: B::Buf,
    /// Where the elements begin.
    begin: usize,
    capacity: usize,
}

impl<B: Backend> GrowableBuffer<B> {
    /// An empty buffer.
    pub fn new(be: &B) -> Result<Self> {
        Ok(GrowableBuffer { buf: be.alloc(0)?, begin: 0, capacity: 0 })
    }
    /// Makes room for `len` elements. Where it has to grow, the contents are undefined afterwards.
    pub fn ensure(&mut self, be: &B, len: usize) -> Result<()> {
        if len > self.capacity {
            self.buf = be.alloc(len)?;
            (self.begin, self.capacity) = (0, len);
        }
        Ok(())
    }
    /// As [`GrowableBuffer::ensure`], of a buffer of which rows of whole cache lines are to begin with one.
    pub fn ensure_in_lines(&mut self, be: &B, len: usize) -> Result<()> {
        if len > self.capacity {
            self.buf = be.alloc(len + be.elements_of_line())?;
            (self.begin, self.capacity) = (be.begin_of_line(&self.buf), len);
        }
        Ok(())
    }
    /// The first `len` elements, to be read.
    pub fn get(&self, be: &B, len: usize) -> B::Ref<'_> {
        self.range(be, 0..len)
    }
    /// The first `len` elements, to be written.
    pub fn get_mut(&mut self, be: &B, len: usize) -> B::Mut<'_> {
        self.range_mut(be, 0..len)
    }
    /// The buffer, which begins with what was written last, where it need not begin with a cache line; elements after that are undefined.
    pub fn buffer(&self) -> &B::Buf {
        &self.buf
    }
    /// The elements of a range, to be read.
    pub fn range(&self, be: &B, range: Range<usize>) -> B::Ref<'_> {
        be.view(&self.buf, self.begin + range.start..self.begin + range.end)
    }
    /// The elements of a range, to be written.
    pub fn range_mut(&mut self, be: &B, range: Range<usize>) -> B::Mut<'_> {
        be.view_mut(&mut self.buf, self.begin + range.start..self.begin + range.end)
    }
}

/// A buffer of integers that grows as [`GrowableBuffer`] does.
pub(crate) struct GrowableInts<B: Backend> {
    buf: B::Ints,
    capacity: usize,
}

impl<B: Backend> GrowableInts<B> {
    /// An empty buffer.
    pub fn new(be: &B) -> Result<Self> {
        Ok(GrowableInts { buf: be.alloc_ints(0)?, capacity: 0 })
    }
    /// Copies the host's `x` into the buffer, which grows where it must.
    pub fn upload(&mut self, be: &B, x: &[i32]) -> Result<&B::Ints> {
        if x.len() > self.capacity {
            self.buf = be.alloc_ints(x.len())?;
            self.capacity = x.len();
        }
        be.upload_ints(&mut self.buf, x)?;
        Ok(&self.buf)
    }
    /// Makes room for `len` integers. Where it has to grow, the contents are undefined afterwards.
    pub fn ensure(&mut self, be: &B, len: usize) -> Result<&mut B::Ints> {
        if len > self.capacity {
            self.buf = be.alloc_ints(len)?;
            self.capacity = len;
        }
        Ok(&mut self.buf)
    }
    /// The buffer, to be written on the device.
    pub fn get_mut(&mut self) -> &mut B::Ints {
        &mut self.buf
    }
    /// The buffer, which begins with what was uploaded last; elements after that are undefined.
    pub fn get(&self) -> &B::Ints {
        &self.buf
    }
}
