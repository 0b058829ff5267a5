//! The part of a model after its last block: final norm, pooling over time, decoder.

use crate::{
    config::ModelConfig,
    growable_buffer::GrowableBuffer,
    linear::{LinearStage, LinearStageBackward},
    norm::{Norm, NormBackward, NormInput},
    param::{GroupBuffers, ParamBuilder},
    pass_options::PassContext,
};
use s4_backend::{
    Backend, Loss, LossForwardBackward, PoolBackward, PoolForward, Pooling, Result, Scalar, SeqShape, Target,
    ZeroBeyondLengths,
};

/// Final norm, pooling and decoder, with device buffers for the output and its gradient. A row of the output is what the
/// decoder gives for one prediction: one for each sequence with pooling, else one for each time step.
pub(crate) struct OutputStage<B: Backend> {
    /// The final norm, where the model has one.
    pub norm: Option<Norm<B>>,
    /// The linear that makes outputs of features.
    decoder: LinearStage,
    /// How features are pooled over time; not at all without.
    pooling: Option<Pooling>,
    /// Means and inverse deviations of the final norm, which a backward needs.
    stats: GrowableBuffer<B>,
    /// The same of a stream's time step, which may come between a forward and its backward.
    step_stats: GrowableBuffer<B>,
    /// Whether the buffer that the last forward was given for the norm's output still holds it: until a backward.
    norm_output_stands: bool,
    /// Features pooled over time, (batch, H).
    pooled: GrowableBuffer<B>,
    /// Gradient of the pooled features, (batch, H).
    dpooled: GrowableBuffer<B>,
    /// Output of the decoder with time last, (batch, outputs, len); len is 1 with pooling.
    output: GrowableBuffer<B>,
    /// The output with its values last, (batch·len, outputs). Used only where that is not the same memory layout.
    output_rows: GrowableBuffer<B>,
    /// Gradient of the output with its values last. A backward starts from it.
    doutput_rows: GrowableBuffer<B>,
    /// Gradient of the output with time last, where the two layouts differ.
    doutput: GrowableBuffer<B>,
}

/// What a loss is computed from, besides the output.
pub(crate) struct LossInputs<'a, B: Backend> {
    /// Targets, one for each row of the output.
    pub target: Target<'a, B>,
    /// Weight of each target; 1 without.
    pub weights: Option<B::Ref<'a>>,
    /// Weight of each class; 1 without.
    pub class_weights: Option<B::Ref<'a>>,
    /// Where to write the predicted class of each target.
    pub predictions: Option<B::Mut<'a>>,
    /// The loss to compute.
    pub loss: Loss,
    /// The label counts as found where it is among so many of the largest outputs.
    pub top_k: usize,
    /// What the sum of losses is divided by, to give a mean.
    pub denominator: f64,
    /// Whether to compute the gradient of the output too, for a backward.
    pub want_gradient: bool,
}

impl<B: Backend> OutputStage<B> {
    /// The part after the last block of a model of this configuration; adds its parameters to `params`.
    pub fn new(be: &B, config: &ModelConfig, params: &mut ParamBuilder) -> Result<Self> {
        let (heads, seed) = (config.features(), config.block.layer.seed);
        let norm = match config.has_final_norm() {
            true => Norm::new(be, config.block.norm, heads, "norm.", params)?,
            false => None,
        };
        let decoder = LinearStage::new("decoder", (seed, 1), heads, config.decoder_outputs(), params)?;
        let buffer = || GrowableBuffer::new(be);
        Ok(OutputStage {
            norm,
            decoder,
            pooling: config.pooling,
            stats: buffer()?,
            step_stats: buffer()?,
            norm_output_stands: false,
            pooled: buffer()?,
            dpooled: buffer()?,
            output: buffer()?,
            output_rows: buffer()?,
            doutput_rows: buffer()?,
            doutput: buffer()?,
        })
    }

    /// Number of values of the decoder's output.
    pub fn outputs(&self) -> usize {
        self.decoder.outputs
    }

