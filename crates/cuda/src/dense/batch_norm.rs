//! Batch norm over all sequences and time steps (`kernels/dense/batch_norm.cu`).

use super::mix_sm90::TILE_STEPS;
use crate::{
    device::Cuda,
    driver::{Arg, args},
};
use s4_backend::{
    BatchNormBackward, BatchNormForward, BatchNormGradientSums, BatchNormInputGradient, BatchNormJoint,
    BatchNormMoments, BatchNormRecompute, Error, Memory, Result, SeqShape, joint_norm_len,
};

/// Time steps of a piece, as in the kernels.
const PIECE_STEPS: usize = 1024;

/// Numbers of pieces, the up to 1024 time steps of one head of one sequence that a warp keeps in registers.
struct Pieces {
    /// Pieces of one head of one sequence.
    per_sequence: usize,
    /// Pieces of (batch, heads).
    total: usize,
}

impl Pieces {
    fn of(s: &SeqShape) -> Pieces {
        let per_sequence = s.len.div_ceil(PIECE_STEPS);
        Pieces { per_sequence, total: s.batch * s.heads * per_sequence }
    }

    /// Launches a kernel with one warp per piece.
    fn launch(&self, be: &Cuda, kernel: &'static str, args: &[Arg]) -> Result<()> {
        be.launch(("batch_norm", kernel), (self.total.div_ceil(8), 1, 1), (256, 1), 0, args)
    }
}

pub(super) fn forward(be: &Cuda, args: &BatchNormForward<'_, Cuda>) -> Result<()> {
    let BatchNormForward {
        y,
        stats,
        running,
        x,
        moments,
        gamma,
        beta,
        lengths,
        eps,
        momentum,
        training,
        shape,
    } = args;
    let &SeqShape { batch, heads, len } = shape;
    let p = Pieces::of(shape);
    let moments = moments.filter(|_| *training);
    let moments_len = 2 * heads * batch * len.div_ceil(TILE_STEPS);
    if let Some(other) = moments.filter(|moments| moments.len() != moments_len) {
        let expected = format!("moments of {moments_len} elements");
        return Err(Error::shape("batch_norm_forward", expected, other.len()));
    }
    let own = *training && moments.is_none();
    let part = own.then(|| be.scratch("batch_norm_forward", 2 * p.total)).transpose()?;
    // Moments that a mix has left are of its tiles.
    let (pieces, steps) = match moments {
        Some(_) => (len.div_ceil(TILE_STEPS), TILE_STEPS),
        None => (p.per_sequence, PIECE_STEPS),
    };
    if let Some(part) = &part {
        p.launch(be, "batch_norm_pieces", args![part, *x, *lengths, batch, heads, len, p.per_sequence])?;
    }
    be.launch(
        ("batch_norm", "batch_norm_stats"),
        (heads, 1, 1),
        (128, 1),
        0,
        args![
            stats,
            running,
            moments.map(|m| m.span()).or(part.as_ref().map(|p| p.span())),
            *lengths,
            *eps,
            *momentum,
            *training,
            batch,
            heads,
            len,
            pieces,
            steps
        ],
    )?;
    let (Some(y), stats) = (y, be.freeze(stats)) else { return Ok(()) };
    let arguments = args![y, stats, *x, *gamma, *beta, *lengths, batch, heads, len, p.per_sequence];
    p.launch(be, "batch_norm_normalize", arguments)
}

pub(super) fn recompute(be: &Cuda, args: &BatchNormRecompute<'_, Cuda>) -> Result<()> {
    let BatchNormRecompute { y, stats, x, gamma, beta, lengths, shape } = args;
    let &SeqShape { batch, heads, len } = shape;
    let p = Pieces::of(shape);
    let arguments = args![y, *stats, *x, *gamma, *beta, *lengths, batch, heads, len, p.per_sequence];
    p.launch(be, "batch_norm_normalize", arguments)
}

