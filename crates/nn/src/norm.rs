//! Layer norm and batch norm with their parameters. The running statistics of a batch norm change only with an update whose
//! loss and gradient were finite.

use crate::{
    config::NormKind,
    param::{Group, GroupBuffers, ParamBuilder, ParamSlot},
    pass_options::PassContext,
    rank_exchange::{JointStatistics, SharedExchange},
};
use s4_backend::{
    Backend, BatchNormBackward, BatchNormForward, BatchNormGradientSums, BatchNormInputGradient,
    BatchNormMoments, BatchNormRecompute, CallOptions, EmaUpdate, Error, LayerNormBackward, LayerNormForward,
    LayerNormRecompute, Result, Scalar, SeqShape, SsmInputNorm,
};

/// Added to a variance before its root is taken, as in PyTorch.
const EPS: f64 = 1e-5;
/// Weight of a batch's statistics in the running ones, as in PyTorch.
const MOMENTUM: f64 = 0.1;

/// Refuses a training batch that gives a batch norm no variance. `time_steps`: those of the batch that are no padding.
pub(crate) fn check_time_steps(op: &'static str, kind: NormKind, time_steps: usize) -> Result<()> {
    match kind == NormKind::Batch && time_steps < 2 {
        true => Err(Error::value(
            op,
            "a batch of two time steps or more, without padding, for batch norm in training",
            time_steps,
        )),
        false => Ok(()),
    }
}

/// A norm over features, with its scale γ and offset β, and for batch norm running means and variances, (2, heads).
pub(crate) struct Norm<B: Backend> {
    kind: NormKind,
    heads: usize,
    gamma: ParamSlot,
    beta: ParamSlot,
    /// Running means, then variances, that inference uses.
    running_statistics: B::Buf,
    /// Running means, then variances, as training forwards have moved them on. They become the ones above when the update
    /// proves finite.
    moved_statistics: B::Buf,
    /// Whether training forwards have moved them on since they were last taken over.
    statistics_moved: bool,
}

/// Arrays of one forward of a norm, besides its output.
pub(crate) struct NormInput<'a, B: Backend> {
    /// Where means and inverse deviations go.
    pub stats: B::Mut<'a>,
    /// Input.
    pub x: B::Ref<'a>,
    /// Moments of the input that the mix before has left, for a batch norm in training.
    pub moments: Option<B::Ref<'a>>,
}

impl<'a, B: Backend> NormInput<'a, B> {
    /// Without moments.
    pub fn of(stats: B::Mut<'a>, x: B::Ref<'a>) -> Self {
        NormInput { stats, x, moments: None }
    }
}

/// Arrays of one backward of a norm.
pub(crate) struct NormBackward<'a, B: Backend> {
    /// Gradient of the input, overwritten.
    pub dx: B::Mut<'a>,
    /// Gradients of the parameters, which are added to.
    pub grads: &'a mut GroupBuffers<B>,
    /// Gradient of the output.
    pub dy: B::Ref<'a>,
    /// Input of the forward.
    pub x: B::Ref<'a>,
    /// Means and inverse deviations that the forward computed.
    pub stats: B::Ref<'a>,
    /// Gradient that the residual connection carries past the norm, to be added to `dx`.
    pub residual: Option<B::Ref<'a>>,
}

impl<B: Backend> Norm<B> {
    /// A norm over `heads` features, which adds parameters whose names begin with `prefix`; `None` for [`NormKind::None`].
    pub fn new(
        be: &B,
        kind: NormKind,
        heads: usize,
        prefix: &str,
        params: &mut ParamBuilder,
    ) -> Result<Option<Self>> {
        if kind == NormKind::None {
            return Ok(None);
        }
        let gamma = params.add(format!("{prefix}weight"), &[heads], Group::Main, vec![1.0; heads]);
        let beta = params.add(format!("{prefix}bias"), &[heads], Group::Main, vec![0.0; heads]);
        let size = if kind == NormKind::Batch { 2 * heads } else { 0 };
        let mut norm = Norm {
            kind,
            heads,
            gamma,
            beta,
            running_statistics: be.alloc(size)?,
            moved_statistics: be.alloc(size)?,
            statistics_moved: false,
        };
        if size > 0 {
            be.fill(be.view_mut(&mut norm.running_statistics, heads..size), B::Scalar::from_f64(1.0))?;
        }
        Ok(Some(norm))
    }

