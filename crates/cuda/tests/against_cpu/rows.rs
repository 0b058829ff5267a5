//! The inner stage of a block as a training step computes it on Hopper: the SSM norms its input as it reads it, the mix hands the gradient of its
//! input over as rows and leaves moments for the next norm. Against the operations one by one on the CPU.

use crate::{
    Report, gpu_with,
    layer::{all, down, full, grads, params, up},
    ssm::check,
    training_steps::{Net, PLAIN},
};
use s4_backend::{random::DropKey, *};
use s4_cpu::Cpu;
use s4_cuda::{Cuda, Precision};
use s4_testing::noise;

type Named = Vec<(String, Vec<f64>)>;

#[derive(Clone)]
pub struct Case {
    net: Net,
    activation: Activation,
    dropout: f64,
    tied: bool,
    /// What the gradient of the output is multiplied by.
    scale: f64,
}

/// Output and gradients of y = x + mix(ssm(norm(x))), by the operations that the backend has for it, or one by one.
fn block<B: Backend>(be: &B, c: &Case, together: bool) -> Named {
    let &Net { spec, batch, len, .. } = &c.net;
    let (h, n) = (spec.heads, batch * spec.heads * len);
    let nan = |n: usize| up(be, &vec![f64::NAN; n]);
    let values = c.net.values(0);
    let [p @ .., gamma, beta, weight, bias] = values.each_ref().map(|v| up(be, v));
    let x = up(be, &noise(9, 1, n).iter().map(|x| 3.0 * x + 1.0).collect::<Vec<_>>());
    let dy = up(be, &noise(9, 2, n).iter().map(|x| c.scale * x).collect::<Vec<_>>());
    let stats = up(be, &(0..2 * h).map(|i| if i < h { 1.0 } else { 0.4 }).collect::<Vec<_>>());
    let own: Vec<i32> = (0..batch).map(|i| (len - i * len / (2 * batch)) as i32).collect();
    let lengths = c.net.lengths.then(|| {
        let mut ints = be.alloc_ints(batch).unwrap();
        be.upload_ints(&mut ints, &own).unwrap();
        ints
    });
    let lengths = lengths.as_ref();
    let options = CallOptions { lengths, training: true, algorithm: Algorithm::Chunk, ..Default::default() };
    let call = SsmCall::<'_, B> { spec, batch, len, options, version: 1 };
    let mix = MixSpec {
        inputs: h,
        outputs: h,
        activation: c.activation,
        glu: true,
        final_activation: Activation::Identity,
        dropout: c.dropout,
        tied: c.tied,
    };
    let mix_call = MixCall { spec: mix, key: DropKey { seed: 5, step: 3, site: 2 }, batch, len };
    let (mut plan, mut ws) = (be.ssm_plan(&spec).unwrap(), be.workspace());
    let norms = together && be.ssm_norms_input(&call, false);
    let rows_len =
        be.mix_chunk_rows_saved_len(&mix_call).filter(|_| together && be.ssm_takes_chunk_rows(&call));

    let (mut u, mut s, mut y) = (nan(n), nan(n), nan(n));
    let [mut ssm_saved, mut mix_saved] =
        [be.ssm_saved_len(&call), rows_len.unwrap_or_else(|| be.mix_saved_len(&mix_call))].map(nan);
    let shape = SeqShape { batch, heads: h, len };
    let norm_into = |u: &mut B::Buf| {
        let (y, stats, x) = (full(be, u), all(be, &stats), all(be, &x));
        let (gamma, beta) = (all(be, &gamma), all(be, &beta));
        be.batch_norm_recompute(BatchNormRecompute { y, stats, x, gamma, beta, lengths, shape }).unwrap();
    };
    if !norms {
        norm_into(&mut u);
    }
    let forward = SsmForward {
        y: full(be, &mut s),
        state_end: None,
        saved: Some(full(be, &mut ssm_saved)),
        u: all(be, if norms { &x } else { &u }),
        state0: None,
        params: params(be, &p),
        call,
    };
    match norms {
        true => {
            let [stats, gamma, beta] = [&stats, &gamma, &beta].map(|x| all(be, x));
            let norm = SsmInputNorm { stats, gamma, beta };
            be.ssm_forward_of_norm(forward, norm, &mut plan, &mut ws).unwrap();
        }
        false => be.ssm_forward(forward, &mut plan, &mut ws).unwrap(),
    }
    let forward = MixForward {
        y: full(be, &mut y),
        saved: Some(full(be, &mut mix_saved)),
        s: all(be, &s),
        residual: Some(all(be, &x)),
        params: MixParams { weight: all(be, &weight), bias: all(be, &bias) },
        call: mix_call,
    };
    let moments_len = be.mix_moments_len(&mix_call).filter(|_| together);
    let mut moments = nan(moments_len.unwrap_or(0));
    match moments_len {
        Some(_) => {
            let moments = Some(full(be, &mut moments));
            let extras = MixExtras { chunk_rows: rows_len.is_some(), moments, lengths };
            be.mix_forward_with(forward, extras, &mut ws).unwrap();
        }
        None => be.mix_forward(forward, &mut ws).unwrap(),
    }
    // The statistics of a batch norm that follows.
    let (mut next_stats, mut running) = (nan(2 * h), up(be, &vec![1.0; 2 * h]));
    let next = BatchNormForward {
        y: None,
        stats: full(be, &mut next_stats),
        running: full(be, &mut running),
        x: all(be, &y),
        moments: moments_len.map(|_| all(be, &moments)),
        gamma: all(be, &gamma),
        beta: all(be, &beta),
        lengths,
        eps: 1e-5,
        momentum: 0.1,
        training: true,
        shape,
    };
    be.batch_norm_forward(next, &mut ws).unwrap();

    let (mut ds, mut du, unread) = (nan(n), nan(n), nan(n));
    let (mut dw, mut db) = (be.alloc(2 * h * h).unwrap(), be.alloc(2 * h).unwrap());
    let backward = MixBackward {
        ds: full(be, &mut ds),
        grads: MixGrads { weight: full(be, &mut dw), bias: full(be, &mut db) },
        dy: all(be, &dy),
        s: all(be, if rows_len.is_some() { &unread } else { &s }),
        saved: all(be, &mix_saved),
        params: MixParams { weight: all(be, &weight), bias: all(be, &bias) },
        call: mix_call,
    };
    match rows_len {
        Some(_) => be.mix_backward_to_chunk_rows(backward, lengths, &mut ws).unwrap(),
        None => be.mix_backward(backward, &mut ws).unwrap(),
    }
    if norms && be.ssm_reads_input(&call, all(be, &ssm_saved), false, &plan) {
        norm_into(&mut u);
    }
    let mut gradients = Vec::new();
    for with_du in [true, false] {
        let mut g = p.each_ref().map(|x| be.alloc(be.len(x)).unwrap());
        let backward = SsmBackward {
            du: with_du.then(|| full(be, &mut du)),
            dstate0: None,
            grads: grads(be, &mut g),
            dy: all(be, &ds),
            dstate_end: None,
            u: all(be, &u),
            state0: None,
            saved: all(be, &ssm_saved),
            params: params(be, &p),
            call,
        };
        match rows_len {
            Some(_) => be.ssm_backward_of_chunk_rows(backward, &mut plan, &mut ws).unwrap(),
            None => be.ssm_backward(backward, &mut plan, &mut ws).unwrap(),
        }
        gradients.push(g);
    }
    let [g, alone] = [&gradients[0], &gradients[1]];
    for (alone, with_du) in alone.iter().zip(g) {
        // Gradients of the parameters alone are those with du, where one pass makes both.
        assert!(rows_len.is_none() || down(be, alone) == down(be, with_du), "gradients without du");
    }
    // The mix leaves anything beyond the lengths.
    let within = |x: Vec<f64>| -> Vec<f64> {
        let beyond = |i: usize| c.net.lengths && (i % len) as i32 >= own[i / (h * len)];
        x.into_iter().enumerate().map(|(i, x)| if beyond(i) { 0.0 } else { x }).collect()
    };
    let mut out: Named = vec![("y".into(), within(down(be, &y))), ("du".into(), within(down(be, &du)))];
    out.extend([("stats", &next_stats), ("running", &running)].map(|(name, x)| (name.into(), down(be, x))));
    let names = ["inv_dt", "a_real", "a_imag", "b", "c", "p", "d"];
    out.extend(names.iter().zip(g).map(|(name, g)| (format!("grad.{name}"), down(be, g))));
    out.extend([("grad.weight", &dw), ("grad.bias", &db)].map(|(name, g)| (name.into(), down(be, g))));
    out
}

