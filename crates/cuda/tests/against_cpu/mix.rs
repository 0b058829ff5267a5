//! The mix by the Hopper kernels with gate, dropout and residual in their products (`kernels/dense/mix_sm90.cu`), without GLU
//! by those of linear layers (`kernels/dense/products_sm90.cu`), and by the general ones: sizes that are no multiple of a tile, batches that backward cuts in two portions, magnitudes far
//! from one, every precision.

use crate::{
    Report, gpu_with,
    layer::{down, up},
};
use s4_backend::{random::DropKey, *};
use s4_cpu::Cpu;
use s4_cuda::{Cuda, Precision};
use s4_testing::noise;

pub struct Case {
    spec: MixSpec,
    batch: usize,
    len: usize,
    /// Factors of the noise in s and in dy.
    sizes: [f64; 2],
}

/// Weight and bias without their first `off` elements.
fn params<'a, B: Memory>(be: &B, weight: &'a B::Buf, bias: &'a B::Buf, off: usize) -> MixParams<'a, B> {
    MixParams { weight: be.view(weight, off..be.len(weight)), bias: be.view(bias, off..be.len(bias)) }
}

/// Adds to dW and db and sets ds, from dy, the input s, what forward has saved, weight and bias.
fn backward<B: Backend>(
    be: &B,
    call: MixCall,
    [ds, dw, db]: [&mut B::Buf; 3],
    [dy, s, saved, weight, bias]: [&B::Buf; 5],
    ws: &mut B::Workspace,
) {
    let (n, w, r) = (be.len(ds), be.len(dw), be.len(db));
    let args = MixBackward {
        ds: be.view_mut(ds, 0..n),
        grads: MixGrads { weight: be.view_mut(dw, 0..w), bias: be.view_mut(db, 0..r) },
        dy: be.view(dy, 0..be.len(dy)),
        s: be.view(s, 0..be.len(s)),
        saved: be.view(saved, 0..be.len(saved)),
        params: params(be, weight, bias, 0),
        call,
    };
    be.mix_backward(args, ws).unwrap();
}

/// y with a residual, y without, ds, dW, db.
fn outputs_of<B: Backend>(be: &B, c: &Case) -> [Vec<f64>; 5] {
    let (spec, batch, len) = (&c.spec, c.batch, c.len);
    let (n, m, w, r) =
        (batch * spec.inputs * len, batch * spec.outputs * len, spec.rows() * spec.inputs, spec.rows());
    let scaled = |stream, n, by: f64| -> Vec<f64> { noise(7, stream, n).iter().map(|x| x * by).collect() };
    let s = up(be, &scaled(1, n, c.sizes[0]));
    let dy = up(be, &scaled(2, m, c.sizes[1]));
    let residual = up(be, &noise(7, 3, m));
    let weight = up(be, &scaled(4, w, (spec.inputs as f64).powf(-0.5) / c.sizes[0]));
    let bias = up(be, &noise(7, 5, r));
    let fill = |value: f64, n: usize| up(be, &vec![value; n]);
    let [mut y, mut plain, mut ds] = [fill(f64::NAN, m), fill(f64::NAN, m), fill(f64::NAN, n)];
    let [mut dw, mut db] = [fill(0.0, w), fill(0.0, r)];
    let key = DropKey { seed: 5, step: 1 << 33, site: 6 };
    let call = MixCall { spec: *spec, key, batch, len };
    let kept = be.mix_saved_len(&call);
    let mut saved = fill(0.0, kept);
    let mut ws = be.workspace();
    let inference = MixForward {
        y: be.view_mut(&mut plain, 0..m),
        saved: None,
        s: be.view(&s, 0..n),
        residual: None,
        params: params(be, &weight, &bias, 0),
        call,
    };
    be.mix_forward(inference, &mut ws).unwrap();
    let training = MixForward {
        y: be.view_mut(&mut y, 0..m),
        saved: Some(be.view_mut(&mut saved, 0..kept)),
        s: be.view(&s, 0..n),
        residual: Some(be.view(&residual, 0..m)),
        params: params(be, &weight, &bias, 0),
        call,
    };
    be.mix_forward(training, &mut ws).unwrap();
    // Backward twice: it leaves what forward saved unchanged.
    for _ in 0..2 {
        backward(be, call, [&mut ds, &mut dw, &mut db], [&dy, &s, &saved, &weight, &bias], &mut ws);
    }
    [y, plain, ds, dw, db].map(|b| down(be, &b))
}

