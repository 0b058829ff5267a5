//! A backend with one wrong output, to show that the conformance suite sees it.

mod memory;
mod operations;

use s4_backend::{Backend, Result, Scalar};
use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
};

/// An operation of the contract and one of its outputs: `("linear_backward", "dweight")`.
pub type Output = (&'static str, &'static str);

/// How wrong the output is.
const RELATIVE: f64 = 1e-3;

/// A backend that does all by `inner`, and then changes one output of one operation by 1e-3 of itself (of what was
/// added, where the operation accumulates). Every output that it meets and that is not empty it notes, perturbed
/// or not.
#[derive(Clone)]
pub struct Perturbed<B> {
    inner: B,
    target: Option<Output>,
    met: Arc<Mutex<BTreeSet<Output>>>,
}

impl<B: Backend> Perturbed<B> {
    /// With `target` wrong; with none, all is right.
    pub fn new(inner: B, target: Option<Output>) -> Self {
        Perturbed { inner, target, met: Arc::default() }
    }

    /// Every output of every operation.
    pub fn outputs() -> Vec<Output> {
        let of = |list: &[(&'static str, &[&'static [&'static str]])]| -> Vec<Output> {
            let outputs = list.iter().flat_map(|(op, fields)| fields.iter().map(move |f| (*op, *f)));
            outputs.flat_map(|(op, fields)| fields.iter().map(move |f| (op, *f))).collect()
        };
        [of(memory::OUTPUTS), of(operations::OUTPUTS)].concat()
    }

    /// The outputs that were met so far.
    pub fn met(&self) -> BTreeSet<Output> {
        self.met.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Notes an output, and says whether it is the wrong one.
    fn is_target(&self, operation: &'static str, output: &'static str) -> bool {
        debug_assert!(Self::outputs().contains(&(operation, output)), "{operation} {output} is not listed");
        self.met.lock().unwrap_or_else(PoisonError::into_inner).insert((operation, output));
        self.target == Some((operation, output))
    }

    /// A copy of what an output holds, where it is the target.
    fn before(
        &self,
        operation: &'static str,
        output: &'static str,
        view: &B::Mut<'_>,
    ) -> Result<Option<B::Buf>> {
        let len = self.inner.mut_len(view);
        if len == 0 || !self.is_target(operation, output) {
            return Ok(None);
        }
        let mut copy = self.inner.alloc(len)?;
        self.inner.copy(self.inner.view_mut(&mut copy, 0..len), self.inner.freeze(view))?;
        Ok(Some(copy))
    }

    /// An output that the operation overwrote or updated, made wrong where it is the target.
    fn overwritten(&self, operation: &'static str, output: &'static str, mut view: B::Mut<'_>) -> Result<()> {
        let Some(copy) = self.before(operation, output, &view)? else { return Ok(()) };
        let len = self.inner.len(&copy);
        let alpha = B::Scalar::from_f64(RELATIVE);
        self.inner.axpy(self.inner.reborrow(&mut view), alpha, self.inner.view(&copy, 0..len))
    }

    /// An output that the operation added to, made wrong where it is the target: `before` is what it held.
    fn accumulated(&self, before: Option<B::Buf>, mut view: B::Mut<'_>) -> Result<()> {
        let Some(before) = before else { return Ok(()) };
        let (be, len) = (&self.inner, self.inner.len(&before));
        let mut change = be.alloc(len)?;
        be.copy(be.view_mut(&mut change, 0..len), be.freeze(&view))?;
        be.axpy(be.view_mut(&mut change, 0..len), B::Scalar::from_f64(-1.0), be.view(&before, 0..len))?;
        be.axpy(be.reborrow(&mut view), B::Scalar::from_f64(RELATIVE), be.view(&change, 0..len))
    }

    /// A number on the host.
    fn wrong(x: B::Scalar) -> B::Scalar {
        B::Scalar::from_f64(x.to_f64() * (1.0 + RELATIVE))
    }
}