pub(super) fn moments(be: &Cuda, args: &BatchNormMoments<'_, Cuda>) -> Result<()> {
    let BatchNormMoments { moments, x, lengths, shape } = args;
    let &SeqShape { batch, heads, len } = shape;
    let p = Pieces::of(shape);
    let part = be.scratch("batch_norm_moments", 2 * p.total)?;
    p.launch(be, "batch_norm_pieces", args![&part, *x, *lengths, batch, heads, len, p.per_sequence])?;
    be.launch(
        ("batch_norm", "batch_norm_moments"),
        (heads, 1, 1),
        (128, 1),
        0,
        args![moments, &part, *lengths, batch, heads, len, p.per_sequence],
    )
}

pub(super) fn joint(be: &Cuda, args: &BatchNormJoint<'_, Cuda>) -> Result<()> {
    let BatchNormJoint { stats, running, moments, ranks, heads, eps, momentum } = args;
    be.launch(
        ("batch_norm", "batch_norm_joint"),
        (heads.div_ceil(128), 1, 1),
        (128, 1),
        0,
        args![stats, running, *moments, *ranks, *heads, *eps, *momentum],
    )
}

pub(super) fn gradient_sums(be: &Cuda, args: &BatchNormGradientSums<'_, Cuda>) -> Result<()> {
    let BatchNormGradientSums { sums, dgamma, dbeta, dy, x, stats, lengths, shape } = args;
    let &SeqShape { batch, heads, len } = shape;
    let p = Pieces::of(shape);
    let part = be.scratch("batch_norm_gradient_sums", 2 * p.total)?;
    let arguments = args![&part, *dy, *x, *stats, *lengths, batch, heads, len, p.per_sequence];
    p.launch(be, "batch_norm_sums", arguments)?;
    let arguments = args![dgamma, dbeta, sums, &part, *stats, *lengths, batch, heads, len, p.per_sequence];
    be.launch(("batch_norm", "batch_norm_dparams"), (heads, 1, 1), (128, 1), 0, arguments)
}

pub(super) fn input_gradient(be: &Cuda, args: &BatchNormInputGradient<'_, Cuda>) -> Result<()> {
    let BatchNormInputGradient { dx, dy, x, stats, sums, gamma, residual, lengths, shape } = args;
    let &SeqShape { batch, heads, len } = shape;
    let (p, of_batch) = (Pieces::of(shape), true);
    #[rustfmt::skip]
    let arguments = args![
        dx, *dy, *x, *residual, *stats, *sums, *gamma, *lengths, of_batch, batch, heads, len, p.per_sequence
    ];
    p.launch(be, "batch_norm_dx", arguments)
}

/// Both of the above, of one rank's own sums.
pub(super) fn backward(be: &Cuda, args: &BatchNormBackward<'_, Cuda>) -> Result<()> {
    const OP: &str = "batch_norm_backward";
    let BatchNormBackward { dx, dgamma, dbeta, dy, x, stats, gamma, residual, lengths, training, shape } =
        args;
    let &SeqShape { batch, heads, len } = shape;
    let p = Pieces::of(shape);
    let (part, sums) = (be.scratch(OP, 2 * p.total)?, be.scratch(OP, joint_norm_len(heads))?);
    let arguments = args![&part, *dy, *x, *stats, *lengths, batch, heads, len, p.per_sequence];
    p.launch(be, "batch_norm_sums", arguments)?;
    let arguments = args![dgamma, dbeta, &sums, &part, *stats, *lengths, batch, heads, len, p.per_sequence];
    be.launch(("batch_norm", "batch_norm_dparams"), (heads, 1, 1), (128, 1), 0, arguments)?;
    #[rustfmt::skip]
    let arguments = args![
        dx, *dy, *x, *residual, *stats, &sums, *gamma, *lengths, *training, batch, heads, len, p.per_sequence
    ];
    p.launch(be, "batch_norm_dx", arguments)
}
