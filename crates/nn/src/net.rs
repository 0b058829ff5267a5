//! The network on the device: encoder, blocks, norm, pooling, decoder; forward, backward, one step.

use crate::{
    Encoder, ModelConfig,
    block::{BlockCore, Scratch, Tape},
    init,
    norm::Norm,
    param::{Flats, Group, ParamBuilder, Slot},
    s4::Call,
    tensor::{Grow, GrowInts},
};
use num_traits::Zero;
use s4_backend::{Backend, LinearShape, Loss, Pooling, Result, SeqShape, Target};

/// A recurrent state for each block, (batch, H, 2, N/2).
pub(crate) struct States<B: Backend> {
    pub batch: usize,
    pub blocks: Vec<B::Buf>,
    len: usize,
}

impl<B: Backend> States<B> {
    /// Zeros.
    pub fn new(be: &B, config: &ModelConfig, batch: usize) -> Result<Self> {
        let len = config.block.layer.spec().state_len(batch);
        let blocks = (0..config.layers).map(|_| be.alloc(len)).collect::<Result<_>>()?;
        Ok(States { batch, blocks, len })
    }
    pub fn view(&self, be: &B, block: usize) -> B::Ref<'_> {
        be.view(&self.blocks[block], 0..self.len)
    }
    pub fn view_mut(&mut self, be: &B, block: usize) -> B::Mut<'_> {
        be.view_mut(&mut self.blocks[block], 0..self.len)
    }
    pub fn zero(&mut self, be: &B) -> Result<()> {
        (0..self.blocks.len()).try_for_each(|i| be.fill(self.view_mut(be, i), B::Scalar::zero()))
    }
    pub fn copy_from(&mut self, be: &B, other: &Self) -> Result<()> {
        (0..self.blocks.len()).try_for_each(|i| be.copy(self.view_mut(be, i), other.view(be, i)))
    }
    /// From the host's (layers, batch, H, N/2, 2).
    pub fn put(&mut self, be: &B, stage: &mut Grow<B>, host: &[B::Scalar], pairs: usize) -> Result<()> {
        stage.ensure(be, self.len)?;
        for (i, part) in host.chunks_exact(self.len).enumerate() {
            be.upload(stage.get_mut(be, self.len), part)?;
            let src = stage.get(be, self.len);
            be.transpose(
                be.view_mut(&mut self.blocks[i], 0..self.len),
                src,
                self.len / (2 * pairs),
                pairs,
                2,
            )?;
        }
        Ok(())
    }
    /// To the host's (layers, batch, H, N/2, 2).
    pub fn take(&self, be: &B, stage: &mut Grow<B>, pairs: usize) -> Result<Vec<B::Scalar>> {
        let mut host = vec![B::Scalar::zero(); self.len * self.blocks.len()];
        stage.ensure(be, self.len)?;
        for (i, part) in host.chunks_exact_mut(self.len).enumerate() {
            be.transpose(stage.get_mut(be, self.len), self.view(be, i), self.len / (2 * pairs), 2, pairs)?;
            be.download(part, stage.get(be, self.len))?;
        }
        Ok(host)
    }
}

/// Weight and bias of a linear.
#[derive(Clone, Copy)]
struct Linear {
    weight: Slot,
    bias: Slot,
    inputs: usize,
    outputs: usize,
}

