//! Stochastic depth, or drop path (Huang et al. 2016): in training, what a block adds is dropped for whole sequences.

use crate::{Error, Memory, Result, checks::ViewChecks, random::DropKey};

/// y = m_b·x for the elements of sequence b, plus `residual` where it is given. m_b is 0 with probability p, else 1/(1 − p), by draw
/// b mod 4 of block b/4 of the key, as in dropout. The gradient of x is the same map of dy without a residual.
#[allow(missing_docs)]
pub struct DropPath<'a, B: Memory> {
    /// (batch, elements)
    pub y: B::Mut<'a>,
    /// (batch, elements)
    pub x: B::Ref<'a>,
    /// (batch, elements)
    pub residual: Option<B::Ref<'a>>,
    /// p, from 0 to below 1.
    pub probability: f64,
    pub key: DropKey,
    pub batch: usize,
    /// Elements of one sequence.
    pub elements: usize,
}

impl<B: Memory> DropPath<'_, B> {
    /// Refuses views whose numbers of elements do not fit the sizes of the call, and impossible probabilities.
    pub fn check(&self, backend: &B) -> Result<()> {
        let (n, v) = (self.batch * self.elements, ViewChecks { backend, op: "drop_path" });
        v.output("y", &self.y, n)?;
        v.input("x", self.x, n)?;
        v.optional_input("residual", self.residual, n)?;
        match (0.0..1.0).contains(&self.probability) {
            true => Ok(()),
            false => Err(Error::value(v.op, "a probability from 0 to below 1", self.probability)),
        }
    }
}
