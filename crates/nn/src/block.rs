//! The block on the device: norm, S4, activation, dropout, linear, GLU, dropout, residual.
//!
//! Pre-norm: y = x + mix(S4(norm(x))). Post-norm: y = norm(x + mix(S4(x))).

use crate::{
    BlockConfig, init,
    norm::Norm,
    param::{Flats, Group, ParamBuilder, Slot},
    s4::{Call, S4Core},
    tensor::Grow,
};
use s4_backend::{Backend, MixGrads, MixParams, MixSpec, Result, Scalar, random::DropKey};

/// What one block's forward saves for its backward, besides its input.
pub(crate) struct Tape<B: Backend> {
    /// SSM output (batch, channels·H, len).
    s: Grow<B>,
    /// Of the norm.
    stats: Grow<B>,
    /// What the SSM asks for.
    ssm: Grow<B>,
    /// What the mix asks for.
    mix: Grow<B>,
    /// Post-norm: the norm's input.
    z: Grow<B>,
}

impl<B: Backend> Tape<B> {
    pub fn new(be: &B) -> Result<Self> {
        Ok(Tape {
            s: Grow::new(be)?,
            stats: Grow::new(be)?,
            ssm: Grow::new(be)?,
            mix: Grow::new(be)?,
            z: Grow::new(be)?,
        })
    }
}

/// Temporaries that all blocks share.
pub(crate) struct Scratch<B: Backend> {
    pub ws: B::Workspace,
    /// Norm output, or the post-norm's gradient.
    norm: Grow<B>,
    stats: Grow<B>,
    s: Grow<B>,
    du: Grow<B>,
}

impl<B: Backend> Scratch<B> {
    pub fn new(be: &B) -> Result<Self> {
        Ok(Scratch {
            ws: be.workspace(),
            norm: Grow::new(be)?,
            stats: Grow::new(be)?,
            s: Grow::new(be)?,
            du: Grow::new(be)?,
        })
    }
}

/// One block.
pub struct BlockCore<B: Backend> {
    pub(crate) s4: S4Core<B>,
    pub(crate) norm: Option<Norm<B>>,
    prenorm: bool,
    residual: bool,
    mix: MixSpec,
    weight: Slot,
    bias: Slot,
    /// Its first dropout.
    site: u32,
}

impl<B: Backend> BlockCore<B> {
    /// Block number `index` of a network; parameters under `prefix` (`"blocks.0."`).
    pub(crate) fn new(
        be: &B,
        config: &BlockConfig,
        prefix: &str,
        index: u32,
        params: &mut ParamBuilder,
    ) -> Result<Self> {
        // Random streams: 16 a block, the first 16 belong to encoder and decoder.
        let stream = 16 * (index + 1);
        let norm = Norm::new(be, config.norm, config.layer.features, &format!("{prefix}norm."), params)?;
        let s4 = S4Core::new(be, &config.layer, &format!("{prefix}layer."), stream, params)?;
        let mix = MixSpec {
            inputs: s4.spec().outputs(),
            outputs: config.layer.features,
            activation: config.activation,
            glu: config.glu,
            final_activation: config.final_activation,
            dropout: config.dropout,
            tied: config.tied_dropout,
        };
        let name = format!("{prefix}output_linear.0.");
        let (w, b) = init::linear(config.layer.seed, stream + 8, mix.rows(), mix.inputs);
        let weight = params.add(format!("{name}weight"), &[mix.rows(), mix.inputs], Group::Main, w);
        let bias = params.add(format!("{name}bias"), &[mix.rows()], Group::Main, b);
        Ok(BlockCore {
            s4,
            norm,
            prenorm: config.prenorm,
            residual: config.residual,
            mix,
            weight,
            bias,
            site: 2 * index,
        })
    }

    /// H.
    pub(crate) fn heads(&self) -> usize {
        self.mix.outputs
    }

