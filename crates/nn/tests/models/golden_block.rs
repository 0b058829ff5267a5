//! Every golden block: output, kernel, states, all gradients, through the official loader and the host layer.

use crate::common::*;
use s4_backend::Discretization;
use s4_nn::*;

/// Our names of the golden parameters.
fn params<B: Backend>(store: &ParamStore<B>) -> Vec<String> {
    store.infos().iter().map(|p| p.name.clone()).collect()
}

fn block_case<T: Scalar>(case: &str, algorithm: Algorithm, out_tol: f64, grad_tol: f64, tilde_tol: f64)
where
    Cpu<T>: Backend<Scalar = T>,
{
    let be = Cpu::<T>::new(2).unwrap();
    let golden = Golden::read(&format!("{case}.golden"));
    let path = golden_dir().join(format!("{case}.ckpt.safetensors"));
    let mut block = block_from_official_file(be, &path, None).unwrap();
    let (batch, len, h) = (golden.size("B"), golden.size("L"), golden.size("H"));
    let c = wide(&block.store().get("layer.kernel.C").unwrap());
    close(&format!("{case} C"), &c, golden.get("C"), tilde_tol.max(out_tol));
    // From here on with the golden C itself.
    block.store_mut().set("layer.kernel.C", &cast(golden.get("C"))).unwrap();
    let u: Vec<T> = cast(&swap(golden.get("u"), batch, h, len));
    let opts = ForwardOptions { save: true, call: by(algorithm), ..Default::default() };
    let zoh = block.config().layer.spec().discretization == Discretization::Zoh;
    if algorithm == Algorithm::Cauchy && zoh {
        let refused = block.forward(&u, batch, len, &opts).unwrap_err();
        assert_eq!(refused.code.as_str(), "ERR_S4_UNSUPPORTED", "{case}");
        return;
    }
    let y = block.forward(&u, batch, len, &opts).unwrap().y;
    close(&format!("{case} y by {algorithm}"), &wide(&swap(&y, batch, len, h)), golden.get("y"), out_tol);
    let g: Vec<T> = cast(&swap(golden.get("g"), batch, h, len));
    let grads = block.backward(&g, None).unwrap();
    close(
        &format!("{case} grad.u by {algorithm}"),
        &wide(&swap(&grads.du, batch, len, h)),
        golden.get("grad.u"),
        grad_tol,
    );
    for name in params(block.store()) {
        let grad = wide(&block.store().grad(&name).unwrap());
        close(
            &format!("{case} grad.{name} by {algorithm}"),
            &grad,
            golden.get(&format!("grad.{name}")),
            grad_tol,
        );
    }
    let kernel = wide(&block.kernel(len, 1.0).unwrap());
    close(&format!("{case} kernel"), &kernel, golden.get("kernel"), out_tol);
}

/// C from C̃ at f64 costs 2e-10 where modes hardly decay (golden README).
fn tilde_tol(case: &str) -> f64 {
    if case.contains("fourier") || case.contains("hippo") { 1e-9 } else { 0.0 }
}

#[test]
fn blocks_f32() {
    for case in cases() {
        for &algorithm in Algorithm::ALL {
            block_case::<f32>(&case, algorithm, 1e-5, 1e-4, 0.0);
        }
    }
}

#[test]
fn blocks_f64() {
    for case in cases() {
        for &algorithm in Algorithm::ALL {
            block_case::<f64>(&case, algorithm, 1e-10, 1e-8, tilde_tol(&case));
        }
    }
}

/// A layer with the golden parameters.
fn layer<T: Scalar>(case: &str, golden: &Golden) -> Layer<Cpu<T>>
where
    Cpu<T>: Backend<Scalar = T>,
{
    let be = Cpu::<T>::new(1).unwrap();
    let path = golden_dir().join(format!("{case}.ckpt.safetensors"));
    let block = block_from_official_file(be.clone(), &path, None).unwrap();
    let mut layer = Layer::new(be, block.config().layer.clone()).unwrap();
    for name in params(layer.store()) {
        let value = block.store().get(&format!("layer.{name}")).unwrap();
        layer.store_mut().set(&name, &value).unwrap();
    }
    layer.store_mut().set("kernel.C", &cast(golden.get("C"))).unwrap();
    layer
}

