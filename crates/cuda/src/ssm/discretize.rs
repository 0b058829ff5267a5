//! From parameters to the discrete recurrence in f64 (`kernels/ssm/discretize.cu`), and its gradients back to them.

use crate::{
    device::Cuda,
    driver::{Arg, Span, args},
    memory::DeviceBlock,
};
use s4_backend::{Discretization, Result, SsmGrads, SsmParams, SsmSpec};

/// Bytes of the kernels' `PairValues`.
const PAIR_VALUES: usize = 5 * 8;

/// (D₀, u, v, B̄) of every head, complex f64.
pub(super) struct Discrete {
    block: DeviceBlock,
    heads: usize,
    pairs: usize,
    rank: usize,
}

impl Discrete {
    /// In memory from `memory`, which is told the bytes.
    pub(super) fn new(spec: &SsmSpec, memory: impl FnOnce(usize) -> Result<DeviceBlock>) -> Result<Discrete> {
        let (heads, pairs, rank) = (spec.heads, spec.pairs(), spec.rank);
        let block = memory(16 * (2 + 2 * rank) * heads * pairs)?;
        Ok(Discrete { block, heads, pairs, rank })
    }
    fn part(&self, offset: usize, count: usize) -> Span {
        self.block.span().part(16 * offset * self.heads * self.pairs, 16 * count * self.heads * self.pairs)
    }
    /// D₀ (H, P).
    pub(super) fn d0(&self) -> Span {
        self.part(0, 1)
    }
    /// B̄ (H, P).
    pub(super) fn b_bar(&self) -> Span {
        self.part(1, 1)
    }
    /// u_r (H, R, P).
    pub(super) fn u(&self) -> Span {
        self.part(2, self.rank)
    }
    /// v_r (H, R, P).
    pub(super) fn v(&self) -> Span {
        self.part(2 + self.rank, self.rank)
    }
}

/// The parameters of a layer at a rate.
#[derive(Clone, Copy)]
pub(super) struct Layer<'a> {
    pub(super) params: SsmParams<'a, Cuda>,
    pub(super) spec: SsmSpec,
    /// Multiplies every Δ.
    pub(super) rate: f64,
}

/// Where the gradients of [`SsmParams`] accumulate.
#[derive(Clone, Copy)]
pub(super) struct GradientSpans {
    pub(super) inv_dt: Span,
    pub(super) a_real: Span,
    pub(super) a_imag: Span,
    pub(super) b: Span,
    pub(super) c: Span,
    pub(super) p: Span,
    pub(super) d: Span,
}

impl From<&SsmGrads<'_, Cuda>> for GradientSpans {
    fn from(g: &SsmGrads<'_, Cuda>) -> GradientSpans {
        GradientSpans {
            inv_dt: g.inv_dt.span(),
            a_real: g.a_real.span(),
            a_imag: g.a_imag.span(),
            b: g.b.span(),
            c: g.c.span(),
            p: g.p.span(),
            d: g.d.span(),
        }
    }
}

/// The argument list `PARAMS` of `kernels/ssm/params.cuh`, after `first`.
pub(super) fn with_params(first: &[Arg], layer: &Layer<'_>) -> Vec<Arg> {
    let &Layer { params: p, spec, rate } = layer;
    let zoh = spec.discretization == Discretization::Zoh;
    let mut arguments = first.to_vec();
    arguments.extend_from_slice(args![
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
        spec.dt_transform.code(),
        spec.real_transform.code(),
        spec.imag_transform.code(),
        rate
    ]);
    arguments
}

/// The gradients of each head's stored parameters but C and D, f64: those of inv_dt, a_real and a_imag (H, P), of B (H, P) and
/// P (H, R, P) complex.
pub(super) struct ParameterGradients {
    block: DeviceBlock,
    /// H·P
    len: usize,
    rank: usize,
}

impl ParameterGradients {
    pub(super) fn new(cuda: &Cuda, op: &'static str, spec: &SsmSpec) -> Result<Self> {
        let len = spec.heads * spec.pairs();
        let block = cuda.scratch64(op, len * (3 + 2 + 2 * spec.rank))?;
        Ok(ParameterGradients { block, len, rank: spec.rank })
    }
    fn part(&self, from: usize, count: usize) -> Span {
        self.block.span().part(8 * self.len * from, 8 * self.len * count)
    }
    /// All of them.
    pub(super) fn all(&self) -> Span {
        self.part(0, 3 + 2 + 2 * self.rank)
    }
    pub(super) fn dt(&self) -> Span {
        self.part(0, 1)
    }
    pub(super) fn re(&self) -> Span {
        self.part(1, 1)
    }
    pub(super) fn im(&self) -> Span {
        self.part(2, 1)
    }
    pub(super) fn b(&self) -> Span {
        self.part(3, 2)
    }
    pub(super) fn p(&self) -> Span {
        self.part(5, 2 * self.rank)
    }
}

