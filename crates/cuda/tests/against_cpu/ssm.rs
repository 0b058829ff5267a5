//! The SSM as one operation, over the parameters of every golden case.

use crate::{
    Report, gpu, gpu_with,
    layer::{Run, all, down, full, grads, outputs_around, outputs_of, outputs_with_plan, params, up},
    step::steps,
};
use s4_backend::*;
use s4_cpu::Cpu;
use s4_cuda::{Cuda, Precision};
use s4_testing::{golden, noise};

pub fn compare(report: &mut Report, name: &str, got: &[(String, Vec<f64>)], want: &[(String, Vec<f64>)]) {
    assert_eq!(got.len(), want.len());
    for ((n, g), (_, w)) in got.iter().zip(want) {
        check(report, name, (n, g, w), (1e-5, 1e-4));
    }
}

/// Compares one array of a run with its truth, by the tolerance of outputs or by that of gradients.
pub fn check(
    report: &mut Report,
    run: &str,
    (name, got, want): (&str, &[f64], &[f64]),
    (values, gradients): (f64, f64),
) {
    assert_eq!(got.len(), want.len(), "{run} {name}");
    // S4D has no P.
    if want.is_empty() && name == "grad.p" {
        return;
    }
    let gradient = name.starts_with('d') || name.starts_with("grad");
    report.check(format!("{run} {name}"), got, want, if gradient { gradients } else { values });
}

pub fn run(case: &golden::Case, batch: usize, len: usize) -> Run {
    Run {
        spec: case.spec,
        params: case.params.clone(),
        batch,
        len,
        rate: 1.0,
        algorithm: Algorithm::Chunk,
        lengths: None,
        states: false,
        uneven: false,
        seed: 7,
        scale: 1.0,
    }
}

/// C of the golden files is f64; CPU and GPU both get it rounded to f32.
pub fn cases() -> Vec<golden::Case> {
    let mut all = golden::Case::all();
    for c in &mut all {
        for p in &mut c.params {
            for x in p.iter_mut() {
                *x = *x as f32 as f64;
            }
        }
    }
    all
}

#[test]
fn every_golden_layer_forward_and_backward() {
    let Some(be) = gpu() else { return };
    let cpu = Cpu::<f64>::new(0).unwrap();
    let mut report = Report::default();
    for case in cases() {
        let states = !case.spec.bidirectional;
        let lens: &[usize] = if case.spec.bidirectional { &[1, 64, 200] } else { &[1, 63, 64, 128, 333] };
        for &len in lens {
            for batch in [1, 3, 19] {
                let mut r = run(&case, batch, len);
                r.states = states && batch != 1;
                r.rate = if batch == 3 { 0.5 } else { 1.0 };
                let name = format!("{} {batch}×{len}", case.name);
                compare(&mut report, &name, &outputs_of(&be, &r), &outputs_of(&cpu, &r));
            }
        }
    }
    report.finish("chunk");
}

#[test]
fn rows_of_their_own_lengths() {
    let Some(be) = gpu() else { return };
    let cpu = Cpu::<f64>::new(0).unwrap();
    let mut report = Report::default();
    for case in cases() {
        let mut r = run(&case, 5, 270);
        r.states = !case.spec.bidirectional;
        r.lengths = Some(vec![270, 1, 64, 129, 256]);
        compare(&mut report, &format!("{} lengths", case.name), &outputs_of(&be, &r), &outputs_of(&cpu, &r));
    }
    report.finish("lengths");
}

/// What a plan keeps belongs to one version, one rate and one cut: each call equals that of a fresh plan, to the bit.
#[test]
fn a_plan_follows_parameters_length_and_rate() {
    let Some(be) = gpu() else { return };
    for case in cases() {
        let [short, long] = [70, 5000].map(|len| run(&case, 2, len));
        let moved = |from: &Run, rate: f64| {
            let mut r = Run { rate, ..from.clone() };
            r.params[0].iter_mut().for_each(|x| *x = (*x * 0.9) as f32 as f64);
            r.params[4].iter_mut().for_each(|x| *x = (*x + 0.5) as f32 as f64);
            r
        };
        let calls = [
            (long.clone(), 1),
            (long.clone(), 1),
            (short.clone(), 1),
            (moved(&short, 1.0), 2),
            (moved(&long, 1.0), 2),
            (moved(&short, 0.5), 2),
            (moved(&long, 0.5), 2),
            (moved(&long, 1.0), 2),
        ];
        let mut plan = be.ssm_plan(&case.spec).unwrap();
        for (i, (call, version)) in calls.iter().enumerate() {
            let (got, want) = (outputs_with_plan(&be, call, &mut plan, *version), outputs_of(&be, call));
            assert!(got == want, "{}, call {i}", case.name);
        }
    }
}

