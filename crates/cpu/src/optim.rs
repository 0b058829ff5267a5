//! placeholder
#![allow(unused_variables, clippy::todo)]
use crate::Cpu;
use s4_backend::*;

impl<T: Scalar> OptimOps for Cpu<T> {
    fn sum_squares(&self, acc: Self::Mut<'_>, x: Self::Ref<'_>, ws: &mut Self::Workspace) -> Result<()> {
        todo!()
    }

    fn adamw(
        &self,
        value: Self::Mut<'_>,
        m: Self::Mut<'_>,
        v: Self::Mut<'_>,
        grad: Self::Ref<'_>,
        guard: Self::Ref<'_>,
        hyper: &AdamW,
        clip: &Clip,
    ) -> Result<()> {
        todo!()
    }

    fn ema(
        &self,
        average: Self::Mut<'_>,
        value: Self::Ref<'_>,
        guard: Self::Ref<'_>,
        decay: f64,
    ) -> Result<()> {
        todo!()
    }
}