    /// Layer norm or batch norm.
    pub fn kind(&self) -> NormKind {
        self.kind
    }

    /// Number of statistics that a forward computes: a mean and an inverse deviation for each feature in batch norm, for
    /// each time step in layer norm.
    pub fn stats_len(&self, batch: usize, len: usize) -> usize {
        match self.kind {
            NormKind::Batch => 2 * self.heads,
            _ => 2 * batch * len,
        }
    }

    /// Running means, then variances, (2, heads); `None` for layer norm, which has none.
    pub fn running_statistics(&self, be: &B) -> Result<Option<Vec<B::Scalar>>> {
        if self.kind != NormKind::Batch {
            return Ok(None);
        }
        let mut means_and_variances = vec![B::Scalar::from_f64(0.0); 2 * self.heads];
        be.download(&mut means_and_variances, be.view(&self.running_statistics, 0..2 * self.heads))?;
        Ok(Some(means_and_variances))
    }

    /// Replaces the running means and variances, (2, heads).
    pub fn set_running_statistics(&mut self, be: &B, values: &[B::Scalar]) -> Result<()> {
        self.statistics_moved = false;
        be.upload(be.view_mut(&mut self.running_statistics, 0..2 * self.heads), values)
    }

    /// The running means and variances on the device, to be written; `None` for layer norm.
    pub fn running_statistics_mut(&mut self, be: &B) -> Option<B::Mut<'_>> {
        let n = 2 * self.heads;
        (self.kind == NormKind::Batch).then(|| be.view_mut(&mut self.running_statistics, 0..n))
    }

    /// The running means and variances as training forwards have moved them on, which [`Norm::accept_statistics`] takes over; `None` for
    /// layer norm. From here on they count as moved: other ranks have moved them.
    pub fn moved_statistics_mut(&mut self, be: &B) -> Option<B::Mut<'_>> {
        let n = 2 * self.heads;
        self.statistics_moved = self.kind == NormKind::Batch;
        self.statistics_moved.then(|| be.view_mut(&mut self.moved_statistics, 0..n))
    }

    /// Takes over the running statistics that training forwards have moved on, if `guard` (loss and Σ g²) is finite;
    /// without a guard in any case.
    pub fn accept_statistics(&mut self, be: &B, guard: Option<B::Ref<'_>>) -> Result<()> {
        if !std::mem::take(&mut self.statistics_moved) {
            return Ok(());
        }
        let n = 2 * self.heads;
        let (running, moved) =
            (be.view_mut(&mut self.running_statistics, 0..n), be.view(&self.moved_statistics, 0..n));
        match guard {
            // A running average with decay 0 is a copy, and unlike a copy it leaves its target alone where the guard is
            // not finite.
            Some(guard) => {
                let guard = be.shorten(guard);
                be.ema(EmaUpdate { average: running, value: moved, guard, decay: 0.0 })
            }
            None => be.copy(running, moved),
        }
    }

    /// Drops the running statistics that training forwards have moved on.
    pub fn drop_statistics(&mut self) {
        self.statistics_moved = false;
    }

    /// Sizes of the features in a pass.
    fn shape(&self, pass: &PassContext<'_, B>) -> SeqShape {
        SeqShape { batch: pass.batch, heads: self.heads, len: pass.len }
    }

    /// Writes y = γ(x − μ)·rstd + β, and mean μ and inverse deviation rstd.
    pub fn forward<'a>(
        &'a mut self,
        pass: &PassContext<'a, B>,
        y: B::Mut<'a>,
        arrays: NormInput<'a, B>,
        ws: &mut B::Workspace,
    ) -> Result<()> {
        let PassContext { be, values, .. } = *pass;
        if self.kind == NormKind::Layer {
            let (gamma, beta) = (values.view(be, self.gamma), values.view(be, self.beta));
            let (eps, shape, NormInput { stats, x, .. }) = (EPS, self.shape(pass), arrays);
            return be.layer_norm_forward(LayerNormForward { y, stats, x, gamma, beta, eps, shape }, ws);
        }
        self.batch_norm(pass, Some(y), arrays, ws)
    }

    /// The statistics of a batch norm alone, where the SSM norms its input itself.
    pub fn statistics<'a>(
        &'a mut self,
        pass: &PassContext<'a, B>,
        arrays: NormInput<'a, B>,
        ws: &mut B::Workspace,
    ) -> Result<()> {
        self.batch_norm(pass, None, arrays, ws)
    }

    /// The batch norm as an SSM that norms its input is told of it, by the statistics of a forward.
    pub fn of_input<'a>(&self, pass: &PassContext<'a, B>, stats: B::Ref<'a>) -> SsmInputNorm<'a, B> {
        let PassContext { be, values, .. } = *pass;
        SsmInputNorm { stats, gamma: values.view(be, self.gamma), beta: values.view(be, self.beta) }
    }

    fn batch_norm<'a>(
        &'a mut self,
        pass: &PassContext<'a, B>,
        y: Option<B::Mut<'a>>,
        arrays: NormInput<'a, B>,
        ws: &mut B::Workspace,
    ) -> Result<()> {
        let PassContext { be, values, .. } = *pass;
        let NormInput { stats, x, moments } = arrays;
        let shape = self.shape(pass);
        let (gamma, beta) = (values.view(be, self.gamma), values.view(be, self.beta));
        let CallOptions { lengths, training, .. } = pass.options;
        let momentum = if pass.moves_statistics { MOMENTUM } else { 0.0 };
        if let (Some(exchange), true) = (pass.exchange, training) {
            let mut stats = stats;
            {
                let mut exchange = exchange.borrow_mut();
                let (moments, x) = (exchange.own_moments(be, self.heads)?, be.shorten(x));
                be.batch_norm_moments(BatchNormMoments { moments, x, lengths, shape })?;
            }
            self.joint_statistics(be, exchange, Some(be.reborrow(&mut stats)), momentum)?;
            let (Some(mut y), stats) = (y, be.freeze(&stats)) else { return Ok(()) };
            let (y, x) = (be.reborrow(&mut y), be.shorten(x));
            let (gamma, beta) = (be.shorten(gamma), be.shorten(beta));
            return be.batch_norm_recompute(BatchNormRecompute { y, stats, x, gamma, beta, lengths, shape });
        }
        let n = 2 * self.heads;
        let running = match training {
            true => self.begin_moving(be)?,
            false => be.view_mut(&mut self.running_statistics, 0..n),
        };
        let eps = EPS;
        #[rustfmt::skip]
        let args = BatchNormForward {
            y, stats, running, x, moments, gamma, beta, lengths, eps, momentum, training, shape
        };
        be.batch_norm_forward(args, ws)
    }

    /// The running statistics that a training forward moves on: a copy, until the update proves finite.
    fn begin_moving(&mut self, be: &B) -> Result<B::Mut<'_>> {
        let n = 2 * self.heads;
        if !std::mem::replace(&mut self.statistics_moved, true) {
            be.copy(be.view_mut(&mut self.moved_statistics, 0..n), be.view(&self.running_statistics, 0..n))?;
        }
        Ok(be.view_mut(&mut self.moved_statistics, 0..n))
    }

    /// Statistics of the joint batch, from the moments that the ranks exchange; moves the running ones.
    fn joint_statistics(
        &mut self,
        be: &B,
        exchange: &SharedExchange<B>,
        mut stats: Option<B::Mut<'_>>,
        momentum: f64,
    ) -> Result<()> {
        let heads = self.heads;
        let mut running = self.begin_moving(be)?;
        let (stats, running) = (stats.as_mut().map(|stats| be.reborrow(stats)), be.reborrow(&mut running));
        let joint = JointStatistics { stats, running, heads, eps: EPS, momentum };
        exchange.borrow_mut().statistics(be, joint)
    }

    /// The exchange of a forward, by a rank without a batch.
    pub fn forward_without_batch(&mut self, be: &B, exchange: &SharedExchange<B>) -> Result<()> {
        exchange.borrow_mut().own_moments(be, self.heads)?;
        self.joint_statistics(be, exchange, None, MOMENTUM)
    }

    /// The exchange of a backward, by a rank without a batch.
    pub fn backward_without_batch(&mut self, be: &B, exchange: &SharedExchange<B>) -> Result<()> {
        let mut exchange = exchange.borrow_mut();
        exchange.own_sums(be, self.heads)?;
        exchange.sums(be, self.heads)?;
        Ok(())
    }

    /// Computes y once more, for a backward, from the statistics that the forward wrote.
    pub fn recompute<'a>(
        &self,
        pass: &PassContext<'a, B>,
        y: B::Mut<'a>,
        stats: B::Ref<'a>,
        x: B::Ref<'a>,
    ) -> Result<()> {
        let PassContext { be, values, .. } = *pass;
        let shape = self.shape(pass);
        let (gamma, beta) = (values.view(be, self.gamma), values.view(be, self.beta));
        if self.kind == NormKind::Layer {
            return be.layer_norm_recompute(LayerNormRecompute { y, stats, x, gamma, beta, shape });
        }
        let lengths = pass.options.lengths;
        be.batch_norm_recompute(BatchNormRecompute { y, stats, x, gamma, beta, lengths, shape })
    }

    /// Overwrites `dx`, and adds to the gradients of γ and β.
    pub fn backward<'a>(
        &self,
        pass: &PassContext<'a, B>,
        arrays: NormBackward<'a, B>,
        ws: &mut B::Workspace,
    ) -> Result<()> {
        let PassContext { be, values, .. } = *pass;
        let NormBackward { dx, grads, dy, x, stats, residual } = arrays;
        let shape = self.shape(pass);
        let gamma = values.view(be, self.gamma);
        let [dgamma, dbeta] = grads.views_mut(be, [self.gamma, self.beta]);
        if self.kind == NormKind::Layer {
            let args = LayerNormBackward { dx, dgamma, dbeta, dy, x, stats, gamma, residual, shape };
            return be.layer_norm_backward(args, ws);
        }
        let CallOptions { lengths, training, .. } = pass.options;
        if let (Some(exchange), true) = (pass.exchange, training) {
            let mut exchange = exchange.borrow_mut();
            {
                let (mut dgamma, mut dbeta) = (dgamma, dbeta);
                let (sums, dgamma) = (exchange.own_sums(be, self.heads)?, be.reborrow(&mut dgamma));
                let (dbeta, dy) = (be.reborrow(&mut dbeta), be.shorten(dy));
                let (x, stats) = (be.shorten(x), be.shorten(stats));
                let args = BatchNormGradientSums { sums, dgamma, dbeta, dy, x, stats, lengths, shape };
                be.batch_norm_gradient_sums(args)?;
            }
            let (mut dx, sums) = (dx, exchange.sums(be, self.heads)?);
            let (dx, dy, x) = (be.reborrow(&mut dx), be.shorten(dy), be.shorten(x));
            let (stats, gamma) = (be.shorten(stats), be.shorten(gamma));
            let residual = residual.map(|view| be.shorten(view));
            let args = BatchNormInputGradient { dx, dy, x, stats, sums, gamma, residual, lengths, shape };
            return be.batch_norm_input_gradient(args);
        }
        let args =
            BatchNormBackward { dx, dgamma, dbeta, dy, x, stats, gamma, residual, lengths, training, shape };
        be.batch_norm_backward(args, ws)
    }
}