/// Forward keeps states for the backward that follows it. Another forward in between, of other sequences or by another path, changes
/// nothing.
#[test]
fn backward_is_of_its_own_forward() {
    let cpu = Cpu::<f64>::new(0).unwrap();
    for (precision, tolerances) in
        [(Precision::Highest, (1e-5, 1e-4)), (Precision::High, (2e-3, 5e-3)), (Precision::Bf16, (1e-2, 5e-2))]
    {
        let Some(be) = gpu_with(precision) else { return };
        let mut report = Report::default();
        for case in cases().iter().filter(|c| c.name == "dplr_legs_n64") {
            for bidirectional in [false, true] {
                let mut case = case.clone();
                case.spec.bidirectional = bidirectional;
                if bidirectional {
                    // The same C for both directions.
                    let c = case.params[4].clone();
                    case.params[4].extend(c);
                }
                let r = run(&case, 20, 300);
                let want = outputs_of(&cpu, &r);
                let mut others = vec![Run { seed: 8, ..r.clone() }, run(&case, 7, 300), run(&case, 20, 132)];
                others.extend((!bidirectional).then(|| Run { states: true, ..r.clone() }));
                others.push(run(&case, 20, 301));
                for (i, other) in others.iter().enumerate() {
                    let mut plan = be.ssm_plan(&case.spec).unwrap();
                    let got = outputs_around(&be, &r, &mut plan, 1, |plan| {
                        outputs_with_plan(&be, other, plan, 1);
                    });
                    for ((name, got), (_, want)) in got.iter().zip(&want) {
                        let run = format!("{precision:?} two-sided {bidirectional}, other {i}");
                        check(&mut report, &run, (name, got, want), tolerances);
                    }
                }
            }
        }
        report.finish(&format!("backward after another forward, {precision:?}"));
    }
}

/// A forward that keeps no states leaves those of another in the same saved values: its backward does not take them for its own.
#[test]
fn states_of_another_forward_are_not_taken() {
    if let Some(be) = gpu_with(Precision::High) {
        states_of_another_forward(&be);
    }
}

/// A backward pass whose forward was not the last one that has written its saved values: it computes the states again.
pub fn states_of_another_forward(be: &Cuda) {
    let case = cases().into_iter().find(|c| c.name == "dplr_legs_n64").unwrap();
    let r = run(&case, 20, 300);
    let want = outputs_of(&Cpu::<f64>::new(0).unwrap(), &r);
    let elements = r.batch * r.spec.heads * r.len;
    let (mut plan, mut ws) = (be.ssm_plan(&r.spec).unwrap(), be.workspace());
    let p = r.params.each_ref().map(|x| up(be, x));
    let [other, u] = [8, r.seed].map(|seed| up(be, &noise(seed, 1, elements)));
    let dy = up(be, &noise(r.seed, 2, elements));
    let options = CallOptions { algorithm: Algorithm::Chunk, ..CallOptions::default() };
    let call = SsmCall { spec: r.spec, batch: r.batch, len: r.len, options, version: 1 };
    let mut saved = be.alloc(be.ssm_saved_len(&call)).unwrap();
    let (mut y, mut du) = (be.alloc(elements).unwrap(), be.alloc(elements).unwrap());
    let mut end = be.alloc(r.spec.state_len(r.batch)).unwrap();
    // With the end state wanted, another path computes it.
    for (u, wants_end) in [(&other, false), (&u, true)] {
        let forward = SsmForward {
            y: full(be, &mut y),
            state_end: wants_end.then(|| full(be, &mut end)),
            saved: Some(full(be, &mut saved)),
            u: all(be, u),
            state0: None,
            params: params(be, &p),
            call,
        };
        be.ssm_forward(forward, &mut plan, &mut ws).unwrap();
    }
    let mut g = r.params.each_ref().map(|x| be.alloc(x.len()).unwrap());
    let backward = SsmBackward {
        du: Some(full(be, &mut du)),
        dstate0: None,
        grads: grads(be, &mut g),
        dy: all(be, &dy),
        dstate_end: None,
        u: all(be, &u),
        state0: None,
        saved: all(be, &saved),
        params: params(be, &p),
        call,
    };
    be.ssm_backward(backward, &mut plan, &mut ws).unwrap();
    let mut report = Report::default();
    for ((name, want), got) in want.iter().skip(1).zip([&du].into_iter().chain(&g)) {
        check(&mut report, "one saved buffer", (name, &down(be, got), want), (2e-3, 5e-3));
    }
    report.finish("states of another forward");
}