impl Linear {
    fn new(
        prefix: &str,
        seed: u64,
        stream: u32,
        inputs: usize,
        outputs: usize,
        params: &mut ParamBuilder,
    ) -> Self {
        let (w, b) = init::linear(seed, stream, outputs, inputs);
        let weight = params.add(format!("{prefix}.weight"), &[outputs, inputs], Group::Main, w);
        let bias = params.add(format!("{prefix}.bias"), &[outputs], Group::Main, b);
        Linear { weight, bias, inputs, outputs }
    }
    fn shape(&self, batch: usize, len: usize) -> LinearShape {
        LinearShape { batch, inputs: self.inputs, outputs: self.outputs, len }
    }
    fn forward<B: Backend>(
        &self,
        be: &B,
        y: B::Mut<'_>,
        x: B::Ref<'_>,
        values: &Flats<B>,
        batch: usize,
        len: usize,
        ws: &mut B::Workspace,
    ) -> Result<()> {
        let bias = Some(values.view(be, self.bias));
        be.linear_forward(y, x, values.view(be, self.weight), bias, &self.shape(batch, len), ws)
    }
    fn backward<B: Backend>(
        &self,
        be: &B,
        dx: Option<B::Mut<'_>>,
        grads: &mut Flats<B>,
        dy: B::Ref<'_>,
        x: B::Ref<'_>,
        values: &Flats<B>,
        batch: usize,
        len: usize,
        ws: &mut B::Workspace,
    ) -> Result<()> {
        let [dweight, dbias] = grads.views_mut(be, [self.weight, self.bias]);
        let weight = values.view(be, self.weight);
        be.linear_backward(dx, dweight, Some(dbias), dy, x, weight, &self.shape(batch, len), ws)
    }
}

enum In {
    Linear(Linear),
    Embedding { table: Slot, vocabulary: usize },
    None,
}

/// The network's places, plans and buffers.
pub(crate) struct Net<B: Backend> {
    encoder: In,
    pub blocks: Vec<BlockCore<B>>,
    pub norm: Option<Norm<B>>,
    decoder: Linear,
    pooling: Option<Pooling>,
    heads: usize,
    inputs: usize,
    /// (batch, input, len)
    pub input: Grow<B>,
    /// (batch, len)
    pub tokens: GrowInts<B>,
    /// acts[i] goes into block i; in inference the first two take turns.
    acts: Vec<Grow<B>>,
    tapes: Vec<Tape<B>>,
    stats: Grow<B>,
    /// (batch, H)
    pooled: Grow<B>,
    dpooled: Grow<B>,
    /// Decoder's output, (batch, outputs, len).
    out: Grow<B>,
    /// The same as rows, (batch·len, outputs), where that differs.
    rows: Grow<B>,
    /// Gradient of the rows; backward starts from it.
    drows: Grow<B>,
    dout: Grow<B>,
    /// Gradients between blocks, in turns; going forward the second is the output of the last norm.
    d: [Grow<B>; 2],
    pub scratch: Scratch<B>,
}

impl<B: Backend> Net<B> {
    pub fn new(be: &B, config: &ModelConfig, params: &mut ParamBuilder) -> Result<Self> {
        let (heads, seed) = (config.features(), config.block.layer.seed);
        let encoder = match (config.encoder, config.vocabulary) {
            (Encoder::Linear, _) => In::Linear(Linear::new("encoder", seed, 0, config.input, heads, params)),
            (Encoder::Embedding, vocabulary) => {
                let vocabulary = vocabulary.unwrap_or(1);
                let values = init::embedding(seed, 0, vocabulary, heads);
                let table = params.add("encoder.weight".into(), &[vocabulary, heads], Group::Main, values);
                In::Embedding { table, vocabulary }
            }
            (Encoder::None, _) => In::None,
        };
        let blocks = (0..config.layers)
            .map(|i| BlockCore::new(be, &config.block, &format!("blocks.{i}."), i as u32, params))
            .collect::<Result<Vec<_>>>()?;
        let norm = match config.has_final_norm() {
            true => Norm::new(be, config.block.norm, heads, "norm.", params)?,
            false => None,
        };
        let decoder = Linear::new("decoder", seed, 1, heads, config.decoder_outputs(), params);
        let grow = || Grow::new(be);
        Ok(Net {
            encoder,
            norm,
            decoder,
            pooling: config.pooling,
            heads,
            inputs: config.input,
            input: grow()?,
            tokens: GrowInts::new(be)?,
            acts: (0..=blocks.len()).map(|_| grow()).collect::<Result<_>>()?,
            tapes: blocks.iter().map(|_| Tape::new(be)).collect::<Result<_>>()?,
            blocks,
            stats: grow()?,
            pooled: grow()?,
            dpooled: grow()?,
            out: grow()?,
            rows: grow()?,
            drows: grow()?,
            dout: grow()?,
            d: [grow()?, grow()?],
            scratch: Scratch::new(be)?,
        })
    }

