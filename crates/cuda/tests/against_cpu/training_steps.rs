//! Training steps of a small network by the operations of the contract, prepared ahead or not.

use crate::layer::{all, full, up};
use s4_backend::{random::DropKey, *};
use s4_testing::noise;

/// A network of blocks: layer norm, SSM, mix, residual.
#[derive(Clone, Copy)]
pub struct Net {
    pub spec: SsmSpec,
    pub glu: bool,
    pub layers: usize,
    pub batch: usize,
    pub len: usize,
    /// Whether sequences have lengths of their own.
    pub lengths: bool,
}

pub fn spec(heads: usize, state: usize, bidirectional: bool) -> SsmSpec {
    SsmSpec {
        mode: Mode::S4,
        heads,
        state,
        n_ssm: 2 - heads % 2,
        rank: 1,
        channels: 1,
        bidirectional,
        dt_per_state: false,
        discretization: Discretization::Bilinear,
        dt_transform: Transform::Exp,
        real_transform: Transform::Exp,
        imag_transform: Transform::Exp,
        truncate: None,
    }
}

pub const PLAIN: fn(usize, usize, usize) -> Net =
    |heads, batch, len| Net { spec: spec(heads, 64, true), glu: true, layers: 3, batch, len, lengths: false };

/// The parameters of a block, SSM first, then γ, β, weight, bias.
const ARRAYS: usize = 11;

impl Net {
    fn mix(&self) -> MixSpec {
        MixSpec {
            inputs: self.spec.outputs(),
            outputs: self.spec.heads,
            activation: Activation::Gelu,
            glu: self.glu,
            final_activation: Activation::Identity,
            dropout: 0.1,
            tied: false,
        }
    }

    /// Initial values of a block's parameters.
    pub fn values(&self, layer: usize) -> [Vec<f64>; ARRAYS] {
        let (s, h, mix) = (&self.spec, self.spec.heads, self.mix());
        let stream = 20 * layer as u32;
        let near = |i: u32, n: usize, mean: f64, by: f64| -> Vec<f64> {
            noise(3, stream + i, n).iter().map(|x| mean + by * x).collect()
        };
        let frequency = |i: usize| (std::f64::consts::PI * (i % s.pairs() + 1) as f64).ln();
        [
            near(1, s.inv_dt_len(), -4.0, 0.5),
            near(2, s.a_len(), -0.7, 0.1),
            (0..s.a_len()).map(frequency).collect(),
            near(3, s.b_len(), 1.0, 0.3),
            near(4, s.c_len(), 0.0, 0.7),
            near(5, s.p_len(), 0.5, 0.2),
            near(6, s.d_len(), 0.0, 1.0),
            near(7, h, 1.0, 0.1),
            near(8, h, 0.0, 0.1),
            near(9, mix.rows() * mix.inputs, 0.0, (mix.inputs as f64).powf(-0.5)),
            near(10, mix.rows(), 0.0, 0.1),
        ]
    }
}

/// Arrays of one kind, of all parameters of a block, in one buffer: each begins at a multiple of 32 elements, as in a model.
pub struct Flat<B: Memory> {
    pub buf: B::Buf,
    lens: [usize; ARRAYS],
}

impl<B: Memory> Flat<B> {
    pub fn new(be: &B, values: &[Vec<f64>; ARRAYS]) -> Self {
        let padded = values.iter().flat_map(|v| {
            let mut v = v.clone();
            v.resize(v.len().next_multiple_of(32), 0.0);
            v
        });
        Flat { buf: up(be, &padded.collect::<Vec<_>>()), lens: values.each_ref().map(Vec::len) }
    }

    fn views<'a>(&'a self, be: &B) -> [B::Ref<'a>; ARRAYS] {
        let mut at = 0;
        self.lens.map(|len| {
            let from = at;
            at += len.next_multiple_of(32);
            be.view(&self.buf, from..from + len)
        })
    }

    pub fn views_mut<'a>(&'a mut self, be: &B) -> [B::Mut<'a>; ARRAYS] {
        let lens = self.lens;
        let mut rest = Some(full(be, &mut self.buf));
        lens.map(|len| {
            let (view, tail) = be.split_mut(rest.take().expect("put back below"), len);
            rest = Some(be.split_mut(tail, len.next_multiple_of(32) - len).1);
            view
        })
    }

    pub fn ssm<'a>(&'a self, be: &B) -> SsmParams<'a, B> {
        let [inv_dt, a_real, a_imag, b, c, p, d, ..] = self.views(be);
        SsmParams { inv_dt, a_real, a_imag, b, c, p, d }
    }
}

