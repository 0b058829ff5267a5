//! Random layers of every kind, and random calls of these layers.

use crate::noise;
use s4_backend::{Discretization, Mode, SsmSpec, Transform, random::Rng};
use s4_ssm::{C64, DiagonalInit, InitialSsm, Measure, Ssm, diagonal_ssm, nplr_ssm};

/// The initialisation to which random numbers are added for Λ, P and B of a layer.
#[derive(Clone, Copy)]
enum Init {
    Measure(Measure),
    Diagonal(DiagonalInit),
    /// SSMs 0, 2, … LegS, SSMs 1, 3, … Fourier, these with the smallest allowed decay rate, −Re Λ = 1e-4.
    Hippo,
}

/// A layer with the values of its parameters, all exactly representable in f32.
#[derive(Clone, Debug)]
pub struct Layer {
    /// A name for messages.
    pub name: String,
    /// Description of the layer.
    pub spec: SsmSpec,
    /// Factor of every step size Δ.
    pub rate: f64,
    /// inv_dt, a_real, a_imag, b, c, p, d in the shapes of the contract.
    pub values: [Vec<f64>; 7],
}

/// The names of `values`.
pub const PARAMETERS: [&str; 7] = ["inv_dt", "a_real", "a_imag", "b", "c", "p", "d"];

/// The nearest f32.
fn rounded_to_f32(x: f64) -> f64 {
    f64::from(x as f32)
}

fn interleaved(x: &[C64]) -> impl Iterator<Item = f64> + '_ {
    x.iter().flat_map(|x| [x.re, x.im])
}

impl Layer {
    fn new(name: &str, init: Init, spec: SsmSpec, rate: f64) -> Self {
        spec.check("a layer of the tests").expect(name);
        let mut rng = Rng::new(17, name.bytes().map(u32::from).sum());
        let initial_ssms: Vec<InitialSsm> = (0..spec.n_ssm)
            .map(|s| match init {
                Init::Measure(m) => nplr_ssm(m, spec.state, spec.rank),
                Init::Diagonal(d) => diagonal_ssm(d, spec.state),
                Init::Hippo => nplr_ssm([Measure::LegS, Measure::Fourier][s % 2], spec.state, spec.rank),
            })
            .collect();
        let is_fourier = |s: usize| matches!(init, Init::Hippo) && s % 2 == 1;
        let mut random_near = |x: f64, amount: f64| x + amount * (2.0 * rng.uniform() - 1.0);
        let dt = (0..spec.inv_dt_len()).map(|_| spec.dt_transform.inverse(random_near(0.05, 0.03))).collect();
        let (mut a_real, mut a_imag, mut b) = (vec![], vec![], vec![]);
        for (s, form) in initial_ssms.iter().enumerate() {
            for lambda in &form.lambda {
                let re = if is_fourier(s) { 1e-4 } else { random_near(0.5, 0.2) };
                a_real.push(spec.real_transform.inverse(re));
                a_imag.push(spec.imag_transform.inverse(random_near(-lambda.im, 0.1).max(1e-4)));
            }
            b.extend(interleaved(&form.b).map(|x| random_near(x, 0.3)));
        }
        let p = (0..spec.rank).flat_map(|r| initial_ssms.iter().flat_map(move |s| interleaved(&s.p[r])));
        let p: Vec<f64> = p.map(|x| random_near(x, 0.1)).collect();
        let c = (0..spec.c_len()).map(|_| random_near(0.0, 1.0)).collect();
        let d = (0..spec.d_len()).map(|_| random_near(0.0, 1.0)).collect();
        let values = [dt, a_real, a_imag, b, c, p, d]
            .map(|v: Vec<f64>| v.into_iter().map(rounded_to_f32).collect::<Vec<_>>());
        Layer { name: name.into(), spec, rate, values }
    }

    /// The SSM of head h for the oracles, with Δ multiplied by the rate and by `interval`.
    pub fn head(&self, h: usize, interval: f64) -> Ssm {
        let spec = &self.spec;
        let (pairs, s) = (spec.pairs(), h % spec.n_ssm);
        let [inv_dt, a_real, a_imag, b, c, p, _] = &self.values;
        let complex = |x: &[f64], row: usize| -> Vec<C64> {
            x[row * spec.state..][..spec.state].chunks(2).map(|x| C64::new(x[0], x[1])).collect()
        };
        let lambda = (s * pairs..(s + 1) * pairs).map(|i| {
            C64::new(-spec.real_transform.transformed(a_real[i]), -spec.imag_transform.transformed(a_imag[i]))
        });
        let steps = if spec.dt_per_state { pairs } else { 1 };
        let dt = inv_dt[h * steps..][..steps].iter();
        Ssm {
            lambda: lambda.collect(),
            p: (0..spec.rank).map(|r| complex(p, r * spec.n_ssm + s)).collect(),
            b: complex(b, s),
            c: (0..spec.kernel_channels()).map(|k| complex(c, k * spec.heads + h)).collect(),
            dt: dt.map(|&x| spec.dt_transform.transformed(x) * self.rate * interval).collect(),
            discretization: match spec.discretization {
                Discretization::Bilinear => s4_ssm::Discretization::Bilinear,
                Discretization::Zoh => s4_ssm::Discretization::Zoh,
            },
        }
    }

