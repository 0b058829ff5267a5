//! The backend contract's operations around the SSM: arguments are checked here, work is done in the files of the same
//! names.

use super::{batch_norm, drop_path, embedding, layer_norm, linear, loss, mix, pooling, sample};
use crate::{
    device::Cuda,
    memory::{Ints, Workspace},
};
use s4_backend::{
    BatchNormBackward, BatchNormForward, BatchNormGradientSums, BatchNormInputGradient, BatchNormJoint,
    BatchNormMoments, BatchNormRecompute, DenseOps, DropPath, EmbeddingBackward, EmbeddingForward,
    LayerNormBackward, LayerNormForward, LayerNormRecompute, LinearBackward, LinearForward,
    LossForwardBackward, MixBackward, MixCall, MixExtras, MixForward, PoolBackward, PoolForward, Result,
    SampleTokens, ZeroBeyondLengths,
};

impl DenseOps for Cuda {
    fn linear_forward(&self, args: LinearForward<'_, Self>, _ws: &mut Workspace) -> Result<()> {
        args.check(self)?;
        linear::forward(self, &args)
    }

    fn linear_backward(&self, args: LinearBackward<'_, Self>, _ws: &mut Workspace) -> Result<()> {
        args.check(self)?;
        linear::backward(self, &args)
    }

    fn layer_norm_forward(&self, args: LayerNormForward<'_, Self>, _ws: &mut Workspace) -> Result<()> {
        args.check(self)?;
        layer_norm::forward(self, &args)
    }

    fn layer_norm_recompute(&self, args: LayerNormRecompute<'_, Self>) -> Result<()> {
        args.check(self)?;
        layer_norm::recompute(self, &args)
    }

    fn layer_norm_backward(&self, args: LayerNormBackward<'_, Self>, _ws: &mut Workspace) -> Result<()> {
        args.check(self)?;
        layer_norm::backward(self, &args)
    }

    fn batch_norm_forward(&self, args: BatchNormForward<'_, Self>, _ws: &mut Workspace) -> Result<()> {
        args.check(self)?;
        batch_norm::forward(self, &args)
    }

    fn batch_norm_recompute(&self, args: BatchNormRecompute<'_, Self>) -> Result<()> {
        args.check(self)?;
        batch_norm::recompute(self, &args)
    }

    fn batch_norm_backward(&self, args: BatchNormBackward<'_, Self>, _ws: &mut Workspace) -> Result<()> {
        args.check(self)?;
        batch_norm::backward(self, &args)
    }

    fn batch_norm_moments(&self, args: BatchNormMoments<'_, Self>) -> Result<()> {
        args.check(self)?;
        batch_norm::moments(self, &args)
    }

    fn batch_norm_joint(&self, args: BatchNormJoint<'_, Self>) -> Result<()> {
        args.check(self)?;
        batch_norm::joint(self, &args)
    }

    fn batch_norm_gradient_sums(&self, args: BatchNormGradientSums<'_, Self>) -> Result<()> {
        args.check(self)?;
        batch_norm::gradient_sums(self, &args)
    }

    fn batch_norm_input_gradient(&self, args: BatchNormInputGradient<'_, Self>) -> Result<()> {
        args.check(self)?;
        batch_norm::input_gradient(self, &args)
    }

    fn mix_saved_len(&self, call: &MixCall) -> usize {
        mix::saved_len(self, call)
    }

    fn mix_forward(&self, args: MixForward<'_, Self>, _ws: &mut Workspace) -> Result<()> {
        args.check(self, self.mix_saved_len(&args.call))?;
        mix::forward(self, &args)
    }

    fn mix_backward(&self, args: MixBackward<'_, Self>, _ws: &mut Workspace) -> Result<()> {
        args.check(self, self.mix_saved_len(&args.call))?;
        mix::backward(self, &args)
    }

    fn mix_chunk_rows_saved_len(&self, call: &MixCall) -> Option<usize> {
        mix::chunk_rows_saved_len(self, call)
    }

    fn mix_moments_len(&self, call: &MixCall) -> Option<usize> {
        mix::moments_len(self, call)
    }

    fn mix_forward_with(
        &self,
        args: MixForward<'_, Self>,
        extras: MixExtras<'_, Self>,
        _ws: &mut Workspace,
    ) -> Result<()> {
        let hopper = mix::on_hopper(self, "mix_forward", &args.call, extras.chunk_rows)?;
        args.check(self, hopper.saved_len())?;
        extras.check(self, &args.call, hopper.moments_len())?;
        hopper.forward(self, &args, (extras.moments.as_ref().map(|m| m.span()), extras.lengths))
    }

    fn mix_backward_to_chunk_rows(
        &self,
        args: MixBackward<'_, Self>,
        lengths: Option<&Ints>,
        _ws: &mut Workspace,
    ) -> Result<()> {
        let hopper = mix::on_hopper(self, "mix_backward", &args.call, true)?;
        args.check(self, hopper.saved_len())?;
        args.check_lengths(self, lengths)?;
        hopper.backward(self, &args, lengths)
    }

    fn drop_path(&self, args: DropPath<'_, Self>) -> Result<()> {
        args.check(self)?;
        drop_path::forward(self, &args)
    }

    fn zero_beyond_lengths(&self, args: ZeroBeyondLengths<'_, Self>) -> Result<()> {
        args.check(self)?;
        pooling::zero_beyond_lengths(self, &args)
    }

    fn pool_forward(&self, args: PoolForward<'_, Self>) -> Result<()> {
        args.check(self)?;
        pooling::forward(self, &args)
    }

    fn pool_backward(&self, args: PoolBackward<'_, Self>) -> Result<()> {
        args.check(self)?;
        pooling::backward(self, &args)
    }

    fn embedding_forward(&self, args: EmbeddingForward<'_, Self>) -> Result<()> {
        args.check(self)?;
        embedding::forward(self, &args)
    }

    fn embedding_backward(&self, args: EmbeddingBackward<'_, Self>, _ws: &mut Workspace) -> Result<()> {
        args.check(self)?;
        embedding::backward(self, &args)
    }

    fn loss_forward_backward(&self, args: LossForwardBackward<'_, Self>, _ws: &mut Workspace) -> Result<()> {
        args.check(self)?;
        loss::forward_backward(self, &args)
    }

    fn sample_tokens(&self, args: SampleTokens<'_, Self>) -> Result<()> {
        args.check(self)?;
        sample::sample(self, &args)
    }
}