    fn mix_params<'a>(&self, be: &B, values: &'a Flats<B>) -> MixParams<'a, B> {
        MixParams { weight: values.view(be, self.weight), bias: values.view(be, self.bias) }
    }

    /// The mix of this call: no dropout outside training.
    fn mix_spec(&self, training: bool) -> MixSpec {
        MixSpec { dropout: if training { self.mix.dropout } else { 0.0 }, ..self.mix }
    }

    fn key(&self, key: DropKey) -> DropKey {
        DropKey { site: key.site + self.site, ..key }
    }

    /// `y`: (batch, H, len) of `x`: (batch, H, len); with `tape` for backward.
    pub(crate) fn forward(
        &mut self,
        be: &B,
        mut y: B::Mut<'_>,
        state_end: Option<B::Mut<'_>>,
        x: B::Ref<'_>,
        state0: Option<B::Ref<'_>>,
        tape: Option<&mut Tape<B>>,
        values: &Flats<B>,
        call: &Call<'_, B>,
        scratch: &mut Scratch<B>,
    ) -> Result<()> {
        let n = call.batch * self.heads() * call.len;
        let inner = call.batch * self.mix.inputs * call.len;
        let spec = self.mix_spec(call.training);
        let stats_len = self.norm.as_ref().map_or(0, |norm| norm.stats_len(call.batch, call.len));
        let saving = tape.is_some();
        let (saved_len, mix_len) = match saving {
            true => (self.s4.saved_len(be, call), be.mix_saved_len(&spec, call.batch, call.len)),
            false => (0, 0),
        };
        let Scratch { ws, norm: norm_out, stats, s, .. } = scratch;
        // Where things go: the tape when backward follows, else shared scratch.
        let (s, stats, mut ssm, mut mix, z) = match tape {
            Some(t) => {
                t.ssm.ensure(be, saved_len)?;
                t.mix.ensure(be, mix_len)?;
                (&mut t.s, &mut t.stats, Some(&mut t.ssm), Some(&mut t.mix), Some(&mut t.z))
            }
            None => (s, stats, None, None, None),
        };
        s.ensure(be, inner)?;
        stats.ensure(be, stats_len)?;
        let ssm = ssm.as_mut().map(|g| g.get_mut(be, saved_len));
        let mix = mix.as_mut().map(|g| g.get_mut(be, mix_len));
        let params = self.mix_params(be, values);
        let key = self.key(call.key);
        let residual = self.residual.then_some(x);
        match &mut self.norm {
            Some(norm) if self.prenorm => {
                // The SSM's input stands where the block's output will: it is dead by then.
                let stats = stats.get_mut(be, stats_len);
                norm.forward(be, be.reborrow(&mut y), stats, x, values, call, ws)?;
                let u = be.freeze(&y);
                self.s4.forward(be, s.get_mut(be, inner), state_end, ssm, u, state0, values, call, ws)?;
                be.mix_forward(
                    y,
                    mix,
                    s.get(be, inner),
                    residual,
                    &params,
                    &spec,
                    key,
                    call.batch,
                    call.len,
                    ws,
                )
            }
            Some(norm) => {
                let z = z.unwrap_or(norm_out);
                z.ensure(be, n)?;
                self.s4.forward(be, s.get_mut(be, inner), state_end, ssm, x, state0, values, call, ws)?;
                let (s, out) = (s.get(be, inner), z.get_mut(be, n));
                be.mix_forward(out, mix, s, residual, &params, &spec, key, call.batch, call.len, ws)?;
                norm.forward(be, y, stats.get_mut(be, stats_len), z.get(be, n), values, call, ws)
            }
            None => {
                self.s4.forward(be, s.get_mut(be, inner), state_end, ssm, x, state0, values, call, ws)?;
                be.mix_forward(
                    y,
                    mix,
                    s.get(be, inner),
                    residual,
                    &params,
                    &spec,
                    key,
                    call.batch,
                    call.len,
                    ws,
                )
            }
        }
    }

    /// Gradients of sum(y·dy) + sum(state_end·dstate_end), from the same call and tape. What a `once` leaves of the
    /// tape serves no second backward: memory of its own is spared.
    pub(crate) fn backward(
        &mut self,
        be: &B,
        mut dx: B::Mut<'_>,
        dstate0: Option<B::Mut<'_>>,
        grads: &mut Flats<B>,
        dy: B::Ref<'_>,
        dstate_end: Option<B::Ref<'_>>,
        x: B::Ref<'_>,
        state0: Option<B::Ref<'_>>,
        tape: &mut Tape<B>,
        once: bool,
        values: &Flats<B>,
        call: &Call<'_, B>,
        scratch: &mut Scratch<B>,
    ) -> Result<()> {
        let n = call.batch * self.heads() * call.len;
        let inner = call.batch * self.mix.inputs * call.len;
        let spec = self.mix_spec(call.training);
        let stats_len = self.norm.as_ref().map_or(0, |norm| norm.stats_len(call.batch, call.len));
        let Tape { s, stats, ssm, mix, z } = tape;
        let saved = ssm.get(be, self.s4.saved_len(be, call));
        let mix_saved = mix.get(be, be.mix_saved_len(&spec, call.batch, call.len));
        let Scratch { ws, norm: norm_out, s: ds, du, .. } = scratch;
        ds.ensure(be, inner)?;
        let params = self.mix_params(be, values);
        let key = self.key(call.key);
        let (weight, bias) = (self.weight, self.bias);
        let mix_backward =
            |s: &Grow<B>, ds: B::Mut<'_>, dy: B::Ref<'_>, grads: &mut Flats<B>, ws: &mut B::Workspace| {
                let [weight, bias] = grads.views_mut(be, [weight, bias]);
                let s = s.get(be, inner);
                be.mix_backward(
                    ds,
                    MixGrads { weight, bias },
                    dy,
                    s,
                    mix_saved,
                    &params,
                    &spec,
                    key,
                    call.batch,
                    call.len,
                    ws,
                )
            };
        match &mut self.norm {
            Some(norm) if self.prenorm => {
                mix_backward(s, ds.get_mut(be, inner), dy, grads, ws)?;
                // The SSM's input is recomputed, in the place of dx: a norm is cheaper than its memory.
                let stats = stats.get(be, stats_len);
                norm.again(be, be.reborrow(&mut dx), stats, x, values, call)?;
                let du = if once { s } else { du };
                du.ensure(be, n)?;
                let (u, out) = (be.freeze(&dx), Some(du.get_mut(be, n)));
                self.s4.backward(
                    be,
                    out,
                    dstate0,
                    grads,
                    ds.get(be, inner),
                    dstate_end,
                    u,
                    state0,
                    saved,
                    values,
                    call,
                    ws,
                )?;
                let residual = self.residual.then_some(dy);
                norm.backward(be, dx, grads, du.get(be, n), x, stats, residual, values, call, ws)
            }
            other => {
                let (s4, residual) = (&mut self.s4, self.residual);
                let through = |dz: B::Ref<'_>, grads: &mut Flats<B>, ws: &mut B::Workspace| {
                    mix_backward(s, ds.get_mut(be, inner), dz, grads, ws)?;
                    let (out, ds) = (Some(be.reborrow(&mut dx)), ds.get(be, inner));
                    s4.backward(be, out, dstate0, grads, ds, dstate_end, x, state0, saved, values, call, ws)?;
                    match residual {
                        true => be.axpy(dx, B::Scalar::from_f64(1.0), dz),
                        false => Ok(()),
                    }
                };
                match other {
                    Some(norm) => {
                        norm_out.ensure(be, n)?;
                        let (z, stats) = (z.get(be, n), stats.get(be, stats_len));
                        norm.backward(
                            be,
                            norm_out.get_mut(be, n),
                            grads,
                            dy,
                            z,
                            stats,
                            None,
                            values,
                            call,
                            ws,
                        )?;
                        through(norm_out.get(be, n), grads, ws)
                    }
                    None => through(dy, grads, ws),
                }
            }
        }
    }

    /// One sample: `y` (batch, H) of `x` (batch, H); `state` in place. Norms use running statistics.
    pub(crate) fn step(
        &mut self,
        be: &B,
        y: B::Mut<'_>,
        state: B::Mut<'_>,
        x: B::Ref<'_>,
        interval: Option<B::Ref<'_>>,
        values: &Flats<B>,
        call: &Call<'_, B>,
        plan: Option<&mut B::StepPlan>,
        scratch: &mut Scratch<B>,
    ) -> Result<()> {
        let (batch, rate, version) = (call.batch, call.rate, call.version);
        let (n, inner) = (batch * self.heads(), batch * self.mix.inputs);
        let spec = self.mix_spec(false);
        let stats_len = self.norm.as_ref().map_or(0, |norm| norm.stats_len(batch, 1));
        let Scratch { ws, norm: norm_out, stats, s, .. } = scratch;
        s.ensure(be, inner)?;
        norm_out.ensure(be, n)?;
        stats.ensure(be, stats_len)?;
        let params = self.mix_params(be, values);
        let residual = self.residual.then_some(x);
        let out = s.get_mut(be, inner);
        match &mut self.norm {
            Some(norm) if self.prenorm => {
                norm.forward(be, norm_out.get_mut(be, n), stats.get_mut(be, stats_len), x, values, call, ws)?;
                let u = norm_out.get(be, n);
                self.s4.step(be, out, state, u, interval, values, batch, rate, version, plan, ws)?;
                be.mix_forward(y, None, s.get(be, inner), residual, &params, &spec, call.key, batch, 1, ws)
            }
            Some(norm) => {
                self.s4.step(be, out, state, x, interval, values, batch, rate, version, plan, ws)?;
                let z = norm_out.get_mut(be, n);
                be.mix_forward(z, None, s.get(be, inner), residual, &params, &spec, call.key, batch, 1, ws)?;
                norm.forward(be, y, stats.get_mut(be, stats_len), norm_out.get(be, n), values, call, ws)
            }
            None => {
                self.s4.step(be, out, state, x, interval, values, batch, rate, version, plan, ws)?;
                be.mix_forward(y, None, s.get(be, inner), residual, &params, &spec, call.key, batch, 1, ws)
            }
        }
    }
}
