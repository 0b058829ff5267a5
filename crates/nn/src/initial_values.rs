//! Initial values of parameters, drawn on the host in f64 by random generators that a seed and a stream number determine.

use crate::config::LayerConfig;
use s4_backend::{Error, Result, host_memory, random::Rng};
use s4_ssm::{InitialSsm, log_uniform};

/// Initial values of one layer's SSM parameters, as they are stored: in the shapes that [`s4_backend::SsmSpec`] says,
/// complex numbers as pairs (re, im).
pub(crate) struct SsmInitialValues {
    /// Parameter of the step size Δ.
    pub inv_dt: Vec<f64>,
    /// Parameter of −Re Λ.
    pub a_real: Vec<f64>,
    /// Parameter of −Im Λ.
    pub a_imag: Vec<f64>,
    /// Input vector B.
    pub b: Vec<f64>,
    /// Output vector C.
    pub c: Vec<f64>,
    /// Low-rank part P of A.
    pub p: Vec<f64>,
    /// Skip connection D.
    pub d: Vec<f64>,
}

/// Least value of −Re Λ and −Im Λ at initialisation: transforms like `exp` have no parameter for 0 or less.
const MIN_NEGATED_LAMBDA: f64 = 1e-4;

/// Draws the parameters of one layer: Λ, P and B by `config.init`, Δ log-uniform, C complex normal with variance ½ for each
/// of the real and the imaginary part, D normal. The random numbers are those of four streams from `stream` on.
pub(crate) fn ssm(config: &LayerConfig, stream: u32) -> Result<SsmInitialValues> {
    let spec = config.spec();
    let mut rng: Vec<Rng> = (0..4).map(|i| Rng::new(config.seed, stream + i)).collect();
    let starts = config.init.starts(&spec, &mut rng[3]);
    let dt = log_uniform(spec.inv_dt_len(), config.dt_min, config.dt_max, || rng[0].uniform());
    let lambda_parameter =
        |t: s4_backend::Transform, negated: f64| t.inverse(negated.max(MIN_NEGATED_LAMBDA));
    let initial = SsmInitialValues {
        inv_dt: dt.iter().map(|&dt| spec.dt_transform.inverse(dt)).collect(),
        a_real: for_every_ssm(&starts, |s| {
            s.lambda.iter().map(|l| lambda_parameter(spec.real_transform, -l.re)).collect()
        }),
        a_imag: for_every_ssm(&starts, |s| {
            s.lambda.iter().map(|l| lambda_parameter(spec.imag_transform, -l.im)).collect()
        }),
        b: for_every_ssm(&starts, |s| s.b.iter().flat_map(|z| [z.re, z.im]).collect()),
        p: (0..spec.rank)
            .flat_map(|r| for_every_ssm(&starts, |s| s.p[r].iter().flat_map(|z| [z.re, z.im]).collect()))
            .collect(),
        c: drawn(spec.c_len(), || rng[1].normal() * 0.5f64.sqrt())?,
        d: drawn(spec.d_len(), || rng[2].normal())?,
    };
    // Not every transform can give every value: the parameter of a step size above 1 would be infinite under a sigmoid.
    for (what, x) in [
        ("dtTransform", &initial.inv_dt),
        ("realTransform", &initial.a_real),
        ("imagTransform", &initial.a_imag),
    ] {
        if !x.iter().all(|x| x.is_finite()) {
            return Err(Error::value("init", format!("a {what} that reaches the initial values"), "NaN"));
        }
    }
    Ok(initial)
}

fn for_every_ssm(starts: &[InitialSsm], f: impl Fn(&InitialSsm) -> Vec<f64>) -> Vec<f64> {
    starts.iter().flat_map(f).collect()
}

/// Weight (rows, inputs) and bias (rows) of a linear, uniform within ±1/√inputs as in PyTorch.
pub(crate) fn linear(seed: u64, stream: u32, rows: usize, inputs: usize) -> Result<(Vec<f64>, Vec<f64>)> {
    let bound = 1.0 / (inputs as f64).sqrt();
    let mut rng = Rng::new(seed, stream);
    let mut draw = || (2.0 * rng.uniform() - 1.0) * bound;
    Ok((drawn(rows * inputs, &mut draw)?, drawn(rows, draw)?))
}

/// Table of an embedding, (vocabulary, features), normal as in PyTorch.
pub(crate) fn embedding(seed: u64, stream: u32, vocabulary: usize, features: usize) -> Result<Vec<f64>> {
    let mut rng = Rng::new(seed, stream);
    drawn(vocabulary * features, || rng.normal())
}

/// So many numbers; `ERR_S4_MEMORY` where there is no room for them.
fn drawn(len: usize, mut draw: impl FnMut() -> f64) -> Result<Vec<f64>> {
    let mut values = host_memory::reserved("s4-node", "initial values", len, len)?;
    values.extend((0..len).map(|_| draw()));
    Ok(values)
}