fn layer_case<T: Scalar>(case: &str, out_tol: f64, grad_tol: f64)
where
    Cpu<T>: Backend<Scalar = T>,
{
    let golden = Golden::read(&format!("{case}.golden"));
    let (batch, len, h) = (golden.size("B"), golden.size("L"), golden.size("H"));
    let mut layer = layer::<T>(case, &golden);
    let outs = layer.outputs();
    let u: Vec<T> = cast(&swap(golden.get("u"), batch, h, len));
    for (rate, name) in [(2.0, "kernel.rate2"), (0.5, "kernel.rate0.5")] {
        if golden.has(name) {
            let kernel = wide(&layer.kernel(len, rate).unwrap());
            close(&format!("{case} {name}"), &kernel, golden.get(name), out_tol);
        }
    }
    let y = layer
        .forward(&u, batch, len, &ForwardOptions { want_state_end: true, ..Default::default() })
        .unwrap();
    close(&format!("{case} ssm_out"), &wide(&swap(&y.y, batch, len, outs)), golden.get("ssm_out"), out_tol);
    if !golden.has("state.initial") {
        assert!(y.state_end.is_none() && !layer.has_state(), "{case}");
        let state = vec![T::zero(); batch * h * 2];
        let refused =
            layer.forward(&u, batch, len, &ForwardOptions { state0: Some(&state), ..Default::default() });
        assert_eq!(refused.unwrap_err().code.as_str(), "ERR_S4_UNSUPPORTED");
        return;
    }
    close(&format!("{case} state.final"), &wide(&y.state_end.unwrap()), golden.get("state.final"), out_tol);
    let start: Vec<T> = cast(golden.get("state.initial"));
    let opts =
        ForwardOptions { state0: Some(&start), want_state_end: true, save: true, ..Default::default() };
    let y = layer.forward(&u, batch, len, &opts).unwrap();
    let out = wide(&swap(&y.y, batch, len, outs));
    close(&format!("{case} ssm_out.from_initial"), &out, golden.get("ssm_out.from_initial"), out_tol);
    let end = wide(&y.state_end.unwrap());
    close(&format!("{case} state.final_from_initial"), &end, golden.get("state.final_from_initial"), out_tol);
    // The recurrence, one sample at a time.
    let (mut state, mut steps) = (start.clone(), vec![T::zero(); batch * len * outs]);
    for t in 0..len {
        let x: Vec<T> = (0..batch).flat_map(|b| u[(b * len + t) * h..][..h].to_vec()).collect();
        let y = layer.step(&x, &mut state, None, batch, 1.0).unwrap();
        for b in 0..batch {
            steps[(b * len + t) * outs..][..outs].copy_from_slice(&y[b * outs..][..outs]);
        }
    }
    let steps = wide(&swap(&steps, batch, len, outs));
    close(&format!("{case} steps"), &steps, golden.get("ssm_out.from_initial"), out_tol);
    close(&format!("{case} steps' state"), &wide(&state), golden.get("state.final_from_initial"), out_tol);
    if golden.has("from_initial.g") {
        let g: Vec<T> = cast(&swap(golden.get("from_initial.g"), batch, outs, len));
        let gs: Vec<T> = cast(golden.get("from_initial.gs"));
        let grads = layer.backward(&g, Some(&gs)).unwrap();
        let du = wide(&swap(&grads.du, batch, len, h));
        close(&format!("{case} from_initial.grad.u"), &du, golden.get("from_initial.grad.u"), grad_tol);
        let d0 = wide(&grads.dstate0.unwrap());
        close(&format!("{case} grad.state"), &d0, golden.get("from_initial.grad.state.initial"), grad_tol);
        for name in params(layer.store()) {
            let grad = wide(&layer.store().grad(&name).unwrap());
            let want = golden.get(&format!("from_initial.grad.layer.{name}"));
            close(&format!("{case} from_initial.grad.{name}"), &grad, want, grad_tol);
        }
    }
}

#[test]
fn layers_f32() {
    cases().iter().for_each(|case| layer_case::<f32>(case, 1e-5, 1e-4));
}

#[test]
fn layers_f64() {
    cases().iter().for_each(|case| layer_case::<f64>(case, 1e-10, 1e-8));
}
