//! Conformance tests of the SSM on whole sequences, by every algorithm, forward and backward.

use super::{
    Extent,
    suite::{CaseLabel, OutputBuffer, Suite, added_part, into_array},
};
use crate::{
    intervals::{self, random_intervals},
    layer::{Call, Layer, PARAMETERS, layers},
    truth::{self, Gradients},
};
use s4_backend::{
    Algorithm, Backend, CallOptions, Code, Discretization, Memory, SsmBackward, SsmCall, SsmForward,
    SsmGrads, SsmParams,
};

/// The seven parameters in the order of a layer's values.
pub(super) fn params<'a, B: Memory>(values: [B::Ref<'a>; 7]) -> SsmParams<'a, B> {
    let [inv_dt, a_real, a_imag, b, c, p, d] = values;
    SsmParams { inv_dt, a_real, a_imag, b, c, p, d }
}

/// Sizes of a call: (batch, len, whether sequences have lengths of their own, whether there are states before and
/// after).
type CallSizes = (usize, usize, bool, bool);

const ALL_SIZES: [CallSizes; 9] = [
    (1, 1, false, true),
    (3, 7, true, true),
    (2, 7, false, false),
    (2, 63, false, true),
    (3, 64, true, true),
    (2, 65, true, false),
    (5, 130, true, true),
    (2, 130, false, true),
    (1, 1047, false, true),
];

/// Sizes of calls whose time steps have intervals of their own.
const UNEVEN_SIZES: [CallSizes; 7] = [
    (1, 1, false, true),
    (3, 7, true, true),
    (2, 64, false, true),
    (2, 65, true, false),
    (3, 130, true, true),
    (34, 3, true, true),
    // In segments, on CUDA.
    (2, 290, true, true),
];

/// A layer, a call of it, and the true outputs and gradients.
struct CaseWithTruth<'a> {
    layer: &'a Layer,
    call: Call,
    lengths: Option<Vec<i32>>,
    /// (batch, len)
    intervals: Option<Vec<f64>>,
    y: Vec<f64>,
    state_end: Option<Vec<f64>>,
    gradients: Gradients,
}

impl<'a> CaseWithTruth<'a> {
    fn new(layer: &'a Layer, (batch, len, own_lengths, states): CallSizes, uneven: bool) -> Self {
        let mut call = Call::new(layer, batch, len, own_lengths);
        if !states {
            (call.state0, call.dstate_end) = (None, None);
        }
        let lengths = call.lengths.as_ref().map(|l| l.iter().map(|&n| n as i32).collect());
        let intervals = uneven.then(|| random_intervals(batch, len));
        let (y, state_end) = match &intervals {
            Some(intervals) => intervals::forward(layer, &call, intervals),
            None => truth::forward(layer, &call),
        };
        let gradients = match &intervals {
            Some(intervals) => intervals::gradients(layer, &call, intervals),
            None => truth::gradients(layer, &call),
        };
        CaseWithTruth { layer, call, lengths, intervals, y, state_end, gradients }
    }

    /// Whether the call has a state before its first and after its last time step.
    fn states(&self) -> bool {
        self.call.state0.is_some()
    }

    fn lengths_as_ints(&self) -> Vec<&[i32]> {
        self.lengths.iter().map(|l| &l[..]).collect()
    }

    /// The arrays u, dy, state0, dstate_end and the parameters; empty where there is no state.
    fn input_arrays(&self) -> Vec<&[f64]> {
        let Call { u, dy, state0, dstate_end, .. } = &self.call;
        let [state0, dstate_end] = [state0, dstate_end].map(|s| s.as_deref().unwrap_or(&[]));
        let first = [&u[..], dy, state0, dstate_end];
        first.into_iter().chain(self.layer.values.iter().map(|v| &v[..])).collect()
    }

    fn call<'i, B: Memory>(
        &self,
        algorithm: Algorithm,
        (lengths_as_ints, buffers): (&'i [B::Ints], &'i [B::Buf]),
    ) -> SsmCall<'i, B> {
        let options = CallOptions {
            lengths: lengths_as_ints.first(),
            intervals: buffers.first(),
            rate: self.layer.rate,
            algorithm,
            training: false,
        };
        let Call { batch, len, .. } = self.call;
        SsmCall { spec: self.layer.spec, batch, len, options, version: 1 }
    }
}

