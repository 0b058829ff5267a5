//! What a model is given for a token: the token itself where its encoder is an embedding, else the input values that stand
//! for it.

use crate::{
    batch::Input,
    check,
    config::{Encoder, ModelConfig},
    model::Model,
};
use s4_backend::{Backend, Error, LossKind, Result, host_memory};

/// The input of a model that gives at each time step the logits of the next token.
#[derive(Clone, Debug, PartialEq)]
pub struct Feed<T> {
    /// Input values of each token, (tokens, input); none where the model's encoder is an embedding.
    values: Option<Vec<T>>,
    /// Number of different tokens.
    pub(crate) vocabulary: usize,
}

impl<T: s4_backend::Scalar> Feed<T> {
    /// The feed of a model, whose outputs must be the logits of what it takes: `ERR_S4_UNSUPPORTED` where they are not, or
    /// where it has no recurrent state. `values`: input values of each class, (classes, input), for a model whose encoder is no
    /// embedding.
    pub fn new<B: Backend<Scalar = T>>(
        op: &'static str,
        model: &Model<B>,
        values: Option<Vec<T>>,
    ) -> Result<Self> {
        let c: &ModelConfig = &model.config;
        let unsupported = |expected: &str, got: String| Err(Error::unsupported(op, expected, got));
        if c.loss != LossKind::CrossEntropy {
            return unsupported("a model with loss crossEntropy", format!("loss {}", c.loss.name()));
        }
        if let Some(pooling) = c.pooling {
            return unsupported("a model without pooling", format!("pooling {}", pooling.name()));
        }
        model.require_state(op)?;
        let classes = c.decoder_outputs();
        match (c.encoder, c.vocabulary, &values) {
            (Encoder::Embedding, Some(vocabulary), None) if vocabulary == classes => {}
            (Encoder::Embedding, vocabulary, None) => {
                let tokens = vocabulary.unwrap_or(1);
                return unsupported(
                    "a model whose outputs are the tokens of its vocabulary",
                    format!("{classes} outputs for {tokens} tokens"),
                );
            }
            (Encoder::Embedding, _, Some(_)) => {
                return Err(Error::value(op, "no inputs for a model that takes tokens", "inputs"));
            }
            (_, _, None) => {
                return Err(Error::value(
                    op,
                    "inputs, the input values of each class, for a model that takes no tokens",
                    "none",
                ));
            }
            (_, _, Some(values)) => {
                check::shaped(op, "inputs", values, &[classes, c.input])?;
                check::finite(op, "inputs", values)?;
            }
        }
        Ok(Feed { values, vocabulary: classes })
    }

    /// Input values of each token, (tokens, input); none where the model takes tokens.
    pub(crate) fn values(&self) -> Option<&[T]> {
        self.values.as_deref()
    }

    /// Refuses sequences without tokens, and tokens that the model does not know.
    pub(crate) fn check(&self, op: &'static str, what: &str, tokens: &[i32]) -> Result<()> {
        if tokens.is_empty() {
            return Err(Error::shape(op, format!("{what} of at least one token"), "none"));
        }
        check::indices(op, what, tokens, self.vocabulary, false)
    }

    /// The input for these tokens; values are gathered in `gathered`.
    pub(crate) fn input<'a>(
        &self,
        op: &'static str,
        tokens: &'a [i32],
        gathered: &'a mut Vec<T>,
    ) -> Result<Input<'a, T>> {
        let Some(values) = &self.values else { return Ok(Input::Tokens(tokens)) };
        let width = values.len() / self.vocabulary;
        host_memory::resize(op, "input values", gathered, tokens.len() * width)?;
        for (row, &token) in gathered.chunks_exact_mut(width).zip(tokens) {
            row.copy_from_slice(&values[token as usize * width..][..width]);
        }
        Ok(Input::Values(gathered))
    }
}
