//! The dense families, each in its own file.

use crate::{
    Cpu, Workspace,
    dense::{batch_norm, drop_path, embedding, layer_norm, linear, loss, mix, pooling},
};
use s4_backend::*;

impl<T: Scalar> DenseOps for Cpu<T> {
    fn linear_forward(&self, args: LinearForward<'_, Self>, _: &mut Workspace<T>) -> Result<()> {
        linear::forward(self, args)
    }

    fn linear_backward(&self, args: LinearBackward<'_, Self>, ws: &mut Workspace<T>) -> Result<()> {
        linear::backward(self, args, ws)
    }

    fn layer_norm_forward(&self, args: LayerNormForward<'_, Self>, _: &mut Workspace<T>) -> Result<()> {
        layer_norm::forward(self, args)
    }

    fn layer_norm_recompute(&self, args: LayerNormRecompute<'_, Self>) -> Result<()> {
        layer_norm::recompute(self, args)
    }

    fn layer_norm_backward(&self, args: LayerNormBackward<'_, Self>, ws: &mut Workspace<T>) -> Result<()> {
        layer_norm::backward(self, args, ws)
    }

    fn batch_norm_forward(&self, args: BatchNormForward<'_, Self>, _: &mut Workspace<T>) -> Result<()> {
        batch_norm::forward(self, args)
    }

    fn batch_norm_recompute(&self, args: BatchNormRecompute<'_, Self>) -> Result<()> {
        batch_norm::recompute(self, args)
    }

    fn batch_norm_backward(&self, args: BatchNormBackward<'_, Self>, ws: &mut Workspace<T>) -> Result<()> {
        batch_norm::backward(self, args, ws)
    }

    fn mix_saved_len(&self, _: &MixCall) -> usize {
        mix::SAVED
    }

    fn mix_forward(&self, args: MixForward<'_, Self>, ws: &mut Workspace<T>) -> Result<()> {
        mix::forward(self, args, ws)
    }

    fn mix_backward(&self, args: MixBackward<'_, Self>, ws: &mut Workspace<T>) -> Result<()> {
        mix::backward(self, args, ws)
    }

    fn drop_path(&self, args: DropPath<'_, Self>) -> Result<()> {
        drop_path::forward(self, args)
    }

    fn zero_beyond_lengths(&self, args: ZeroBeyondLengths<'_, Self>) -> Result<()> {
        pooling::zero_beyond_lengths(self, args)
    }

    fn pool_forward(&self, args: PoolForward<'_, Self>) -> Result<()> {
        pooling::forward(self, args)
    }

    fn pool_backward(&self, args: PoolBackward<'_, Self>) -> Result<()> {
        pooling::backward(self, args)
    }

    fn embedding_forward(&self, args: EmbeddingForward<'_, Self>) -> Result<()> {
        embedding::forward(self, args)
    }

    fn embedding_backward(&self, args: EmbeddingBackward<'_, Self>, _: &mut Workspace<T>) -> Result<()> {
        embedding::backward(self, args)
    }

    fn loss_forward_backward(
        &self,
        args: LossForwardBackward<'_, Self>,
        ws: &mut Workspace<T>,
    ) -> Result<()> {
        loss::forward_backward(self, args, ws)
    }
}
