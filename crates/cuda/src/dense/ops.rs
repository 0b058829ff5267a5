//! Everything around the SSM (`kernels/{norm,dense}.cu`, the products of `gemm.rs` and the mix of `mix.rs`).

use crate::{
    Cuda, Ints,
    launch::{Arg, args},
    memory::same_len,
};
use s4_backend::{random::DropKey, *};

pub(crate) fn code(f: Activation) -> i32 {
    match f {
        Activation::Identity => 0,
        Activation::Gelu => 1,
        Activation::Relu => 2,
        Activation::Silu => 3,
        Activation::Tanh => 4,
        Activation::Sigmoid => 5,
    }
}

fn pool_code(p: Pooling) -> i32 {
    match p {
        Pooling::Mean => 0,
        Pooling::Last => 1,
        Pooling::First => 2,
        Pooling::Max => 3,
        Pooling::Sum => 4,
    }
}

/// Lengths cover the batch; their values were checked on the host when they were made.
pub(crate) fn check_lengths(op: &'static str, lengths: Option<&Ints>, batch: usize) -> Result<()> {
    match lengths {
        Some(l) if l.len() < batch => Err(Error::shape(op, format!("{batch} lengths"), l.len())),
        _ => Ok(()),
    }
}

/// Pieces of a row, which batch norm's warps keep in registers (`norm.cu`).
struct Pieces {
    row: usize,
    total: usize,
}

impl Pieces {
    fn of(s: &SeqShape) -> Pieces {
        let row = s.len.div_ceil(1024);
        Pieces { row, total: s.batch * s.heads * row }
    }
}

impl Cuda {
    /// A kernel with a warp a piece.
    fn pieces(&self, kernel: &'static str, p: &Pieces, args: &[Arg]) -> Result<()> {
        self.launch(("norm", kernel), (p.total.div_ceil(8), 1, 1), (256, 1), 0, args)
    }
}

/// Layer norm and its gradient, by how many heads they keep in registers.
fn layer_norm_kernel(heads: usize) -> [&'static str; 2] {
    match heads {
        0..=128 => ["layer_norm_128", "layer_norm_dx_128"],
        129..=256 => ["layer_norm_256", "layer_norm_dx_256"],
        257..=512 => ["layer_norm_512", "layer_norm_dx_512"],
        _ => ["layer_norm_any", "layer_norm_dx_any"],
    }
}

