//! FFT convolution: its own transpose, threads, memory, long rows, wrong shapes. Against the sums that define
//! it: `oracles/conv.rs`.

use s4_backend::{ConvBackward, ConvForward, ConvOps, ConvShape, Memory, Scalar, random::Rng};
use s4_cpu::Cpu;

fn draw(rng: &mut Rng, n: usize) -> Vec<f64> {
    (0..n).map(|_| rng.normal()).collect()
}

fn cast<T: Scalar>(x: &[f64]) -> Vec<T> {
    x.iter().map(|&x| T::from_f64(x)).collect()
}

/// ‖a − b‖/‖b‖
fn error<T: Scalar>(a: &[T], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    let (mut top, mut bottom) = (0.0, 0.0);
    for (a, b) in a.iter().zip(b) {
        top += (Scalar::to_f64(*a) - b).powi(2);
        bottom += b * b;
    }
    (top / bottom).sqrt()
}

#[track_caller]
fn close<T: Scalar>(what: &str, a: &[T], b: &[f64], tol: f64) {
    let e = error(a, b);
    assert!(e.is_finite() && e <= tol, "{what}: {e:e} > {tol:e}");
}

struct Case {
    shape: ConvShape,
    u: Vec<f64>,
    kernel: Vec<f64>,
    d: Vec<f64>,
    dy: Vec<f64>,
}

impl Case {
    fn new(shape: ConvShape, seed: u64) -> Self {
        let mut rng = Rng::new(seed, 1);
        let ConvShape { batch, heads, channels, len, kernel_len, bidirectional } = shape;
        // Values that f32 holds exactly, so that both types convolve the same numbers.
        let mut draw = |n| draw(&mut rng, n).into_iter().map(|x| x as f32 as f64).collect::<Vec<_>>();
        let kc = channels * if bidirectional { 2 } else { 1 };
        Case {
            shape,
            u: draw(batch * heads * len),
            kernel: draw(kc * heads * kernel_len),
            d: draw(channels * heads),
            dy: draw(batch * channels * heads * len),
        }
    }

    fn run<T: Scalar>(&self, threads: usize) -> [Vec<T>; 4] {
        let be = Cpu::<T>::new(threads).unwrap();
        let mut ws = be.workspace();
        let (u, k, d, dy) =
            (cast::<T>(&self.u), cast::<T>(&self.kernel), cast::<T>(&self.d), cast::<T>(&self.dy));
        let (d, shape) = (Some(&d[..]), self.shape);
        let mut forward = |y: &mut [T]| {
            be.conv_by_fft(ConvForward { y, u: &u[..], kernel: &k[..], d, shape }, &mut ws).unwrap();
        };
        let mut y = vec![T::nan(); dy.len()];
        forward(&mut y);
        let mut back_ws = be.workspace();
        let mut back = |du: Option<&mut [T]>, dkernel: &mut [T], dd: &mut [T]| {
            let (dy, u, kernel) = (&dy[..], &u[..], &k[..]);
            let args = ConvBackward { du, dkernel, dd: Some(dd), dy, u, kernel, d, shape };
            be.conv_backward(args, &mut back_ws).unwrap();
        };
        let mut du = vec![T::nan(); u.len()];
        let (mut dk, mut dd) = (vec![T::zero(); k.len()], vec![T::zero(); self.d.len()]);
        back(Some(&mut du), &mut dk, &mut dd);
        let (mut dk2, mut dd2) = (dk.clone(), dd.clone());
        // Kernel gradients do not depend on whether du is wanted.
        dk2.fill(T::zero());
        dd2.fill(T::zero());
        back(None, &mut dk2, &mut dd2);
        assert_eq!((&dk2, &dd2), (&dk, &dd));
        let warm = be.allocations();
        forward(&mut y);
        back(Some(&mut du), &mut dk2, &mut dd2);
        assert_eq!(be.allocations(), warm, "a second run asks for memory");
        [y, du, dk, dd]
    }
}

fn shape(
    batch: usize,
    heads: usize,
    channels: usize,
    len: usize,
    kernel_len: usize,
    bidirectional: bool,
) -> ConvShape {
    ConvShape { batch, heads, channels, len, kernel_len, bidirectional }
}

#[test]
fn is_the_transpose_of_its_backward() {
    for shape in [shape(9, 2, 2, 100, 37, true), shape(2, 3, 1, 65, 65, false), shape(1, 1, 1, 7, 7, false)] {
        let case = Case::new(shape, 4);
        let [y, du, dk, dd] = case.run::<f64>(1);
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        // y is linear in u, and linear in (K̄, D).
        let want = dot(&y, &case.dy);
        for got in [dot(&du, &case.u), dot(&dk, &case.kernel) + dot(&dd, &case.d)] {
            let err = (got - want).abs() / want.abs();
            assert!(err.is_finite() && err <= 1e-11, "{got} for {want}");
        }
    }
}

#[test]
fn threads_do_not_change_a_bit() {
    for shape in [shape(5, 7, 2, 300, 300, false), shape(9, 5, 1, 129, 77, true)] {
        let case = Case::new(shape, 5);
        assert_eq!(case.run::<f32>(1), case.run::<f32>(2));
    }
}

#[test]
fn long_rows_keep_their_accuracy() {
    // A decaying kernel, as of an SSM, and one spike of input: the truth is the kernel itself.
    for batch in [2, 8] {
        long_rows(batch);
    }
}

fn long_rows(batch: usize) {
    let len = 65_536;
    let shape = shape(batch, 1, 1, len, len, false);
    let kernel: Vec<f32> =
        (0..len).map(|j| (-(j as f64) * 2e-4).exp() as f32 * (j as f64 * 0.01).cos() as f32).collect();
    let mut u = vec![0.0f32; batch * len];
    (u[0], u[len + 5]) = (1.0, -2.0);
    let be = Cpu::<f32>::new(1).unwrap();
    let mut y = vec![0.0f32; batch * len];
    let args = ConvForward { y: &mut y[..], u: &u[..], kernel: &kernel[..], d: None, shape };
    be.conv_forward(args, &mut be.workspace()).unwrap();
    let truth = |scale: f64, delay: usize| -> Vec<f64> {
        (0..len).map(|t| if t < delay { 0.0 } else { scale * kernel[t - delay] as f64 }).collect()
    };
    close("first row", &y[..len], &truth(1.0, 0), 1e-5);
    close("second row", &y[len..2 * len], &truth(-2.0, 5), 1e-5);
}

#[test]
fn wrong_shapes_are_errors() {
    let be = Cpu::<f32>::new(1).unwrap();
    let mut ws = be.workspace();
    let (mut y, u, k) = ([0.0; 8], [0.0; 8], [0.0; 8]);
    for (shape, y_len) in [
        (shape(1, 1, 1, 8, 9, false), 8),
        (shape(1, 1, 1, 8, 0, false), 8),
        (shape(0, 1, 1, 8, 8, false), 0),
        (shape(1, 1, 1, 8, 8, true), 8),
        (shape(1, 1, 1, 8, 8, false), 7),
    ] {
        let args = ConvForward { y: &mut y[..y_len], u: &u[..], kernel: &k[..], d: None, shape };
        let e = be.conv_forward(args, &mut ws).unwrap_err();
        assert_eq!(e.code.as_str(), "ERR_S4_SHAPE");
    }
}
