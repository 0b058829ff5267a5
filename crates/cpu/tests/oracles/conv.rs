//! The convolution with a kernel that is given.

use crate::device::{download, spoiled, upload, whole, whole_mut};
use s4_backend::{ConvBackward, ConvForward, ConvShape, Memory, Scalar};
use s4_cpu::Cpu;
use s4_ssm::{conv_bidirectional, conv_bidirectional_adjoint, conv_causal, conv_causal_adjoint};
use s4_testing::{noise, relative};

/// Host values of one convolution and all that must come of it.
struct Case {
    shape: ConvShape,
    u: Vec<f64>,
    kernel: Vec<f64>,
    d: Option<Vec<f64>>,
    dy: Vec<f64>,
}

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (batch, heads, channels, bidirectional) in [
        (1, 1, 1, false),
        (3, 2, 2, false),
        (2, 3, 1, true),
        (3, 1, 2, true),
        (8, 2, 1, false),
        (9, 1, 2, true),
    ] {
        for len in [1usize, 2, 3, 5, 16, 17, 64, 489, 1000, 1024, 1047, 2500] {
            for kernel_len in [len, len.div_ceil(3), 1] {
                let seed = (len + 4096 * kernel_len) as u64;
                let directions = if bidirectional { 2 } else { 1 };
                cases.push(Case {
                    shape: ConvShape { batch, heads, channels, len, kernel_len, bidirectional },
                    u: noise(seed, 1, batch * heads * len),
                    kernel: noise(seed, 2, directions * channels * heads * kernel_len),
                    d: (len % 3 != 0).then(|| noise(seed, 3, channels * heads)),
                    dy: noise(seed, 4, batch * channels * heads * len),
                });
            }
        }
    }
    cases
}

impl Case {
    fn u(&self, b: usize, h: usize) -> &[f64] {
        &self.u[(b * self.shape.heads + h) * self.shape.len..][..self.shape.len]
    }
    fn dy(&self, b: usize, c: usize, h: usize) -> &[f64] {
        let row = (b * self.shape.channels + c) * self.shape.heads + h;
        &self.dy[row * self.shape.len..][..self.shape.len]
    }
    /// Kernel row of channel c, or of channels + c for the anticausal direction.
    fn kernel(&self, c: usize, h: usize) -> &[f64] {
        &self.kernel[(c * self.shape.heads + h) * self.shape.kernel_len..][..self.shape.kernel_len]
    }
    fn d(&self, c: usize, h: usize) -> f64 {
        self.d.as_ref().map_or(0.0, |d| d[c * self.shape.heads + h])
    }
    fn rows(&self) -> impl Iterator<Item = (usize, usize, usize)> + use<> {
        let ConvShape { batch, heads, channels, .. } = self.shape;
        (0..batch * channels * heads).map(move |i| (i / (channels * heads), i / heads % channels, i % heads))
    }

    fn y(&self) -> Vec<f64> {
        let row = |(b, c, h)| match self.shape.bidirectional {
            true => conv_bidirectional(
                self.u(b, h),
                self.kernel(c, h),
                self.kernel(self.shape.channels + c, h),
                self.d(c, h),
            ),
            false => conv_causal(self.u(b, h), self.kernel(c, h), self.d(c, h)),
        };
        self.rows().flat_map(row).collect()
    }

    fn du(&self) -> Vec<f64> {
        let mut du = vec![0.0; self.u.len()];
        for (b, c, h) in self.rows() {
            let part = match self.shape.bidirectional {
                true => conv_bidirectional_adjoint(
                    self.dy(b, c, h),
                    self.kernel(c, h),
                    self.kernel(self.shape.channels + c, h),
                    self.d(c, h),
                ),
                false => conv_causal_adjoint(self.dy(b, c, h), self.kernel(c, h), self.d(c, h)),
            };
            let at = (b * self.shape.heads + h) * self.shape.len;
            du[at..].iter_mut().zip(part).for_each(|(a, b)| *a += b);
        }
        du
    }

    /// dK_j = Σ dy_t u_{t−j}, anticausal Σ dy_t u_{t+1+j}; dD = Σ dy_t u_t.
    fn dkernel_dd(&self) -> (Vec<f64>, Vec<f64>) {
        let ConvShape { heads, channels, len, kernel_len, bidirectional, .. } = self.shape;
        let (mut dk, mut dd) = (vec![0.0; self.kernel.len()], vec![0.0; channels * heads]);
        for (b, c, h) in self.rows() {
            let (u, dy) = (self.u(b, h), self.dy(b, c, h));
            for j in 0..kernel_len {
                dk[(c * heads + h) * kernel_len + j] += (j..len).map(|t| dy[t] * u[t - j]).sum::<f64>();
                if bidirectional {
                    dk[((channels + c) * heads + h) * kernel_len + j] +=
                        (j + 1..len).map(|t| dy[t - 1 - j] * u[t]).sum::<f64>();
                }
            }
            dd[c * heads + h] += dy.iter().zip(u).map(|(a, b)| a * b).sum::<f64>();
        }
        (dk, dd)
    }
}

fn convolution<T: Scalar>(be: &Cpu<T>, forward: f64, backward: f64) {
    let mut ws = be.workspace();
    for case in cases() {
        let shape = case.shape;
        let (u, kernel, dy) = (upload(be, &case.u), upload(be, &case.kernel), upload(be, &case.dy));
        let d = case.d.as_ref().map(|d| upload(be, d));
        let d_ref = d.as_ref().map(|d| whole(be, d));
        let (u, kernel, dy) = (whole(be, &u), whole(be, &kernel), whole(be, &dy));
        let check = |what: &str, got: &Vec<T>, expected: &[f64], tol: f64| {
            let error = relative(&download(be, got), expected);
            assert!(error <= tol, "{} {shape:?} {what}: {error:e}", T::DTYPE.as_str());
        };
        let mut y = spoiled(be, case.dy.len());
        let args = ConvForward { y: whole_mut(be, &mut y), u, kernel, d: d_ref, shape };
        be.conv_by_fft(args, &mut ws).unwrap();
        check("y", &y, &case.y(), forward);
        let (dk, dd) = case.dkernel_dd();
        let mut got_du = spoiled(be, case.u.len());
        let mut got_dk = be.alloc(dk.len()).unwrap();
        let mut got_dd = case.d.as_ref().map(|_| be.alloc(dd.len()).unwrap());
        // Twice: du overwrites, the others accumulate.
        for _ in 0..2 {
            let args = ConvBackward {
                du: Some(whole_mut(be, &mut got_du)),
                dkernel: whole_mut(be, &mut got_dk),
                dd: got_dd.as_mut().map(|d| whole_mut(be, d)),
                dy,
                u,
                kernel,
                d: d_ref,
                shape,
            };
            be.conv_backward(args, &mut ws).unwrap();
        }
        let twice = |x: &[f64]| x.iter().map(|x| 2.0 * x).collect::<Vec<_>>();
        check("du", &got_du, &case.du(), backward);
        check("dkernel", &got_dk, &twice(&dk), backward);
        if let Some(got_dd) = &got_dd {
            check("dd", got_dd, &twice(&dd), backward);
        }
    }
}

#[test]
fn convolution_f64() {
    convolution(&Cpu::<f64>::new(2).unwrap(), 1e-12, 1e-12);
}

#[test]
fn convolution_f32() {
    convolution(&Cpu::<f32>::new(2).unwrap(), 1e-5, 1e-4);
}