/// Without GLU.
fn ungated(inputs: usize, outputs: usize) -> MixSpec {
    MixSpec { glu: false, ..spec(inputs, outputs) }
}

fn spec(inputs: usize, outputs: usize) -> MixSpec {
    MixSpec {
        inputs,
        outputs,
        activation: Activation::Gelu,
        glu: true,
        final_activation: Activation::Identity,
        dropout: 0.1,
        tied: false,
    }
}

/// Cases small enough for a sanitizer: every kernel, sizes that are no multiple of a tile.
pub fn small() -> Vec<Case> {
    let of = |spec, batch, len| Case { spec, batch, len, sizes: [1.0, 1.0] };
    vec![
        of(spec(40, 24), 3, 200),
        of(spec(136, 100), 1, 520),
        of(MixSpec { activation: Activation::Silu, tied: true, ..spec(8, 5) }, 9, 64),
        of(ungated(264, 392), 3, 1032),
    ]
}

pub fn compare(be: &Cuda, report: &mut Report, cases: &[Case], (outputs, gradients): (f64, f64)) {
    let cpu = Cpu::<f64>::new(0).unwrap();
    for case in cases {
        let (got, want) = (outputs_of(be, case), outputs_of(&cpu, case));
        assert_eq!(got, outputs_of(be, case), "{:?}: two runs differ", case.spec);
        for (i, name) in ["y", "y without residual", "ds", "dW", "db"].into_iter().enumerate() {
            let Case { spec, batch, len, sizes } = &case;
            let name = format!("{spec:?} {batch} × {len}, {sizes:?}: {name}");
            report.check(name, &got[i], &want[i], if i < 2 { outputs } else { gradients });
        }
    }
}

#[test]
fn mixes_of_every_kind() {
    let plain = spec(64, 64);
    for (precision, outputs, gradients) in
        [(Precision::Highest, 1e-5, 1e-4), (Precision::High, 2e-3, 5e-3), (Precision::Bf16, 1e-2, 5e-2)]
    {
        let Some(be) = gpu_with(precision) else { return };
        let mut report = Report::default();
        let mut check = |case: Case| compare(&be, &mut report, &[case], (outputs, gradients));
        for (inputs, outputs, batch, len) in [
            (64, 64, 2, 256),
            (40, 24, 3, 200),
            (136, 100, 1, 1000),
            (8, 5, 70, 8),
            (200, 72, 2, 1030),
            (512, 512, 1, 512),
            (600, 301, 2, 520),
            (24, 333, 3, 1032),
            (136, 64, 3, 301),
        ] {
            check(Case { spec: spec(inputs, outputs), batch, len, sizes: [1.0, 1.0] });
        }
        for sizes in [[1e-6, 1e-9], [1e4, 1e5], [1e-9, 1e-20], [1e-6, 1e6], [1e6, 1e-6]] {
            check(Case { spec: plain, batch: 2, len: 256, sizes });
        }
        // Products of f32 have their range. (In the latter one the powers of two that bring ds back make 2^-147.)
        if precision == Precision::Highest {
            for sizes in [[1.0, 1e-30], [1e7, 1e-29]] {
                check(Case { spec: plain, batch: 2, len: 256, sizes });
            }
        }
        let f =
            [Activation::Identity, Activation::Relu, Activation::Silu, Activation::Tanh, Activation::Sigmoid];
        for activation in f {
            let spec = MixSpec { activation, tied: activation == Activation::Relu, ..plain };
            check(Case { spec, batch: 2, len: 256, sizes: [1.0, 1e-3] });
        }
        let bare = MixSpec { dropout: 0.0, ..plain };
        for dropout in [0.0, 1e-12] {
            check(Case { spec: MixSpec { dropout, ..bare }, batch: 2, len: 256, sizes: [1.0, 1.0] });
        }
        let spec = MixSpec { glu: false, final_activation: Activation::Tanh, ..bare };
        check(Case { spec, batch: 2, len: 256, sizes: [1.0, 1.0] });
        // Large enough for the products of linear layers.
        for (inputs, outputs, batch, len) in
            [(264, 392, 3, 1032), (120, 1001, 3, 904), (1032, 64, 5, 840), (64, 128, 1, 32776)]
        {
            check(Case { spec: ungated(inputs, outputs), batch, len, sizes: [1.0, 1.0] });
        }
        for sizes in [[1e-6, 1e-9], [1e4, 1e5], [1e-9, 1e-20]] {
            check(Case { spec: ungated(128, 136), batch: 4, len: 4096, sizes });
        }
        for final_activation in [Activation::Identity, Activation::Tanh] {
            for (dropout, tied, activation) in [
                (0.0, false, Activation::Gelu),
                (0.2, true, Activation::Relu),
                (0.2, false, Activation::Identity),
                (0.0, false, Activation::Identity),
            ] {
                let spec = MixSpec { final_activation, dropout, tied, activation, ..ungated(136, 128) };
                check(Case { spec, batch: 4, len: 4096, sizes: [1.0, 1.0] });
            }
        }
        report.finish(&format!("mixes, {precision:?}"));
    }
}

