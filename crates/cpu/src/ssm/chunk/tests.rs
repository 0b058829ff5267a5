//! One layer by chunks in the ways a call may be cut: threads, sequences together or alone, blocks of chunks.

use crate::{Cpu, SsmPlan, ssm::params::shorten};
use s4_backend::{
    Algorithm, CallOptions, Discretization, Memory, Mode, Scalar, SsmBackward, SsmCall, SsmForward, SsmGrads,
    SsmParams, SsmSpec, Transform, random::Rng,
};

struct Layer<T> {
    spec: SsmSpec,
    params: Vec<Vec<T>>,
}

/// y, du and all parameter gradients.
type All<T> = Vec<Vec<T>>;

fn normals<T: Scalar>(seed: u64, n: usize) -> Vec<T> {
    let mut rng = Rng::new(seed, 0);
    (0..n).map(|_| T::from_f64(rng.normal())).collect()
}

impl<T: Scalar> Layer<T> {
    fn new(state: usize, rank: usize, channels: usize) -> Self {
        let spec = SsmSpec {
            mode: if rank == 0 { Mode::S4d } else { Mode::S4 },
            heads: 3,
            state,
            n_ssm: 1,
            rank,
            channels,
            bidirectional: false,
            dt_per_state: false,
            discretization: if rank == 0 { Discretization::Zoh } else { Discretization::Bilinear },
            dt_transform: Transform::Exp,
            real_transform: Transform::Exp,
            imag_transform: Transform::None,
            truncate: None,
        };
        let pairs = spec.pairs();
        let scale = |x: Vec<T>, by: f64| x.into_iter().map(|x| x * T::from_f64(by)).collect();
        let params = vec![
            (0..spec.heads).map(|h| T::from_f64(0.003f64.ln() + h as f64)).collect(),
            vec![T::from_f64(0.5f64.ln()); pairs],
            (0..pairs).map(|n| T::from_f64(3.0 * n as f64 + 1.0)).collect(),
            normals(1, spec.b_len()),
            normals(2, spec.c_len()),
            scale(normals(3, spec.p_len()), 0.5),
            normals(4, spec.d_len()),
        ];
        Layer { spec, params }
    }

    /// Forward and backward of these sequences of (sequences, H, len) inputs.
    fn run(&self, threads: usize, u: &[T], dy: &[T], len: usize) -> All<T> {
        let (be, spec) = (Cpu::<T>::new(threads).unwrap(), self.spec);
        let batch = u.len() / spec.heads / len;
        let options = CallOptions { algorithm: Algorithm::Chunk, ..CallOptions::default() };
        let call = SsmCall { spec, batch, len, options, version: 1 };
        let (mut plan, mut ws) = (SsmPlan::new(&spec).unwrap(), be.workspace());
        let mut saved = vec![T::nan(); be.sequence_saved_len(&call)];
        let (mut y, mut du) = (vec![T::nan(); dy.len()], vec![T::nan(); u.len()]);
        let p = &self.params;
        let params: SsmParams<'_, Cpu<T>> =
            SsmParams { inv_dt: &p[0], a_real: &p[1], a_imag: &p[2], b: &p[3], c: &p[4], p: &p[5], d: &p[6] };
        let forward = SsmForward {
            y: &mut y[..],
            state_end: None,
            saved: Some(&mut saved[..]),
            u,
            state0: None,
            params: shorten(&params),
            call,
        };
        be.sequence_forward(forward, &mut plan, &mut ws).unwrap();
        let mut g: Vec<Vec<T>> = p.iter().map(|p| vec![T::zero(); p.len()]).collect();
        let [dt, re, im, b, c, low, d] = &mut g[..] else { panic!("seven parameters") };
        let grads: SsmGrads<'_, Cpu<T>> = SsmGrads { inv_dt: dt, a_real: re, a_imag: im, b, c, p: low, d };
        let backward = SsmBackward {
            du: Some(&mut du[..]),
            dstate0: None,
            grads,
            dy,
            dstate_end: None,
            u,
            state0: None,
            saved: &saved[..],
            params: shorten(&params),
            call,
        };
        be.sequence_backward(backward, &mut plan, &mut ws).unwrap();
        g.extend([y, du]);
        g
    }
}

fn close<T: Scalar>(a: &[T], b: &[T], tol: f64, what: &str) {
    assert_eq!(a.len(), b.len());
    let sum = |f: &dyn Fn(f64, f64) -> f64| -> f64 {
        a.iter().zip(b).map(|(a, b)| f(Scalar::to_f64(*a), Scalar::to_f64(*b))).sum()
    };
    let err = (sum(&|a, b| (a - b).powi(2)) / sum(&|_, b| b * b).max(1e-300)).sqrt();
    assert!(err.is_finite() && err <= tol, "{what}: {err:e}");
}

const SHAPES: [(usize, usize, usize); 4] = [(64, 1, 1), (64, 1, 2), (16, 2, 1), (64, 0, 1)];

#[test]
fn threads_do_not_change_a_bit() {
    for (state, rank, channels) in SHAPES {
        let layer = Layer::<f32>::new(state, rank, channels);
        for (sequences, len) in [(1, 1047), (5, 200), (37, 64)] {
            let size = sequences * 3 * len;
            let (u, dy) = (normals(5, size), normals(6, size * channels));
            let one = layer.run(1, &u, &dy, len);
            for threads in [2, 3] {
                let bits =
                    |all: &All<f32>| -> Vec<u32> { all.iter().flatten().map(|x| x.to_bits()).collect() };
                assert!(
                    bits(&one) == bits(&layer.run(threads, &u, &dy, len)),
                    "{state} {rank} {sequences} {len}"
                );
            }
        }
    }
}

/// Sequences that go alone are read in place and scanned by themselves.
#[test]
fn rows_alone_equal_rows_together() {
    fn check<T: Scalar>(outputs: f64, gradients: f64) {
        for (state, rank, channels) in SHAPES {
            let layer = Layer::<T>::new(state, rank, channels);
            // Several blocks of chunks, with and without a part of a chunk at the end.
            for len in [64, 1047, 64 * 600] {
                let (of_u, of_y) = (3 * len, 3 * len * channels);
                let (u, dy) = (normals(7, 2 * of_u), normals(8, 2 * of_y));
                let together = layer.run(2, &u, &dy, len);
                let sequences =
                    [0, 1].map(|r| layer.run(2, &u[r * of_u..][..of_u], &dy[r * of_y..][..of_y], len));
                for (i, together) in together.iter().enumerate() {
                    let what = format!("{state} {rank} {channels} {len}: {i}");
                    if i < 7 {
                        let sum: Vec<T> =
                            sequences[0][i].iter().zip(&sequences[1][i]).map(|(a, b)| *a + *b).collect();
                        close(&sum, together, gradients, &what);
                    } else {
                        close(&[&sequences[0][i][..], &sequences[1][i]].concat(), together, outputs, &what);
                    }
                }
            }
        }
    }
    check::<f32>(1e-5, 1e-4);
    check::<f64>(1e-10, 1e-8);
}
