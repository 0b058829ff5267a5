//! Device memory that grows and is then reused.

use s4_backend::{Backend, Result};

/// A buffer that is asked for once for the largest size seen; smaller sizes use its beginning.
pub(crate) struct GrowableBuffer<B: Backend> {
    buf: B::Buf,
    capacity: usize,
}

impl<B: Backend> GrowableBuffer<B> {
    pub fn new(be: &B) -> Result<Self> {
        Ok(GrowableBuffer { buf: be.alloc(0)?, capacity: 0 })
    }
    /// At least `len` elements; contents are undefined after growing.
    pub fn ensure(&mut self, be: &B, len: usize) -> Result<()> {
        if len > self.capacity {
            self.buf = be.alloc(len)?;
            self.capacity = len;
        }
        Ok(())
    }
    /// The first `len` elements.
    pub fn get(&self, be: &B, len: usize) -> B::Ref<'_> {
        be.view(&self.buf, 0..len)
    }
    /// The first `len` elements.
    pub fn get_mut(&mut self, be: &B, len: usize) -> B::Mut<'_> {
        be.view_mut(&mut self.buf, 0..len)
    }
}

/// As [`GrowableBuffer`], for integers.
pub(crate) struct GrowableInts<B: Backend> {
    buf: B::Ints,
    capacity: usize,
}

impl<B: Backend> GrowableInts<B> {
    pub fn new(be: &B) -> Result<Self> {
        Ok(GrowableInts { buf: be.alloc_ints(0)?, capacity: 0 })
    }
    /// Uploads `x`, growing first where it must.
    pub fn upload(&mut self, be: &B, x: &[i32]) -> Result<&B::Ints> {
        if x.len() > self.capacity {
            self.buf = be.alloc_ints(x.len())?;
            self.capacity = x.len();
        }
        be.upload_ints(&mut self.buf, x)?;
        Ok(&self.buf)
    }
    /// What was uploaded last (what lies behind it is undefined).
    pub fn get(&self) -> &B::Ints {
        &self.buf
    }
}
