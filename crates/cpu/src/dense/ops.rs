//! The dense families, each in its own file.
#![forbid(unsafe_code)]

use crate::{
    Cpu,
    dense::{activation, batch_norm, embedding, layer_norm, linear, loss, mix, pooling},
};
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
        _ws: &mut Self::Workspace,
    ) -> Result<()> {
        linear::forward(self, y, x, weight, bias, shape)
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
        linear::backward(self, dx, dweight, dbias, dy, x, weight, shape, ws)
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
        _ws: &mut Self::Workspace,
    ) -> Result<()> {
        layer_norm::forward(self, y, stats, x, gamma, beta, eps, shape)
    }

    fn layer_norm_again(
        &self,
        y: Self::Mut<'_>,
        stats: Self::Ref<'_>,
        x: Self::Ref<'_>,
        gamma: Self::Ref<'_>,
        beta: Self::Ref<'_>,
        shape: &SeqShape,
    ) -> Result<()> {
        layer_norm::recompute(self, y, stats, x, gamma, beta, shape)
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
        residual: Option<Self::Ref<'_>>,
        shape: &SeqShape,
        ws: &mut Self::Workspace,
    ) -> Result<()> {
        layer_norm::backward(self, dx, dgamma, dbeta, dy, x, stats, gamma, residual, shape, ws)
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
        _ws: &mut Self::Workspace,
    ) -> Result<()> {
        batch_norm::forward(self, y, stats, running, x, gamma, beta, lengths, eps, momentum, training, shape)
    }

    fn batch_norm_again(
        &self,
        y: Self::Mut<'_>,
        stats: Self::Ref<'_>,
        x: Self::Ref<'_>,
        gamma: Self::Ref<'_>,
        beta: Self::Ref<'_>,
        lengths: Option<&Self::Ints>,
        shape: &SeqShape,
    ) -> Result<()> {
        batch_norm::recompute(self, y, stats, x, gamma, beta, lengths, shape)
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
        residual: Option<Self::Ref<'_>>,
        shape: &SeqShape,
        ws: &mut Self::Workspace,
    ) -> Result<()> {
        batch_norm::backward(
            self, dx, dgamma, dbeta, dy, x, stats, gamma, lengths, training, residual, shape, ws,
        )
    }

    fn mix_saved_len(&self, _spec: &MixSpec, _batch: usize, _len: usize) -> usize {
        0
    }

    fn mix_forward(
        &self,
        y: Self::Mut<'_>,
        _saved: Option<Self::Mut<'_>>,
        s: Self::Ref<'_>,
        residual: Option<Self::Ref<'_>>,
        params: &MixParams<'_, Self>,
        spec: &MixSpec,
        key: DropKey,
        batch: usize,
        len: usize,
        ws: &mut Self::Workspace,
    ) -> Result<()> {
        mix::forward(self, y, s, residual, params, spec, key, batch, len, ws)
    }

    fn mix_backward(
        &self,
        ds: Self::Mut<'_>,
        grads: MixGrads<'_, Self>,
        dy: Self::Ref<'_>,
        s: Self::Ref<'_>,
        _saved: Self::Ref<'_>,
        params: &MixParams<'_, Self>,
        spec: &MixSpec,
        key: DropKey,
        batch: usize,
        len: usize,
        ws: &mut Self::Workspace,
    ) -> Result<()> {
        mix::backward(self, ds, grads, dy, s, params, spec, key, batch, len, ws)
    }

    fn activation_forward(&self, y: Self::Mut<'_>, x: Self::Ref<'_>, activation: Activation) -> Result<()> {
        activation::forward(self, y, x, activation)
    }

    fn activation_backward(
        &self,
        dx: Self::Mut<'_>,
        dy: Self::Ref<'_>,
        x: Self::Ref<'_>,
        activation: Activation,
    ) -> Result<()> {
        activation::backward(self, dx, dy, x, activation)
    }

    fn mask(&self, x: Self::Mut<'_>, lengths: &Self::Ints, shape: &SeqShape) -> Result<()> {
        pooling::mask(self, x, lengths, shape)
    }

    fn pool_forward(
        &self,
        y: Self::Mut<'_>,
        x: Self::Ref<'_>,
        lengths: Option<&Self::Ints>,
        pooling: Pooling,
        shape: &SeqShape,
    ) -> Result<()> {
        pooling::forward(self, y, x, lengths, pooling, shape)
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
        pooling::backward(self, dx, dy, x, lengths, pooling, shape)
    }

    fn embedding_forward(
        &self,
        y: Self::Mut<'_>,
        table: Self::Ref<'_>,
        tokens: &Self::Ints,
        shape: &SeqShape,
    ) -> Result<()> {
        embedding::forward(self, y, table, tokens, shape)
    }

    fn embedding_backward(
        &self,
        dtable: Self::Mut<'_>,
        dy: Self::Ref<'_>,
        tokens: &Self::Ints,
        vocabulary: usize,
        shape: &SeqShape,
        _ws: &mut Self::Workspace,
    ) -> Result<()> {
        embedding::backward(self, dtable, dy, tokens, vocabulary, shape)
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
        loss::forward_backward(
            self,
            stats,
            doutput,
            output,
            target,
            row_weights,
            loss,
            rows,
            outputs,
            denominator,
            ws,
        )
    }
}
