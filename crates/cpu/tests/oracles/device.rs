//! Calls of a backend with host values in and out.

use s4_backend::{
    Algorithm, CallOptions, KernelBackward, KernelForward, KernelOps, Memory, Scalar, SsmBackward, SsmCall,
    SsmForward, SsmGrads, SsmOps, SsmParams, SsmSpec, SsmStep, StepOps,
};
use s4_cpu::Cpu;
use s4_testing::layer::{Call, Layer};

/// Buffers of the seven parameters, or of their gradients.
pub struct Buffers<B: Memory>([B::Buf; 7]);

pub fn upload<B: Memory>(be: &B, values: &[f64]) -> B::Buf {
    let host: Vec<B::Scalar> = values.iter().map(|&x| B::Scalar::from_f64(x)).collect();
    let mut buf = be.alloc(host.len()).unwrap();
    be.upload(be.view_mut(&mut buf, 0..host.len()), &host).unwrap();
    buf
}

pub fn download<B: Memory>(be: &B, buf: &B::Buf) -> Vec<f64> {
    let mut host = vec![B::Scalar::from_f64(0.0); be.len(buf)];
    be.download(&mut host, whole(be, buf)).unwrap();
    host.into_iter().map(B::Scalar::to_f64).collect()
}

/// What an operation must overwrite.
pub fn spoiled<B: Memory>(be: &B, len: usize) -> B::Buf {
    upload(be, &vec![f64::NAN; len])
}

pub fn whole<'a, B: Memory>(be: &B, buf: &'a B::Buf) -> B::Ref<'a> {
    be.view(buf, 0..be.len(buf))
}

pub fn whole_mut<'a, B: Memory>(be: &B, buf: &'a mut B::Buf) -> B::Mut<'a> {
    let len = be.len(buf);
    be.view_mut(buf, 0..len)
}

impl<B: Memory> Buffers<B> {
    pub fn of(be: &B, layer: &Layer) -> Self {
        Buffers(std::array::from_fn(|i| upload(be, &layer.values[i])))
    }

    pub fn zeros(be: &B, layer: &Layer) -> Self {
        Buffers(std::array::from_fn(|i| be.alloc(layer.values[i].len()).unwrap()))
    }

    pub fn params<'a>(&'a self, be: &B) -> SsmParams<'a, B> {
        let [inv_dt, a_real, a_imag, b, c, p, d] = &self.0;
        SsmParams {
            inv_dt: whole(be, inv_dt),
            a_real: whole(be, a_real),
            a_imag: whole(be, a_imag),
            b: whole(be, b),
            c: whole(be, c),
            p: whole(be, p),
            d: whole(be, d),
        }
    }

    pub fn grads<'a>(&'a mut self, be: &B) -> SsmGrads<'a, B> {
        let [inv_dt, a_real, a_imag, b, c, p, d] = &mut self.0;
        SsmGrads {
            inv_dt: whole_mut(be, inv_dt),
            a_real: whole_mut(be, a_real),
            a_imag: whole_mut(be, a_imag),
            b: whole_mut(be, b),
            c: whole_mut(be, c),
            p: whole_mut(be, p),
            d: whole_mut(be, d),
        }
    }

    pub fn host(&self, be: &B) -> [Vec<f64>; 7] {
        std::array::from_fn(|i| download(be, &self.0[i]))
    }
}

pub fn kernel<B: KernelOps>(be: &B, layer: &Layer, len: usize) -> Vec<f64> {
    let params = Buffers::of(be, layer);
    let mut out = spoiled(be, layer.spec.kernel_channels() * layer.spec.heads * len);
    let mut ws = be.workspace();
    let (spec, rate) = (layer.spec, layer.rate);
    let (kernel, params) = (whole_mut(be, &mut out), params.params(be));
    be.kernel_forward(KernelForward { kernel, params, spec, len, rate }, &mut ws).unwrap();
    download(be, &out)
}

pub fn kernel_gradient<T: Scalar>(be: &Cpu<T>, layer: &Layer, len: usize, dkernel: &[f64]) -> [Vec<f64>; 7] {
    let (params, mut grads) = (Buffers::of(be, layer), Buffers::zeros(be, layer));
    let (dkernel, mut ws) = (upload(be, dkernel), be.workspace());
    let (spec, rate) = (layer.spec, layer.rate);
    let args = KernelBackward {
        grads: grads.grads(be),
        dkernel: whole(be, &dkernel),
        params: params.params(be),
        spec,
        len,
        rate,
    };
    be.kernel_backward(args, &mut ws).unwrap();
    grads.host(be)
}

/// What came out of forward and, after `repeats` > 0 backward passes, the gradients.
pub struct Outcome {
    pub y: Vec<f64>,
    pub state_end: Option<Vec<f64>>,
    pub du: Vec<f64>,
    pub dstate0: Option<Vec<f64>>,
    pub grads: [Vec<f64>; 7],
}

