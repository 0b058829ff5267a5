//! Runs one SSM layer on any backend: host arrays in f64 in, named host arrays in f64 out.

use s4_backend::*;
use s4_testing::{intervals::random_intervals, layer::PARAMETERS, noise};

/// Parameters and inputs of one run.
#[derive(Clone)]
pub struct Run {
    pub spec: SsmSpec,
    /// inv_dt, a_real, a_imag, b, c, p, d
    pub params: [Vec<f64>; 7],
    pub batch: usize,
    pub len: usize,
    pub rate: f64,
    pub algorithm: Algorithm,
    pub lengths: Option<Vec<i32>>,
    pub states: bool,
    /// Whether time steps have intervals of their own.
    pub uneven: bool,
    pub seed: u64,
    /// What inputs, states and gradients are multiplied by.
    pub scale: f64,
}

pub type Named = Vec<(String, Vec<f64>)>;

pub fn up<B: Memory>(be: &B, x: &[f64]) -> B::Buf {
    let mut b = be.alloc(x.len()).unwrap();
    let host: Vec<B::Scalar> = x.iter().map(|&x| B::Scalar::from_f64(x)).collect();
    be.upload(be.view_mut(&mut b, 0..x.len()), &host).unwrap();
    b
}

pub fn down<B: Memory>(be: &B, b: &B::Buf) -> Vec<f64> {
    let mut host = vec![B::Scalar::from_f64(0.0); be.len(b)];
    be.download(&mut host, be.view(b, 0..be.len(b))).unwrap();
    host.iter().map(|x| x.to_f64()).collect()
}

fn nan<B: Memory>(be: &B, n: usize) -> B::Buf {
    up(be, &vec![f64::NAN; n])
}

pub fn all<'a, B: Memory>(be: &B, b: &'a B::Buf) -> B::Ref<'a> {
    be.view(b, 0..be.len(b))
}

pub fn full<'a, B: Memory>(be: &B, b: &'a mut B::Buf) -> B::Mut<'a> {
    let n = be.len(b);
    be.view_mut(b, 0..n)
}

/// Views of the seven parameters.
pub fn params<'a, B: Memory>(be: &B, p: &'a [B::Buf; 7]) -> SsmParams<'a, B> {
    let [inv_dt, a_real, a_imag, b, c, p, d] = p.each_ref().map(|x| be.view(x, 0..be.len(x)));
    SsmParams { inv_dt, a_real, a_imag, b, c, p, d }
}

/// Every output and gradient of one forward and one backward call.
pub fn outputs_of<B: Backend>(be: &B, run: &Run) -> Named {
    outputs_with_plan(be, run, &mut be.ssm_plan(&run.spec).unwrap(), 1)
}

/// As [`outputs_of`], with a plan that the caller keeps, at `version` of the parameters.
pub fn outputs_with_plan<B: Backend>(be: &B, run: &Run, plan: &mut B::SsmPlan, version: u64) -> Named {
    outputs_around(be, run, plan, version, |_| ())
}

/// As [`outputs_with_plan`], with something done to the plan between forward and backward.
pub fn outputs_around<B: Backend>(
    be: &B,
    run: &Run,
    plan: &mut B::SsmPlan,
    version: u64,
    between: impl FnOnce(&mut B::SsmPlan),
) -> Named {
    let spec = &run.spec;
    let (batch, len) = (run.batch, run.len);
    let p = run.params.each_ref().map(|x| up(be, x));
    let mut ws = be.workspace();
    let scaled = |stream, n| {
        let values: Vec<f64> = noise(run.seed, stream, n).iter().map(|x| x * run.scale).collect();
        up(be, &values)
    };
    let u = scaled(1, batch * spec.heads * len);
    let dy = scaled(2, batch * spec.outputs() * len);
    let state0 = run.states.then(|| scaled(3, spec.state_len(batch)));
    let dend = run.states.then(|| scaled(4, spec.state_len(batch)));
    let lengths = run.lengths.as_ref().map(|l| {
        let mut ints = be.alloc_ints(l.len()).unwrap();
        be.upload_ints(&mut ints, l).unwrap();
        ints
    });
    let (rate, algorithm) = (run.rate, run.algorithm);
    let intervals = run.uneven.then(|| up(be, &random_intervals(batch, len)));
    let options = CallOptions {
        lengths: lengths.as_ref(),
        intervals: intervals.as_ref(),
        rate,
        algorithm,
        training: false,
    };
    let call: SsmCall<'_, B> = SsmCall { spec: *spec, batch, len, options, version };
    let mut y = nan(be, batch * spec.outputs() * len);
    let mut end = nan(be, spec.state_len(batch));
    let mut saved = nan(be, be.ssm_saved_len(&call));
    let forward = SsmForward {
        y: full(be, &mut y),
        state_end: run.states.then(|| full(be, &mut end)),
        saved: Some(full(be, &mut saved)),
        u: all(be, &u),
        state0: state0.as_ref().map(|s| all(be, s)),
        params: params(be, &p),
        call,
    };
    be.ssm_forward(forward, plan, &mut ws).unwrap();
    let mut out: Named = vec![("y".into(), down(be, &y))];
    if run.states {
        out.push(("state_end".into(), down(be, &end)));
    }
    between(plan);
    let mut g = run.params.each_ref().map(|x| be.alloc(x.len()).unwrap());
    let mut du = nan(be, batch * spec.heads * len);
    let mut dstate0 = nan(be, spec.state_len(batch));
    // What is said not to be read is not there.
    let unread = nan(be, batch * spec.heads * len);
    let reads_input = be.ssm_reads_input(&call, all(be, &saved), run.states, plan);
    let backward = SsmBackward {
        du: Some(full(be, &mut du)),
        dstate0: run.states.then(|| full(be, &mut dstate0)),
        grads: grads(be, &mut g),
        dy: all(be, &dy),
        dstate_end: dend.as_ref().map(|s| all(be, s)),
        u: all(be, if reads_input { &u } else { &unread }),
        state0: state0.as_ref().map(|s| all(be, s)),
        saved: all(be, &saved),
        params: params(be, &p),
        call,
    };
    be.ssm_backward(backward, plan, &mut ws).unwrap();
    out.push(("du".into(), down(be, &du)));
    if run.states {
        out.push(("dstate0".into(), down(be, &dstate0)));
    }
    for (name, b) in PARAMETERS.iter().zip(&g) {
        out.push((format!("grad.{name}"), down(be, b)));
    }
    out
}

/// Views of the seven gradients.
pub fn grads<'a, B: Memory>(be: &B, g: &'a mut [B::Buf; 7]) -> SsmGrads<'a, B> {
    let [inv_dt, a_real, a_imag, b, c, p, d] = g.each_mut().map(|g| full(be, g));
    SsmGrads { inv_dt, a_real, a_imag, b, c, p, d }
}