/// Sizes at which backward goes through the batch in portions and recomputes a.
#[test]
fn mixes_in_parts() {
    for (precision, tolerances) in [(Precision::Highest, (1e-5, 1e-4)), (Precision::High, (2e-3, 5e-3))] {
        let Some(be) = gpu_with(precision) else { return };
        let mut report = Report::default();
        let of = |spec| Case { spec, batch: 9, len: 32768, sizes: [1.0, 1.0] };
        let tied = MixSpec { tied: true, activation: Activation::Silu, ..spec(64, 248) };
        compare(&be, &mut report, &[of(spec(128, 128)), of(tied), of(ungated(256, 64))], tolerances);
        report.finish(&format!("mixes in parts, {precision:?}"));
    }
}

/// Sums over time that would be in parts of 496 steps of 64 terms if only filling the chip set their number, in which the tensor cores'
/// f32 sums lose digits: many terms, few rows.
#[test]
fn gradients_of_long_sequences() {
    let Some(be) = gpu_with(Precision::Highest) else { return };
    let mut report = Report::default();
    let case = Case { spec: spec(8, 8), batch: 1, len: 1 << 22, sizes: [1.0, 1.0] };
    compare(&be, &mut report, &[case], (1e-5, 1e-4));
    report.finish("gradients of long sequences");
}

/// A forward pass of `s` (batch, inputs, len) in `precision` without dropout, on noise as weight and bias.
fn forward_of<B: Backend>(be: &B, spec: &MixSpec, s: &[f64], len: usize) -> Vec<f64> {
    let (batch, w) = (s.len() / spec.inputs / len, spec.rows() * spec.inputs);
    let (s, n) = (up(be, s), batch * spec.outputs * len);
    let weight = up(be, &noise(7, 4, w).iter().map(|x| x * 0.125).collect::<Vec<_>>());
    let bias = up(be, &noise(7, 5, spec.rows()));
    let mut y = up(be, &vec![0.0; n]);
    let call = MixCall { spec: *spec, key: DropKey { seed: 5, step: 1, site: 6 }, batch, len };
    let args = MixForward {
        y: be.view_mut(&mut y, 0..n),
        saved: None,
        s: be.view(&s, 0..batch * spec.inputs * len),
        residual: None,
        params: params(be, &weight, &bias, 0),
        call,
    };
    be.mix_forward(args, &mut be.workspace()).unwrap();
    down(be, &y)
}

