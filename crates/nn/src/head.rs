//! What follows the last block: norm, pooling, decoder.

use crate::{
    call::Pass,
    config::ModelConfig,
    growable::GrowableBuffer,
    linear::{LinearStage, LinearStageBackward},
    norm::{Norm, NormBackward},
    param::{Flats, ParamBuilder},
};
use s4_backend::{
    Backend, Loss, LossForwardBackward, Mask, PoolBackward, PoolForward, Pooling, Result, SeqShape, Target,
};

/// Final norm, pooling, decoder, with the output and its gradient.
pub(crate) struct Head<B: Backend> {
    pub norm: Option<Norm<B>>,
    decoder: LinearStage,
    pooling: Option<Pooling>,
    stats: GrowableBuffer<B>,
    /// (batch, H)
    pooled: GrowableBuffer<B>,
    dpooled: GrowableBuffer<B>,
    /// The decoder's output, (batch, outputs, len).
    output: GrowableBuffer<B>,
    /// The same with features last, (batch·len, outputs), where the two layouts differ.
    output_rows: GrowableBuffer<B>,
    /// Gradient of the rows; backward starts from it.
    drows: GrowableBuffer<B>,
    doutput: GrowableBuffer<B>,
}

/// What a loss compares the output with.
pub(crate) struct HeadLoss<'a, B: Backend> {
    pub target: Target<'a, B>,
    pub weights: Option<B::Ref<'a>>,
    pub loss: Loss,
    /// The sum of losses is divided by it.
    pub denominator: f64,
    /// Backward may start from it.
    pub gradient: bool,
}

impl<B: Backend> Head<B> {
    pub fn new(be: &B, config: &ModelConfig, params: &mut ParamBuilder) -> Result<Self> {
        let (heads, seed) = (config.features(), config.block.layer.seed);
        let norm = match config.has_final_norm() {
            true => Norm::new(be, config.block.norm, heads, "norm.", params)?,
            false => None,
        };
        let decoder = LinearStage::new("decoder", (seed, 1), heads, config.decoder_outputs(), params);
        let buffer = || GrowableBuffer::new(be);
        Ok(Head {
            norm,
            decoder,
            pooling: config.pooling,
            stats: buffer()?,
            pooled: buffer()?,
            dpooled: buffer()?,
            output: buffer()?,
            output_rows: buffer()?,
            drows: buffer()?,
            doutput: buffer()?,
        })
    }

    /// Values the decoder gives.
    pub fn outputs(&self) -> usize {
        self.decoder.outputs
    }

    /// Output rows: batch when pooled, else batch·len.
    pub fn rows(&self, batch: usize, len: usize) -> usize {
        if self.pooling.is_some() { batch } else { batch * len }
    }

    /// Whether features last and time last are the same memory, for so many samples a row.
    fn layouts_agree(&self, len: usize) -> bool {
        len == 1 || self.decoder.outputs == 1
    }

    /// Samples a row of the output.
    fn output_len(&self, len: usize) -> usize {
        if self.pooling.is_some() { 1 } else { len }
    }

    /// From the features `x` (batch, H, len) to the output; `normed` receives the final norm's. With `every_step` the
    /// decoder runs at each sample whatever the pooling.
    pub fn forward(
        &mut self,
        pass: &Pass<'_, B>,
        x: B::Ref<'_>,
        normed: &mut GrowableBuffer<B>,
        every_step: bool,
        ws: &mut B::Workspace,
    ) -> Result<()> {
        let Pass { be, batch, len, .. } = *pass;
        let (heads, outputs) = (self.decoder.inputs, self.decoder.outputs);
        let n = batch * heads * len;
        if let Some(norm) = &mut self.norm {
            let stats_len = norm.stats_len(batch, len);
            self.stats.ensure(be, stats_len)?;
            normed.ensure(be, n)?;
            let stats = self.stats.get_mut(be, stats_len);
            norm.forward(pass, normed.get_mut(be, n), stats, be.shorten(x), ws)?;
        }
        let x = if self.norm.is_some() { normed.get(be, n) } else { be.shorten(x) };
        let lengths = pass.options.lengths;
        if let (Some(pooling), false) = (self.pooling, every_step) {
            let (size, m) = (batch * heads, batch * outputs);
            self.pooled.ensure(be, size)?;
            self.output.ensure(be, m)?;
            let (y, shape) = (self.pooled.get_mut(be, size), SeqShape { batch, heads, len });
            be.pool_forward(PoolForward { y, x, lengths, pooling, shape })?;
            let (y, x) = (self.output.get_mut(be, m), self.pooled.get(be, size));
            return self.decoder.forward(pass, y, x, 1, ws);
        }
        let m = batch * len * outputs;
        self.output.ensure(be, m)?;
        self.decoder.forward(pass, self.output.get_mut(be, m), x, len, ws)?;
        if let Some(lengths) = lengths {
            let (x, shape) = (self.output.get_mut(be, m), SeqShape { batch, heads: outputs, len });
            be.mask(Mask { x, lengths, shape })?;
        }
        if !self.layouts_agree(len) {
            self.output_rows.ensure(be, m)?;
            be.transpose(self.output_rows.get_mut(be, m), self.output.get(be, m), batch, outputs, len)?;
        }
        Ok(())
    }

