//! Losses with their gradients (`kernels/dense/loss.cu`).

use crate::{device::Cuda, driver::args};
use s4_backend::{LOSS_SUMS, LossForwardBackward, Result, Target};

pub(super) fn forward_backward(be: &Cuda, args: &LossForwardBackward<'_, Cuda>) -> Result<()> {
    let &LossForwardBackward { output, target, row_weights, class_weights, loss, .. } = args;
    let (rows, outputs) = (args.rows, args.outputs);
    if rows * outputs == 0 {
        return Ok(());
    }
    let (values, labels) = match target {
        Target::Values(values) => (Some(values), None),
        Target::Labels(labels) => (None, Some(labels)),
    };
    let (levels, q) = (loss.levels.as_slice().len(), loss.levels.padded());
    let cells = be.scratch64("loss_forward_backward", LOSS_SUMS * rows)?;
    be.launch(
        ("loss", "loss"),
        (rows.div_ceil(4), 1, 1),
        (128, 1),
        0,
        args![
            &cells,
            args.doutput.as_ref(),
            args.predictions.as_ref(),
            output,
            values,
            labels,
            row_weights,
            class_weights,
            loss.kind.code(),
            loss.huber_delta,
            loss.label_smoothing,
            args.top_k.min(outputs),
            rows,
            outputs,
            args.denominator,
            levels,
            loss.levels.centre(),
            q[0],
            q[1],
            q[2],
            q[3],
            q[4],
            q[5],
            q[6],
            q[7],
            q[8]
        ],
    )?;
    be.launch(("loss", "loss_total"), (1, 1, 1), (1024, 1), 0, args![&args.stats, &cells, rows])
}
