//! Layer norm and batch norm of a block, with running statistics that a diverged step cannot spoil.

use crate::{
    call::Pass,
    config::NormKind,
    param::{Flats, Group, ParamBuilder, Slot},
};
use s4_backend::{
    Backend, BatchNormBackward, BatchNormForward, BatchNormRecompute, CallOptions, EmaUpdate, Error,
    LayerNormBackward, LayerNormForward, LayerNormRecompute, Result, Scalar, SeqShape,
};

/// As in PyTorch.
const EPS: f64 = 1e-5;
const MOMENTUM: f64 = 0.1;

/// γ, β and, for batch norm, the running (2, heads) mean and variance.
pub(crate) struct Norm<B: Backend> {
    kind: NormKind,
    heads: usize,
    gamma: Slot,
    beta: Slot,
    /// What inference uses.
    running: B::Buf,
    /// What training forwards update; becomes `running` when the step proves finite.
    next: B::Buf,
    pending: bool,
}

/// Arrays of one backward.
pub(crate) struct NormBackward<'a, B: Backend> {
    pub dx: B::Mut<'a>,
    pub grads: &'a mut Flats<B>,
    pub dy: B::Ref<'a>,
    pub x: B::Ref<'a>,
    /// Of its forward.
    pub stats: B::Ref<'a>,
    /// Gradient that goes past the norm; added to `dx`.
    pub residual: Option<B::Ref<'a>>,
}

impl<B: Backend> Norm<B> {
    /// `None` for [`NormKind::None`].
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
            running: be.alloc(size)?,
            next: be.alloc(size)?,
            pending: false,
        };
        if size > 0 {
            be.fill(be.view_mut(&mut norm.running, heads..size), B::Scalar::from_f64(1.0))?;
        }
        Ok(Some(norm))
    }

    /// Elements of `stats`.
    pub fn stats_len(&self, batch: usize, len: usize) -> usize {
        match self.kind {
            NormKind::Batch => 2 * self.heads,
            _ => 2 * batch * len,
        }
    }

    /// Running mean and variance, one after the other; `None` for layer norm.
    pub fn running(&self, be: &B) -> Result<Option<Vec<B::Scalar>>> {
        if self.kind != NormKind::Batch {
            return Ok(None);
        }
        let mut out = vec![B::Scalar::from_f64(0.0); 2 * self.heads];
        be.download(&mut out, be.view(&self.running, 0..2 * self.heads))?;
        Ok(Some(out))
    }

    /// Replaces the running statistics.
    pub fn set_running(&mut self, be: &B, values: &[B::Scalar]) -> Result<()> {
        self.pending = false;
        be.upload(be.view_mut(&mut self.running, 0..2 * self.heads), values)
    }

    /// Accepts what training forwards have gathered, if `guard` is finite.
    pub fn commit(&mut self, be: &B, guard: Option<B::Ref<'_>>) -> Result<()> {
        if !std::mem::take(&mut self.pending) {
            return Ok(());
        }
        let n = 2 * self.heads;
        let (running, next) = (be.view_mut(&mut self.running, 0..n), be.view(&self.next, 0..n));
        match guard {
            // A guarded copy is an average that forgets everything.
            Some(guard) => {
                let guard = be.shorten(guard);
                be.ema(EmaUpdate { average: running, value: next, guard, decay: 0.0 })
            }
            None => be.copy(running, next),
        }
    }

    /// Drops what training forwards have gathered.
    pub fn forget(&mut self) {
        self.pending = false;
    }

    fn shape(&self, pass: &Pass<'_, B>) -> SeqShape {
        SeqShape { batch: pass.batch, heads: self.heads, len: pass.len }
    }

    /// y = γ(x − μ)·rstd + β.
    pub fn forward<'a>(
        &'a mut self,
        pass: &Pass<'a, B>,
        y: B::Mut<'a>,
        stats: B::Mut<'a>,
        x: B::Ref<'a>,
        ws: &mut B::Workspace,
    ) -> Result<()> {
        let Pass { be, values, .. } = *pass;
        let shape = self.shape(pass);
        let (gamma, beta) = (values.view(be, self.gamma), values.view(be, self.beta));
        if self.kind == NormKind::Layer {
            return be.layer_norm_forward(LayerNormForward { y, stats, x, gamma, beta, eps: EPS, shape }, ws);
        }
        let n = 2 * self.heads;
        let training = pass.options.training;
        if training {
            if pass.batch * pass.len < 2 {
                return Err(Error::value("batch norm", "two values or more a feature in training", 1));
            }
            if !self.pending {
                be.copy(be.view_mut(&mut self.next, 0..n), be.view(&self.running, 0..n))?;
                self.pending = true;
            }
        }
        let running = if training { &mut self.next } else { &mut self.running };
        let args = BatchNormForward {
            y,
            stats,
            running: be.view_mut(running, 0..n),
            x,
            gamma,
            beta,
            lengths: pass.options.lengths,
            eps: EPS,
            momentum: MOMENTUM,
            training,
            shape,
        };
        be.batch_norm_forward(args, ws)
    }

    /// y once more for backward, from the statistics of its forward.
    pub fn recompute<'a>(
        &self,
        pass: &Pass<'a, B>,
        y: B::Mut<'a>,
        stats: B::Ref<'a>,
        x: B::Ref<'a>,
    ) -> Result<()> {
        let Pass { be, values, .. } = *pass;
        let shape = self.shape(pass);
        let (gamma, beta) = (values.view(be, self.gamma), values.view(be, self.beta));
        if self.kind == NormKind::Layer {
            return be.layer_norm_recompute(LayerNormRecompute { y, stats, x, gamma, beta, shape });
        }
        let lengths = pass.options.lengths;
        be.batch_norm_recompute(BatchNormRecompute { y, stats, x, gamma, beta, lengths, shape })
    }

    /// dx overwrites; the parameters' gradients accumulate.
    pub fn backward<'a>(
        &self,
        pass: &Pass<'a, B>,
        arrays: NormBackward<'a, B>,
        ws: &mut B::Workspace,
    ) -> Result<()> {
        let Pass { be, values, .. } = *pass;
        let NormBackward { dx, grads, dy, x, stats, residual } = arrays;
        let shape = self.shape(pass);
        let gamma = values.view(be, self.gamma);
        let [dgamma, dbeta] = grads.views_mut(be, [self.gamma, self.beta]);
        if self.kind == NormKind::Layer {
            let args = LayerNormBackward { dx, dgamma, dbeta, dy, x, stats, gamma, residual, shape };
            return be.layer_norm_backward(args, ws);
        }
        let CallOptions { lengths, training, .. } = pass.options;
        let args =
            BatchNormBackward { dx, dgamma, dbeta, dy, x, stats, gamma, residual, lengths, training, shape };
        be.batch_norm_backward(args, ws)
    }
}
