//! One SSM layer with its arrays.

use crate::tools::{noise, whole_mut};
use s4_backend::*;
use s4_cuda::{Buf, Cuda};

/// One layer with its arrays: 2²⁶ elements where the length divides that.
pub struct Layer {
    pub spec: SsmSpec,
    batch: usize,
    len: usize,
    pub params: [Buf; 7],
    pub grads: [Buf; 7],
    pub u: Buf,
    dy: Buf,
    pub y: Buf,
    du: Buf,
    saved: Buf,
    plan: s4_cuda::SsmPlan,
    version: u64,
}

impl Layer {
    pub fn new(
        be: &Cuda,
        mode: Mode,
        (batch, heads, len): (usize, usize, usize),
        bidirectional: bool,
    ) -> Layer {
        let spec = SsmSpec {
            mode,
            heads,
            state: 64,
            n_ssm: 1,
            rank: (mode == Mode::S4) as usize,
            channels: 1,
            bidirectional,
            dt_per_state: false,
            discretization: if mode == Mode::S4 { Discretization::Bilinear } else { Discretization::Zoh },
            dt_transform: Transform::Exp,
            real_transform: Transform::Exp,
            imag_transform: Transform::Exp,
            truncate: None,
        };
        let put = |x: &[f32]| {
            let mut b = be.alloc(x.len()).expect("memory");
            be.upload(be.view_mut(&mut b, 0..x.len()), x).expect("upload");
            b
        };
        let pairs = spec.pairs();
        let dt: Vec<f32> = (0..heads).map(|h| (0.001f32.ln()) + 4.6 * h as f32 / heads as f32).collect();
        let re = vec![0.5f32.ln(); pairs];
        let im: Vec<f32> = (0..pairs).map(|n| (3.1 * (n as f32 + 0.5)).ln()).collect();
        let b: Vec<f32> =
            (0..2 * pairs).map(|n| if n % 2 == 0 { (n as f32 + 1.0).sqrt() } else { 0.0 }).collect();
        let p: Vec<f32> =
            (0..spec.p_len()).map(|n| if n % 2 == 0 { (n as f32 / 2.0 + 0.5).sqrt() } else { 0.0 }).collect();
        let params = [
            put(&dt),
            put(&re),
            put(&im),
            put(&b),
            noise(be, spec.c_len(), 1.0),
            put(&p),
            noise(be, heads, 1.0),
        ];
        let grads = params.each_ref().map(|x| be.alloc(be.len(x)).expect("memory"));
        let n = batch * heads * len;
        let empty = || be.alloc(n).expect("memory");
        let plan = be.ssm_plan(&spec).expect("plan");
        let (u, dy) = (noise(be, n, 1.0), noise(be, n, 1.0));
        let mut l = Layer {
            spec,
            batch,
            len,
            params,
            grads,
            u,
            dy,
            y: empty(),
            du: empty(),
            saved: empty(),
            plan,
            version: 0,
        };
        let saved = be.ssm_saved_len(&l.call(Algorithm::Chunk));
        l.saved = be.alloc(saved).expect("memory");
        l
    }

    fn call(&self, algorithm: Algorithm) -> SsmCall<'static, Cuda> {
        let options = CallOptions { algorithm, ..CallOptions::default() };
        SsmCall { spec: self.spec, batch: self.batch, len: self.len, options, version: self.version }
    }

    pub fn views<'a>(be: &Cuda, params: &'a [Buf; 7]) -> SsmParams<'a, Cuda> {
        let [inv_dt, a_real, a_imag, b, c, p, d] = params.each_ref().map(|x| be.view(x, 0..be.len(x)));
        SsmParams { inv_dt, a_real, a_imag, b, c, p, d }
    }

    pub fn gradient_views<'a>(be: &Cuda, grads: &'a mut [Buf; 7]) -> SsmGrads<'a, Cuda> {
        let [inv_dt, a_real, a_imag, b, c, p, d] = grads.each_mut().map(|g| whole_mut(be, g));
        SsmGrads { inv_dt, a_real, a_imag, b, c, p, d }
    }

    /// `fresh`: parameters are taken to have changed since the last call.
    pub fn forward(&mut self, be: &Cuda, algorithm: Algorithm, fresh: bool) {
        self.version += fresh as u64;
        let call = self.call(algorithm);
        let saved = be.ssm_saved_len(&call);
        let args = SsmForward {
            y: whole_mut(be, &mut self.y),
            state_end: None,
            saved: Some(be.view_mut(&mut self.saved, 0..saved)),
            u: be.view(&self.u, 0..be.len(&self.u)),
            state0: None,
            params: Self::views(be, &self.params),
            call,
        };
        be.ssm_forward(args, &mut self.plan, &mut be.workspace()).expect("forward");
    }

    /// Forward alone, which keeps the matrices while parameters stay the same.
    pub fn infer(&mut self, be: &Cuda) {
        let call = self.call(Algorithm::Chunk);
        let args = SsmForward {
            y: whole_mut(be, &mut self.y),
            state_end: None,
            saved: None,
            u: be.view(&self.u, 0..be.len(&self.u)),
            state0: None,
            params: Self::views(be, &self.params),
            call,
        };
        be.ssm_forward(args, &mut self.plan, &mut be.workspace()).expect("forward");
    }

    pub fn backward(&mut self, be: &Cuda, algorithm: Algorithm) {
        let (call, n) = (self.call(algorithm), be.len(&self.u));
        let saved = be.ssm_saved_len(&call);
        let args = SsmBackward {
            du: Some(whole_mut(be, &mut self.du)),
            dstate0: None,
            grads: Self::gradient_views(be, &mut self.grads),
            dy: be.view(&self.dy, 0..n),
            dstate_end: None,
            u: be.view(&self.u, 0..n),
            state0: None,
            saved: be.view(&self.saved, 0..saved),
            params: Self::views(be, &self.params),
            call,
        };
        be.ssm_backward(args, &mut self.plan, &mut be.workspace()).expect("backward");
    }
}
