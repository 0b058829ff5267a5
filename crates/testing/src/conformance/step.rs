//! Conformance tests of the recurrence, one time step per call.

use super::{
    ssm::params,
    suite::{CaseLabel, OutputBuffer, Suite, into_array},
};
use crate::{
    layer::{Layer, layers},
    truth,
};
use s4_backend::{Backend, Code, SsmStep, SsmSteps};

/// Time steps of more sequences than go through a head together.
const MANY: [usize; 80] = {
    let mut lens = [0; 80];
    let mut i = 0;
    while i < lens.len() {
        lens[i] = (7 * i + 3) % 20;
        i += 1;
    }
    lens
};

impl<B: Backend> Suite<'_, B> {
    pub(super) fn step(&mut self) {
        for layer in layers() {
            if !layer.spec.has_state() {
                self.step_is_refused(&layer);
                continue;
            }
            for batch in self.cases(&[1, 3, 21], &[3]) {
                for own_intervals in [false, true] {
                    self.step_case(&layer, batch, own_intervals);
                }
            }
            // Fewer and more than a block of time steps, one alone, none, many sequences.
            let all: [&'static [usize]; 4] = [&[1], &[40, 0, 3, 17], &[16, 16, 16], &MANY];
            for lens in self.cases(&all, &[&[2, 0, 19]]) {
                self.steps_case(&layer, lens);
            }
        }
    }

    fn step_case(&mut self, layer: &Layer, batch: usize, own_intervals: bool) {
        let (backend, spec, rate) = (self.backend, layer.spec, layer.rate);
        let case = format!("{}, batch {batch}, own intervals {own_intervals}", layer.name);
        let label = CaseLabel { operation: "ssm_step", case: &case };
        let (u, state) = (self.normal(batch * spec.heads), self.normal(spec.state_len(batch)));
        let intervals: Vec<f64> = (0..batch).map(|b| 0.25 * (1 + 3 * b % 8) as f64).collect();
        let (y, next) = truth::step(layer, &u, &state, own_intervals.then_some(&intervals[..]));
        let [inv_dt, a_real, a_imag, b, c, p, d] = layer.values.each_ref().map(|v| &v[..]);
        let ins = [&u[..], &intervals, inv_dt, a_real, a_imag, b, c, p, d];
        let mut plan = match backend.step_plan(&spec) {
            Ok(plan) => plan,
            Err(error) => return self.record_failure(label, &error.to_string()),
        };
        let outs = [OutputBuffer::Overwritten(y.len()), OutputBuffer::AddedTo(&state)];
        let got = self.outputs_of(label, &ins, &[], &outs, &mut |a, workspace| {
            let ([y, state], [u, interval, p @ ..]) = (into_array(a.outs), into_array::<9, _>(a.ins));
            let (interval, params) = (own_intervals.then_some(interval), params(p));
            let args = SsmStep { y, state, u, interval, params, spec, batch, rate, version: 1 };
            backend.ssm_step(args, &mut plan, workspace)
        });
        if let Some(got) = got {
            self.check_output(label, "y", &got[0], &y);
            self.check_output(label, "state", &got[1], &next);
        }
    }

    fn steps_case(&mut self, layer: &Layer, lens: &'static [usize]) {
        let (backend, spec, rate) = (self.backend, layer.spec, layer.rate);
        let case = format!("{}, {lens:?} time steps", layer.name);
        let label = CaseLabel { operation: "ssm_steps", case: &case };
        let (steps, batch, size) = (lens.iter().sum::<usize>(), lens.len(), spec.state_len(1));
        let (u, state0) = (self.normal(steps * spec.heads), self.normal(spec.state_len(batch)));
        let (mut y, mut ends) = (Vec::new(), Vec::new());
        let mut inputs = u.chunks_exact(spec.heads);
        for (&len, state0) in lens.iter().zip(state0.chunks_exact(size)) {
            let mut state = state0.to_vec();
            for u in inputs.by_ref().take(len) {
                let (out, next) = truth::step(layer, u, &state, None);
                y.extend(out);
                state = next;
            }
            ends.extend(state);
        }
        let [inv_dt, a_real, a_imag, b, c, p, d] = layer.values.each_ref().map(|v| &v[..]);
        let ins = [&u[..], &state0, inv_dt, a_real, a_imag, b, c, p, d];
        let mut plan = match backend.step_plan(&spec) {
            Ok(plan) => plan,
            Err(error) => return self.record_failure(label, &error.to_string()),
        };
        let outs = [OutputBuffer::Overwritten(y.len()), OutputBuffer::Overwritten(ends.len())];
        let got = self.outputs_of(label, &ins, &[], &outs, &mut |a, workspace| {
            let ([y, state_end], [u, state0, p @ ..]) = (into_array(a.outs), into_array::<9, _>(a.ins));
            let params = params(p);
            let args = SsmSteps { y, state_end, u, state0, lens, params, spec, rate, version: 1 };
            backend.ssm_steps(args, &mut plan, workspace)
        });
        if let Some(got) = got {
            self.check_output(label, "y", &got[0], &y);
            self.check_output(label, "state_end", &got[1], &ends);
        }
    }

    fn step_is_refused(&mut self, layer: &Layer) {
        let (backend, spec) = (self.backend, layer.spec);
        let label = CaseLabel { operation: "ssm_step", case: &layer.name };
        let [inv_dt, a_real, a_imag, b, c, p, d] = layer.values.each_ref().map(|v| &v[..]);
        let u = vec![0.0; spec.heads];
        let outs = [OutputBuffer::Overwritten(spec.outputs()), OutputBuffer::Overwritten(spec.state_len(1))];
        let refused = backend.step_plan(&spec).and_then(|mut plan| {
            self.run_twice(&[&u, inv_dt, a_real, a_imag, b, c, p, d], &[], &outs, &mut |a, workspace| {
                let ([y, state], [u, p @ ..]) = (into_array(a.outs), into_array::<8, _>(a.ins));
                let (params, interval) = (params(p), None);
                let args = SsmStep { y, state, u, interval, params, spec, batch: 1, rate: 1.0, version: 1 };
                backend.ssm_step(args, &mut plan, workspace)
            })
        });
        let unsupported = refused.is_err_and(|e| e.code == Code::Unsupported);
        self.check_holds(label, "refusal of a layer without a state", unsupported);
    }
}