fn plain(heads: usize, batch: usize, len: usize) -> Case {
    Case {
        net: Net { layers: 1, ..PLAIN(heads, batch, len) },
        activation: Activation::Gelu,
        dropout: 0.1,
        tied: false,
        scale: 1.0,
    }
}

fn one_sided(mut case: Case) -> Case {
    case.net.spec.bidirectional = false;
    case
}

fn lengths(case: Case) -> Case {
    Case { net: Net { lengths: true, ..case.net }, ..case }
}

/// Cases small enough for a sanitizer: every kernel, with one segment and with several.
pub fn small() -> Vec<Case> {
    vec![
        plain(24, 9, 64),
        lengths(plain(24, 7, 328)),
        plain(8, 2, 2056),
        one_sided(plain(16, 20, 136)),
        one_sided(lengths(plain(8, 18, 584))),
    ]
}

fn cases() -> Vec<Case> {
    vec![
        // One segment and several; lengths that are no multiple of a chunk, or of a tile; more heads than a tile has; sums in parts.
        plain(64, 70, 256),
        plain(16, 9, 200),
        plain(136, 3, 1032),
        plain(8, 3, 5000),
        // Scans over segments by sixteen sequences, by one block and by several.
        plain(8, 6, 4096),
        lengths(plain(8, 20, 3336)),
        lengths(plain(24, 7, 328)),
        lengths(plain(8, 2, 4096)),
        one_sided(plain(64, 20, 264)),
        one_sided(lengths(plain(16, 33, 456))),
        Case { tied: true, ..plain(16, 9, 200) },
        Case { dropout: 0.0, activation: Activation::Silu, ..plain(24, 6, 136) },
        Case { activation: Activation::Relu, ..plain(24, 6, 136) },
        // Gradients of which f16 holds nothing without a power of two, and such as it does not reach.
        Case { scale: 1e-12, ..plain(16, 9, 200) },
        Case { scale: 1e9, ..plain(16, 9, 200) },
    ]
}