impl DenseOps for Cuda {
    fn linear_forward(
        &self,
        y: Self::Mut<'_>,
        x: Self::Ref<'_>,
        weight: Self::Ref<'_>,
        bias: Option<Self::Ref<'_>>,
        shape: &LinearShape,
        _ws: &mut Self::Workspace,
    ) -> Result<()> {
        self.linear_y(&y, x, weight, bias, shape)
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
        _ws: &mut Self::Workspace,
    ) -> Result<()> {
        const OP: &str = "linear_backward";
        let &LinearShape { batch, inputs, outputs, len } = shape;
        same_len(OP, batch * outputs * len, dy.len())?;
        same_len(OP, batch * inputs * len, x.len())?;
        same_len(OP, outputs * inputs, weight.len())?;
        same_len(OP, outputs * inputs, dweight.len())?;
        let sizes = (batch, outputs, inputs, len);
        self.weight_gradient(dweight.span(), dy.span(), x.span(), sizes)?;
        if let Some(db) = dbias {
            same_len(OP, outputs, db.len())?;
            self.bias_gradient(db.span(), dy.span(), (batch, outputs, len))?;
        }
        if let Some(dx) = dx {
            same_len(OP, x.len(), dx.len())?;
            self.weight_t_times(dx.span(), weight.span(), dy.span(), sizes)?;
        }
        Ok(())
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
        const OP: &str = "layer_norm_forward";
        let &SeqShape { batch, heads, len } = shape;
        same_len(OP, shape.elements(), y.len())?;
        same_len(OP, shape.elements(), x.len())?;
        same_len(OP, batch * 2 * len, stats.len())?;
        same_len(OP, heads, gamma.len())?;
        same_len(OP, heads, beta.len())?;
        if len == 1 {
            let block = heads.next_multiple_of(32).min(256) as u32;
            let all = args![&y, &stats, x, gamma, beta, eps as f32, heads as i32];
            return self.launch(("rows", "layer_norm_rows"), (batch, 1, 1), (block, 1), 0, all);
        }
        self.launch(
            ("norm", layer_norm_kernel(heads)[0]),
            ((batch * len).div_ceil(32), 1, 1),
            (32, 16),
            0,
            args![&y, &stats, x, gamma, beta, eps as f32, batch, heads, len],
        )
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
        const OP: &str = "layer_norm_again";
        let &SeqShape { batch, heads, len } = shape;
        let n = shape.elements();
        same_len(OP, n, y.len())?;
        same_len(OP, n, x.len())?;
        same_len(OP, batch * 2 * len, stats.len())?;
        same_len(OP, heads, gamma.len())?;
        same_len(OP, heads, beta.len())?;
        let all = args![&y, stats, x, gamma, beta, n, heads, len];
        self.each(("norm", "layer_norm_again"), n.div_ceil(4), all)
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
        _ws: &mut Self::Workspace,
    ) -> Result<()> {
        const OP: &str = "layer_norm_backward";
        let &SeqShape { batch, heads, len } = shape;
        for n in [dx.len(), dy.len(), x.len(), residual.map_or(dx.len(), |r| r.len())] {
            same_len(OP, shape.elements(), n)?;
        }
        same_len(OP, batch * 2 * len, stats.len())?;
        for n in [gamma.len(), dgamma.len(), dbeta.len()] {
            same_len(OP, heads, n)?;
        }
        self.launch(
            ("norm", "layer_norm_dparams"),
            (heads, 1, 1),
            (512, 1),
            0,
            args![&dgamma, &dbeta, dy, x, stats, batch, heads, len],
        )?;
        self.launch(
            ("norm", layer_norm_kernel(heads)[1]),
            ((batch * len).div_ceil(32), 1, 1),
            (32, 16),
            0,
            args![&dx, dy, x, stats, gamma, residual, batch, heads, len],
        )
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
        const OP: &str = "batch_norm_forward";
        let &SeqShape { batch, heads, len } = shape;
        same_len(OP, shape.elements(), x.len())?;
        for n in [stats.len(), running.len()] {
            same_len(OP, 2 * heads, n)?;
        }
        check_lengths(OP, lengths, batch)?;
        let p = Pieces::of(shape);
        let part = training.then(|| self.scratch(OP, 2 * p.total)).transpose()?;
        if let Some(part) = &part {
            self.pieces("batch_norm_pieces", &p, args![part, x, lengths, batch, heads, len, p.row])?;
        }
        self.launch(
            ("norm", "batch_norm_stats"),
            (heads, 1, 1),
            (128, 1),
            0,
            args![
                &stats,
                &running,
                part.as_ref(),
                lengths,
                eps,
                momentum,
                training,
                batch,
                heads,
                len,
                p.row
            ],
        )?;
        self.batch_norm_again(y, self.freeze(&stats), x, gamma, beta, lengths, shape)
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
        const OP: &str = "batch_norm_again";
        let &SeqShape { batch, heads, len } = shape;
        same_len(OP, shape.elements(), y.len())?;
        same_len(OP, shape.elements(), x.len())?;
        same_len(OP, 2 * heads, stats.len())?;
        same_len(OP, heads, gamma.len())?;
        same_len(OP, heads, beta.len())?;
        check_lengths(OP, lengths, batch)?;
        let p = Pieces::of(shape);
        let all = args![&y, stats, x, gamma, beta, lengths, batch, heads, len, p.row];
        self.pieces("batch_norm_apply", &p, all)
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
        _ws: &mut Self::Workspace,
    ) -> Result<()> {
        const OP: &str = "batch_norm_backward";
        let &SeqShape { batch, heads, len } = shape;
        for n in [dx.len(), dy.len(), x.len(), residual.map_or(dx.len(), |r| r.len())] {
            same_len(OP, shape.elements(), n)?;
        }
        same_len(OP, 2 * heads, stats.len())?;
        for n in [gamma.len(), dgamma.len(), dbeta.len()] {
            same_len(OP, heads, n)?;
        }
        check_lengths(OP, lengths, batch)?;
        let p = Pieces::of(shape);
        let (part, means) = (self.scratch(OP, 2 * p.total)?, self.scratch(OP, 2 * heads)?);
        self.pieces("batch_norm_sums", &p, args![&part, dy, x, stats, lengths, batch, heads, len, p.row])?;
        self.launch(
            ("norm", "batch_norm_dparams"),
            (heads, 1, 1),
            (128, 1),
            0,
            args![&dgamma, &dbeta, &means, &part, stats, lengths, training, batch, heads, len, p.row],
        )?;
        let all = args![&dx, dy, x, residual, stats, &means, gamma, lengths, batch, heads, len, p.row];
        self.pieces("batch_norm_dx", &p, all)
    }