    /// The SSM of every head, as [`Layer::head`] gives it.
    pub fn heads(&self, interval: f64) -> Vec<Ssm> {
        (0..self.spec.heads).map(|h| self.head(h, interval)).collect()
    }
}

#[derive(Clone, Debug)]
/// A call of a layer: its inputs, and the gradients of its outputs.
pub struct Call {
    /// Number of sequences.
    pub batch: usize,
    /// L.
    pub len: usize,
    /// (batch, H, len)
    pub u: Vec<f64>,
    /// (batch, H, 2, N/2)
    pub state0: Option<Vec<f64>>,
    /// (batch)
    pub lengths: Option<Vec<usize>>,
    /// (batch, channels·H, len)
    pub dy: Vec<f64>,
    /// (batch, H, 2, N/2)
    pub dstate_end: Option<Vec<f64>>,
}

impl Call {
    /// A random call, with states where the layer has them. With `own_lengths` the sequences have different lengths,
    /// the first one `len`.
    pub fn new(layer: &Layer, batch: usize, len: usize, own_lengths: bool) -> Self {
        let spec = &layer.spec;
        let draw = |stream: u32, n: usize| noise((len + 8192 * batch) as u64, stream, n);
        let state = |stream| spec.has_state().then(|| draw(stream, spec.state_len(batch)));
        let lengths = own_lengths
            .then(|| (0..batch).map(|b| (len - b * len / (batch + 1)).saturating_sub(b).max(1)).collect());
        Call {
            batch,
            len,
            u: draw(1, batch * spec.heads * len),
            state0: state(2),
            lengths,
            dy: draw(3, batch * spec.outputs() * len),
            dstate_end: state(4),
        }
    }

    /// Length of sequence b.
    pub fn length(&self, b: usize) -> usize {
        self.lengths.as_ref().map_or(self.len, |l| l[b])
    }
}

/// Layers of every kind, with random parameters that are the same in every run.
pub fn layers() -> Vec<Layer> {
    let s4 = SsmSpec {
        mode: Mode::S4,
        heads: 4,
        state: 8,
        n_ssm: 4,
        rank: 1,
        channels: 1,
        bidirectional: false,
        dt_per_state: false,
        discretization: Discretization::Bilinear,
        dt_transform: Transform::Softplus,
        real_transform: Transform::Exp,
        imag_transform: Transform::None,
        truncate: None,
    };
    let s4d = SsmSpec { mode: Mode::S4d, rank: 0, discretization: Discretization::Zoh, ..s4 };
    let (legs, legt) = (Init::Measure(Measure::LegS), Init::Measure(Measure::LegT));
    let lin = Init::Diagonal(DiagonalInit::Lin);
    vec![
        Layer::new("s4", legs, s4, 1.0),
        Layer::new(
            "s4, tied, 2 channels, rank 2",
            legt,
            SsmSpec { n_ssm: 2, channels: 2, rank: 2, ..s4 },
            1.0,
        ),
        Layer::new(
            "s4, Δ per state, rank 2",
            legs,
            SsmSpec {
                n_ssm: 1,
                rank: 2,
                dt_per_state: true,
                dt_transform: Transform::Exp,
                real_transform: Transform::Relu,
                ..s4
            },
            0.5,
        ),
        Layer::new("s4, two-sided", legs, SsmSpec { bidirectional: true, n_ssm: 2, ..s4 }, 1.0),
        Layer::new(
            "s4, two-sided, 2 channels, rank 2",
            legt,
            SsmSpec { bidirectional: true, channels: 2, rank: 2, heads: 3, n_ssm: 3, ..s4 },
            2.0,
        ),
        Layer::new("s4, truncated", legs, SsmSpec { truncate: Some(13), ..s4 }, 1.0),
        Layer::new("s4, hippo", Init::Hippo, SsmSpec { n_ssm: 2, ..s4 }, 1.0),
        Layer::new("s4, N = 64", legs, SsmSpec { state: 64, heads: 2, n_ssm: 1, ..s4 }, 1.0),
        Layer::new("s4, N = 2, one head", legs, SsmSpec { state: 2, heads: 1, n_ssm: 1, ..s4 }, 1.0),
        Layer::new("s4d", lin, SsmSpec { channels: 2, ..s4d }, 2.0),
        Layer::new(
            "s4d, bilinear, Δ per state, tied",
            Init::Diagonal(DiagonalInit::Inv),
            SsmSpec {
                discretization: Discretization::Bilinear,
                dt_per_state: true,
                n_ssm: 2,
                imag_transform: Transform::Softplus,
                dt_transform: Transform::None,
                ..s4d
            },
            1.0,
        ),
        Layer::new(
            "s4d, two-sided, sigmoid",
            lin,
            SsmSpec { bidirectional: true, channels: 2, real_transform: Transform::Sigmoid, ..s4d },
            1.0,
        ),
        Layer::new(
            "s4d, real, Δ per state",
            Init::Diagonal(DiagonalInit::Real),
            SsmSpec { dt_per_state: true, imag_transform: Transform::Exp, ..s4d },
            1.0,
        ),
        Layer::new("s4d, truncated", lin, SsmSpec { truncate: Some(70), n_ssm: 1, ..s4d }, 1.0),
    ]
}
