//! AdamW over a parameter store: two groups and those chosen by name, one clip over all.

use crate::{
    check,
    non_finite::{non_finite_error, non_finite_gradient},
    param::{Group, GroupBuffers, ParamInfo, ParamStore},
    param_groups::{ParamGroup, Segment, Segments, segments},
};
use num_traits::Zero;
use s4_backend::{AdamW, AdamWUpdate, Backend, Clip, Code, Error, Result, Scalar};
use serde::{Deserialize, Serialize};

/// Hyperparameters of AdamW. The group of the SSM's dynamics has a learning rate of its own and no weight decay.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AdamConfig {
    /// Learning rate of the main group.
    pub lr: f64,
    /// Learning rate of the group of the SSM's dynamics.
    pub ssm_lr: f64,
    /// Decoupled weight decay of the main group.
    pub weight_decay: f64,
    /// Decay of the first moments.
    pub beta1: f64,
    /// Decay of the second moments.
    pub beta2: f64,
    /// Added to the root of a second moment before the division by it.
    pub eps: f64,
    /// Norm over all gradients above which they are scaled down to it; none by default.
    pub clip: Option<f64>,
    /// Whether norms, biases and embeddings do not decay, but for what a group says.
    pub spare_norms_and_biases: bool,
    /// Parameters with rates of their own; the first group that names one has it.
    pub groups: Vec<ParamGroup>,
}

impl Default for AdamConfig {
    fn default() -> Self {
        AdamConfig {
            lr: 4e-3,
            ssm_lr: 1e-3,
            weight_decay: 0.01,
            beta1: 0.9,
            beta2: 0.999,
            eps: 1e-8,
            clip: None,
            spare_norms_and_biases: false,
            groups: Vec::new(),
        }
    }
}

impl AdamConfig {
    /// Parses hyperparameters given as JSON. `ERR_S4_VALUE` names what is wrong.
    pub fn from_json(op: &'static str, json: &str) -> Result<Self> {
        serde_json::from_str(json)
            .map_err(|e| Error::value(op, "known options with values of their types", e))
    }
    fn segments<B: Backend>(&self, store: &ParamStore<B>, prefix: &str) -> Segments {
        segments(store, prefix, &self.groups, |info| match info.slot.group {
            Group::Main if self.spare_norms_and_biases && info.is_norm_bias_or_embedding() => (self.lr, 0.0),
            Group::Main => (self.lr, self.weight_decay),
            Group::Ssm => (self.ssm_lr, 0.0),
        })
    }
    /// Refuses impossible hyperparameters, with `op` as the operation in the error.
    pub fn check(&self, op: &'static str) -> Result<()> {
        let at_least_0 = |what: &str, x: f64| match x.is_finite() && x >= 0.0 {
            true => Ok(()),
            false => Err(Error::value(op, format!("{what} of 0 or more"), x)),
        };
        at_least_0("lr", self.lr)?;
        at_least_0("ssmLr", self.ssm_lr)?;
        at_least_0("weightDecay", self.weight_decay)?;
        for (what, beta) in [("beta1", self.beta1), ("beta2", self.beta2)] {
            if !(0.0..1.0).contains(&beta) {
                return Err(Error::value(op, format!("{what} from 0 to below 1"), beta));
            }
        }
        if !(self.eps.is_finite() && self.eps > 0.0) {
            return Err(Error::value(op, "eps above 0", self.eps));
        }
        self.groups.iter().try_for_each(|group| group.check(op))?;
        match self.clip {
            Some(c) if c.is_nan() || c <= 0.0 => Err(Error::value(op, "clip above 0", c)),
            _ => Ok(()),
        }
    }
}

/// AdamW for one [`ParamStore`]: its hyperparameters, its moments, and the number of updates so far. A [`crate::Trainer`]
/// has one; loops of a caller's own call [`Adam::squared_norm`] and [`Adam::update`].
pub struct Adam<B: Backend> {
    be: B,
    config: AdamConfig,
    segments: Vec<Segment>,
    /// First moments: running means of the gradients.
    pub(crate) m: GroupBuffers<B>,
    /// Second moments: running means of the squared gradients.
    pub(crate) v: GroupBuffers<B>,
    /// Number of updates so far.
    pub(crate) step: u64,
    /// [0, Σ g²] on the device for [`Adam::update`]: nothing is updated where it is not finite. None while it is in use.
    guard: Option<B::Buf>,
    ws: B::Workspace,
}

