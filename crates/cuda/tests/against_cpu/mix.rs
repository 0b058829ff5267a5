//! The mix by the kernels that do it all (`kernels/mix90.cu`) and by the general ones: tiles that end early, batches
//! that go in two halves, magnitudes far from one, every precision.

use crate::{
    Report, gpu_with,
    layer::{down, noise, up},
};
use s4_backend::{random::DropKey, *};
use s4_cpu::Cpu;
use s4_cuda::Precision;

struct Case {
    spec: MixSpec,
    batch: usize,
    len: usize,
    /// Of s, and of dy.
    sizes: [f64; 2],
}

/// y with and without a residual; ds, dW, db.
fn apply<B: Backend>(be: &B, c: &Case) -> [Vec<f64>; 5] {
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
    let kept = be.mix_saved_len(spec, batch, len);
    let mut saved = fill(0.0, kept);
    let mut ws = be.workspace();
    let params = MixParams { weight: be.view(&weight, 0..w), bias: be.view(&bias, 0..r) };
    let key = DropKey { seed: 5, step: 1 << 33, site: 6 };
    let s = be.view(&s, 0..n);
    let out = be.view_mut(&mut plain, 0..m);
    be.mix_forward(out, None, s, None, &params, spec, key, batch, len, &mut ws).unwrap();
    let (out, keep) = (be.view_mut(&mut y, 0..m), Some(be.view_mut(&mut saved, 0..kept)));
    let past = Some(be.view(&residual, 0..m));
    be.mix_forward(out, keep, s, past, &params, spec, key, batch, len, &mut ws).unwrap();
    // Twice: what forward kept stays as it was.
    for _ in 0..2 {
        let grads = MixGrads { weight: be.view_mut(&mut dw, 0..w), bias: be.view_mut(&mut db, 0..r) };
        let (out, dy, kept) = (be.view_mut(&mut ds, 0..n), be.view(&dy, 0..m), be.view(&saved, 0..kept));
        be.mix_backward(out, grads, dy, s, kept, &params, spec, key, batch, len, &mut ws).unwrap();
    }
    [y, plain, ds, dw, db].map(|b| down(be, &b))
}

#[test]
fn mixes_of_every_kind() {
    let plain = MixSpec {
        inputs: 64,
        outputs: 64,
        activation: Activation::Gelu,
        glu: true,
        final_activation: Activation::Identity,
        dropout: 0.1,
        tied: false,
    };
    let cpu = Cpu::<f64>::new(0).unwrap();
    for (precision, outputs, gradients) in
        [(Precision::Highest, 1e-5, 1e-4), (Precision::High, 2e-3, 5e-3), (Precision::Bf16, 1e-2, 5e-2)]
    {
        let Some(be) = gpu_with(precision) else { return };
        let mut report = Report::default();
        let mut check = |case: Case| {
            let (got, want) = (apply(&be, &case), apply(&cpu, &case));
            for (i, name) in ["y", "y without residual", "ds", "dW", "db"].into_iter().enumerate() {
                let tolerance = if i < 2 { outputs } else { gradients };
                let Case { spec, batch, len, sizes } = &case;
                report.check(
                    format!("{spec:?} {batch} × {len}, {sizes:?}: {name}"),
                    &got[i],
                    &want[i],
                    tolerance,
                );
            }
        };
        for (inputs, outputs, batch, len) in [
            (64, 64, 2, 256),
            (40, 24, 3, 200),
            (136, 100, 1, 1000),
            (8, 5, 70, 8),
            (200, 72, 2, 1030),
            (512, 512, 1, 512),
        ] {
            let spec = MixSpec { inputs, outputs, ..plain };
            check(Case { spec, batch, len, sizes: [1.0, 1.0] });
        }
        for sizes in [[1e-6, 1e-9], [1e4, 1e5]] {
            check(Case { spec: plain, batch: 2, len: 256, sizes });
        }
        let f =
            [Activation::Identity, Activation::Relu, Activation::Silu, Activation::Tanh, Activation::Sigmoid];
        for activation in f {
            let spec = MixSpec { activation, tied: activation == Activation::Relu, ..plain };
            check(Case { spec, batch: 2, len: 256, sizes: [1.0, 1e-3] });
        }
        let spec = MixSpec { dropout: 0.0, glu: false, final_activation: Activation::Tanh, ..plain };
        check(Case { spec, batch: 2, len: 256, sizes: [1.0, 1.0] });
        // dz beyond 32 MiB: two halves, one of them shorter.
        let spec = MixSpec { inputs: 128, outputs: 128, ..plain };
        check(Case { spec, batch: 9, len: 4096, sizes: [1.0, 1.0] });
        report.finish(&format!("mixes, {precision:?}"));
    }
}
