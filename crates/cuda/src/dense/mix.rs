//! The mix: activation, dropout, linear, gate, dropout, residual (`kernels/mix.cu` around the products of `gemm.rs`, or,
//! with GLU on Hopper, products that do it all: `mix90.rs`). Backward makes a = dropout(activation(s)) and
//! z = W a + b again.

use crate::{
    Cuda,
    dense::code,
    launch::args,
    memory::{Block, same_len},
    rows::Rows,
};
use s4_backend::{random::DropKey, *};

type Ref<'a> = <Cuda as Memory>::Ref<'a>;
type Mut<'a> = <Cuda as Memory>::Mut<'a>;

/// One dropout of a call, as its kernels take it.
pub(crate) struct Drop {
    pub(crate) key: DropKey,
    pub(crate) threshold: u32,
    pub(crate) scale: f32,
    pub(crate) tied: bool,
}

impl Drop {
    pub(crate) fn new(spec: &MixSpec, key: DropKey, site: u32) -> Drop {
        let p = spec.dropout;
        let threshold = if p > 0.0 { DropKey::threshold(p) } else { 0 };
        Drop {
            key: DropKey { site: key.site + site, ..key },
            threshold,
            scale: (1.0 / (1.0 - p)) as f32,
            tied: spec.tied,
        }
    }
}

/// Appends a dropout's arguments.
macro_rules! drop_args {
    ($d:expr; $($x:expr),* $(,)?) => {
        args![$($x),*, $d.key.seed, $d.key.step, $d.key.site, $d.threshold, $d.scale, $d.tied]
    };
}
pub(crate) use drop_args;

impl Cuda {
    fn mix_check(
        &self,
        op: &'static str,
        out: usize,
        s: usize,
        params: &MixParams<'_, Self>,
        spec: &MixSpec,
        batch: usize,
        len: usize,
    ) -> Result<()> {
        same_len(op, batch * spec.outputs * len, out)?;
        same_len(op, batch * spec.inputs * len, s)?;
        same_len(op, spec.rows() * spec.inputs, params.weight.len())?;
        same_len(op, spec.rows(), params.bias.len())
    }

    /// a = dropout(activation(s)); `None` where that is s itself.
    fn activated(
        &self,
        op: &'static str,
        s: Ref<'_>,
        spec: &MixSpec,
        key: DropKey,
        len: usize,
    ) -> Result<Option<Block>> {
        let drop = Drop::new(spec, key, 0);
        if spec.activation == Activation::Identity && drop.threshold == 0 {
            return Ok(None);
        }
        let a = self.scratch(op, s.len())?;
        let n = s.len();
        self.each(
            ("mix", "activate_drop"),
            n.div_ceil(4),
            drop_args![drop; &a, s, n, len, code(spec.activation)],
        )?;
        Ok(Some(a))
    }
}

impl Cuda {
    /// y = mix(s) (+ residual).
    pub(crate) fn mix_y(
        &self,
        y: Mut<'_>,
        saved: Option<Mut<'_>>,
        s: Ref<'_>,
        residual: Option<Ref<'_>>,
        params: &MixParams<'_, Self>,
        spec: &MixSpec,
        key: DropKey,
        batch: usize,
        len: usize,
    ) -> Result<()> {
        const OP: &str = "mix_forward";
        self.mix_check(OP, y.len(), s.len(), params, spec, batch, len)?;
        if let Some(r) = residual {
            same_len(OP, y.len(), r.len())?;
        }
        // A stream's step keeps nothing and drops nothing: one kernel.
        let few = Rows {
            y: y.span(),
            x: s.span(),
            weight: params.weight.span(),
            bias: Some(params.bias.span()),
            residual: residual.map(|r| r.span()),
            batch,
            inputs: spec.inputs,
            outputs: spec.outputs,
            glu: spec.glu,
            activations: (code(spec.activation), code(spec.final_activation)),
        };
        if len == 1 && saved.is_none() && spec.dropout == 0.0 && self.rows(&few)? {
            return Ok(());
        }
        if let Some(fused) = self.fused(spec, batch, len) {
            let (saved, residual) = (saved.map(|s| s.span()), residual.map(|r| r.span()));
            return self.mix_y_fused(&fused, y.span(), saved, s.span(), residual, params, key);
        }
        let a = self.activated(OP, s, spec, key, len)?;
        let a = a.as_ref().map_or(s.span(), |a| a.span());
        let z = self.scratch(OP, batch * spec.rows() * len)?;
        let sizes = (batch, spec.rows(), spec.inputs, len);
        self.weight_times(z.span(), params.weight.span(), a, Some(params.bias.span()), sizes)?;
        let (drop, n) = (Drop::new(spec, key, 1), y.len());
        self.each(
            ("mix", "gate"),
            n.div_ceil(4),
            drop_args![drop; &y, &z, residual, n, len, spec.outputs, spec.glu, code(spec.final_activation)],
        )
    }

    /// ds overwrites, dW and db accumulate.
    pub(crate) fn mix_gradients(
        &self,
        ds: Mut<'_>,
        grads: MixGrads<'_, Self>,
        dy: Ref<'_>,
        s: Ref<'_>,
        saved: Ref<'_>,
        params: &MixParams<'_, Self>,
        spec: &MixSpec,
        key: DropKey,
        batch: usize,
        len: usize,
    ) -> Result<()> {
        const OP: &str = "mix_backward";
        self.mix_check(OP, dy.len(), s.len(), params, spec, batch, len)?;
        same_len(OP, s.len(), ds.len())?;
        same_len(OP, params.weight.len(), grads.weight.len())?;
        same_len(OP, params.bias.len(), grads.bias.len())?;
        if let Some(fused) = self.fused(spec, batch, len) {
            let (ds, dy, s, saved) = (ds.span(), dy.span(), s.span(), saved.span());
            return self.mix_gradients_fused(&fused, ds, &grads, dy, s, saved, params, key);
        }
        let a = self.activated(OP, s, spec, key, len)?;
        let at = a.as_ref().map_or(s.span(), |a| a.span());
        let sizes = (batch, spec.rows(), spec.inputs, len);
        let dz = self.scratch(OP, batch * spec.rows() * len)?;
        self.weight_times(dz.span(), params.weight.span(), at, Some(params.bias.span()), sizes)?;
        let (drop, n) = (Drop::new(spec, key, 1), dy.len());
        self.each(
            ("mix", "gate_backward"),
            n.div_ceil(4),
            drop_args![drop; &dz, dy, &dz, n, len, spec.outputs, spec.glu, code(spec.final_activation)],
        )?;
        self.weight_gradient(grads.weight.span(), dz.span(), at, sizes)?;
        self.bias_gradient(grads.bias.span(), dz.span(), (batch, spec.rows(), len))?;
        self.weight_t_times(ds.span(), params.weight.span(), dz.span(), sizes)?;
        if a.is_some() {
            let (drop, n) = (Drop::new(spec, key, 0), s.len());
            self.each(
                ("mix", "activate_drop_backward"),
                n.div_ceil(4),
                drop_args![drop; &ds, s, n, len, code(spec.activation)],
            )?;
        }
        Ok(())
    }
}