impl<B: Backend> Adam<B> {
    /// An optimiser with zero moments for these parameters. `ERR_S4_VALUE` on impossible hyperparameters.
    pub fn new(be: B, store: &ParamStore<B>, config: AdamConfig) -> Result<Self> {
        config.check("AdamW")?;
        let segments = config.segments(store, "").of_used_groups("AdamW", &config.groups)?;
        Adam::with_segments(be, store, config, segments)
    }
    /// As [`Adam::new`], for one of several stores that the same groups speak of: `prefix` may stand before this store's names in
    /// them. Also gives which of the groups name a parameter here.
    pub fn of_one_store(
        be: B,
        store: &ParamStore<B>,
        prefix: &str,
        config: AdamConfig,
    ) -> Result<(Self, Vec<bool>)> {
        config.check("AdamW")?;
        let Segments { segments, used_groups } = config.segments(store, prefix);
        Ok((Adam::with_segments(be, store, config, segments)?, used_groups))
    }
    fn with_segments(
        be: B,
        store: &ParamStore<B>,
        config: AdamConfig,
        segments: Vec<Segment>,
    ) -> Result<Self> {
        let (m, v, guard, ws) =
            (store.zeros_like()?, store.zeros_like()?, Some(be.alloc(2)?), be.workspace());
        Ok(Adam { be, config, segments, m, v, step: 0, guard, ws })
    }
    /// Other hyperparameters from here on, moments and counter kept. `ERR_S4_VALUE` on impossible ones, and nothing changes.
    pub fn configure(&mut self, op: &'static str, store: &ParamStore<B>, config: AdamConfig) -> Result<()> {
        config.check(op)?;
        self.segments = config.segments(store, "").of_used_groups(op, &config.groups)?;
        self.config = config;
        Ok(())
    }
    /// Its hyperparameters.
    pub fn config(&self) -> &AdamConfig {
        &self.config
    }
    /// Number of updates so far.
    pub fn steps(&self) -> u64 {
        self.step
    }

    /// Σ g² over all gradients that are not frozen. Where it is not finite, `ERR_S4_NONFINITE` names update and tensor.
    pub fn squared_norm(&mut self, store: &ParamStore<B>) -> Result<f64> {
        let be = self.be.clone();
        let squared_norm = self.with_guard(|adam, guard| {
            be.fill(be.view_mut(guard, 0..2), B::Scalar::zero())?;
            adam.sum_squares(be.view_mut(guard, 1..2), store)?;
            let mut host = [B::Scalar::zero(); 2];
            be.download(&mut host, be.view(guard, 0..2))?;
            Ok(host[1].to_f64())
        })?;
        match squared_norm.is_finite() {
            true => Ok(squared_norm),
            false => Err(non_finite_error("AdamW.step", self.step + 1, &non_finite_gradient(store)?)),
        }
    }

    /// Makes one update from the store's gradients, with the learning rates multiplied by `scale`. `squared_norm`: the sum of
    /// [`Adam::squared_norm`] over all stores that are clipped together.
    pub fn update(&mut self, store: &mut ParamStore<B>, scale: f64, squared_norm: f64) -> Result<()> {
        if !(scale.is_finite() && scale >= 0.0) {
            return Err(Error::value("AdamW.step", "a learning rate factor of 0 or more", scale));
        }
        let be = self.be.clone();
        if be.len(&store.values.main) != be.len(&self.m.main)
            || be.len(&store.values.ssm) != be.len(&self.m.ssm)
        {
            return Err(Error::shape("AdamW.step", "the parameters it was made for", "others"));
        }
        self.with_guard(|adam, guard| {
            be.upload(be.view_mut(guard, 0..2), &[B::Scalar::zero(), B::Scalar::from_f64(squared_norm)])?;
            adam.enqueue_update(store, be.view(guard, 0..2), scale)
        })
    }

