//! Parameters → the discrete recurrence in f64 (`kernels/discrete.cu`), and its gradients back to parameters.

use crate::{
    Cuda,
    device::Span,
    launch::{Arg, args},
    memory::{Block, same_len},
};
use s4_backend::*;

/// (D₀, U, Z, B̄) of every head, complex f64.
pub(crate) struct Discrete {
    block: Block,
    heads: usize,
    pairs: usize,
    rank: usize,
}

impl Discrete {
    fn part(&self, offset: usize, count: usize) -> Span {
        self.block.span().part(16 * offset * self.heads * self.pairs, 16 * count * self.heads * self.pairs)
    }
    /// (H, P)
    pub(crate) fn d0(&self) -> Span {
        self.part(0, 1)
    }
    /// (H, P)
    pub(crate) fn bb(&self) -> Span {
        self.part(1, 1)
    }
    /// (H, R, P)
    pub(crate) fn u(&self) -> Span {
        self.part(2, self.rank)
    }
    /// (H, R, P)
    pub(crate) fn z(&self) -> Span {
        self.part(2 + self.rank, self.rank)
    }
}

fn transform(t: Transform) -> i32 {
    match t {
        Transform::Exp => 0,
        Transform::Softplus => 1,
        Transform::Relu => 2,
        Transform::Sigmoid => 3,
        Transform::None => 4,
    }
}

/// Every array has the length that `spec` gives it.
pub(crate) fn check_params(op: &'static str, p: &SsmParams<'_, Cuda>, spec: &SsmSpec) -> Result<()> {
    spec.check(op)?;
    same_len(op, spec.inv_dt_len(), p.inv_dt.len())?;
    same_len(op, spec.a_len(), p.a_real.len())?;
    same_len(op, spec.a_len(), p.a_imag.len())?;
    same_len(op, spec.b_len(), p.b.len())?;
    same_len(op, spec.c_len(), p.c.len())?;
    same_len(op, spec.p_len(), p.p.len())?;
    same_len(op, spec.d_len(), p.d.len())
}

/// The same for gradients.
pub(crate) fn check_grads(op: &'static str, g: &SsmGrads<'_, Cuda>, spec: &SsmSpec) -> Result<()> {
    same_len(op, spec.inv_dt_len(), g.inv_dt.len())?;
    same_len(op, spec.a_len(), g.a_real.len())?;
    same_len(op, spec.a_len(), g.a_imag.len())?;
    same_len(op, spec.b_len(), g.b.len())?;
    same_len(op, spec.c_len(), g.c.len())?;
    same_len(op, spec.p_len(), g.p.len())?;
    same_len(op, spec.d_len(), g.d.len())
}

/// The argument list `PARAMS` of `cplx.cuh`, after `first`.
pub(crate) fn with_params(first: &[Arg], p: &SsmParams<'_, Cuda>, spec: &SsmSpec, rate: f64) -> Vec<Arg> {
    let zoh = spec.mode == Mode::S4d && spec.disc == Disc::Zoh;
    let mut all = first.to_vec();
    all.extend_from_slice(args![
        p.inv_dt,
        p.a_real,
        p.a_imag,
        p.b,
        p.p,
        spec.heads,
        spec.pairs(),
        spec.n_ssm,
        spec.rank,
        spec.dt_per_state,
        zoh,
        transform(spec.dt_transform),
        transform(spec.real_transform),
        transform(spec.imag_transform),
        rate
    ]);
    all
}

impl Cuda {
    pub(crate) fn discretise(
        &self,
        op: &'static str,
        params: &SsmParams<'_, Self>,
        spec: &SsmSpec,
        rate: f64,
    ) -> Result<Discrete> {
        check_params(op, params, spec)?;
        let (heads, pairs, rank) = (spec.heads, spec.pairs(), spec.rank);
        let block = self.block(op, 16 * (2 + 2 * rank) * heads * pairs)?;
        let d = Discrete { block, heads, pairs, rank };
        let all = with_params(args![d.d0(), d.u(), d.z(), d.bb()], params, spec, rate);
        self.launch(("discrete", "discretise"), (heads, 1, 1), (32, 1), 16 * pairs, &all)?;
        Ok(d)
    }

    /// `slots`: (H, count, (2 + 2R)·P) shares of (ḡ D₀, ḡ B̄, ḡ U, ḡ Z); adds to all of `grads` but C and D.
    pub(crate) fn discretise_backward(
        &self,
        op: &'static str,
        grads: &SsmGrads<'_, Self>,
        slots: &Block,
        count: usize,
        params: &SsmParams<'_, Self>,
        spec: &SsmSpec,
        rate: f64,
    ) -> Result<()> {
        let (heads, pairs, rank) = (spec.heads, spec.pairs(), spec.rank);
        let hp = heads * pairs;
        // dΔ, dRe Λ, dIm Λ: f64; dB, dP: complex.
        let block = self.scratch64(op, hp * (3 + 2 + 2 * rank))?;
        let at = |from: usize, n: usize| block.span().part(8 * hp * from, 8 * hp * n);
        let (dt, re, im, b, p) = (at(0, 1), at(1, 1), at(2, 1), at(3, 2), at(5, 2 * rank));
        let all = with_params(args![dt, re, im, b, p, slots, count], params, spec, rate);
        self.launch(("discrete", "discretise_backward"), (heads, 1, 1), (32, 1), 16 * pairs, &all)?;
        self.launch(
            ("discrete", "add_parameter_gradients"),
            (spec.n_ssm, pairs, 1),
            (32, 1),
            0,
            args![
                &grads.inv_dt,
                &grads.a_real,
                &grads.a_imag,
                &grads.b,
                &grads.p,
                dt,
                re,
                im,
                b,
                p,
                heads,
                pairs,
                spec.n_ssm,
                rank,
                spec.dt_per_state
            ],
        )?;
        if spec.dt_per_state {
            return Ok(());
        }
        let all = args![&grads.inv_dt, dt, pairs];
        self.launch(("discrete", "add_step_gradients"), (heads, 1, 1), (32, 1), 0, all)
    }
}
