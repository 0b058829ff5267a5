//! placeholder
#![allow(unused_variables, clippy::todo)]
use crate::Cpu;
use s4_backend::*;

impl<T: Scalar> ConvOps for Cpu<T> {
    fn conv_forward(
        &self,
        y: Self::Mut<'_>,
        u: Self::Ref<'_>,
        kernel: Self::Ref<'_>,
        d: Option<Self::Ref<'_>>,
        shape: &ConvShape,
        ws: &mut Self::Workspace,
    ) -> Result<()> {
        todo!()
    }

    fn conv_backward(
        &self,
        du: Option<Self::Mut<'_>>,
        dkernel: Self::Mut<'_>,
        dd: Option<Self::Mut<'_>>,
        dy: Self::Ref<'_>,
        u: Self::Ref<'_>,
        kernel: Self::Ref<'_>,
        d: Option<Self::Ref<'_>>,
        shape: &ConvShape,
        ws: &mut Self::Workspace,
    ) -> Result<()> {
        todo!()
    }
}