    fn mix_saved_len(&self, spec: &MixSpec, batch: usize, len: usize) -> usize {
        self.mix_kept_len(spec, batch, len)
    }

    fn mix_forward(
        &self,
        y: Self::Mut<'_>,
        saved: Option<Self::Mut<'_>>,
        s: Self::Ref<'_>,
        residual: Option<Self::Ref<'_>>,
        params: &MixParams<'_, Self>,
        spec: &MixSpec,
        key: DropKey,
        batch: usize,
        len: usize,
        _ws: &mut Self::Workspace,
    ) -> Result<()> {
        self.mix_y(y, saved, s, residual, params, spec, key, batch, len)
    }

    fn mix_backward(
        &self,
        ds: Self::Mut<'_>,
        grads: MixGrads<'_, Self>,
        dy: Self::Ref<'_>,
        s: Self::Ref<'_>,
        saved: Self::Ref<'_>,
        params: &MixParams<'_, Self>,
        spec: &MixSpec,
        key: DropKey,
        batch: usize,
        len: usize,
        _ws: &mut Self::Workspace,
    ) -> Result<()> {
        self.mix_gradients(ds, grads, dy, s, saved, params, spec, key, batch, len)
    }

    fn activation_forward(&self, y: Self::Mut<'_>, x: Self::Ref<'_>, activation: Activation) -> Result<()> {
        same_len("activation_forward", y.len(), x.len())?;
        self.each(("mix", "activation_forward"), x.len(), args![&y, x, x.len(), code(activation)])
    }

    fn activation_backward(
        &self,
        dx: Self::Mut<'_>,
        dy: Self::Ref<'_>,
        x: Self::Ref<'_>,
        activation: Activation,
    ) -> Result<()> {
        same_len("activation_backward", dx.len(), x.len())?;
        same_len("activation_backward", dx.len(), dy.len())?;
        self.each(("mix", "activation_backward"), x.len(), args![&dx, dy, x, x.len(), code(activation)])
    }

    fn mask(&self, x: Self::Mut<'_>, lengths: &Self::Ints, shape: &SeqShape) -> Result<()> {
        same_len("mask", shape.elements(), x.len())?;
        check_lengths("mask", Some(lengths), shape.batch)?;
        self.each(("dense", "mask"), x.len(), args![&x, lengths, x.len(), shape.heads, shape.len])
    }

    fn pool_forward(
        &self,
        y: Self::Mut<'_>,
        x: Self::Ref<'_>,
        lengths: Option<&Self::Ints>,
        pooling: Pooling,
        shape: &SeqShape,
    ) -> Result<()> {
        const OP: &str = "pool_forward";
        let &SeqShape { batch, heads, len } = shape;
        same_len(OP, batch * heads, y.len())?;
        same_len(OP, shape.elements(), x.len())?;
        check_lengths(OP, lengths, batch)?;
        let rows = batch * heads;
        let grid = (rows.div_ceil(4), 1, 1);
        self.launch(
            ("dense", "pool"),
            grid,
            (128, 1),
            0,
            args![&y, x, lengths, pool_code(pooling), rows, heads, len],
        )
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
        const OP: &str = "pool_backward";
        let &SeqShape { batch, heads, len } = shape;
        same_len(OP, batch * heads, dy.len())?;
        same_len(OP, shape.elements(), x.len())?;
        same_len(OP, shape.elements(), dx.len())?;
        check_lengths(OP, lengths, batch)?;
        let rows = batch * heads;
        let grid = (rows.div_ceil(4), 1, 1);
        self.launch(
            ("dense", "pool_backward"),
            grid,
            (128, 1),
            0,
            args![&dx, dy, x, lengths, pool_code(pooling), rows, heads, len],
        )
    }

