//! The encoder, which maps inputs to features: a linear, an embedding, or nothing.

use crate::{
    config::{Encoder, ModelConfig},
    growable_buffer::{GrowableBuffer, GrowableInts},
    initial_values,
    linear::{LinearStage, LinearStageBackward},
    param::{GroupBuffers, ParamBuilder, ParamSlot},
    pass_options::PassContext,
};
use s4_backend::{Backend, EmbeddingBackward, EmbeddingForward, Result, SeqShape};

/// The kind of an encoder, with its parameters.
pub(crate) enum EncoderStage {
    /// A linear over the values of each time step.
    Linear(LinearStage),
    /// A row of a table for each token.
    Embedding { table: ParamSlot, vocabulary: usize },
    /// The inputs are the features.
    Identity,
}

/// The input on the device. One of the two is read: values (batch, input, len), or tokens (batch, len) by an embedding.
pub(crate) struct EncoderInput<'a, B: Backend> {
    /// Values (batch, input, len).
    pub values: B::Ref<'a>,
    /// Tokens (batch, len).
    pub tokens: &'a B::Ints,
}

impl EncoderStage {
    /// The encoder of a configuration; adds its parameters to `params`.
    pub fn new(config: &ModelConfig, params: &mut ParamBuilder) -> Result<Self> {
        let (heads, seed) = (config.features(), config.block.layer.seed);
        Ok(match (config.encoder, config.vocabulary) {
            (Encoder::Linear, _) => {
                EncoderStage::Linear(LinearStage::new("encoder", (seed, 0), config.input, heads, params)?)
            }
            (Encoder::Embedding, vocabulary) => {
                let vocabulary = vocabulary.unwrap_or(1);
                let values = initial_values::embedding(seed, 0, vocabulary, heads)?;
                let table = params.add_embedding("encoder.weight".into(), &[vocabulary, heads], values);
                EncoderStage::Embedding { table, vocabulary }
            }
            (Encoder::None, _) => EncoderStage::Identity,
        })
    }

    /// Number of elements of the input values: batch·inputs·len, or 0 where the input is tokens.
    pub fn values_len(&self, batch: usize, inputs: usize, len: usize) -> usize {
        match self {
            EncoderStage::Embedding { .. } => 0,
            _ => batch * inputs * len,
        }
    }

    /// Writes the features `y`, (batch, heads, len).
    pub fn forward<'a, B: Backend>(
        &self,
        pass: &PassContext<'a, B>,
        y: B::Mut<'a>,
        input: EncoderInput<'a, B>,
        heads: usize,
        ws: &mut B::Workspace,
    ) -> Result<()> {
        let PassContext { be, values, batch, len, .. } = *pass;
        match self {
            EncoderStage::Linear(linear) => linear.forward(pass, y, input.values, len, ws),
            &EncoderStage::Embedding { table, vocabulary } => be.embedding_forward(EmbeddingForward {
                y,
                table: values.view(be, table),
                tokens: input.tokens,
                vocabulary,
                shape: SeqShape { batch, heads, len },
            }),
            EncoderStage::Identity => be.copy(y, input.values),
        }
    }

    /// Adds the gradients of the encoder's parameters to `grads`, from the gradient of the features in `gradients[0]`. With
    /// `want_dx` the gradient of the input replaces that of the features.
    pub fn backward<B: Backend>(
        &self,
        pass: &PassContext<'_, B>,
        gradients: &mut [GrowableBuffer<B>; 2],
        grads: &mut GroupBuffers<B>,
        input: (&GrowableBuffer<B>, &GrowableInts<B>),
        want_dx: bool,
        ws: &mut B::Workspace,
    ) -> Result<()> {
        let PassContext { be, batch, len, .. } = *pass;
        let (inputs, tokens) = input;
        match self {
            EncoderStage::Linear(linear) => {
                let size = batch * linear.inputs * len;
                let [dy, dx] = gradients;
                if want_dx {
                    dx.ensure(be, size)?;
                }
                let arrays = LinearStageBackward {
                    dx: want_dx.then(|| dx.get_mut(be, size)),
                    grads,
                    dy: dy.get(be, batch * linear.outputs * len),
                    x: inputs.get(be, size),
                    len,
                };
                linear.backward(pass, arrays, ws)?;
                gradients.swap(0, 1);
                Ok(())
            }
            &EncoderStage::Embedding { table, vocabulary } => {
                let [dtable] = grads.views_mut(be, [table]);
                let heads = table.len / vocabulary;
                let dy = gradients[0].get(be, batch * heads * len);
                let shape = SeqShape { batch, heads, len };
                let args = EmbeddingBackward { dtable, dy, tokens: tokens.get(), vocabulary, shape };
                be.embedding_backward(args, ws)
            }
            EncoderStage::Identity => Ok(()),
        }
    }
}