impl<B: Backend> Suite<'_, B> {
    pub(super) fn ssm(&mut self) {
        let few = ["s4, Δ per state, rank 2", "s4, two-sided, 2 channels, rank 2", "s4d", "s4, truncated"];
        for layer in layers() {
            if self.extent == Extent::Few && !few.contains(&&layer.name[..]) {
                continue;
            }
            for shape in self.cases(&ALL_SIZES, &[(3, 7, true, true), (2, 65, true, false)]) {
                let truth = CaseWithTruth::new(&layer, shape, false);
                for &algorithm in Algorithm::ALL {
                    self.ssm_case(&truth, algorithm);
                }
            }
            if layer.spec.truncate.is_some() {
                self.intervals_are_refused(&layer);
                continue;
            }
            for shape in self.cases(&UNEVEN_SIZES, &[(3, 7, true, true), (2, 65, true, false)]) {
                self.ssm_case(&CaseWithTruth::new(&layer, shape, true), Algorithm::Auto);
            }
        }
        self.whole_buffers.clear();
    }

    fn ssm_case(&mut self, truth: &CaseWithTruth<'_>, algorithm: Algorithm) {
        let Call { batch, len, ref lengths, .. } = truth.call;
        let layer = truth.layer;
        let case = format!(
            "'{algorithm}', {}, batch {batch}, len {len}, lengths {lengths:?}, states {}{}",
            layer.name,
            truth.states(),
            if truth.intervals.is_some() { ", with intervals" } else { "" }
        );
        self.whole_buffers = truth.intervals.iter().cloned().collect();
        let label = CaseLabel { operation: "ssm_forward", case: &case };
        let mut plan = match self.backend.ssm_plan(&layer.spec) {
            Ok(plan) => plan,
            Err(error) => return self.record_failure(label, &error.to_string()),
        };
        // Some layers must be refused by 'chunk' and 'cauchy'.
        let call = truth.call::<B>(algorithm, (&[], &[]));
        let must_refuse = match algorithm {
            Algorithm::Chunk => call.is_truncated(),
            Algorithm::Cauchy => layer.spec.discretization != Discretization::Bilinear,
            _ => false,
        };
        let forward = self.ssm_forward_case(truth, algorithm, false, &mut plan);
        match forward {
            Err(error) if error.code == Code::Unsupported && must_refuse => {
                return self.check_holds(label, "refusal", true);
            }
            Ok(_) if must_refuse => return self.check_holds(label, "refusal", false),
            Err(error) => return self.record_failure(label, &error.to_string()),
            Ok([y, state_end, _]) => self.ssm_outputs(label, truth, &y, &state_end),
        }
        match self.ssm_forward_case(truth, algorithm, true, &mut plan) {
            Err(error) => self.record_failure(label, &error.to_string()),
            Ok([y, state_end, saved]) => {
                self.ssm_outputs(label, truth, &y, &state_end);
                let first = self.report.comparisons.len();
                let backward_label = CaseLabel { operation: "ssm_backward", ..label };
                self.ssm_backward_case(backward_label, truth, algorithm, &saved, &mut plan);
                self.check_saved(label, &saved, first);
            }
        }
    }

    /// A truncated kernel counts samples, which with intervals have no common one.
    fn intervals_are_refused(&mut self, layer: &Layer) {
        let label = CaseLabel { operation: "ssm_forward", case: &format!("{}, with intervals", layer.name) };
        let refused = self.backend.check_intervals(label.operation, &layer.spec);
        self.check_holds(label, "refusal", refused.is_err_and(|error| error.code == Code::Unsupported));
    }

    fn ssm_outputs(&mut self, label: CaseLabel<'_>, truth: &CaseWithTruth<'_>, y: &[f64], state_end: &[f64]) {
        self.check_output(label, "y", y, &truth.y);
        if let (true, Some(want)) = (truth.states(), &truth.state_end) {
            self.check_output(label, "state_end", state_end, want);
        }
    }

    /// Runs forward: y, the end state (empty without states), the saved values (empty unless `saves`).
    fn ssm_forward_case(
        &mut self,
        truth: &CaseWithTruth<'_>,
        algorithm: Algorithm,
        saves: bool,
        plan: &mut B::SsmPlan,
    ) -> s4_backend::Result<[Vec<f64>; 3]> {
        let (backend, states) = (self.backend, truth.states());
        let state_len = if states { truth.layer.spec.state_len(truth.call.batch) } else { 0 };
        let mut saved_len = 0;
        if saves {
            // How much is saved may depend on the lengths of the sequences.
            let lengths_as_ints: Vec<B::Ints> =
                truth.lengths_as_ints().into_iter().map(|l| self.upload_ints(l)).collect();
            let buffers: Vec<B::Buf> = truth.intervals.iter().map(|x| self.upload(x)).collect();
            saved_len = backend.ssm_saved_len(&truth.call(algorithm, (&lengths_as_ints, &buffers)));
        }
        let outs = [
            OutputBuffer::Overwritten(truth.y.len()),
            OutputBuffer::Overwritten(state_len),
            OutputBuffer::Overwritten(saved_len),
        ];
        let got =
            self.run_twice(&truth.input_arrays(), &truth.lengths_as_ints(), &outs, &mut |a, workspace| {
                let ([y, state_end, saved], [u, _, state0, _, p @ ..]) =
                    (into_array(a.outs), into_array::<11, _>(a.ins));
                let args = SsmForward {
                    y,
                    state_end: states.then_some(state_end),
                    saved: saves.then_some(saved),
                    u,
                    state0: states.then_some(state0),
                    params: params(p),
                    call: truth.call(algorithm, (a.ints, a.buffers)),
                };
                backend.ssm_forward(args, plan, workspace)
            });
        got.map(into_array)
    }

    fn ssm_backward_case(
        &mut self,
        label: CaseLabel<'_>,
        truth: &CaseWithTruth<'_>,
        algorithm: Algorithm,
        saved: &[f64],
        plan: &mut B::SsmPlan,
    ) {
        let (backend, states, want) = (self.backend, truth.states(), &truth.gradients);
        let mut input_arrays = truth.input_arrays();
        input_arrays.push(saved);
        let before = want.params.each_ref().map(|g| self.initial_gradient_like(g));
        let state_len = if states { truth.layer.spec.state_len(truth.call.batch) } else { 0 };
        // The gradients of the parameters must be the same whether du is asked for or not.
        for with_du in [true, false] {
            let mut outs = vec![
                OutputBuffer::Overwritten(if with_du { want.du.len() } else { 0 }),
                OutputBuffer::Overwritten(state_len),
            ];
            outs.extend(before.iter().map(|g| OutputBuffer::AddedTo(g)));
            let got = self.outputs_of(
                label,
                &input_arrays,
                &truth.lengths_as_ints(),
                &outs,
                &mut |a, workspace| {
                    let [du, dstate0, inv_dt, a_real, a_imag, b, c, p, d] = into_array(a.outs);
                    let [u, dy, state0, dstate_end, params @ .., saved] = into_array::<12, _>(a.ins);
                    let args = SsmBackward {
                        du: with_du.then_some(du),
                        dstate0: states.then_some(dstate0),
                        grads: SsmGrads { inv_dt, a_real, a_imag, b, c, p, d },
                        dy,
                        dstate_end: states.then_some(dstate_end),
                        u,
                        state0: states.then_some(state0),
                        saved,
                        params: self::params(params),
                        call: truth.call(algorithm, (a.ints, a.buffers)),
                    };
                    backend.ssm_backward(args, plan, workspace)
                },
            );
            let Some(got) = got else { return };
            if with_du {
                self.check_gradient(label, "du", &got[0], &want.du);
            }
            if let (true, Some(want)) = (states, &want.dstate0) {
                self.check_gradient(label, "dstate0", &got[1], want);
            }
            for (i, name) in PARAMETERS.iter().enumerate().filter(|&(i, _)| !before[i].is_empty()) {
                let got = added_part(&got[2 + i], &before[i]);
                self.check_gradient(label, &format!("grads.{name}"), &got, &want.params[i]);
            }
        }
    }
}
