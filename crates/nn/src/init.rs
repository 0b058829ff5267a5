//! Initial values, drawn on the host in f64.

use crate::config::LayerConfig;
use s4_backend::{Error, Result, random::Rng};
use s4_ssm::{InitialSsm, log_uniform};

/// Stored parameters of one SSM, in the order of [`s4_backend::SsmSpec`]'s shapes.
pub(crate) struct SsmInit {
    pub inv_dt: Vec<f64>,
    pub a_real: Vec<f64>,
    pub a_imag: Vec<f64>,
    pub b: Vec<f64>,
    pub c: Vec<f64>,
    pub p: Vec<f64>,
    pub d: Vec<f64>,
}

/// Smallest f(a_real) and g(a_imag) at initialisation.
const FLOOR: f64 = 1e-4;

/// Λ, P, B by `config.init`; Δ log-uniform; C complex normal with variance ½ a part; D normal.
pub(crate) fn ssm(config: &LayerConfig, stream: u32) -> Result<SsmInit> {
    let spec = config.spec();
    let mut rng: Vec<Rng> = (0..4).map(|i| Rng::new(config.seed, stream + i)).collect();
    let starts = config.init.starts(&spec, &mut rng[3]);
    let dt = log_uniform(spec.inv_dt_len(), config.dt_min, config.dt_max, || rng[0].uniform());
    let inverse = |t: s4_backend::Transform, x: f64| t.inverse(x.max(FLOOR));
    let out = SsmInit {
        inv_dt: dt.iter().map(|&dt| spec.dt_transform.inverse(dt)).collect(),
        a_real: each(&starts, |s| s.lambda.iter().map(|l| inverse(spec.real_transform, -l.re)).collect()),
        a_imag: each(&starts, |s| s.lambda.iter().map(|l| inverse(spec.imag_transform, -l.im)).collect()),
        b: each(&starts, |s| s.b.iter().flat_map(|z| [z.re, z.im]).collect()),
        p: (0..spec.rank)
            .flat_map(|r| each(&starts, |s| s.p[r].iter().flat_map(|z| [z.re, z.im]).collect()))
            .collect(),
        c: (0..spec.c_len()).map(|_| rng[1].normal() * 0.5f64.sqrt()).collect(),
        d: (0..spec.d_len()).map(|_| rng[2].normal()).collect(),
    };
    // A transform may not reach a value (a sigmoid gives at most 1).
    for (what, x) in
        [("dtTransform", &out.inv_dt), ("realTransform", &out.a_real), ("imagTransform", &out.a_imag)]
    {
        if !x.iter().all(|x| x.is_finite()) {
            return Err(Error::value("init", format!("a {what} that reaches the initial values"), "NaN"));
        }
    }
    Ok(out)
}

fn each(starts: &[InitialSsm], f: impl Fn(&InitialSsm) -> Vec<f64>) -> Vec<f64> {
    starts.iter().flat_map(f).collect()
}

/// Weight (rows, inputs) and bias (rows) of a linear, uniform ±1/√inputs as in PyTorch.
pub(crate) fn linear(seed: u64, stream: u32, rows: usize, inputs: usize) -> (Vec<f64>, Vec<f64>) {
    let bound = 1.0 / (inputs as f64).sqrt();
    let mut rng = Rng::new(seed, stream);
    let mut draw = |n: usize| (0..n).map(|_| (2.0 * rng.uniform() - 1.0) * bound).collect();
    (draw(rows * inputs), draw(rows))
}

/// Rows of an embedding, normal as in PyTorch.
pub(crate) fn embedding(seed: u64, stream: u32, vocabulary: usize, features: usize) -> Vec<f64> {
    let mut rng = Rng::new(seed, stream);
    (0..vocabulary * features).map(|_| rng.normal()).collect()
}