    /// Calls `work` with [0, Σ g²] on the device, out of the optimiser's own hands.
    fn with_guard<R>(&mut self, work: impl FnOnce(&mut Self, &mut B::Buf) -> Result<R>) -> Result<R> {
        let mut guard = match self.guard.take() {
            Some(guard) => guard,
            None => self.be.alloc(2)?,
        };
        let result = work(self, &mut guard);
        self.guard = Some(guard);
        result
    }

    /// The moments of every parameter on the host, by the parameter's name and `.m` or `.v`.
    pub fn moments(&self, store: &ParamStore<B>) -> Result<Vec<(ParamInfo, [Vec<B::Scalar>; 2])>> {
        let both = |info: &ParamInfo| {
            Ok([store.read_from(&self.m, &info.name)?, store.read_from(&self.v, &info.name)?])
        };
        store.infos().iter().map(|info| Ok((info.clone(), both(info)?))).collect()
    }

    /// Replaces the moments, in the order of the store's parameters, and the number of updates. `ERR_S4_CHECKPOINT` where they are not
    /// those of these parameters; nothing changes then.
    pub fn restore(
        &mut self,
        store: &ParamStore<B>,
        step: u64,
        moments: &[[Vec<B::Scalar>; 2]],
    ) -> Result<()> {
        let wrong =
            |expected: String, got: String| Err(Error::new(Code::Checkpoint, "AdamW.load", expected, got));
        if moments.len() != store.infos().len() {
            let expected = format!("moments of {} parameters", store.infos().len());
            return wrong(expected, moments.len().to_string());
        }
        for (info, [m, v]) in store.infos().iter().zip(moments) {
            if m.len() != info.slot.len || v.len() != info.slot.len {
                return wrong(format!("{} moments of '{}'", info.slot.len, info.name), m.len().to_string());
            }
            check::finite("AdamW.load", &info.name, m)?;
            check::finite("AdamW.load", &info.name, v)?;
            if v.iter().any(|&x| x < B::Scalar::zero()) {
                return wrong(
                    format!("second moments of 0 or more of '{}'", info.name),
                    "a negative one".into(),
                );
            }
        }
        for (info, [m, v]) in store.infos().iter().zip(moments) {
            for (buffers, values) in [(&mut self.m, m), (&mut self.v, v)] {
                let view = self.be.view_mut(buffers.buffer_of_mut(info.slot.group), info.slot.range());
                self.be.upload(view, values)?;
            }
        }
        self.step = step;
        Ok(())
    }

    /// acc += Σ g² over all that is not frozen.
    pub(crate) fn sum_squares(&mut self, mut sum: B::Mut<'_>, store: &ParamStore<B>) -> Result<()> {
        for s in &self.segments {
            let g = self.be.view(store.grads.buffer_of(s.group), s.range.clone());
            self.be.sum_squares(self.be.reborrow(&mut sum), g, &mut self.ws)?;
        }
        Ok(())
    }

    /// Enqueues an update that the device makes only if `guard` = [loss, Σ g²] is finite.
    pub(crate) fn enqueue_update(
        &mut self,
        store: &mut ParamStore<B>,
        guard: B::Ref<'_>,
        scale: f64,
    ) -> Result<()> {
        self.step += 1;
        let c = &self.config;
        let clip = Clip { max_norm: c.clip.unwrap_or(f64::INFINITY) };
        for s in &self.segments {
            let hyper = AdamW {
                lr: s.lr * scale,
                beta1: c.beta1,
                beta2: c.beta2,
                eps: c.eps,
                weight_decay: s.weight_decay,
                step: self.step,
            };
            let be = &self.be;
            be.adamw(AdamWUpdate {
                value: be.view_mut(store.values.buffer_of_mut(s.group), s.range.clone()),
                m: be.view_mut(self.m.buffer_of_mut(s.group), s.range.clone()),
                v: be.view_mut(self.v.buffer_of_mut(s.group), s.range.clone()),
                grad: be.view(store.grads.buffer_of(s.group), s.range.clone()),
                guard: be.shorten(guard),
                hyper,
                clip,
            })?;
        }
        store.mark_changed();
        Ok(())
    }
}
