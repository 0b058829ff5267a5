//! The SSM of one head on the host, in f64, from the parameters of a layer.

use num_complex::Complex;
use s4_backend::{Discretization, SsmSpec};
use s4_ssm::Ssm;

/// The parameters of a layer's SSM as they are stored, on the host.
pub(crate) struct HostParams {
    /// (H) or (H, N/2)
    pub inv_dt: Vec<f64>,
    /// (S, N/2)
    pub a_real: Vec<f64>,
    /// (S, N/2)
    pub a_imag: Vec<f64>,
    /// (S, N/2, 2)
    pub b: Vec<f64>,
    /// (kernel channels, H, N/2, 2)
    pub c: Vec<f64>,
    /// (R, S, N/2, 2)
    pub p: Vec<f64>,
}

impl HostParams {
    /// The SSM of head `h`, which has A and B number h mod S, at rate 1.
    pub fn head(&self, spec: &SsmSpec, h: usize) -> Ssm {
        let (pairs, s) = (spec.pairs(), h % spec.n_ssm);
        let complex = |x: &[f64], row: usize| -> Vec<Complex<f64>> {
            x[row * 2 * pairs..][..2 * pairs].chunks_exact(2).map(|z| Complex::new(z[0], z[1])).collect()
        };
        let lambda = (s * pairs..(s + 1) * pairs).map(|i| {
            let re = spec.real_transform.transformed(self.a_real[i]);
            Complex::new(-re, -spec.imag_transform.transformed(self.a_imag[i]))
        });
        let count = if spec.dt_per_state { pairs } else { 1 };
        let inv_dt = self.inv_dt[h * count..][..count].iter();
        Ssm {
            lambda: lambda.collect(),
            p: (0..spec.rank).map(|r| complex(&self.p, r * spec.n_ssm + s)).collect(),
            b: complex(&self.b, s),
            c: (0..spec.kernel_channels()).map(|k| complex(&self.c, k * spec.heads + h)).collect(),
            dt: inv_dt.map(|&x| spec.dt_transform.transformed(x)).collect(),
            discretization: match spec.discretization {
                Discretization::Bilinear => s4_ssm::Discretization::Bilinear,
                Discretization::Zoh => s4_ssm::Discretization::Zoh,
            },
        }
    }
}
