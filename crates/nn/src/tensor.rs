//! Device memory that grows and is then reused.

use s4_backend::{Backend, Result};

/// A buffer that is asked for once for the largest size seen; smaller sizes use its beginning.
pub(crate) struct Grow<B: Backend> {
    buf: B::Buf,
    cap: usize,
}

impl<B: Backend> Grow<B> {
    pub fn new(be: &B) -> Result<Self> {
        Ok(Grow { buf: be.alloc(0)?, cap: 0 })
    }
    /// At least `len` elements; contents are garbage after growing.
    pub fn ensure(&mut self, be: &B, len: usize) -> Result<()> {
        if len > self.cap {
            self.buf = be.alloc(len)?;
            self.cap = len;
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

/// As [`Grow`], for integers.
pub(crate) struct GrowInts<B: Backend> {
    buf: B::Ints,
    cap: usize,
}

impl<B: Backend> GrowInts<B> {
    pub fn new(be: &B) -> Result<Self> {
        Ok(GrowInts { buf: be.alloc_ints(0)?, cap: 0 })
    }
    /// Uploads.
    pub fn put(&mut self, be: &B, x: &[i32]) -> Result<&B::Ints> {
        if x.len() > self.cap {
            self.buf = be.alloc_ints(x.len())?;
            self.cap = x.len();
        }
        be.upload_ints(&mut self.buf, x)?;
        Ok(&self.buf)
    }
    /// What was put last (and garbage behind it).
    pub fn get(&self) -> &B::Ints {
        &self.buf
    }
}
