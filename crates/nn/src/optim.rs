//! AdamW over a parameter store: two groups and those chosen by name, one clip over all.

use crate::{
    check,
    param::{Flats, Group, ParamStore},
    param_groups::{ParamGroup, Segment, segments},
};
use num_traits::Zero;
use s4_backend::{AdamW, AdamWUpdate, Backend, Clip, Code, Error, Result, Scalar};
use serde::{Deserialize, Serialize};

/// Hyperparameters; the SSM group has its own learning rate and no decay.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[allow(missing_docs)]
pub struct AdamConfig {
    pub lr: f64,
    pub ssm_lr: f64,
    pub weight_decay: f64,
    pub beta1: f64,
    pub beta2: f64,
    pub eps: f64,
    /// Largest global gradient norm; none by default.
    pub clip: Option<f64>,
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
            groups: Vec::new(),
        }
    }
}

impl AdamConfig {
    /// From JSON. `ERR_S4_VALUE` names what is wrong.
    pub fn from_json(op: &'static str, json: &str) -> Result<Self> {
        serde_json::from_str(json)
            .map_err(|e| Error::value(op, "known options with values of their types", e))
    }
    fn segments<B: Backend>(&self, op: &'static str, store: &ParamStore<B>) -> Result<Vec<Segment>> {
        segments(op, store, &self.groups, |group| match group {
            Group::Main => (self.lr, self.weight_decay),
            Group::Ssm => (self.ssm_lr, 0.0),
        })
    }
    /// Refuses impossible values.
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

/// AdamW: moments and update counter of one [`ParamStore`]. [`crate::Trainer`] drives one; custom loops call
/// [`Adam::update`].
pub struct Adam<B: Backend> {
    be: B,
    config: AdamConfig,
    segments: Vec<Segment>,
    pub(crate) m: Flats<B>,
    pub(crate) v: Flats<B>,
    pub(crate) step: u64,
    guard: Option<B::Buf>,
    ws: B::Workspace,
}

impl<B: Backend> Adam<B> {
    /// Zero moments. `ERR_S4_VALUE` on impossible hyperparameters.
    pub fn new(be: B, store: &ParamStore<B>, config: AdamConfig) -> Result<Self> {
        config.check("AdamW")?;
        let segments = config.segments("AdamW", store)?;
        let (m, v, guard, ws) = (store.like()?, store.like()?, Some(be.alloc(2)?), be.workspace());
        Ok(Adam { be, config, segments, m, v, step: 0, guard, ws })
    }
    /// Other hyperparameters from here on, moments and counter kept. `ERR_S4_VALUE` on impossible ones, and nothing changes.
    pub fn configure(&mut self, op: &'static str, store: &ParamStore<B>, config: AdamConfig) -> Result<()> {
        config.check(op)?;
        self.segments = config.segments(op, store)?;
        self.config = config;
        Ok(())
    }
    /// Hyperparameters.
    pub fn config(&self) -> &AdamConfig {
        &self.config
    }
    /// Updates so far.
    pub fn steps(&self) -> u64 {
        self.step
    }

    /// One update from the store's gradients, learning rates times `scale`; waits. Gives the gradients' global norm
    /// before clipping. A non-finite gradient gives `ERR_S4_NONFINITE` with step and tensor, parameters untouched.
    pub fn update(&mut self, store: &mut ParamStore<B>, scale: f64) -> Result<f64> {
        if !(scale.is_finite() && scale >= 0.0) {
            return Err(Error::value("AdamW.step", "a learning rate factor of 0 or more", scale));
        }
        let be = self.be.clone();
        if be.len(&store.values.main) != be.len(&self.m.main)
            || be.len(&store.values.ssm) != be.len(&self.m.ssm)
        {
            return Err(Error::shape("AdamW.step", "the parameters it was made for", "others"));
        }
        let mut guard = match self.guard.take() {
            Some(guard) => guard,
            None => be.alloc(2)?,
        };
        let result = (|| {
            be.fill(be.view_mut(&mut guard, 0..2), B::Scalar::zero())?;
            self.sum_squares(be.view_mut(&mut guard, 1..2), store)?;
            self.enqueue(store, be.view(&guard, 0..2), scale)?;
            let mut host = [B::Scalar::zero(); 2];
            be.download(&mut host, be.view(&guard, 0..2))?;
            Ok(host[1].to_f64())
        })();
        self.guard = Some(guard);
        let squares = result?;
        match squares.is_finite() {
            true => Ok(squares.sqrt()),
            false => {
                let step = self.step;
                self.step -= 1;
                Err(non_finite("AdamW.step", step, &bad_gradient(store)?))
            }
        }
    }

    /// acc += Σ g² over all that is not frozen.
    pub(crate) fn sum_squares(&mut self, mut acc: B::Mut<'_>, store: &ParamStore<B>) -> Result<()> {
        for s in &self.segments {
            let g = self.be.view(store.grads.buf(s.group), s.range.clone());
            self.be.sum_squares(self.be.reborrow(&mut acc), g, &mut self.ws)?;
        }
        Ok(())
    }

    /// The update under `guard` = [loss, Σ g²].
    pub(crate) fn enqueue(&mut self, store: &mut ParamStore<B>, guard: B::Ref<'_>, scale: f64) -> Result<()> {
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
                value: be.view_mut(store.values.buf_mut(s.group), s.range.clone()),
                m: be.view_mut(self.m.buf_mut(s.group), s.range.clone()),
                v: be.view_mut(self.v.buf_mut(s.group), s.range.clone()),
                grad: be.view(store.grads.buf(s.group), s.range.clone()),
                guard: be.shorten(guard),
                hyper,
                clip,
            })?;
        }
        store.touch();
        Ok(())
    }
}

/// Name of a parameter whose gradient is not finite: the last, nearest to the loss, where backward met it first.
pub(crate) fn bad_gradient<B: Backend>(store: &ParamStore<B>) -> Result<String> {
    for info in store.infos().iter().rev() {
        if check::finite("", "", &store.grad(&info.name)?).is_err() {
            return Ok(format!("gradient of {}", info.name));
        }
    }
    // Each gradient is finite but their squares overflow.
    Ok("gradient norm".into())
}

/// `ERR_S4_NONFINITE` with step and tensor.
pub(crate) fn non_finite(op: &'static str, step: u64, tensor: &str) -> Error {
    Error::new(
        Code::NonFinite,
        op,
        "a finite loss and finite gradients (parameters are those before the step)",
        format!("NaN or Inf at step {step} in {tensor}"),
    )
    .at(Some(step), Some(tensor.into()))
}