    /// Rows of the last forward: (batch, outputs) when pooled, else (batch, len, outputs).
    pub fn output(&self, be: &B, batch: usize, len: usize) -> B::Ref<'_> {
        self.output_of_every_step(be, batch, self.output_len(len))
    }

    /// Rows of the last forward with `every_step`: (batch, len, outputs).
    pub fn output_of_every_step(&self, be: &B, batch: usize, len: usize) -> B::Ref<'_> {
        let rows = if self.layouts_agree(len) { &self.output } else { &self.output_rows };
        rows.get(be, batch * len * self.decoder.outputs)
    }

    /// stats += [loss, correct] of the last forward's output.
    pub fn loss(
        &mut self,
        pass: &Pass<'_, B>,
        mut stats: B::Mut<'_>,
        against: HeadLoss<'_, B>,
        ws: &mut B::Workspace,
    ) -> Result<()> {
        let Pass { be, batch, len, .. } = *pass;
        let HeadLoss { target, weights, loss, denominator, gradient } = against;
        let (rows, outputs) = (self.rows(batch, len), self.decoder.outputs);
        let m = rows * outputs;
        self.drows.ensure(be, m)?;
        let output = match self.layouts_agree(self.output_len(len)) {
            true => self.output.get(be, m),
            false => self.output_rows.get(be, m),
        };
        let args = LossForwardBackward {
            stats: be.reborrow(&mut stats),
            doutput: gradient.then(|| self.drows.get_mut(be, m)),
            output,
            target: match target {
                Target::Values(values) => Target::Values(be.shorten(values)),
                Target::Labels(labels) => Target::Labels(labels),
            },
            row_weights: weights.map(|view| be.shorten(view)),
            loss,
            rows,
            outputs,
            denominator,
        };
        be.loss_forward_backward(args, ws)
    }

    /// Starts backward from the caller's gradient of the output rows.
    pub fn set_gradient(&mut self, be: &B, doutput: &[B::Scalar]) -> Result<()> {
        self.drows.ensure(be, doutput.len())?;
        be.upload(self.drows.get_mut(be, doutput.len()), doutput)
    }

    /// From the gradient of the rows to the parameters' (accumulated) and the gradient of the features, which is left in
    /// `gradients[0]`. `x`: the features that went in.
    pub fn backward(
        &mut self,
        pass: &Pass<'_, B>,
        gradients: &mut [GrowableBuffer<B>; 2],
        grads: &mut Flats<B>,
        x: B::Ref<'_>,
        ws: &mut B::Workspace,
    ) -> Result<()> {
        let Pass { be, batch, len, .. } = *pass;
        let (heads, outputs) = (self.decoder.inputs, self.decoder.outputs);
        let (n, m) = (batch * heads * len, self.rows(batch, len) * outputs);
        let shape = SeqShape { batch, heads, len };
        let doutput = match self.layouts_agree(self.output_len(len)) {
            true => &mut self.drows,
            false => {
                self.doutput.ensure(be, m)?;
                be.transpose(self.doutput.get_mut(be, m), self.drows.get(be, m), batch, len, outputs)?;
                &mut self.doutput
            }
        };
        let lengths = pass.options.lengths;
        if let (Some(lengths), None) = (lengths, self.pooling) {
            let shape = SeqShape { heads: outputs, ..shape };
            be.mask(Mask { x: doutput.get_mut(be, m), lengths, shape })?;
        }
        let dy = doutput.get(be, m);
        gradients.iter_mut().try_for_each(|g| g.ensure(be, n))?;
        let [d, normed] = gradients;
        if let Some(norm) = &self.norm {
            // Recomputed: the buffer that held it in the forward has served for other things since.
            let stats = self.stats.get(be, norm.stats_len(batch, len));
            norm.recompute(pass, normed.get_mut(be, n), stats, be.shorten(x))?;
        }
        let features = if self.norm.is_some() { normed.get(be, n) } else { be.shorten(x) };
        match self.pooling {
            Some(pooling) => {
                let size = batch * heads;
                self.dpooled.ensure(be, size)?;
                let arrays = LinearStageBackward {
                    dx: Some(self.dpooled.get_mut(be, size)),
                    grads: &mut *grads,
                    dy: be.shorten(dy),
                    x: self.pooled.get(be, size),
                    len: 1,
                };
                self.decoder.backward(pass, arrays, ws)?;
                let (dx, dy) = (d.get_mut(be, n), self.dpooled.get(be, size));
                be.pool_backward(PoolBackward { dx, dy, x: features, lengths, pooling, shape })?;
            }
            None => {
                let arrays = LinearStageBackward {
                    dx: Some(d.get_mut(be, n)),
                    grads: &mut *grads,
                    dy: be.shorten(dy),
                    x: features,
                    len,
                };
                self.decoder.backward(pass, arrays, ws)?;
            }
        }
        if let Some(norm) = &self.norm {
            let arrays = NormBackward {
                dx: normed.get_mut(be, n),
                grads,
                dy: d.get(be, n),
                x: be.shorten(x),
                stats: self.stats.get(be, norm.stats_len(batch, len)),
                residual: None,
            };
            norm.backward(pass, arrays, ws)?;
            gradients.swap(0, 1);
        }
        Ok(())
    }

    /// The final norm of one sample, (batch, H); false when there is none.
    pub fn norm_step<'a>(
        &'a mut self,
        pass: &Pass<'a, B>,
        y: B::Mut<'a>,
        x: B::Ref<'a>,
        ws: &mut B::Workspace,
    ) -> Result<bool> {
        let Some(norm) = &mut self.norm else { return Ok(false) };
        let stats_len = norm.stats_len(pass.batch, 1);
        self.stats.ensure(pass.be, stats_len)?;
        norm.forward(pass, y, self.stats.get_mut(pass.be, stats_len), x, ws)?;
        Ok(true)
    }

    /// The decoder of one sample, (batch, H) → (batch, outputs).
    pub fn decode_step<'a>(
        &self,
        pass: &Pass<'a, B>,
        y: B::Mut<'a>,
        x: B::Ref<'a>,
        ws: &mut B::Workspace,
    ) -> Result<()> {
        self.decoder.forward(pass, y, x, 1, ws)
    }
}