/// A number that is not finite is in the outputs of its time step, and in no others; zeros give what the bias does; and where one number is
/// a million times the others, theirs keep the digits that the tolerance of a whole array leaves them.
#[test]
fn mixes_of_zeros_and_of_numbers_that_are_not_finite() {
    let Some(be) = gpu_with(Precision::Highest) else { return };
    let cpu = Cpu::<f64>::new(0).unwrap();
    let mut report = Report::default();
    let (spec, len) = (MixSpec { dropout: 0.0, ..spec(72, 40) }, 1024);
    let plain = noise(7, 1, 2 * spec.inputs * len);
    let at = 9 * len + 300;
    for bad in [f64::NAN, f64::INFINITY] {
        let mut s = plain.clone();
        s[at] = bad;
        let (mut got, mut want) = (forward_of(&be, &spec, &s, len), forward_of(&cpu, &spec, &plain, len));
        for o in 0..spec.outputs {
            assert!(!got[o * len + 300].is_finite(), "{bad} is lost in output {o}");
            (got[o * len + 300], want[o * len + 300]) = (0.0, 0.0);
        }
        report.check(format!("beside {bad}"), &got, &want, 1e-5);
    }
    let zeros = vec![0.0; plain.len()];
    report.check(
        "zeros".into(),
        &forward_of(&be, &spec, &zeros, len),
        &forward_of(&cpu, &spec, &zeros, len),
        1e-6,
    );
    let mut s = plain;
    s[at] = 1e6;
    let (got, want) = (forward_of(&be, &spec, &s, len), forward_of(&cpu, &spec, &s, len));
    report.check("with a million".into(), &got, &want, 1e-5);
    let second = spec.outputs * len..2 * spec.outputs * len;
    report.check("beside a million".into(), &got[second.clone()], &want[second], 1e-5);
    report.finish("zeros and numbers that are not finite");
}

/// The numbers of `x` at indices that are not `lost`.
fn others(x: &[f64], lost: impl Fn(usize) -> bool) -> Vec<f64> {
    (0..x.len()).filter(|&i| !lost(i)).map(|i| x[i]).collect()
}

/// A number that is not finite leaves the digits of everything that it is no term of, whatever the size of the other numbers.
#[test]
fn numbers_that_are_not_finite_spoil_no_others() {
    let cpu = Cpu::<f64>::new(0).unwrap();
    for (precision, (outputs, gradients)) in
        [(Precision::Highest, (1e-5, 1e-4)), (Precision::High, (2e-3, 5e-3))]
    {
        let Some(be) = gpu_with(precision) else { return };
        let mut report = Report::default();
        let (n, len) = (64, 1024);
        let spec = MixSpec { dropout: 0.0, ..spec(n, n) };
        let scaled = |stream, count: usize, by: f64| -> Vec<f64> {
            noise(7, stream, count).iter().map(|x| x * by).collect()
        };
        let (bias, dy) = (noise(7, 5, 2 * n), noise(7, 2, 2 * n * len));
        for size in [1.0, 1e4, 1e-6] {
            let (s, weight) = (scaled(1, 2 * n * len, size), scaled(4, 2 * n * n, 0.125 / size));
            let want = arrays_of(&cpu, &spec, len, [&s, &weight, &bias, &dy]);
            let mut check = |name: &str, i: usize, got: &[f64], lost: &dyn Fn(usize) -> bool| {
                assert!((0..got.len()).any(|k| lost(k) && !got[k].is_finite()), "{name} is lost, × {size:e}");
                let tolerance = if i == 0 { outputs } else { gradients };
                let name = format!("{name}, × {size:e}: {}", ["y", "ds", "dW"][i]);
                report.check(name, &others(got, lost), &others(&want[i], lost), tolerance);
            };
            for bad in [f64::INFINITY, f64::NAN] {
                // In dy, at the last time step of output 9, which a sample for the range reads: in ds at that step, in that output's dW.
                let mut with = dy.clone();
                with[9 * len + len - 1] = bad;
                let got = arrays_of(&be, &spec, len, [&s, &weight, &bias, &with]);
                let name = format!("{bad} in dy");
                check(&name, 1, &got[1], &|i| i < n * len && i % len == len - 1);
                check(&name, 2, &got[2], &|i| i / n % n == 9);
                // In s: in y and ds of its time step.
                let mut with = s.clone();
                with[9 * len + 300] = bad;
                let got = arrays_of(&be, &spec, len, [&with, &weight, &bias, &dy]);
                let name = format!("{bad} in s");
                for i in 0..2 {
                    check(&name, i, &got[i], &|i| i < n * len && i % len == 300);
                }
                // In W: in y and dW of its output.
                let mut with = weight.clone();
                with[5 * n + 3] = bad;
                let got = arrays_of(&be, &spec, len, [&s, &with, &bias, &dy]);
                let name = format!("{bad} in W");
                check(&name, 0, &got[0], &|i| i / len % n == 5);
                check(&name, 2, &got[2], &|i| i / n % n == 5);
            }
        }
        report.finish(&format!("beside numbers that are not finite, {precision:?}"));
    }
}

