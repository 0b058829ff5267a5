//! placeholder
#![allow(unused_variables, clippy::todo)]
use crate::Cpu;
use s4_backend::random::DropKey;
use s4_backend::*;

impl<T: Scalar> DenseOps for Cpu<T> {
    fn linear_forward(
        &self,
        y: Self::Mut<'_>,
        x: Self::Ref<'_>,
        weight: Self::Ref<'_>,
        bias: Option<Self::Ref<'_>>,
        shape: &LinearShape,
        ws: &mut Self::Workspace,
    ) -> Result<()> {
        todo!()
    }

    fn linear_backward(
        &self,
        dx: Option<Self::Mut<'_>>,
        dweight: Self::Mut<'_>,
        dbias: Option<Self::Mut<'_>>,
        dy: Self::Ref<'_>,
        x: Self::Ref<'_>,
        weight: Self::Ref<'_>,
        shape: &LinearShape,
        ws: &mut Self::Workspace,
    ) -> Result<()> {
        todo!()
    }

    fn layer_norm_forward(
        &self,
        y: Self::Mut<'_>,
        stats: Self::Mut<'_>,
        x: Self::Ref<'_>,
        gamma: Self::Ref<'_>,
        beta: Self::Ref<'_>,
        eps: f64,
        shape: &SeqShape,
        ws: &mut Self::Workspace,
    ) -> Result<()> {
        todo!()
    }

    fn layer_norm_backward(
        &self,
        dx: Self::Mut<'_>,
        dgamma: Self::Mut<'_>,
        dbeta: Self::Mut<'_>,
        dy: Self::Ref<'_>,
        x: Self::Ref<'_>,
        stats: Self::Ref<'_>,
        gamma: Self::Ref<'_>,
        add: bool,
        shape: &SeqShape,
        ws: &mut Self::Workspace,
    ) -> Result<()> {
        todo!()
    }

    fn batch_norm_forward(
        &self,
        y: Self::Mut<'_>,
        stats: Self::Mut<'_>,
        running: Self::Mut<'_>,
        x: Self::Ref<'_>,
        gamma: Self::Ref<'_>,
        beta: Self::Ref<'_>,
        lengths: Option<&Self::Ints>,
        eps: f64,
        momentum: f64,
        training: bool,
        shape: &SeqShape,
        ws: &mut Self::Workspace,
    ) -> Result<()> {
        todo!()
    }

    fn batch_norm_backward(
        &self,
        dx: Self::Mut<'_>,
        dgamma: Self::Mut<'_>,
        dbeta: Self::Mut<'_>,
        dy: Self::Ref<'_>,
        x: Self::Ref<'_>,
        stats: Self::Ref<'_>,
        gamma: Self::Ref<'_>,
        lengths: Option<&Self::Ints>,
        training: bool,
        add: bool,
        shape: &SeqShape,
        ws: &mut Self::Workspace,
    ) -> Result<()> {
        todo!()
    }

    fn mix_saved_len(&self, spec: &MixSpec, batch: usize, len: usize) -> usize {
        todo!()
    }

    fn mix_forward(
        &self,
        y: Self::Mut<'_>,
        saved: Option<Self::Mut<'_>>,
        s: Self::Ref<'_>,
        residual: Option<Self::Ref<'_>>,
        params: &MixParams<'_, Self>,
        spec: &MixSpec,
        key: DropKey,
        batch: usize,
        len: usize,
        ws: &mut Self::Workspace,
    ) -> Result<()> {
        todo!()
    }

    fn mix_backward(
        &self,
        ds: Self::Mut<'_>,
        grads: MixGrads<'_, Self>,
        dy: Self::Ref<'_>,
        s: Self::Ref<'_>,
        saved: Self::Ref<'_>,
        params: &MixParams<'_, Self>,
        spec: &MixSpec,
        key: DropKey,
        batch: usize,
        len: usize,
        ws: &mut Self::Workspace,
    ) -> Result<()> {
        todo!()
    }

    fn activation_forward(&self, y: Self::Mut<'_>, x: Self::Ref<'_>, activation: Activation) -> Result<()> {
        todo!()
    }

    fn activation_backward(
        &self,
        dx: Self::Mut<'_>,
        dy: Self::Ref<'_>,
        x: Self::Ref<'_>,
        activation: Activation,
    ) -> Result<()> {
        todo!()
    }

    fn mask(&self, x: Self::Mut<'_>, lengths: &Self::Ints, shape: &SeqShape) -> Result<()> {
        todo!()
    }

    fn pool_forward(
        &self,
        y: Self::Mut<'_>,
        x: Self::Ref<'_>,
        lengths: Option<&Self::Ints>,
        pooling: Pooling,
        shape: &SeqShape,
    ) -> Result<()> {
        todo!()
    }

    fn pool_backward(
        &self,
        dx: Self::Mut<'_>,
        dy: Self::Ref<'_>,
        x: Self::Ref<'_>,
        lengths: Option<&Self::Ints>,
        pooling: Pooling,
        shape: &SeqShape,
    ) -> Result<()> {
        todo!()
    }

    fn embedding_forward(
        &self,
        y: Self::Mut<'_>,
        table: Self::Ref<'_>,
        tokens: &Self::Ints,
        shape: &SeqShape,
    ) -> Result<()> {
        todo!()
    }

    fn embedding_backward(
        &self,
        dtable: Self::Mut<'_>,
        dy: Self::Ref<'_>,
        tokens: &Self::Ints,
        vocabulary: usize,
        shape: &SeqShape,
        ws: &mut Self::Workspace,
    ) -> Result<()> {
        todo!()
    }

    fn loss_forward_backward(
        &self,
        stats: Self::Mut<'_>,
        doutput: Option<Self::Mut<'_>>,
        output: Self::Ref<'_>,
        target: &Target<'_, Self>,
        row_weights: Option<Self::Ref<'_>>,
        loss: Loss,
        rows: usize,
        outputs: usize,
        denominator: f64,
        ws: &mut Self::Workspace,
    ) -> Result<()> {
        todo!()
    }
}
