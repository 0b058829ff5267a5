//! Owned memory on the GPU, and views of it.

use super::allocator::DeviceBlock;
use crate::driver::{Arg, Span};
use std::{marker::PhantomData, ops::Range};

/// Owned floats on the GPU.
pub struct Buf {
    pub(super) block: DeviceBlock,
    pub(super) len: usize,
}

impl Drop for Buf {
    fn drop(&mut self) {
        self.block.count_change();
    }
}

/// Owned integers on the GPU.
pub struct Ints {
    pub(super) block: DeviceBlock,
    pub(super) len: usize,
}

impl Drop for Ints {
    fn drop(&mut self) {
        self.block.count_change();
    }
}

/// Shared view of floats.
#[derive(Clone, Copy)]
pub struct Ref<'a> {
    pub(super) span: Span,
    pub(super) life: PhantomData<&'a f32>,
}

/// Exclusive view of floats.
pub struct Mut<'a> {
    pub(super) span: Span,
    pub(super) life: PhantomData<&'a mut f32>,
}

impl Ref<'_> {
    pub(crate) fn len(self) -> usize {
        self.span.bytes() / 4
    }
    pub(crate) fn span(self) -> Span {
        self.span
    }
}

impl Mut<'_> {
    pub(crate) fn len(&self) -> usize {
        self.span.bytes() / 4
    }
    pub(crate) fn span(&self) -> Span {
        self.span
    }
}

impl From<Ref<'_>> for Arg {
    fn from(x: Ref<'_>) -> Arg {
        x.span.into()
    }
}
impl From<&Mut<'_>> for Arg {
    fn from(x: &Mut<'_>) -> Arg {
        x.span.into()
    }
}
impl From<&Ints> for Arg {
    fn from(x: &Ints) -> Arg {
        x.block.span().into()
    }
}

/// The elements `range` of a span of f32.
pub(super) fn floats(span: Span, range: Range<usize>) -> Span {
    assert!(range.start <= range.end, "a range that runs backwards");
    span.part(range.start * 4, (range.end - range.start) * 4)
}
