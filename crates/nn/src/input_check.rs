//! What a model refuses of an input, before any work.

use crate::{
    batch::Input,
    call_arrays::HostOptions,
    check,
    config::{Encoder, ModelConfig},
};
use s4_backend::{Backend, Code, Error, Result, checks};

/// Refuses a wrong input of a model, or a wrong length, interval or rate.
pub(crate) fn check_input<B: Backend>(
    op: &'static str,
    (be, c): (&B, &ModelConfig),
    (x, batch, len): (Input<'_, B::Scalar>, usize, usize),
    call: HostOptions<'_, B::Scalar>,
) -> Result<()> {
    let inner = c.feed_forward_features();
    let widest = c.input.max(2 * c.block.layer.spec().outputs()).max(c.decoder_outputs()).max(inner);
    check::elements(op, "input", &[batch, len, widest])?;
    match (x, c.encoder, c.vocabulary) {
        (Input::Tokens(x), Encoder::Embedding, vocabulary) => {
            check::shaped(op, "tokens", x, &[batch, len])?;
            check::indices(op, "tokens", x, vocabulary.unwrap_or(1), false)?;
        }
        (Input::Values(x), Encoder::Linear | Encoder::None, _) => {
            check::shaped(op, "input", x, &[batch, len, c.input])?;
            check::finite_on(be, op, "input", x)?;
        }
        (Input::Tokens(_), ..) => {
            return Err(Error::new(Code::Dtype, op, "real numbers (encoder is no embedding)", "tokens"));
        }
        (Input::Values(_), ..) => {
            return Err(Error::new(
                Code::Dtype,
                op,
                "integer tokens (encoder is an embedding)",
                "real numbers",
            ));
        }
    }
    checks::rate(op, call.rate)?;
    check::call_intervals(be, op, call.intervals, (batch, len), &c.block.layer.spec())?;
    call.lengths.map_or(Ok(()), |l| check::lengths(op, l, batch, len))
}