    /// Values an input sample has.
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// Values the decoder gives.
    pub fn outputs(&self) -> usize {
        self.decoder.outputs
    }

    /// Output rows: batch when pooled, else batch·len.
    pub fn rows(&self, batch: usize, len: usize) -> usize {
        if self.pooling.is_some() { batch } else { batch * len }
    }

    /// Whether rows and the decoder's layout are the same memory.
    fn same(&self, len: usize) -> bool {
        self.pooling.is_some() || len == 1 || self.decoder.outputs == 1
    }

    /// From `input` or `tokens` to [`Net::output`].
    pub fn forward(
        &mut self,
        be: &B,
        values: &Flats<B>,
        state0: Option<&States<B>>,
        state_end: Option<&mut States<B>>,
        save: bool,
        call: &Call<'_, B>,
    ) -> Result<()> {
        self.features(be, values, state0, state_end, save, call)?;
        self.head(be, values, save, self.pooling, call)
    }

    /// As forward in inference, the decoder at every step whatever the pooling; for streams.
    pub fn forward_every_step(
        &mut self,
        be: &B,
        values: &Flats<B>,
        state0: &States<B>,
        state_end: Option<&mut States<B>>,
        call: &Call<'_, B>,
    ) -> Result<()> {
        self.features(be, values, Some(state0), state_end, false, call)?;
        self.head(be, values, false, None, call)
    }

    /// Encoder and blocks.
    fn features(
        &mut self,
        be: &B,
        values: &Flats<B>,
        state0: Option<&States<B>>,
        mut state_end: Option<&mut States<B>>,
        save: bool,
        call: &Call<'_, B>,
    ) -> Result<()> {
        let (batch, len) = (call.batch, call.len);
        let n = batch * self.heads * len;
        let shape = SeqShape { batch, heads: self.heads, len };
        let acts = if save { self.acts.len() } else { 2 };
        self.acts[..acts].iter_mut().try_for_each(|a| a.ensure(be, n))?;
        let x0 = self.acts[0].get_mut(be, n);
        match &self.encoder {
            In::Linear(linear) => {
                let x = self.input.get(be, batch * self.inputs * len);
                linear.forward(be, x0, x, values, batch, len, &mut self.scratch.ws)?;
            }
            In::Embedding { table, .. } => {
                be.embedding_forward(x0, values.view(be, *table), self.tokens.get(), &shape)?;
            }
            In::None => be.copy(x0, self.input.get(be, n))?,
        }
        for (i, block) in self.blocks.iter_mut().enumerate() {
            let (x, y) = pair(&mut self.acts, if save { i } else { i % 2 }, acts);
            let tape = save.then_some(&mut self.tapes[i]);
            let end = state_end.as_mut().map(|s| s.view_mut(be, i));
            let start = state0.map(|s| s.view(be, i));
            block.forward(
                be,
                y.get_mut(be, n),
                end,
                x.get(be, n),
                start,
                tape,
                values,
                call,
                &mut self.scratch,
            )?;
        }
        Ok(())
    }