/// A gradient whose few large numbers the random subset does not contain, and arrays whose addresses are not aligned.
#[test]
fn mixes_of_uneven_gradients_at_any_address() {
    for (precision, tolerances) in [(Precision::Highest, (1e-5, 1e-4)), (Precision::High, (2e-3, 5e-3))] {
        let Some(be) = gpu_with(precision) else { return };
        let mut report = Report::default();
        for (spec, len) in [(spec(64, 64), 1024), (ungated(128, 128), 4096)] {
            uneven(&be, &MixSpec { dropout: 0.0, ..spec }, len, &mut report, tolerances);
        }
        report.finish(&format!("mixes of uneven gradients, {precision:?}"));
    }
}

fn uneven(be: &Cuda, spec: &MixSpec, len: usize, report: &mut Report, (outputs, gradients): (f64, f64)) {
    let cpu = Cpu::<f64>::new(0).unwrap();
    let batch = 4;
    let n = batch * spec.inputs * len;
    let mut dy: Vec<f64> = noise(7, 2, n).iter().map(|x| x * 1e-4).collect();
    dy[17 * len + 130] = 1e3;
    dy[200 * len + 801] = -3e3;
    fn run<B: Backend>(
        be: &B,
        spec: &MixSpec,
        dy: &[f64],
        (batch, len): (usize, usize),
        off: usize,
    ) -> [Vec<f64>; 4] {
        let (n, w) = (dy.len(), spec.rows() * spec.inputs);
        let shifted = |x: Vec<f64>| {
            let mut all = vec![0.0; off];
            all.extend(x);
            up(be, &all)
        };
        let (s, dy) = (shifted(noise(7, 1, n)), shifted(dy.to_vec()));
        let weight = shifted(noise(7, 4, w).iter().map(|x| x * 0.125).collect());
        let bias = shifted(noise(7, 5, spec.rows()));
        let key = DropKey { seed: 5, step: 1, site: 6 };
        let call = MixCall { spec: *spec, key, batch, len };
        let kept = be.mix_saved_len(&call);
        let [mut y, mut ds, mut saved] = [n, n, kept].map(|n| shifted(vec![0.0; n]));
        let [mut dw, mut db] = [w, spec.rows()].map(|n| shifted(vec![0.0; n]));
        let all = |n: usize| off..off + n;
        let mut ws = be.workspace();
        let forward = MixForward {
            y: be.view_mut(&mut y, all(n)),
            saved: Some(be.view_mut(&mut saved, all(kept))),
            s: be.view(&s, all(n)),
            residual: Some(be.view(&dy, all(n))),
            params: params(be, &weight, &bias, off),
            call,
        };
        be.mix_forward(forward, &mut ws).unwrap();
        let backward = MixBackward {
            ds: be.view_mut(&mut ds, all(n)),
            grads: MixGrads {
                weight: be.view_mut(&mut dw, all(w)),
                bias: be.view_mut(&mut db, all(spec.rows())),
            },
            dy: be.view(&dy, all(n)),
            s: be.view(&s, all(n)),
            saved: be.view(&saved, all(kept)),
            params: params(be, &weight, &bias, off),
            call,
        };
        be.mix_backward(backward, &mut ws).unwrap();
        [y, ds, dw, db].map(|b| down(be, &b))
    }
    let glu = spec.glu;
    for off in [0, 1, 3] {
        let (got, want) = (run(be, spec, &dy, (batch, len), off), run(&cpu, spec, &dy, (batch, len), off));
        for (i, name) in ["y", "ds", "dW", "db"].into_iter().enumerate() {
            report.check(
                format!("{name}, {off} past, glu {glu}"),
                &got[i],
                &want[i],
                if i == 0 { outputs } else { gradients },
            );
        }
        // Where the large ones are not, in the third sequence, the small ones are as good.
        let range = off + n / 2..off + 3 * n / 4;
        report.check(
            format!("third sequence of ds, {off} past, glu {glu}"),
            &got[1][range.clone()],
            &want[1][range],
            gradients,
        );
    }
}