    /// Number of rows of the output: batch with pooling, else batch·len.
    pub fn rows(&self, batch: usize, len: usize) -> usize {
        if self.pooling.is_some() { batch } else { batch * len }
    }

    /// Whether an output of `len` time steps has the same memory layout with its values last and with time last.
    fn layouts_agree(&self, len: usize) -> bool {
        len == 1 || self.decoder.outputs == 1
    }

    /// Time steps of the output for an input of `len` time steps: 1 with pooling.
    fn output_len(&self, len: usize) -> usize {
        if self.pooling.is_some() { 1 } else { len }
    }

    /// Computes the output from the features `x` (batch, H, len). `norm_output` receives the output of the final norm. With
    /// `every_step` there is no pooling, and the decoder runs at each time step.
    pub fn forward(
        &mut self,
        pass: &PassContext<'_, B>,
        x: B::Ref<'_>,
        norm_output: &mut GrowableBuffer<B>,
        every_step: bool,
        ws: &mut B::Workspace,
    ) -> Result<()> {
        let PassContext { be, batch, len, .. } = *pass;
        let (heads, outputs) = (self.decoder.inputs, self.decoder.outputs);
        let n = batch * heads * len;
        if let Some(norm) = &mut self.norm {
            let stats_len = norm.stats_len(batch, len);
            self.stats.ensure(be, stats_len)?;
            norm_output.ensure(be, n)?;
            let stats = self.stats.get_mut(be, stats_len);
            norm.forward(pass, norm_output.get_mut(be, n), NormInput::of(stats, be.shorten(x)), ws)?;
            self.norm_output_stands = true;
        }
        let x = if self.norm.is_some() { norm_output.get(be, n) } else { be.shorten(x) };
        let lengths = pass.options.lengths;
        if let (Some(pooling), false) = (self.pooling, every_step) {
            let (pooled_len, m) = (batch * heads, batch * outputs);
            self.pooled.ensure(be, pooled_len)?;
            self.output.ensure(be, m)?;
            let (y, shape) = (self.pooled.get_mut(be, pooled_len), SeqShape { batch, heads, len });
            be.pool_forward(PoolForward { y, x, lengths, pooling, shape })?;
            let (y, x) = (self.output.get_mut(be, m), self.pooled.get(be, pooled_len));
            return self.decoder.forward(pass, y, x, 1, ws);
        }
        let m = batch * len * outputs;
        self.output.ensure(be, m)?;
        self.decoder.forward(pass, self.output.get_mut(be, m), x, len, ws)?;
        if let Some(lengths) = lengths {
            let (x, shape) = (self.output.get_mut(be, m), SeqShape { batch, heads: outputs, len });
            be.zero_beyond_lengths(ZeroBeyondLengths { x, lengths, shape })?;
        }
        if !self.layouts_agree(len) {
            self.output_rows.ensure(be, m)?;
            be.transpose(self.output_rows.get_mut(be, m), self.output.get(be, m), batch, outputs, len)?;
        }
        Ok(())
    }

    /// Computes the output after the last time step of each sequence alone, (batch, outputs), from the features `x`
    /// (batch, H, len): [`OutputStage::output_of_every_step`] with a length of 1. No pooling of the model's own is looked at.
    pub fn forward_last_step(
        &mut self,
        pass: &PassContext<'_, B>,
        x: B::Ref<'_>,
        norm_output: &mut GrowableBuffer<B>,
        ws: &mut B::Workspace,
    ) -> Result<()> {
        let PassContext { be, batch, len, .. } = *pass;
        let (heads, outputs) = (self.decoder.inputs, self.decoder.outputs);
        let n = batch * heads;
        self.pooled.ensure(be, n)?;
        self.output.ensure(be, batch * outputs)?;
        let (lengths, shape) = (pass.options.lengths, SeqShape { batch, heads, len });
        let (y, x) = (self.pooled.get_mut(be, n), be.shorten(x));
        be.pool_forward(PoolForward { y, x, lengths, pooling: Pooling::Last, shape })?;
        let step = PassContext { len: 1, options: pass.options.with_arrays(None, None), ..*pass };
        let mut features = &self.pooled;
        if let Some(norm) = &mut self.norm {
            self.norm_output_stands = false;
            let stats_len = norm.stats_len(batch, 1);
            self.stats.ensure(be, stats_len)?;
            norm_output.ensure(be, n)?;
            let stats = self.stats.get_mut(be, stats_len);
            let input = NormInput::of(stats, self.pooled.get(be, n));
            norm.forward(&step, norm_output.get_mut(be, n), input, ws)?;
            features = norm_output;
        }
        self.decoder.forward(&step, self.output.get_mut(be, batch * outputs), features.get(be, n), 1, ws)
    }

