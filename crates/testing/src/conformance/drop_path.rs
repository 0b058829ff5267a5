//! Conformance tests of drop path.

use super::suite::{CaseLabel, OutputBuffer, Suite, into_array};
use s4_backend::{Backend, DropPath, random::DropKey};

impl<B: Backend> Suite<'_, B> {
    pub(super) fn drop_path(&mut self) {
        for (batch, elements) in self.cases(&[(1, 1), (7, 33), (50, 1001), (3, 40_000)], &[(1, 3), (9, 70)]) {
            for probability in [0.0, 0.1, 0.6] {
                for with_residual in [false, true] {
                    self.drop_path_case(batch, elements, probability, with_residual);
                }
            }
        }
    }

    fn drop_path_case(&mut self, batch: usize, elements: usize, probability: f64, with_residual: bool) {
        let n = batch * elements;
        let (x, residual) = (self.normal(n), self.normal(if with_residual { n } else { 0 }));
        // Large numbers in every word of the key, which decides over the last sequences too.
        let key = DropKey { seed: 0x0123_4567_89ab_cdef, step: 0xfedc_ba98_7654_3210, site: 0x8003 };
        let factor = |b: usize| {
            let kept = key.draws(b as u64 / 4)[b % 4] >= DropKey::threshold(probability);
            if probability == 0.0 || kept { 1.0 / (1.0 - probability) } else { 0.0 }
        };
        let want: Vec<f64> =
            (0..n).map(|i| factor(i / elements) * x[i] + residual.get(i).copied().unwrap_or(0.0)).collect();
        let case = format!("batch={batch} elements={elements} p={probability} residual={with_residual}");
        let label = CaseLabel { operation: "drop_path", case: &case };
        let (backend, ins) = (self.backend, [&x[..], &residual]);
        if want.iter().all(|&y| y == 0.0) {
            // One sequence alone that is dropped: zeros are the truth.
            let outs = [OutputBuffer::Overwritten(n)];
            let got = self.outputs_of(label, &ins, &[], &outs, &mut |a, _| {
                let ([y], [x, _]) = (into_array(a.outs), into_array(a.ins));
                backend.drop_path(DropPath { y, x, residual: None, probability, key, batch, elements })
            });
            return got.iter().for_each(|got| self.check_exact(label, "y", &got[0], &want));
        }
        self.check_forward(label, &ins, &[], &[("y", &want)], &mut |a, _| {
            let ([y], [x, residual]) = (into_array(a.outs), into_array(a.ins));
            let residual = with_residual.then_some(residual);
            backend.drop_path(DropPath { y, x, residual, probability, key, batch, elements })
        });
    }
}