    fn embedding_forward(
        &self,
        y: Self::Mut<'_>,
        table: Self::Ref<'_>,
        tokens: &Self::Ints,
        shape: &SeqShape,
    ) -> Result<()> {
        const OP: &str = "embedding_forward";
        let &SeqShape { batch, heads, len } = shape;
        same_len(OP, shape.elements(), y.len())?;
        same_len(OP, table.len() / heads.max(1) * heads, table.len())?;
        check_lengths(OP, Some(tokens), batch * len)?;
        self.each(("dense", "embedding"), y.len(), args![&y, table, tokens, y.len(), heads, len])
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
        const OP: &str = "embedding_backward";
        let &SeqShape { batch, heads, len } = shape;
        same_len(OP, shape.elements(), dy.len())?;
        same_len(OP, vocabulary * heads, dtable.len())?;
        let positions = batch * len;
        check_lengths(OP, Some(tokens), positions)?;
        let splits = positions.div_ceil(4096).min((4096 / vocabulary.max(1)).max(1)).clamp(1, 64);
        let part = self.scratch(OP, splits * dtable.len())?;
        self.launch(
            ("dense", "embedding_backward"),
            (vocabulary, heads.div_ceil(128), splits),
            (128, 1),
            0,
            args![&part, dy, tokens, positions, vocabulary, heads, len],
        )?;
        self.each(("gemm", "reduce_parts"), dtable.len(), args![&dtable, &part, dtable.len(), splits])
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
        _ws: &mut Self::Workspace,
    ) -> Result<()> {
        const OP: &str = "loss_forward_backward";
        same_len(OP, rows * outputs, output.len())?;
        if stats.len() < 2 {
            return Err(Error::shape(OP, "2 statistics", stats.len()));
        }
        if let Some(w) = row_weights {
            same_len(OP, rows, w.len())?;
        }
        if let Some(d) = &doutput {
            same_len(OP, rows * outputs, d.len())?;
        }
        if rows * outputs == 0 {
            return Ok(());
        }
        let (kind, delta, width) = match loss {
            Loss::CrossEntropy => (0, 0.0, 0),
            Loss::Mse => (1, 0.0, outputs),
            Loss::Mae => (2, 0.0, outputs),
            Loss::Huber { delta } => (3, delta, outputs),
            Loss::Gaussian if outputs % 2 != 0 => return Err(Error::shape(OP, "an even width", outputs)),
            Loss::Gaussian => (4, 0.0, outputs / 2),
        };
        let (values, labels) = match (kind, target) {
            (0, Target::Labels(labels)) => {
                check_lengths(OP, Some(labels), rows)?;
                (None, Some(*labels))
            }
            (0, Target::Values(_)) => return Err(Error::value(OP, "integer labels", "values")),
            (_, Target::Values(values)) => {
                same_len(OP, rows * width, values.len())?;
                (Some(*values), None)
            }
            (_, Target::Labels(_)) => return Err(Error::value(OP, "real targets", "labels")),
        };
        let cells = self.scratch64(OP, 2 * rows)?;
        self.launch(
            ("dense", "loss"),
            (rows.div_ceil(4), 1, 1),
            (128, 1),
            0,
            args![
                &cells,
                doutput.as_ref(),
                output,
                values,
                labels,
                row_weights,
                kind,
                delta,
                rows,
                outputs,
                denominator
            ],
        )?;
        self.launch(("dense", "loss_total"), (1, 1, 1), (1024, 1), 0, args![&stats, &cells, rows])
    }
}