#[test]
fn a_plan_is_of_one_layer() {
    let Some(be) = gpu() else { return };
    let all = cases();
    let (one, other) = (&all[0], all.iter().find(|c| c.spec != all[0].spec).unwrap());
    let mut plan = be.ssm_plan(&other.spec).unwrap();
    let n = 2 * one.spec.heads * 70;
    let u = be.alloc(n).unwrap();
    let mut y = be.alloc(2 * one.spec.outputs() * 70).unwrap();
    let p = one.params.each_ref().map(|x| up(&be, x));
    let options = CallOptions { algorithm: Algorithm::Chunk, ..CallOptions::default() };
    let call = SsmCall { spec: one.spec, batch: 2, len: 70, options, version: 1 };
    let len = be.len(&y);
    let args = SsmForward {
        y: be.view_mut(&mut y, 0..len),
        state_end: None,
        saved: None,
        u: be.view(&u, 0..n),
        state0: None,
        params: params(&be, &p),
        call,
    };
    let error = be.ssm_forward(args, &mut plan, &mut be.workspace()).unwrap_err();
    assert_eq!(error.code, Code::Value);
}

#[test]
fn both_algorithms_mean_the_same() {
    let Some(be) = gpu() else { return };
    let cpu = Cpu::<f64>::new(0).unwrap();
    let mut report = Report::default();
    for case in cases() {
        let bilinear = case.spec.discretization == Discretization::Bilinear;
        let algorithms = if bilinear { &[Algorithm::Fft, Algorithm::Cauchy][..] } else { &[Algorithm::Fft] };
        for len in [1, 65, 300] {
            let mut r = run(&case, 3, len);
            r.lengths = (len == 300).then(|| vec![300, 17, 128]);
            let want = outputs_of(&cpu, &r);
            for &algorithm in algorithms {
                r.algorithm = algorithm;
                let name = format!("{} {algorithm} {len}", case.name);
                compare(&mut report, &name, &outputs_of(&be, &r), &want);
            }
        }
    }
    report.finish("fft and cauchy");
}

#[test]
fn long_rows_by_fft() {
    let Some(be) = gpu() else { return };
    let cpu = Cpu::<f64>::new(0).unwrap();
    let mut report = Report::default();
    let case = cases().into_iter().find(|c| c.name == "dplr_legs_n64").unwrap();
    // Transforms of 8,192 to 524,288 points: every number of passes over rows and columns.
    for len in [3000, 6000, 20_000, 40_000, 70_001, 140_000] {
        let mut r = run(&case, 3, len);
        let want = outputs_of(&cpu, &r);
        r.algorithm = Algorithm::Fft;
        compare(&mut report, &format!("fft {len}"), &outputs_of(&be, &r), &want);
    }
    report.finish("long fft");
}

#[test]
fn the_same_bits_twice() {
    let Some(be) = gpu() else { return };
    for case in cases().iter().take(4) {
        let mut r = run(case, 3, 500);
        r.states = !case.spec.bidirectional;
        assert_eq!(outputs_of(&be, &r), outputs_of(&be, &r), "{}", case.name);
    }
}

/// The case with twice the state: its modes, and the same modes shifted.
pub fn doubled(case: &golden::Case) -> golden::Case {
    let mut wide = case.clone();
    let pairs = case.spec.pairs();
    wide.spec.state *= 2;
    for (i, p) in wide.params.iter_mut().enumerate() {
        let row = match i {
            0 if case.spec.dt_per_state => pairs,
            1 | 2 => pairs,
            3..=5 => 2 * pairs,
            _ => continue,
        };
        let moved = |x: &f64| (0.7 * x) as f32 as f64;
        *p = p.chunks(row).flat_map(|r| r.iter().copied().chain(r.iter().map(moved))).collect();
    }
    wide
}

/// A two-sided layer of rank two with a state of 64: the operands of its pass are made of matrices in memory.
fn two_sided_of_rank_two() -> golden::Case {
    let rank_two = |c: &golden::Case| {
        c.spec.rank == 2 && c.spec.channels == 1 && !c.spec.bidirectional && !c.is_near_marginal()
    };
    let mut case = cases().into_iter().find(rank_two).unwrap();
    while case.spec.state < 64 {
        case = doubled(&case);
    }
    assert_eq!(case.spec.state, 64);
    case.spec.bidirectional = true;
    let c = case.params[4].clone();
    case.params[4].extend(c);
    case
}

/// Which of the small shapes run.
#[derive(Clone, Copy, PartialEq)]
pub enum Depth {
    All,
    /// Long sequences and the FFT for plain layers alone.
    Each,
    /// Plain layers alone (S4 of rank 1 with one channel and one step size a head, a state of at most 64), of several sequences.
    Plain,
}