    /// The output of the last forward: (batch, outputs) with pooling, else (batch, len, outputs).
    pub fn output(&self, be: &B, batch: usize, len: usize) -> B::Ref<'_> {
        self.output_of_every_step(be, batch, self.output_len(len))
    }

    /// The output of the last forward with `every_step`: (batch, len, outputs).
    pub fn output_of_every_step(&self, be: &B, batch: usize, len: usize) -> B::Ref<'_> {
        let rows = if self.layouts_agree(len) { &self.output } else { &self.output_rows };
        rows.get(be, batch * len * self.decoder.outputs)
    }

    /// Adds the mean loss of the last forward's output, and the sums of which metrics are made, to `sums`.
    pub fn loss(
        &mut self,
        pass: &PassContext<'_, B>,
        mut sums: B::Mut<'_>,
        loss_inputs: LossInputs<'_, B>,
        ws: &mut B::Workspace,
    ) -> Result<()> {
        let PassContext { be, batch, len, .. } = *pass;
        let LossInputs { target, weights, class_weights, loss, top_k, denominator, want_gradient, .. } =
            loss_inputs;
        let mut predictions = loss_inputs.predictions;
        let (rows, outputs) = (self.rows(batch, len), self.decoder.outputs);
        let m = rows * outputs;
        self.doutput_rows.ensure(be, m)?;
        let output = match self.layouts_agree(self.output_len(len)) {
            true => self.output.get(be, m),
            false => self.output_rows.get(be, m),
        };
        let args = LossForwardBackward {
            stats: be.reborrow(&mut sums),
            doutput: want_gradient.then(|| self.doutput_rows.get_mut(be, m)),
            predictions: predictions.as_mut().map(|view| be.reborrow(view)),
            output,
            target: match target {
                Target::Values(values) => Target::Values(be.shorten(values)),
                Target::Labels(labels) => Target::Labels(labels),
            },
            row_weights: weights.map(|view| be.shorten(view)),
            class_weights: class_weights.map(|view| be.shorten(view)),
            loss,
            top_k,
            rows,
            outputs,
            denominator,
        };
        be.loss_forward_backward(args, ws)
    }

    /// Zeroes the gradient of the output, from which the next backward starts.
    pub fn zero_gradient(&mut self, pass: &PassContext<'_, B>) -> Result<()> {
        let m = self.rows(pass.batch, pass.len) * self.decoder.outputs;
        self.doutput_rows.ensure(pass.be, m)?;
        pass.be.fill(self.doutput_rows.get_mut(pass.be, m), B::Scalar::from_f64(0.0))
    }

    /// Multiplies the gradient of the output, which a loss has computed, by factor/divisor.
    pub fn scale_gradient(
        &mut self,
        pass: &PassContext<'_, B>,
        factor: f64,
        divisor: B::Ref<'_>,
    ) -> Result<()> {
        let m = self.rows(pass.batch, pass.len) * self.decoder.outputs;
        pass.be.scale(self.doutput_rows.get_mut(pass.be, m), factor, Some(divisor))
    }

    /// Uploads the caller's gradient of the output, from which the next backward starts.
    pub fn set_gradient(&mut self, be: &B, doutput: &[B::Scalar]) -> Result<()> {
        self.doutput_rows.ensure(be, doutput.len())?;
        be.upload(self.doutput_rows.get_mut(be, doutput.len()), doutput)
    }

    /// From the gradient of the output computes those of its parameters, which are added to `grads`, and that of the
    /// features, which is left in `gradients[0]`. `x`: the features that the forward was given.
    pub fn backward(
        &mut self,
        pass: &PassContext<'_, B>,
        gradients: &mut [GrowableBuffer<B>; 2],
        grads: &mut GroupBuffers<B>,
        x: B::Ref<'_>,
        ws: &mut B::Workspace,
    ) -> Result<()> {
        let PassContext { be, batch, len, .. } = *pass;
        let (heads, outputs) = (self.decoder.inputs, self.decoder.outputs);
        let (n, m) = (batch * heads * len, self.rows(batch, len) * outputs);
        let shape = SeqShape { batch, heads, len };
        let doutput = match self.layouts_agree(self.output_len(len)) {
            true => &mut self.doutput_rows,
            false => {
                self.doutput.ensure(be, m)?;
                be.transpose(self.doutput.get_mut(be, m), self.doutput_rows.get(be, m), batch, len, outputs)?;
                &mut self.doutput
            }
        };
        let lengths = pass.options.lengths;
        if let (Some(lengths), None) = (lengths, self.pooling) {
            let shape = SeqShape { heads: outputs, ..shape };
            be.zero_beyond_lengths(ZeroBeyondLengths { x: doutput.get_mut(be, m), lengths, shape })?;
        }
        let dy = doutput.get(be, m);
        gradients.iter_mut().try_for_each(|g| g.ensure(be, n))?;
        let [d, norm_output] = gradients;
        // The backward of most poolings reads no features, and may be given x. Where they are read, and an earlier backward
        // has overwritten the norm's output, it is computed once more.
        let reads_features = self.pooling.is_none_or(Pooling::backward_reads_input);
        let read_norm = self.norm.as_ref().filter(|_| reads_features);
        let stands = std::mem::take(&mut self.norm_output_stands);
        if let (Some(norm), false) = (read_norm, stands) {
            let stats = self.stats.get(be, norm.stats_len(batch, len));
            norm.recompute(pass, norm_output.get_mut(be, n), stats, be.shorten(x))?;
        }
        let features = if read_norm.is_some() { norm_output.get(be, n) } else { be.shorten(x) };
        match self.pooling {
            Some(pooling) => {
                let pooled_len = batch * heads;
                self.dpooled.ensure(be, pooled_len)?;
                let arrays = LinearStageBackward {
                    dx: Some(self.dpooled.get_mut(be, pooled_len)),
                    grads: &mut *grads,
                    dy: be.shorten(dy),
                    x: self.pooled.get(be, pooled_len),
                    len: 1,
                };
                self.decoder.backward(pass, arrays, ws)?;
                let (dx, dy) = (d.get_mut(be, n), self.dpooled.get(be, pooled_len));
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
                dx: norm_output.get_mut(be, n),
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

    /// The final norm of one time step: x (batch, H) → y (batch, H). Gives false, with y not written, where the model has
    /// none.
    pub fn norm_step<'a>(
        &'a mut self,
        pass: &PassContext<'a, B>,
        y: B::Mut<'a>,
        x: B::Ref<'a>,
        ws: &mut B::Workspace,
    ) -> Result<bool> {
        let Some(norm) = &mut self.norm else { return Ok(false) };
        let stats_len = norm.stats_len(pass.batch, 1);
        self.step_stats.ensure(pass.be, stats_len)?;
        norm.forward(pass, y, NormInput::of(self.step_stats.get_mut(pass.be, stats_len), x), ws)?;
        Ok(true)
    }

    /// The decoder at one time step: x (batch, H) → y (batch, outputs).
    pub fn decode_step<'a>(
        &self,
        pass: &PassContext<'a, B>,
        y: B::Mut<'a>,
        x: B::Ref<'a>,
        ws: &mut B::Workspace,
    ) -> Result<()> {
        self.decoder.forward(pass, y, x, 1, ws)
    }
}
