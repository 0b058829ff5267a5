//! Embedding: tokens to feature vectors, by a table with one row for each token.

use crate::{Memory, Result, SeqShape, checks::ViewChecks};

/// y\[b, :, t\] = table\[tokens\[b, t\], :\].
#[allow(missing_docs)]
pub struct EmbeddingForward<'a, B: Memory> {
    /// (batch, heads, len)
    pub y: B::Mut<'a>,
    /// (vocabulary, heads)
    pub table: B::Ref<'a>,
    /// (batch, len)
    pub tokens: &'a B::Ints,
    pub vocabulary: usize,
    pub shape: SeqShape,
}

/// Gradient of [`EmbeddingForward`]: dtable accumulates.
#[allow(missing_docs)]
pub struct EmbeddingBackward<'a, B: Memory> {
    /// (vocabulary, heads)
    pub dtable: B::Mut<'a>,
    /// (batch, heads, len)
    pub dy: B::Ref<'a>,
    /// (batch, len)
    pub tokens: &'a B::Ints,
    pub vocabulary: usize,
    pub shape: SeqShape,
}

fn check_tokens<B: Memory>(
    v: &ViewChecks<'_, B>,
    tokens: &B::Ints,
    vocabulary: usize,
    s: &SeqShape,
) -> Result<()> {
    v.sizes(&[("vocabulary", vocabulary)])?;
    v.integers("tokens", tokens, s.batch * s.len, 0..=vocabulary as i64 - 1)
}

impl<B: Memory> EmbeddingForward<'_, B> {
    /// Refuses views whose numbers of elements do not fit the sizes of the call, and tokens outside the vocabulary.
    pub fn check(&self, backend: &B) -> Result<()> {
        let (s, v) = (&self.shape, ViewChecks { backend, op: "embedding_forward" });
        v.output("y", &self.y, s.elements())?;
        v.input("table", self.table, self.vocabulary * s.heads)?;
        check_tokens(&v, self.tokens, self.vocabulary, s)
    }
}

impl<B: Memory> EmbeddingBackward<'_, B> {
    /// Refuses views whose numbers of elements do not fit the sizes of the call, and tokens outside the vocabulary.
    pub fn check(&self, backend: &B) -> Result<()> {
        let (s, v) = (&self.shape, ViewChecks { backend, op: "embedding_backward" });
        v.output("dtable", &self.dtable, self.vocabulary * s.heads)?;
        v.input("dy", self.dy, s.elements())?;
        check_tokens(&v, self.tokens, self.vocabulary, s)
    }
}