impl Cuda {
    pub(super) fn discretize(&self, op: &'static str, layer: &Layer<'_>) -> Result<Discrete> {
        let d = Discrete::new(&layer.spec, |bytes| self.block(op, bytes))?;
        self.discretize_into(&d, layer)?;
        Ok(d)
    }

    /// As [`Cuda::discretize`], into memory that is there.
    pub(super) fn discretize_into(&self, d: &Discrete, layer: &Layer<'_>) -> Result<()> {
        let (heads, pairs) = (layer.spec.heads, layer.spec.pairs());
        let arguments = with_params(args![d.d0(), d.u(), d.v(), d.b_bar()], layer);
        self.launch(("discretize", "discretize"), (heads, 1, 1), (32, 1), PAIR_VALUES * pairs, &arguments)
    }

    /// gradient_parts (H, count, (2 + 2R)·P): the gradients of (D₀, B̄, u, v) in `count` parts. Adds to every gradient in
    /// `grads` except the gradients of C and D.
    pub(super) fn discretize_backward(
        &self,
        op: &'static str,
        grads: GradientSpans,
        gradient_parts: &DeviceBlock,
        count: usize,
        layer: &Layer<'_>,
    ) -> Result<()> {
        if layer.spec.n_ssm != layer.spec.heads {
            let sums = self.discrete_gradients(op, gradient_parts, count, layer)?;
            return self.add_parameter_gradients(grads, &sums, &layer.spec);
        }
        let GradientSpans { inv_dt, a_real, a_imag, b, p, .. } = grads;
        let targets = [None; 5].into_iter().chain([inv_dt, a_real, a_imag, b, p].map(Some));
        self.launch_gradients(targets, gradient_parts, count, layer)
    }

    /// The gradients of each head's parameters that [`Cuda::discretize_backward`] adds.
    pub(super) fn discrete_gradients(
        &self,
        op: &'static str,
        gradient_parts: &DeviceBlock,
        count: usize,
        layer: &Layer<'_>,
    ) -> Result<ParameterGradients> {
        let sums = ParameterGradients::new(self, op, &layer.spec)?;
        let spans = [sums.dt(), sums.re(), sums.im(), sums.b(), sums.p()].map(Some);
        self.launch_gradients(spans.into_iter().chain([None; 5]), gradient_parts, count, layer)?;
        Ok(sums)
    }

    /// targets: those of each head, or those of the stored parameters.
    fn launch_gradients(
        &self,
        targets: impl Iterator<Item = Option<Span>>,
        gradient_parts: &DeviceBlock,
        count: usize,
        layer: &Layer<'_>,
    ) -> Result<()> {
        let (heads, pairs) = (layer.spec.heads, layer.spec.pairs());
        let first: Vec<Arg> =
            targets.map(Arg::from).chain(args![gradient_parts, count].iter().copied()).collect();
        let arguments = with_params(&first, layer);
        self.launch(
            ("discretize", "discretize_backward"),
            (heads, 1, 1),
            (32, 1),
            PAIR_VALUES * pairs,
            &arguments,
        )
    }

    /// Adds the gradients of each head to those of the stored parameters, all but those of C and D.
    pub(super) fn add_parameter_gradients(
        &self,
        grads: GradientSpans,
        sums: &ParameterGradients,
        spec: &SsmSpec,
    ) -> Result<()> {
        let (heads, pairs, rank) = (spec.heads, spec.pairs(), spec.rank);
        self.launch(
            ("discretize", "add_parameter_gradients"),
            (spec.n_ssm, pairs, 1),
            (32, 1),
            0,
            args![
                grads.inv_dt,
                grads.a_real,
                grads.a_imag,
                grads.b,
                grads.p,
                sums.dt(),
                sums.re(),
                sums.im(),
                sums.b(),
                sums.p(),
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
        let arguments = args![grads.inv_dt, sums.dt(), pairs];
        self.launch(("discretize", "add_step_gradients"), (heads, 1, 1), (32, 1), 0, arguments)
    }
}