    /// Last norm, pooling, decoder.
    fn head(
        &mut self,
        be: &B,
        values: &Flats<B>,
        save: bool,
        pooling: Option<Pooling>,
        call: &Call<'_, B>,
    ) -> Result<()> {
        let (batch, len) = (call.batch, call.len);
        let n = batch * self.heads * len;
        let shape = SeqShape { batch, heads: self.heads, len };
        let x = &self.acts[if save { self.blocks.len() } else { self.blocks.len() % 2 }];
        let rows = if pooling.is_some() { batch } else { batch * len };
        let m = rows * self.decoder.outputs;
        let same = pooling.is_some() || len == 1 || self.decoder.outputs == 1;
        let ws = &mut self.scratch.ws;
        if let Some(norm) = &mut self.norm {
            let stats_len = norm.stats_len(batch, len);
            self.stats.ensure(be, stats_len)?;
            self.d[1].ensure(be, n)?;
            let (y, stats) = (self.d[1].get_mut(be, n), self.stats.get_mut(be, stats_len));
            norm.forward(be, y, stats, x.get(be, n), values, call, ws)?;
        }
        let x = if self.norm.is_some() { self.d[1].get(be, n) } else { x.get(be, n) };
        self.out.ensure(be, m)?;
        if let Some(pooling) = pooling {
            let size = batch * self.heads;
            self.pooled.ensure(be, size)?;
            be.pool_forward(self.pooled.get_mut(be, size), x, call.lengths, pooling, &shape)?;
            let (y, x) = (self.out.get_mut(be, m), self.pooled.get(be, size));
            return self.decoder.forward(be, y, x, values, batch, 1, ws);
        }
        self.decoder.forward(be, self.out.get_mut(be, m), x, values, batch, len, ws)?;
        if let Some(lengths) = call.lengths {
            let shape = SeqShape { heads: self.decoder.outputs, ..shape };
            be.mask(self.out.get_mut(be, m), lengths, &shape)?;
        }
        if !same {
            self.rows.ensure(be, m)?;
            be.transpose(self.rows.get_mut(be, m), self.out.get(be, m), batch, self.decoder.outputs, len)?;
        }
        Ok(())
    }

