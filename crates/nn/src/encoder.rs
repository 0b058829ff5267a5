//! What maps inputs to features: a linear, an embedding, or nothing.

use crate::{
    call::Pass,
    config::{Encoder, ModelConfig},
    growable::{GrowableBuffer, GrowableInts},
    init,
    linear::{LinearStage, LinearStageBackward},
    param::{Flats, Group, ParamBuilder, Slot},
};
use s4_backend::{Backend, EmbeddingBackward, EmbeddingForward, Result, SeqShape};

/// An encoder's parameters.
pub(crate) enum EncoderStage {
    Linear(LinearStage),
    Embedding {
        table: Slot,
        vocabulary: usize,
    },
    /// Inputs are features already.
    Identity,
}

/// Where its input stands: values (batch, input, len) or tokens (batch, len).
pub(crate) struct EncoderInput<'a, B: Backend> {
    pub values: B::Ref<'a>,
    pub tokens: &'a B::Ints,
}

impl EncoderStage {
    pub fn new(config: &ModelConfig, params: &mut ParamBuilder) -> Self {
        let (heads, seed) = (config.features(), config.block.layer.seed);
        match (config.encoder, config.vocabulary) {
            (Encoder::Linear, _) => {
                EncoderStage::Linear(LinearStage::new("encoder", (seed, 0), config.input, heads, params))
            }
            (Encoder::Embedding, vocabulary) => {
                let vocabulary = vocabulary.unwrap_or(1);
                let values = init::embedding(seed, 0, vocabulary, heads);
                let table = params.add("encoder.weight".into(), &[vocabulary, heads], Group::Main, values);
                EncoderStage::Embedding { table, vocabulary }
            }
            (Encoder::None, _) => EncoderStage::Identity,
        }
    }

    /// Elements of the input values: batch·inputs·len, or 0 where the input is tokens.
    pub fn values_len(&self, batch: usize, inputs: usize, len: usize) -> usize {
        match self {
            EncoderStage::Embedding { .. } => 0,
            _ => batch * inputs * len,
        }
    }

    /// `y`: (batch, heads, len).
    pub fn forward<'a, B: Backend>(
        &self,
        pass: &Pass<'a, B>,
        y: B::Mut<'a>,
        input: EncoderInput<'a, B>,
        heads: usize,
        ws: &mut B::Workspace,
    ) -> Result<()> {
        let Pass { be, values, batch, len, .. } = *pass;
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

    /// From the gradient of the features in `gradients[0]` to the parameters'; with `want_dx` the input's replaces it.
    pub fn backward<B: Backend>(
        &self,
        pass: &Pass<'_, B>,
        gradients: &mut [GrowableBuffer<B>; 2],
        grads: &mut Flats<B>,
        input: (&GrowableBuffer<B>, &GrowableInts<B>),
        want_dx: bool,
        ws: &mut B::Workspace,
    ) -> Result<()> {
        let Pass { be, batch, len, .. } = *pass;
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
