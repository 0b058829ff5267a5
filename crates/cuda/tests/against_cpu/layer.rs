//! One SSM layer on any backend: host arrays in f64 in, named host arrays in f64 out.

use s4_backend::{random::Rng, *};

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
    pub seed: u64,
}

pub type Named = Vec<(String, Vec<f64>)>;

pub fn noise(seed: u64, stream: u32, n: usize) -> Vec<f64> {
    let mut rng = Rng::new(seed, stream);
    // Values that f32 holds exactly, so that both sides see the same.
    (0..n).map(|_| rng.normal() as f32 as f64).collect()
}

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

fn full<'a, B: Memory>(be: &B, b: &'a mut B::Buf) -> B::Mut<'a> {
    let n = be.len(b);
    be.view_mut(b, 0..n)
}

/// Views of the seven parameters.
pub fn params<'a, B: Memory>(be: &B, p: &'a [B::Buf; 7]) -> SsmParams<'a, B> {
    let [inv_dt, a_real, a_imag, b, c, p, d] = p.each_ref().map(|x| be.view(x, 0..be.len(x)));
    SsmParams { inv_dt, a_real, a_imag, b, c, p, d }
}

/// Forward and backward of one call.
pub fn apply<B: Backend>(be: &B, run: &Run) -> Named {
    apply_in(be, run, &mut be.ssm_plan(&run.spec).unwrap(), 1)
}

/// [`apply`] with a plan that lives on, at `version` of the parameters.
pub fn apply_in<B: Backend>(be: &B, run: &Run, plan: &mut B::SsmPlan, version: u64) -> Named {
    let spec = &run.spec;
    let (batch, len) = (run.batch, run.len);
    let all = |b: &B::Buf| 0..be.len(b);
    let p = run.params.each_ref().map(|x| up(be, x));
    let params = params(be, &p);
    let call = SsmCall { spec: *spec, batch, len, rate: run.rate, algorithm: run.algorithm, version };
    let mut ws = be.workspace();
    let u = up(be, &noise(run.seed, 1, batch * spec.heads * len));
    let dy = up(be, &noise(run.seed, 2, batch * spec.outputs() * len));
    let state0 = run.states.then(|| up(be, &noise(run.seed, 3, spec.state_len(batch))));
    let dend = run.states.then(|| up(be, &noise(run.seed, 4, spec.state_len(batch))));
    let lengths = run.lengths.as_ref().map(|l| {
        let mut ints = be.alloc_ints(l.len()).unwrap();
        be.upload_ints(&mut ints, l).unwrap();
        ints
    });
    let mut y = nan(be, batch * spec.outputs() * len);
    let mut end = nan(be, spec.state_len(batch));
    let saved_len = be.ssm_saved_len(&call);
    let mut saved = nan(be, saved_len);
    let range = all(&end);
    be.ssm_forward(
        be.view_mut(&mut y, 0..batch * spec.outputs() * len),
        run.states.then(|| be.view_mut(&mut end, range)),
        Some(be.view_mut(&mut saved, 0..saved_len)),
        be.view(&u, all(&u)),
        state0.as_ref().map(|s| be.view(s, all(s))),
        lengths.as_ref(),
        &params,
        &call,
        plan,
        &mut ws,
    )
    .unwrap();
    let mut out: Named = vec![("y".into(), down(be, &y))];
    if run.states {
        out.push(("state_end".into(), down(be, &end)));
    }
    let mut g = run.params.each_ref().map(|x| be.alloc(x.len()).unwrap());
    let [g0, g1, g2, g3, g4, g5, g6] = &mut g;
    let grads: SsmGrads<'_, B> = SsmGrads {
        inv_dt: full(be, g0),
        a_real: full(be, g1),
        a_imag: full(be, g2),
        b: full(be, g3),
        c: full(be, g4),
        p: full(be, g5),
        d: full(be, g6),
    };
    let mut du = nan(be, batch * spec.heads * len);
    let mut dstate0 = nan(be, spec.state_len(batch));
    let (nu, ns) = (be.len(&du), be.len(&dstate0));
    be.ssm_backward(
        Some(be.view_mut(&mut du, 0..nu)),
        run.states.then(|| be.view_mut(&mut dstate0, 0..ns)),
        grads,
        be.view(&dy, all(&dy)),
        dend.as_ref().map(|s| be.view(s, all(s))),
        be.view(&u, all(&u)),
        state0.as_ref().map(|s| be.view(s, all(s))),
        be.view(&saved, 0..saved_len),
        lengths.as_ref(),
        &params,
        &call,
        plan,
        &mut ws,
    )
    .unwrap();
    out.push(("du".into(), down(be, &du)));
    if run.states {
        out.push(("dstate0".into(), down(be, &dstate0)));
    }
    for (name, b) in ["inv_dt", "a_real", "a_imag", "b", "c", "p", "d"].iter().zip(&g) {
        out.push((format!("grad.{name}"), down(be, b)));
    }
    out
}
