//! A backend with one wrong output, to show that the conformance tests find it.

mod memory;
mod operations;

use s4_backend::{Backend, Result, Scalar};
use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
};

/// An operation of the contract and one of its outputs: `("linear_backward", "dweight")`.
pub type Output = (&'static str, &'static str);

/// The relative error that the wrong output gets.
const RELATIVE_ERROR: f64 = 1e-3;

/// A backend that runs every operation on `inner` and then makes one output of one operation wrong: its values are
/// multiplied by 1.001, or the part that was added where the operation accumulates. It also records every output that
/// is computed and not empty.
#[derive(Clone)]
pub struct Perturbed<B> {
    inner: B,
    target: Option<Output>,
    outputs_met: Arc<Mutex<BTreeSet<Output>>>,
}

impl<B: Backend> Perturbed<B> {
    /// A backend with `target` as its wrong output; with `None` all outputs are right.
    pub fn new(inner: B, target: Option<Output>) -> Self {
        Perturbed { inner, target, outputs_met: Arc::default() }
    }

    /// Every output of every operation.
    pub fn outputs() -> Vec<Output> {
        let of = |list: &[(&'static str, &[&'static [&'static str]])]| -> Vec<Output> {
            let outputs = list.iter().flat_map(|(op, fields)| fields.iter().map(move |f| (*op, *f)));
            outputs.flat_map(|(op, fields)| fields.iter().map(move |f| (op, *f))).collect()
        };
        [of(memory::OUTPUTS), of(operations::OUTPUTS)].concat()
    }

    /// The outputs that have been computed so far.
    pub fn outputs_met(&self) -> BTreeSet<Output> {
        self.outputs_met.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Records an output, and tells whether it is the one to make wrong.
    fn is_target(&self, operation: &'static str, output: &'static str) -> bool {
        debug_assert!(Self::outputs().contains(&(operation, output)), "{operation} {output} is not listed");
        self.outputs_met.lock().unwrap_or_else(PoisonError::into_inner).insert((operation, output));
        self.target == Some((operation, output))
    }

    /// A copy of an output's values, where it is the target.
    fn copy_if_target(
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

    /// Makes an output that the operation has overwritten or updated wrong, where it is the target.
    fn perturb_overwritten(
        &self,
        operation: &'static str,
        output: &'static str,
        mut view: B::Mut<'_>,
    ) -> Result<()> {
        let Some(copy) = self.copy_if_target(operation, output, &view)? else { return Ok(()) };
        let len = self.inner.len(&copy);
        let alpha = B::Scalar::from_f64(RELATIVE_ERROR);
        self.inner.axpy(self.inner.reborrow(&mut view), alpha, self.inner.view(&copy, 0..len))
    }

    /// Makes an output that the operation has added to wrong, where it is the target: `before` is then the copy of its
    /// values from before the operation.
    fn perturb_accumulated(&self, before: Option<B::Buf>, mut view: B::Mut<'_>) -> Result<()> {
        let Some(before) = before else { return Ok(()) };
        let (be, len) = (&self.inner, self.inner.len(&before));
        let mut change = be.alloc(len)?;
        be.copy(be.view_mut(&mut change, 0..len), be.freeze(&view))?;
        be.axpy(be.view_mut(&mut change, 0..len), B::Scalar::from_f64(-1.0), be.view(&before, 0..len))?;
        be.axpy(be.reborrow(&mut view), B::Scalar::from_f64(RELATIVE_ERROR), be.view(&change, 0..len))
    }

    /// A number on the host, made wrong.
    fn perturbed_scalar(x: B::Scalar) -> B::Scalar {
        B::Scalar::from_f64(x.to_f64() * (1.0 + RELATIVE_ERROR))
    }
}
