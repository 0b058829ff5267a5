//! Rows of a table, by token.

use crate::{Memory, Result, SeqShape, checks::Views};

/// y (batch, heads, len) = table (vocabulary, heads) at tokens (batch, len).
#[allow(missing_docs)]
pub struct EmbeddingForward<'a, B: Memory> {
    pub y: B::Mut<'a>,
    pub table: B::Ref<'a>,
    pub tokens: &'a B::Ints,
    pub vocabulary: usize,
    pub shape: SeqShape,
}

/// dtable accumulates.
#[allow(missing_docs)]
pub struct EmbeddingBackward<'a, B: Memory> {
    pub dtable: B::Mut<'a>,
    pub dy: B::Ref<'a>,
    pub tokens: &'a B::Ints,
    pub vocabulary: usize,
    pub shape: SeqShape,
}

fn check_tokens<B: Memory>(
    v: &Views<'_, B>,
    tokens: &B::Ints,
    vocabulary: usize,
    s: &SeqShape,
) -> Result<()> {
    v.sizes(&[("vocabulary", vocabulary)])?;
    v.integers("tokens", tokens, s.batch * s.len, 0..=vocabulary as i64 - 1)
}

impl<B: Memory> EmbeddingForward<'_, B> {
    /// Refuses views and tokens that do not fit.
    pub fn check(&self, be: &B) -> Result<()> {
        let (s, v) = (&self.shape, Views { be, op: "embedding_forward" });
        v.output("y", &self.y, s.elements())?;
        v.input("table", self.table, self.vocabulary * s.heads)?;
        check_tokens(&v, self.tokens, self.vocabulary, s)
    }
}

impl<B: Memory> EmbeddingBackward<'_, B> {
    /// Refuses views and tokens that do not fit.
    pub fn check(&self, be: &B) -> Result<()> {
        let (s, v) = (&self.shape, Views { be, op: "embedding_backward" });
        v.output("dtable", &self.dtable, self.vocabulary * s.heads)?;
        v.input("dy", self.dy, s.elements())?;
        check_tokens(&v, self.tokens, self.vocabulary, s)
    }
}