/// What is done between the operations of a step.
#[derive(Clone, Copy, PartialEq)]
pub enum Between {
    Nothing,
    /// Each pass is prepared a block ahead.
    Prepared,
    /// As `Prepared`, but for other parameters now and then, and a preparation may have no pass.
    PreparedInVain,
    /// Each pass is prepared, and after each backward of an SSM something fails.
    Failures,
}

/// Parameters, moments and gradients after each of `count` training steps; the objective is half the sum of squares of the output.
pub fn train<B: Backend>(be: &B, net: &Net, count: u64, between: Between) -> Vec<Vec<B::Scalar>> {
    train_and(be, net, count, between, &mut || ())
}

/// As [`train`], with something done after each step.
pub fn train_and<B: Backend>(
    be: &B,
    net: &Net,
    count: u64,
    between: Between,
    after_step: &mut dyn FnMut(),
) -> Vec<Vec<B::Scalar>> {
    let &Net { spec, layers, batch, len, .. } = net;
    let (h, n, mix) = (spec.heads, batch * spec.heads * len, net.mix());
    let outputs = batch * spec.outputs() * len;
    let zeros = |i: usize| net.values(i).map(|v| vec![0.0; v.len()]);
    let of = |arrays: &dyn Fn(usize) -> [Vec<f64>; ARRAYS]| -> Vec<Flat<B>> {
        (0..layers).map(|i| Flat::new(be, &arrays(i))).collect()
    };
    let [mut values, mut grads] = [of(&|i| net.values(i)), of(&zeros)];
    let [mut first, mut second] = [of(&zeros), of(&zeros)];
    let mut plans: Vec<_> = (0..layers).map(|_| be.ssm_plan(&spec).unwrap()).collect();
    let lengths = net.lengths.then(|| {
        let mut ints = be.alloc_ints(batch).unwrap();
        let own: Vec<i32> = (0..batch).map(|i| (len - i * len / (2 * batch)) as i32).collect();
        be.upload_ints(&mut ints, &own).unwrap();
        ints
    });
    let options = CallOptions { lengths: lengths.as_ref(), training: true, ..CallOptions::default() };
    let call_at = |version| SsmCall::<'_, B> { spec, batch, len, options, version };
    let mix_call = |step, i: usize| MixCall {
        spec: mix,
        key: DropKey { seed: 5, step, site: 2 * i as u32 },
        batch,
        len,
    };
    let shape = SeqShape { batch, heads: h, len };
    let buf = |n: usize| be.alloc(n).unwrap();
    let mut x: Vec<B::Buf> = (0..=layers).map(|_| buf(n)).collect();
    x[0] = up(be, &noise(9, 1, n));
    let all_of = |n: usize| -> Vec<B::Buf> { (0..layers).map(|_| buf(n)).collect() };
    let (mut u, mut s, mut stats) = (all_of(n), all_of(outputs), all_of(2 * batch * len));
    let (ssm_len, mix_len) = (be.ssm_saved_len(&call_at(1)), be.mix_saved_len(&mix_call(1, 0)));
    let (mut kept, mut mixed) = (all_of(ssm_len), all_of(mix_len));
    let [mut dy, mut dx, mut du, mut ds] = [n, n, n, outputs].map(buf);
    let mut guard = buf(2);
    let mut ws = be.workspace();
    let mut results = Vec::new();
    for step in 1..=count {
        let prepare = |values: &[Flat<B>], plans: &mut [B::SsmPlan], i: usize, pass| {
            if between == Between::Nothing || i >= layers {
                return;
            }
            let odd = between == Between::PreparedInVain && (step + i as u64) % 2 == 1;
            let call = call_at(if odd { 1000 + step } else { step });
            be.ssm_prepare(SsmPrepare { params: values[i].ssm(be), call, pass }, &mut plans[i]).unwrap();
        };
        for g in &mut grads {
            be.fill(full(be, &mut g.buf), B::Scalar::from_f64(0.0)).unwrap();
        }
        prepare(&values, &mut plans, 0, SsmPass::Forward);
        for i in 0..layers {
            prepare(&values, &mut plans, i + 1, SsmPass::Forward);
            let [.., gamma, beta, _, _] = values[i].views(be);
            let (before, after) = x.split_at_mut(i + 1);
            let norm = LayerNormForward {
                y: full(be, &mut u[i]),
                stats: full(be, &mut stats[i]),
                x: all(be, &before[i]),
                gamma,
                beta,
                eps: 1e-5,
                shape,
            };
            be.layer_norm_forward(norm, &mut ws).unwrap();
            let forward = SsmForward {
                y: full(be, &mut s[i]),
                state_end: None,
                saved: Some(full(be, &mut kept[i])),
                u: all(be, &u[i]),
                state0: None,
                params: values[i].ssm(be),
                call: call_at(step),
            };
            be.ssm_forward(forward, &mut plans[i], &mut ws).unwrap();
            let [.., weight, bias] = values[i].views(be);
            let forward = MixForward {
                y: full(be, &mut after[0]),
                saved: Some(full(be, &mut mixed[i])),
                s: all(be, &s[i]),
                residual: Some(all(be, &before[i])),
                params: MixParams { weight, bias },
                call: mix_call(step, i),
            };
            be.mix_forward(forward, &mut ws).unwrap();
        }
        prepare(&values, &mut plans, layers - 1, SsmPass::Backward);
        be.copy(full(be, &mut dy), all(be, &x[layers])).unwrap();
        for i in (0..layers).rev() {
            if i > 0 {
                prepare(&values, &mut plans, i - 1, SsmPass::Backward);
            }
            let [inv_dt, a_real, a_imag, b, c, p, d, mut dgamma, mut dbeta, mut dweight, mut dbias] =
                grads[i].views_mut(be);
            let [.., weight, bias] = values[i].views(be);
            let backward = MixBackward {
                ds: full(be, &mut ds),
                grads: MixGrads { weight: be.reborrow(&mut dweight), bias: be.reborrow(&mut dbias) },
                dy: all(be, &dy),
                s: all(be, &s[i]),
                saved: all(be, &mixed[i]),
                params: MixParams { weight, bias },
                call: mix_call(step, i),
            };
            be.mix_backward(backward, &mut ws).unwrap();
            let [mut inv_dt, mut a_real, mut a_imag, mut b, mut c, mut p, mut d] =
                [inv_dt, a_real, a_imag, b, c, p, d];
            let ssm_grads = SsmGrads {
                inv_dt: be.reborrow(&mut inv_dt),
                a_real: be.reborrow(&mut a_real),
                a_imag: be.reborrow(&mut a_imag),
                b: be.reborrow(&mut b),
                c: be.reborrow(&mut c),
                p: be.reborrow(&mut p),
                d: be.reborrow(&mut d),
            };
            let backward = SsmBackward {
                du: Some(full(be, &mut du)),
                dstate0: None,
                grads: ssm_grads,
                dy: all(be, &ds),
                dstate_end: None,
                u: all(be, &u[i]),
                state0: None,
                saved: all(be, &kept[i]),
                params: values[i].ssm(be),
                call: call_at(step),
            };
            be.ssm_backward(backward, &mut plans[i], &mut ws).unwrap();
            if between == Between::Failures {
                assert_eq!(be.alloc(1 << 40).err().unwrap().code, Code::Memory);
                let short = be.view_mut(&mut guard, 0..1);
                assert_eq!(be.copy(short, all(be, &du)).unwrap_err().code, Code::Shape);
            }
            let [.., gamma, _, _, _] = values[i].views(be);
            let backward = LayerNormBackward {
                dx: full(be, &mut dx),
                dgamma: be.reborrow(&mut dgamma),
                dbeta: be.reborrow(&mut dbeta),
                dy: all(be, &du),
                x: all(be, &x[i]),
                stats: all(be, &stats[i]),
                gamma,
                residual: Some(all(be, &dy)),
                shape,
            };
            be.layer_norm_backward(backward, &mut ws).unwrap();
            std::mem::swap(&mut dy, &mut dx);
        }
        if between == Between::PreparedInVain {
            // Of parameters that change before the next forward.
            (0..layers).for_each(|i| prepare(&values, &mut plans, i, SsmPass::Forward));
        }
        be.fill(full(be, &mut guard), B::Scalar::from_f64(0.0)).unwrap();
        for g in &grads {
            be.sum_squares(be.view_mut(&mut guard, 1..2), all(be, &g.buf), &mut ws).unwrap();
        }
        for i in 0..layers {
            let update = AdamWUpdate {
                value: full(be, &mut values[i].buf),
                m: full(be, &mut first[i].buf),
                v: full(be, &mut second[i].buf),
                grad: all(be, &grads[i].buf),
                guard: all(be, &guard),
                hyper: AdamW { lr: 1e-3, beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.01, step },
                clip: Clip { max_norm: 1.0 },
            };
            be.adamw(update).unwrap();
        }
        for flat in values.iter().chain(&grads).chain(&first).chain(&second) {
            let mut host = vec![B::Scalar::from_f64(0.0); be.len(&flat.buf)];
            be.download(&mut host, all(be, &flat.buf)).unwrap();
            results.push(host);
        }
        after_step();
    }
    results
}