fn plain(s: &SsmSpec) -> bool {
    s.mode == Mode::S4 && s.rank == 1 && s.channels == 1 && !s.dt_per_state
}

/// One case of each kind at shapes small enough for a sanitizer: whole, with lengths, in segments, step by step.
pub fn small_shapes(be: &Cuda, precision: Precision, depth: Depth) {
    let cpu = Cpu::<f64>::new(0).unwrap();
    let mut report = Report::default();
    let (mut seen, mut more) = (Vec::new(), Vec::new());
    for case in cases() {
        let s = &case.spec;
        let kind = (s.mode, s.rank, s.bidirectional, s.channels, s.dt_per_state, s.state > 32);
        if seen.contains(&kind) || s.truncate.is_some() {
            continue;
        }
        // A state of more than 64, and several outputs of one of more than 32.
        if case.name == "dplr_legs_n64" {
            more.push(doubled(&case));
        } else if s.channels > 1 && s.mode == Mode::S4 && !s.bidirectional {
            let mut wide = doubled(&case);
            while wide.spec.state <= 32 {
                wide = doubled(&wide);
            }
            more.push(wide);
        } else if s.channels == 1 && s.bidirectional {
            // Two-sided, a state of 64.
            let mut wide = doubled(&case);
            while wide.spec.state < 64 {
                wide = doubled(&wide);
            }
            assert_eq!(wide.spec.state, 64);
            more.push(wide);
        }
        seen.push(kind);
        if depth != Depth::Plain || plain(s) {
            small(be, &cpu, &mut report, &case, precision, depth);
        }
    }
    more.push(two_sided_of_rank_two());
    assert!(
        more.iter().any(|c| c.spec.state > 64)
            && more.iter().any(|c| c.spec.state == 64 && c.spec.bidirectional)
            && more.iter().any(|c| c.spec.channels > 1 && c.spec.state > 32)
    );
    for case in more {
        if depth != Depth::Plain || plain(&case.spec) && case.spec.state <= 64 {
            small(be, &cpu, &mut report, &case, precision, depth);
        }
    }
    report.finish(&format!("small shapes, {precision:?}"));
}

fn small(
    be: &Cuda,
    cpu: &Cpu<f64>,
    report: &mut Report,
    case: &golden::Case,
    precision: Precision,
    depth: Depth,
) {
    let deep = depth == Depth::All || plain(&case.spec);
    let (value, gradient) = match precision {
        Precision::Highest => (1e-5, 1e-4),
        Precision::High => (2e-3, 5e-3),
        Precision::Bf16 => (1e-2, 5e-2),
    };
    let mut both = |r: &Run, name: &str| {
        for ((n, got), (_, want)) in outputs_of(be, r).iter().zip(&outputs_of(cpu, r)) {
            check(report, &format!("{} small {name}", case.name), (n, got, want), (value, gradient));
        }
    };
    let algorithms = if deep && depth != Depth::Plain { 2 } else { 1 };
    for algorithm in [Algorithm::Chunk, Algorithm::Fft].into_iter().take(algorithms) {
        let mut r = run(case, 2, 130);
        r.algorithm = algorithm;
        r.lengths = Some(vec![130, 65]);
        r.states = !case.spec.bidirectional;
        both(&r, &format!("{algorithm:?}"));
    }
    if case.spec.channels == 1 && deep {
        // Cut into segments, one sequence and several; enough sequences and chunks for warpgroups and for sums in
        // parts.
        let few = if depth == Depth::Plain { 2 } else { 0 };
        for &(batch, len) in
            &[(1, 1100), (2, 1100), (12, 1100), (49, 400), (49, 64), (20, 60), (20, 4)][few..]
        {
            let mut r = run(case, batch, len);
            both(&r, &format!("{batch}×{len}"));
            if batch == 49 && case.spec.bidirectional {
                r.lengths = Some((0..49).map(|b| len as i32 * (400 - 8 * b - b % 5) / 400).collect());
                both(&r, "lengths of 49 rows");
            } else if batch == 49 && case.spec.state >= 64 {
                r.states = true;
                both(&r, "49 rows with states");
            }
        }
    }
    if !case.spec.bidirectional && precision == Precision::Highest {
        for (batch, own) in [(2, false), (2, true), (11, false)] {
            let (got, want) = (steps(be, case, batch, 3, own), steps(cpu, case, batch, 3, own));
            report.check(format!("{} small steps of {batch}", case.name), &got[0], &want[0], 1e-5);
        }
    }
}
