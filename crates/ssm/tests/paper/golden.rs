//! The dense oracles against every golden file of the official code: kernel, SSM output, states, C from C̃.

use crate::support::{cases, complex, head_ssms, interleaved, read_golden, relative};
use s4_ssm::*;

/// Whether an initialisation has modes that hardly decay. C of their golden files was recovered from C̃, which is
/// accurate to 1e-9 only (README of the golden files).
fn hardly_decays(init: &str) -> bool {
    init == "fourier" || init == "hippo"
}

#[test]
fn kernels_outputs_states() {
    let mut compared = 0;
    for case in cases() {
        let (ckpt, config) = read_golden(&format!("{case}.ckpt"));
        let (golden, _) = read_golden(&format!("{case}.golden"));
        let tol = if hardly_decays(config["init"].as_str().unwrap()) { 1e-9 } else { 1e-10 };
        let mut check = |what: &str, value: &[f64], expected: &str| {
            let error = relative(value, &golden[expected].1);
            assert!(error <= tol, "{case} {what}: {error:e}");
            compared += 1;
        };
        let layer = |rate| head_ssms(&ckpt, "layer.kernel.", &config, &golden["C"].1, rate);
        let kernel_of = |rate: f64, len: usize, by: fn(&Ssm, usize) -> Vec<Vec<f64>>| {
            channels_outermost(&layer(rate).iter().map(|ssm| by(ssm, len)).collect::<Vec<_>>())
        };
        for (key, rate) in [("kernel", 1.0), ("kernel.rate2", 2.0), ("kernel.rate0.5", 0.5)] {
            let Some((shape, _)) = golden.get(key) else { continue };
            check(key, &kernel_of(rate, shape[2], kernel_by_powers), key);
        }

        let (shape, u) = &golden["u"];
        let (batch, features, len) = (shape[0], shape[1], shape[2]);
        let d = &ckpt["layer.D"].1;
        let channels = ckpt["layer.D"].0[0];
        let two_sided = config["bidirectional"].as_bool().unwrap();
        let (kernel_shape, kernel) = &golden["kernel"];
        let kernel_of_channel = |c: usize, h: usize| {
            let nplr_ssm = (c * features + h) * kernel_shape[2];
            &kernel[nplr_ssm..nplr_ssm + kernel_shape[2]]
        };
        let mut y = Vec::new();
        for b in 0..batch {
            for c in 0..channels {
                for h in 0..features {
                    let u = &u[(b * features + h) * len..][..len];
                    let d = d[c * features + h];
                    y.extend(if two_sided {
                        conv_bidirectional(u, kernel_of_channel(c, h), kernel_of_channel(channels + c, h), d)
                    } else {
                        conv_causal(u, kernel_of_channel(c, h), d)
                    });
                }
            }
        }
        check("ssm_out by convolution", &y, "ssm_out");

        if !golden.contains_key("state.final") {
            continue;
        }
        for (initial, out, last) in [
            (None, "ssm_out", "state.final"),
            (Some("state.initial"), "ssm_out.from_initial", "state.final_from_initial"),
        ] {
            let (mut y, mut state) = (vec![0.0; batch * channels * features * len], Vec::new());
            let initial = initial.map(|key| complex(&golden[key].1));
            for b in 0..batch {
                for (h, ssm) in layer(1.0).iter().enumerate() {
                    let pairs = ssm.pairs();
                    let row = b * features + h;
                    let u = &u[row * len..][..len];
                    let x0 = initial.as_ref().map(|x| &x[row * pairs..][..pairs]);
                    let (rows, end) = recurrence(ssm, u, x0);
                    for (c, out) in rows.iter().enumerate() {
                        let to = ((b * channels + c) * features + h) * len;
                        for t in 0..len {
                            y[to + t] = out[t] + d[c * features + h] * u[t];
                        }
                    }
                    state.extend(interleaved(&end));
                }
            }
            check("by recurrence", &y, out);
            check("state", &state, last);
        }
    }
    assert!(compared >= 24 * 2, "only {compared} comparisons");
}

/// Reorders (head, channel, len) to (channel, head, len).
fn channels_outermost(head_ssms: &[Vec<Vec<f64>>]) -> Vec<f64> {
    (0..head_ssms[0].len()).flat_map(|c| head_ssms.iter().flat_map(move |h| h[c].iter().copied())).collect()
}

#[test]
fn c_from_the_checkpoint() {
    let (mut truncated, mut plain) = (0, 0);
    for case in cases() {
        let (ckpt, config) = read_golden(&format!("{case}.ckpt"));
        let (golden, _) = read_golden(&format!("{case}.golden"));
        let (_, stored) = &ckpt["layer.kernel.C"];
        let len = ckpt.get("layer.kernel.l_kernel").map_or(0, |(_, l)| l[0] as usize);
        if len == 0 {
            assert!(relative(stored, &golden["C"].1) == 0.0, "{case}: C is stored as it is");
            plain += 1;
            continue;
        }
        let layer = head_ssms(&ckpt, "layer.kernel.", &config, stored, 1.0);
        let rows: Vec<_> = layer.iter().map(|ssm| c_from_tilde(ssm, len).unwrap()).collect();
        let c: Vec<f64> =
            (0..rows[0].len()).flat_map(|k| rows.iter().flat_map(move |r| interleaved(&r[k]))).collect();
        let tol = if hardly_decays(config["init"].as_str().unwrap()) { 1e-9 } else { 1e-10 };
        let error = relative(&c, &golden["C"].1);
        assert!(error <= tol, "{case}: C from C̃ {error:e}");
        for (ssm, rows) in layer.iter().zip(&rows) {
            let back = c_tilde(&Ssm { c: rows.clone(), ..ssm.clone() }, len);
            let error = relative(&interleaved(&back.concat()), &interleaved(&ssm.c.concat()));
            assert!(error <= tol, "{case}: C̃ of C {error:e}");
        }
        truncated += 1;
    }
    assert!(truncated >= 10 && plain >= 5, "{truncated} with C̃, {plain} with C");
}

/// Compares the first 2048 samples of long kernels; all samples would take minutes with dense matrices.
#[test]
fn long_kernels_begin_right() {
    for name in ["long_16k.golden", "long_64k_slow.golden"] {
        let (golden, config) = read_golden(name);
        let layer = head_ssms(&golden, "param.", &config, &golden["param.C"].1, 1.0);
        let (shape, kernel) = &golden["kernel"];
        for (h, ssm) in layer.iter().enumerate() {
            let head = &kernel_by_powers(ssm, 2048)[0];
            let error = relative(head, &kernel[h * shape[2]..][..2048]);
            assert!(error <= 1e-10, "{name} head {h}: {error:e}");
        }
    }
}
