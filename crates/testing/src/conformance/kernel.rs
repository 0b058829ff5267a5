//! Conformance tests of the convolution kernel of an SSM.

use super::{
    ssm::params,
    suite::{CaseLabel, Suite, into_array},
};
use crate::{layer::layers, truth};
use s4_backend::{Backend, KernelForward};

impl<B: Backend> Suite<'_, B> {
    pub(super) fn kernel(&mut self) {
        let lens = self.cases(&[1, 7, 63, 64, 65, 130, 1047], &[1, 65]);
        for layer in layers() {
            for &len in &lens {
                let (backend, spec, rate) = (self.backend, layer.spec, layer.rate);
                let case = format!("{}, {len}", layer.name);
                let label = CaseLabel { operation: "kernel_forward", case: &case };
                let ins = layer.values.each_ref().map(|v| &v[..]);
                self.check_forward(
                    label,
                    &ins,
                    &[],
                    &[("kernel", &truth::kernel(&layer, len))],
                    &mut |a, workspace| {
                        let ([kernel], params) = (into_array(a.outs), params(into_array(a.ins)));
                        backend.kernel_forward(KernelForward { kernel, params, spec, len, rate }, workspace)
                    },
                );
            }
        }
    }
}