/// Compares blocks by what the backend has for them with the operations one by one, twice, so that what a call leaves in memory is there for
/// the next one.
pub fn compare(be: &Cuda, report: &mut Report, cases: &[Case], tolerances: (f64, f64)) {
    let cpu = Cpu::<f64>::new(0).unwrap();
    for (i, case) in cases.iter().enumerate() {
        let want = block(&cpu, case, false);
        for _ in 0..2 {
            for ((name, got), (_, want)) in block(be, case, true).iter().zip(&want) {
                check(report, &format!("case {i}"), (name, got, want), tolerances);
            }
        }
    }
}

#[test]
fn blocks_together_are_their_operations_one_by_one() {
    for (precision, tolerances) in
        [(Precision::Highest, (1e-5, 1e-4)), (Precision::High, (2e-3, 5e-3)), (Precision::Bf16, (1e-2, 5e-2))]
    {
        let Some(be) = gpu_with(precision) else { return };
        let mut report = Report::default();
        compare(&be, &mut report, &cases(), tolerances);
        compare(&be, &mut report, &small(), tolerances);
        report.finish(&format!("blocks together, {precision:?}"));
    }
}

/// A norm that the SSM takes upon itself gives the bits of the norm before it.
#[test]
fn a_norm_of_the_input_has_the_bits_of_the_norm_before() {
    for precision in [Precision::Highest, Precision::High] {
        let Some(be) = gpu_with(precision) else { return };
        for case in cases() {
            let &Net { spec, batch, len, .. } = &case.net;
            let n = batch * spec.heads * len;
            let [p @ .., gamma, beta, _, _] = case.net.values(0).each_ref().map(|v| up(&be, v));
            let x = up(&be, &noise(9, 1, n));
            let stats = up(&be, &noise(9, 3, 2 * spec.heads));
            let views = || [&stats, &gamma, &beta].map(|x| all(&be, x));
            let options = CallOptions { algorithm: Algorithm::Chunk, ..CallOptions::default() };
            let call = SsmCall { spec, batch, len, options, version: 1 };
            if !be.ssm_norms_input(&call, false) {
                continue;
            }
            let [mut u, mut one, mut other] = [n; 3].map(|n| be.alloc(n).unwrap());
            let shape = SeqShape { batch, heads: spec.heads, len };
            let [stats_view, gamma_view, beta_view] = views();
            let (y, stats, x_view) = (full(&be, &mut u), stats_view, all(&be, &x));
            be.batch_norm_recompute(BatchNormRecompute {
                y,
                stats,
                x: x_view,
                gamma: gamma_view,
                beta: beta_view,
                lengths: None,
                shape,
            })
            .unwrap();
            let forward = |y, u| SsmForward {
                y,
                state_end: None,
                saved: None,
                u,
                state0: None,
                params: params(&be, &p),
                call,
            };
            let (mut plan, mut ws) = (be.ssm_plan(&spec).unwrap(), be.workspace());
            be.ssm_forward(forward(full(&be, &mut one), all(&be, &u)), &mut plan, &mut ws).unwrap();
            let [stats, gamma, beta] = views();
            let norm = SsmInputNorm { stats, gamma, beta };
            be.ssm_forward_of_norm(forward(full(&be, &mut other), all(&be, &x)), norm, &mut plan, &mut ws)
                .unwrap();
            assert!(down(&be, &one) == down(&be, &other), "{precision:?} {spec:?} {batch} × {len}");
        }
    }
}
