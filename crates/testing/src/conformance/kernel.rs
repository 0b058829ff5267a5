//! The convolution kernel of an SSM.

use super::{
    ssm::params,
    suite::{At, Suite, take},
};
use crate::{layer::layers, truth};
use s4_backend::{Backend, KernelForward};

impl<B: Backend> Suite<'_, B> {
    pub(super) fn kernel(&mut self) {
        let lens = self.cases(&[1, 7, 63, 64, 65, 130, 1047], &[1, 65]);
        for layer in layers() {
            for &len in &lens {
                let (be, spec, rate) = (self.be, layer.spec, layer.rate);
                let case = format!("{}, {len}", layer.name);
                let at = At { operation: "kernel_forward", case: &case };
                let ins = layer.values.each_ref().map(|v| &v[..]);
                self.forward(at, &ins, &[], &[("kernel", &truth::kernel(&layer, len))], &mut |a, ws| {
                    let ([kernel], params) = (take(a.outs), params(take(a.ins)));
                    be.kernel_forward(KernelForward { kernel, params, spec, len, rate }, ws)
                });
            }
        }
    }
}
