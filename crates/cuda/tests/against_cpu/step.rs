//! Single steps of the recurrence against the whole sequence, and against the CPU where every sequence has its own
//! interval.

use crate::{
    Report, gpu,
    layer::{down, params, up},
};
use s4_backend::*;
use s4_cpu::Cpu;
use s4_testing::{golden, noise};

/// Runs `len` time steps of `batch` sequences; gives y (len, batch, outputs) and the last state.
pub fn steps<B: Backend>(be: &B, case: &golden::Case, batch: usize, len: usize, own: bool) -> [Vec<f64>; 2] {
    let spec = &case.spec;
    let p = case.params.each_ref().map(|x| up(be, x));
    let mut plan = be.step_plan(spec).unwrap();
    let mut ws = be.workspace();
    let u = up(be, &noise(3, 1, len * batch * spec.heads));
    let mut state = up(be, &noise(3, 2, spec.state_len(batch)));
    let mut y = be.alloc(len * batch * spec.outputs()).unwrap();
    let gaps = noise(3, 5, len * batch).iter().map(|x| (0.3 * x).exp() as f32 as f64).collect::<Vec<_>>();
    let gaps = up(be, &gaps);
    let (ny, nu, ns) = (batch * spec.outputs(), batch * spec.heads, spec.state_len(batch));
    for t in 0..len {
        let args = SsmStep {
            y: be.view_mut(&mut y, t * ny..(t + 1) * ny),
            state: be.view_mut(&mut state, 0..ns),
            u: be.view(&u, t * nu..(t + 1) * nu),
            interval: own.then(|| be.view(&gaps, t * batch..(t + 1) * batch)),
            params: params(be, &p),
            spec: *spec,
            batch,
            rate: 1.25,
            version: 1,
        };
        be.ssm_step(args, &mut plan, &mut ws).unwrap();
    }
    [down(be, &y), down(be, &state)]
}

#[test]
fn steps_of_every_golden_layer() {
    let Some(be) = gpu() else { return };
    let cpu = Cpu::<f64>::new(1).unwrap();
    let mut report = Report::default();
    for mut case in golden::Case::all() {
        if case.spec.bidirectional {
            continue;
        }
        for x in case.params.iter_mut().flatten() {
            *x = *x as f32 as f64;
        }
        for (batch, own) in [(3, false), (3, true), (21, false)] {
            let (got, want) = (steps(&be, &case, batch, 90, own), steps(&cpu, &case, batch, 90, own));
            report.check(format!("{} {batch} y, intervals {own}", case.name), &got[0], &want[0], 1e-5);
            report.check(format!("{} {batch} state, intervals {own}", case.name), &got[1], &want[1], 1e-5);
        }
    }
    report.finish("step");
}