/// The arrays y, ds and dW of a mix without dropout and residual.
fn arrays_of<B: Backend>(
    be: &B,
    spec: &MixSpec,
    len: usize,
    [s, weight, bias, dy]: [&[f64]; 4],
) -> [Vec<f64>; 3] {
    let (n, m, w, r) = (s.len(), dy.len(), weight.len(), bias.len());
    let call = MixCall {
        spec: *spec,
        key: DropKey { seed: 5, step: 1, site: 6 },
        batch: n / spec.inputs / len,
        len,
    };
    let kept = be.mix_saved_len(&call);
    let [s, weight, bias, dy] = [s, weight, bias, dy].map(|x| up(be, x));
    let [mut y, mut saved, mut ds, mut dw, mut db] = [m, kept, n, w, r].map(|n| up(be, &vec![0.0; n]));
    let mut ws = be.workspace();
    let forward = MixForward {
        y: be.view_mut(&mut y, 0..m),
        saved: Some(be.view_mut(&mut saved, 0..kept)),
        s: be.view(&s, 0..n),
        residual: None,
        params: params(be, &weight, &bias, 0),
        call,
    };
    be.mix_forward(forward, &mut ws).unwrap();
    backward(be, call, [&mut ds, &mut dw, &mut db], [&dy, &s, &saved, &weight, &bias], &mut ws);
    [y, ds, dw].map(|x| down(be, &x))
}

/// Each product has one term, of a number of up to 18 bits and a factor near one that has a low part too, so a wrong result says which number
/// was read instead, or that a part of it is missing: y is s with its features exchanged, ds is dy with its outputs exchanged back, and dW is s
/// at one time step for each output, each times its factor.
#[test]
fn every_number_of_an_operand_is_where_products_read_it() {
    let Some(be) = gpu_with(Precision::Highest) else { return };
    for (n, len) in [(128, 512), (264, 520)] {
        let spec = MixSpec { activation: Activation::Identity, dropout: 0.0, ..spec(n, n) };
        let feature = |o: usize| (o * 37 + 11) % n;
        let time = |o: usize| (o * 61 + 5) % len;
        // Open gates: z₂ = 40.
        let mut weight = vec![0.0; 2 * n * n];
        let of_weight = 1.0 + 1.0 / 16384.0;
        (0..n).for_each(|o| weight[o * n + feature(o)] = of_weight);
        let bias: Vec<f64> = (0..2 * n).map(|r| if r < n { 0.0 } else { 40.0 }).collect();
        let numbers: Vec<f64> = (0..n * len).map(|i| (i + 1) as f64 / 131072.0).collect();
        let mut at_one_time = vec![0.0; n * len];
        let of_dy = |o: usize| 1.0 + (2 * o + 1) as f64 / 262144.0;
        (0..n).for_each(|o| at_one_time[o * len + time(o)] = of_dy(o));
        let [y, ds, _] = arrays_of(&be, &spec, len, [&numbers, &weight, &bias, &numbers]);
        let [_, _, dw] = arrays_of(&be, &spec, len, [&numbers, &weight, &bias, &at_one_time]);
        let place = |x: f64| {
            let i = (x * 131072.0).round() as i64 - 1;
            format!("{x:e} = number {} of row {}", i.rem_euclid(len as i64), i.div_euclid(len as i64))
        };
        let mut wrong = Vec::new();
        let mut check = |name: &str, (row, column): (usize, usize), got: f64, factor: f64, want: f64| {
            let got = got / factor;
            // The low part of a number is 2^-11 of it or less, and the product of two low parts, which is left out, 2^-22.
            if got.is_nan() || (got - want).abs() > 1e-6 * want.abs() {
                wrong.push(format!("{name} ({row}, {column}): {}, not {}", place(got), place(want)));
            }
        };
        for o in 0..n {
            for t in 0..len {
                check("y", (o, t), y[o * len + t], of_weight, numbers[feature(o) * len + t]);
                check("ds", (feature(o), t), ds[feature(o) * len + t], of_weight, numbers[o * len + t]);
            }
            for k in 0..n {
                check("dW", (o, k), dw[o * n + k], of_dy(o), numbers[k * len + time(o)]);
            }
        }
        let of = |name: &str| wrong.iter().filter(|line| line.starts_with(name)).count();
        let counts = [of("y"), of("ds"), of("dW")];
        let some: Vec<&String> = wrong.iter().step_by(wrong.len().div_ceil(40).max(1)).collect();
        assert!(wrong.is_empty(), "{n} × {len}: wrong numbers of y, ds, dW: {counts:?}, such as {some:#?}");
    }
}