    /// Rows of the last forward: (batch, outputs) or (batch, len, outputs).
    pub fn output(&self, be: &B, batch: usize, len: usize) -> B::Ref<'_> {
        let m = self.rows(batch, len) * self.decoder.outputs;
        if self.same(len) { self.out.get(be, m) } else { self.rows.get(be, m) }
    }

    /// Rows of the last [`Net::forward_every_step`]: (batch, len, outputs).
    pub fn output_rows(&self, be: &B, batch: usize, len: usize) -> B::Ref<'_> {
        let m = batch * len * self.decoder.outputs;
        if len == 1 || self.decoder.outputs == 1 { self.out.get(be, m) } else { self.rows.get(be, m) }
    }

    /// stats += [loss, correct] of the last forward's output; with `gradient`, backward may start from it.
    pub fn loss(
        &mut self,
        be: &B,
        stats: B::Mut<'_>,
        target: &Target<'_, B>,
        weights: Option<B::Ref<'_>>,
        loss: Loss,
        denominator: f64,
        gradient: bool,
        batch: usize,
        len: usize,
    ) -> Result<()> {
        let (rows, outputs) = (self.rows(batch, len), self.decoder.outputs);
        let m = rows * outputs;
        self.drows.ensure(be, m)?;
        let output = if self.same(len) { self.out.get(be, m) } else { self.rows.get(be, m) };
        let drows = gradient.then(|| self.drows.get_mut(be, m));
        let ws = &mut self.scratch.ws;
        be.loss_forward_backward(stats, drows, output, target, weights, loss, rows, outputs, denominator, ws)
    }

    /// Starts backward from the caller's gradient of the output.
    pub fn set_gradient(&mut self, be: &B, doutput: &[B::Scalar]) -> Result<()> {
        self.drows.ensure(be, doutput.len())?;
        be.upload(self.drows.get_mut(be, doutput.len()), doutput)
    }

    /// From the gradient of the output to the parameters' (accumulated), the input's ([`Net::dx`]) with `want_dx`,
    /// and the first states'. After a `once` the forward is gone, but for the activations between blocks.
    pub fn backward(
        &mut self,
        be: &B,
        values: &Flats<B>,
        grads: &mut Flats<B>,
        state0: Option<&States<B>>,
        dstate_end: Option<&States<B>>,
        mut dstate0: Option<&mut States<B>>,
        want_dx: bool,
        once: bool,
        call: &Call<'_, B>,
    ) -> Result<()> {
        let (batch, len) = (call.batch, call.len);
        let (n, outputs) = (batch * self.heads * len, self.decoder.outputs);
        let m = self.rows(batch, len) * outputs;
        let shape = SeqShape { batch, heads: self.heads, len };
        let same = self.same(len);
        if !same {
            self.dout.ensure(be, m)?;
            be.transpose(self.dout.get_mut(be, m), self.drows.get(be, m), batch, len, outputs)?;
        }
        let dout = if same { &mut self.drows } else { &mut self.dout };
        if let (Some(lengths), None) = (call.lengths, self.pooling) {
            be.mask(dout.get_mut(be, m), lengths, &SeqShape { heads: outputs, ..shape })?;
        }
        let dout = dout.get(be, m);
        let [d, other] = &mut self.d;
        let (mut d, mut other) = (d, other);
        let mut swapped = false;
        d.ensure(be, n)?;
        other.ensure(be, n)?;
        let ws = &mut self.scratch.ws;
        let last = &self.acts[self.blocks.len()];
        if let Some(norm) = &self.norm {
            // Again, in a buffer that is needed after it: what went forward may be gone since.
            let stats = self.stats.get(be, norm.stats_len(batch, len));
            norm.again(be, other.get_mut(be, n), stats, last.get(be, n), values, call)?;
        }
        let x = if self.norm.is_some() { other.get(be, n) } else { last.get(be, n) };
        if let Some(pooling) = self.pooling {
            let size = batch * self.heads;
            self.dpooled.ensure(be, size)?;
            let (dx, pooled) = (Some(self.dpooled.get_mut(be, size)), self.pooled.get(be, size));
            self.decoder.backward(be, dx, grads, dout, pooled, values, batch, 1, ws)?;
            be.pool_backward(d.get_mut(be, n), self.dpooled.get(be, size), x, call.lengths, pooling, &shape)?;
        } else {
            self.decoder.backward(be, Some(d.get_mut(be, n)), grads, dout, x, values, batch, len, ws)?;
        }
        if let Some(norm) = &self.norm {
            let stats = self.stats.get(be, norm.stats_len(batch, len));
            norm.backward(
                be,
                other.get_mut(be, n),
                grads,
                d.get(be, n),
                last.get(be, n),
                stats,
                None,
                values,
                call,
                ws,
            )?;
            std::mem::swap(&mut d, &mut other);
            swapped = !swapped;
        }
        for (i, block) in self.blocks.iter_mut().enumerate().rev() {
            let (dx, x, tape) = (other.get_mut(be, n), self.acts[i].get(be, n), &mut self.tapes[i]);
            let start = dstate0.as_mut().map(|s| s.view_mut(be, i));
            let end = dstate_end.map(|s| s.view(be, i));
            let s0 = state0.map(|s| s.view(be, i));
            let dy = d.get(be, n);
            let scratch = &mut self.scratch;
            block.backward(be, dx, start, grads, dy, end, x, s0, tape, once, values, call, scratch)?;
            std::mem::swap(&mut d, &mut other);
            swapped = !swapped;
        }
        let ws = &mut self.scratch.ws;
        match &self.encoder {
            In::Linear(linear) => {
                let size = batch * self.inputs * len;
                if want_dx {
                    other.ensure(be, size)?;
                }
                let dx = want_dx.then(|| other.get_mut(be, size));
                let x = self.input.get(be, size);
                linear.backward(be, dx, grads, d.get(be, n), x, values, batch, len, ws)?;
                std::mem::swap(&mut d, &mut other);
                swapped = !swapped;
            }
            In::Embedding { table, vocabulary } => {
                let [dtable] = grads.views_mut(be, [*table]);
                be.embedding_backward(dtable, d.get(be, n), self.tokens.get(), *vocabulary, &shape, ws)?;
            }
            In::None => {}
        }
        // The input's gradient lies where d points now; remember it as d[0].
        if swapped {
            self.d.swap(0, 1);
        }
        Ok(())
    }

    /// Gradient of the input, (batch, input, len), after a backward with `want_dx`.
    pub fn dx(&self, be: &B, batch: usize, len: usize) -> B::Ref<'_> {
        self.d[0].get(be, batch * self.inputs * len)
    }

    /// Accepts running statistics, if `guard` is finite.
    pub fn commit(&mut self, be: &B, guard: Option<B::Ref<'_>>) -> Result<()> {
        let norms = self.blocks.iter_mut().filter_map(|b| b.norm.as_mut()).chain(self.norm.as_mut());
        for norm in norms {
            norm.commit(be, guard)?;
        }
        Ok(())
    }

    /// Drops running statistics that were gathered since [`Net::commit`].
    pub fn forget(&mut self) {
        let norms = self.blocks.iter_mut().filter_map(|b| b.norm.as_mut()).chain(self.norm.as_mut());
        norms.for_each(Norm::forget);
    }

    /// Encoder of one sample, `y` (batch, H) of `x` (batch, input) or `tokens` (batch).
    pub fn encode_step(
        &mut self,
        be: &B,
        y: B::Mut<'_>,
        x: B::Ref<'_>,
        tokens: &B::Ints,
        values: &Flats<B>,
        batch: usize,
    ) -> Result<()> {
        match &self.encoder {
            In::Linear(linear) => linear.forward(be, y, x, values, batch, 1, &mut self.scratch.ws),
            In::Embedding { table, .. } => {
                let shape = SeqShape { batch, heads: self.heads, len: 1 };
                be.embedding_forward(y, values.view(be, *table), tokens, &shape)
            }
            In::None => be.copy(y, x),
        }
    }

    /// Last norm of one sample, (batch, H); false when there is none.
    pub fn norm_step(
        &mut self,
        be: &B,
        y: B::Mut<'_>,
        x: B::Ref<'_>,
        values: &Flats<B>,
        call: &Call<'_, B>,
    ) -> Result<bool> {
        let Some(norm) = &mut self.norm else { return Ok(false) };
        let stats_len = norm.stats_len(call.batch, 1);
        self.stats.ensure(be, stats_len)?;
        let stats = self.stats.get_mut(be, stats_len);
        norm.forward(be, y, stats, x, values, call, &mut self.scratch.ws)?;
        Ok(true)
    }

    /// Decoder of (batch, H) → (batch, outputs).
    pub fn decode_step(
        &mut self,
        be: &B,
        y: B::Mut<'_>,
        x: B::Ref<'_>,
        values: &Flats<B>,
        batch: usize,
    ) -> Result<()> {
        self.decoder.forward(be, y, x, values, batch, 1, &mut self.scratch.ws)
    }

    /// Name of the first activation of the last saved forward that is not finite.
    pub fn first_non_finite(&self, be: &B, batch: usize, len: usize) -> Result<Option<String>> {
        let n = batch * self.heads * len;
        let mut host = vec![B::Scalar::zero(); n];
        for (i, act) in self.acts.iter().enumerate() {
            be.download(&mut host, act.get(be, n))?;
            if crate::check::finite("", "", &host).is_err() {
                return Ok(Some(match i {
                    0 => "encoder".into(),
                    i => format!("blocks.{}", i - 1),
                }));
            }
        }
        Ok(None)
    }
}

/// Two neighbours, or the two that take turns.
fn pair<T>(items: &mut [T], from: usize, count: usize) -> (&T, &mut T) {
    let to = (from + 1) % count;
    if from < to {
        let (a, b) = items.split_at_mut(to);
        (&a[from], &mut b[0])
    } else {
        let (a, b) = items.split_at_mut(from);
        (&b[0], &mut a[to])
    }
}
