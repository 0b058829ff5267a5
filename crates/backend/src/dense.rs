//! The operations around the SSM: linear layers, norms, the mixing stage of a block, pooling, embedding, losses. The
//! arguments of each family, their shapes and checks are in a file of its name.

use crate::*;

/// Sizes of an activation, (batch, heads, len).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub struct SeqShape {
    pub batch: usize,
    pub heads: usize,
    pub len: usize,
}

impl SeqShape {
    /// The number of elements, batch·heads·len.
    pub fn elements(&self) -> usize {
        self.batch * self.heads * self.len
    }
}

/// The operations around the SSM. Each is described at the struct of its arguments.
#[allow(missing_docs)]
pub trait DenseOps: Memory {
    fn linear_forward(&self, args: LinearForward<'_, Self>, ws: &mut Self::Workspace) -> Result<()>;
    fn linear_backward(&self, args: LinearBackward<'_, Self>, ws: &mut Self::Workspace) -> Result<()>;

    fn layer_norm_forward(&self, args: LayerNormForward<'_, Self>, ws: &mut Self::Workspace) -> Result<()>;
    fn layer_norm_recompute(&self, args: LayerNormRecompute<'_, Self>) -> Result<()>;
    fn layer_norm_backward(&self, args: LayerNormBackward<'_, Self>, ws: &mut Self::Workspace) -> Result<()>;
    fn batch_norm_forward(&self, args: BatchNormForward<'_, Self>, ws: &mut Self::Workspace) -> Result<()>;
    fn batch_norm_recompute(&self, args: BatchNormRecompute<'_, Self>) -> Result<()>;
    fn batch_norm_backward(&self, args: BatchNormBackward<'_, Self>, ws: &mut Self::Workspace) -> Result<()>;
    fn batch_norm_moments(&self, args: BatchNormMoments<'_, Self>) -> Result<()>;
    fn batch_norm_joint(&self, args: BatchNormJoint<'_, Self>) -> Result<()>;
    fn batch_norm_gradient_sums(&self, args: BatchNormGradientSums<'_, Self>) -> Result<()>;
    fn batch_norm_input_gradient(&self, args: BatchNormInputGradient<'_, Self>) -> Result<()>;

    /// Elements that `mix_forward` saves for backward; 0 when backward recomputes.
    fn mix_saved_len(&self, call: &MixCall) -> usize;
    /// Elements that a forward for rows saves ([`MixExtras::chunk_rows`]); `None` where backward of this mix cannot hand the gradient of s over to an
    /// SSM as rows.
    fn mix_chunk_rows_saved_len(&self, call: &MixCall) -> Option<usize> {
        let _ = call;
        None
    }
    /// Elements of the moments of y that forward can leave for a batch norm ([`BatchNormForward::moments`]); `None` where it cannot.
    fn mix_moments_len(&self, call: &MixCall) -> Option<usize> {
        let _ = call;
        None
    }
    /// [`DenseOps::mix_forward`] that leaves more than its output.
    fn mix_forward_with(
        &self,
        args: MixForward<'_, Self>,
        extras: MixExtras<'_, Self>,
        ws: &mut Self::Workspace,
    ) -> Result<()> {
        let _ = (args, extras, ws);
        Err(Error::unsupported("mix_forward", "a mix that leaves no more than its output", "another"))
    }
    /// [`DenseOps::mix_backward`] with ds in the form in which the SSM before the mix reads it ([`crate::SsmOps::ssm_backward_of_chunk_rows`]), 0 from
    /// each sequence's length on. ds has as many elements as there; s is not read and may hold anything.
    fn mix_backward_to_chunk_rows(
        &self,
        args: MixBackward<'_, Self>,
        lengths: Option<&Self::Ints>,
        ws: &mut Self::Workspace,
    ) -> Result<()> {
        let _ = (args, lengths, ws);
        Err(Error::unsupported("mix_backward", "a mix that gives rows", "another"))
    }
    fn mix_forward(&self, args: MixForward<'_, Self>, ws: &mut Self::Workspace) -> Result<()>;
    fn mix_backward(&self, args: MixBackward<'_, Self>, ws: &mut Self::Workspace) -> Result<()>;

    fn drop_path(&self, args: DropPath<'_, Self>) -> Result<()>;

    fn zero_beyond_lengths(&self, args: ZeroBeyondLengths<'_, Self>) -> Result<()>;
    fn pool_forward(&self, args: PoolForward<'_, Self>) -> Result<()>;
    fn pool_backward(&self, args: PoolBackward<'_, Self>) -> Result<()>;

    fn embedding_forward(&self, args: EmbeddingForward<'_, Self>) -> Result<()>;
    fn embedding_backward(&self, args: EmbeddingBackward<'_, Self>, ws: &mut Self::Workspace) -> Result<()>;

    fn loss_forward_backward(
        &self,
        args: LossForwardBackward<'_, Self>,
        ws: &mut Self::Workspace,
    ) -> Result<()>;

    fn sample_tokens(&self, args: SampleTokens<'_, Self>) -> Result<()>;
}