pub fn run<B: SsmOps>(be: &B, layer: &Layer, call: &Call, algorithm: Algorithm, repeats: usize) -> Outcome {
    let mut plan = be.ssm_plan(&layer.spec).unwrap();
    run_in(be, (&mut plan, 1), layer, call, algorithm, repeats)
}

/// [`run`] with a plan that lives on, at version `version` of the parameters.
pub fn run_in<B: SsmOps>(
    be: &B,
    (plan, version): (&mut B::SsmPlan, u64),
    layer: &Layer,
    call: &Call,
    algorithm: Algorithm,
    repeats: usize,
) -> Outcome {
    let spec: SsmSpec = layer.spec;
    let (buffers, mut grads) = (Buffers::of(be, layer), Buffers::zeros(be, layer));
    let mut ws = be.workspace();
    let u = upload(be, &call.u);
    let state0 = call.state0.as_ref().map(|s| upload(be, s));
    let dstate_end = call.dstate_end.as_ref().map(|s| upload(be, s));
    let lengths = call.lengths.as_ref().map(|l| {
        let host: Vec<i32> = l.iter().map(|&l| l as i32).collect();
        let mut ints = be.alloc_ints(host.len()).unwrap();
        be.upload_ints(&mut ints, &host).unwrap();
        ints
    });
    let options =
        CallOptions { lengths: lengths.as_ref(), rate: layer.rate, algorithm, ..Default::default() };
    let shape: SsmCall<'_, B> = SsmCall { spec, batch: call.batch, len: call.len, options, version };
    let state_buffer = || layer.spec.has_state().then(|| spoiled(be, spec.state_len(call.batch)));
    let mut y = spoiled(be, call.batch * spec.outputs() * call.len);
    let mut state_end = state_buffer();
    let mut saved = be.alloc(be.ssm_saved_len(&shape)).unwrap();
    let forward = SsmForward {
        y: whole_mut(be, &mut y),
        state_end: state_end.as_mut().map(|s| whole_mut(be, s)),
        saved: (repeats > 0).then(|| whole_mut(be, &mut saved)),
        u: whole(be, &u),
        state0: state0.as_ref().map(|s| whole(be, s)),
        params: buffers.params(be),
        call: shape,
    };
    be.ssm_forward(forward, plan, &mut ws).unwrap();
    let dy = upload(be, &call.dy);
    let mut du = spoiled(be, call.u.len());
    let mut dstate0 = state_buffer();
    for _ in 0..repeats {
        let backward = SsmBackward {
            du: Some(whole_mut(be, &mut du)),
            dstate0: dstate0.as_mut().map(|s| whole_mut(be, s)),
            grads: grads.grads(be),
            dy: whole(be, &dy),
            dstate_end: dstate_end.as_ref().map(|s| whole(be, s)),
            u: whole(be, &u),
            state0: state0.as_ref().map(|s| whole(be, s)),
            saved: whole(be, &saved),
            params: buffers.params(be),
            call: shape,
        };
        be.ssm_backward(backward, plan, &mut ws).unwrap();
    }
    Outcome {
        y: download(be, &y),
        state_end: state_end.map(|s| download(be, &s)),
        du: download(be, &du),
        dstate0: dstate0.map(|s| download(be, &s)),
        grads: grads.host(be),
    }
}

/// `len` steps from `call.state0`: y in the layout of forward (no lengths), and the last state. `intervals`:
/// (len, batch).
pub fn steps<B: StepOps>(
    be: &B,
    layer: &Layer,
    call: &Call,
    intervals: Option<&[f64]>,
) -> (Vec<f64>, Vec<f64>) {
    let spec = layer.spec;
    let (batch, len) = (call.batch, call.len);
    let params = Buffers::of(be, layer);
    let mut plan = be.step_plan(&spec).unwrap();
    let mut ws = be.workspace();
    let mut state = upload(be, call.state0.as_ref().expect("a layer with a state"));
    let mut y = vec![f64::NAN; batch * spec.outputs() * len];
    for t in 0..len {
        let u: Vec<f64> = (0..batch * spec.heads).map(|row| call.u[row * len + t]).collect();
        let u = upload(be, &u);
        let interval = intervals.map(|i| upload(be, &i[t * batch..][..batch]));
        let mut out = spoiled(be, batch * spec.outputs());
        let step = SsmStep {
            y: whole_mut(be, &mut out),
            state: whole_mut(be, &mut state),
            u: whole(be, &u),
            interval: interval.as_ref().map(|i| whole(be, i)),
            params: params.params(be),
            spec,
            batch,
            rate: layer.rate,
            version: 1,
        };
        be.ssm_step(step, &mut plan, &mut ws).unwrap();
        for (row, out) in download(be, &out).into_iter().enumerate() {
            y[row * len + t] = out;
        }
    }
    (y, download(be, &state))
}
