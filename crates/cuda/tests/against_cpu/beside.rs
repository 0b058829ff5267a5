//! Work beside the queue: training steps give the same bits with it and without, hold little more memory, and what fails, is dropped or is
//! recorded in between leaves no trace.

use crate::{
    layer::{all, full, up},
    training_steps::{Between, Flat, Net, PLAIN, spec, train, train_and},
};
use s4_backend::*;
use s4_cpu::Cpu;
use s4_cuda::{Beside, Cuda, Options, Precision, probe};
use s4_testing::noise;

/// The GPU with work beside the queue or without; `None`, with the reason printed, where there is none.
fn gpu(precision: Precision, beside: Beside) -> Option<Cuda> {
    let devices = match probe() {
        Ok(devices) => devices,
        Err(reason) => {
            eprintln!("skipped: {reason}");
            return None;
        }
    };
    let architecture = std::env::var("S4_CUDA_ARCH").ok();
    let options = Options { architecture, precision, beside: Some(beside), ..Options::default() };
    Some(Cuda::with(devices[0].ordinal, &options).unwrap())
}

/// That the results of two runs have the same bits, and are numbers that the steps have changed.
#[track_caller]
fn same_bits(what: &str, got: &[Vec<f32>], want: &[Vec<f32>]) {
    assert_eq!(got.len(), want.len(), "{what}");
    for (i, (g, w)) in got.iter().zip(want).enumerate() {
        assert!(w.iter().all(|x| x.is_finite()), "{what}: array {i} is not finite");
        let differing = g.iter().zip(w).filter(|(g, w)| g.to_bits() != w.to_bits()).count();
        assert_eq!(differing, 0, "{what}: array {i} of {} numbers", w.len());
    }
    let step = want.len() / 2;
    assert!(want[0] != want[step] && want.iter().any(|w| w.iter().any(|&x| x != 0.0)), "{what}: no update");
}

/// Networks of every kind of pass: of the pass over both directions, of general ones; one segment, many; with lengths.
fn nets() -> Vec<(&'static str, Net)> {
    vec![
        ("both directions", PLAIN(64, 8, 512)),
        ("segments", PLAIN(32, 2, 8192)),
        ("lengths", Net { lengths: true, ..PLAIN(48, 6, 328) }),
        ("one direction", Net { spec: spec(64, 64, false), ..PLAIN(64, 16, 512) }),
        ("small states", Net { spec: spec(40, 16, true), ..PLAIN(40, 5, 200) }),
        ("large states", Net { spec: spec(24, 128, false), glu: false, ..PLAIN(24, 4, 264) }),
        ("odd lengths", Net { spec: spec(33, 64, true), glu: false, ..PLAIN(33, 3, 301) }),
        (
            "S4D",
            Net {
                spec: SsmSpec {
                    mode: Mode::S4d,
                    rank: 0,
                    discretization: Discretization::Zoh,
                    ..spec(64, 64, true)
                },
                ..PLAIN(64, 8, 512)
            },
        ),
        (
            "two channels and a step size a state",
            Net {
                spec: SsmSpec { channels: 2, dt_per_state: true, ..spec(16, 64, true) },
                ..PLAIN(16, 4, 256)
            },
        ),
    ]
}

#[test]
fn the_steps_of_these_tests_train_on_the_cpu() {
    let be = Cpu::<f32>::new(0).unwrap();
    for (name, net) in nets() {
        let net = Net { layers: 2, batch: 2, len: net.len.min(200), ..net };
        let plain = train(&be, &net, 2, Between::Nothing);
        same_bits(name, &train(&be, &net, 2, Between::PreparedInVain), &plain);
    }
}

#[test]
fn training_steps_have_the_same_bits() {
    for precision in [Precision::Highest, Precision::High, Precision::Bf16] {
        let (Some(alone), Some(beside)) = (gpu(precision, Beside::Never), gpu(precision, Beside::Always))
        else {
            return;
        };
        for (name, net) in nets() {
            let want = train(&alone, &net, 4, Between::Nothing);
            for between in [Between::Nothing, Between::Prepared, Between::PreparedInVain, Between::Failures] {
                for round in 0..3 {
                    let what = format!("{name}, {precision:?}, {}, round {round}", between as u8);
                    same_bits(&what, &train(&beside, &net, 4, between), &want);
                }
            }
        }
    }
}

/// At sizes where work beside the queue takes place of itself, which take the time that an overlap needs.
#[test]
fn large_training_steps_have_the_same_bits() {
    for precision in [Precision::Highest, Precision::High, Precision::Bf16] {
        let (Some(alone), Some(beside)) = (gpu(precision, Beside::Never), gpu(precision, Beside::BySize))
        else {
            return;
        };
        for net in [PLAIN(512, 20, 1024), PLAIN(128, 4, 16000)] {
            let want = train(&alone, &net, 3, Between::Nothing);
            for round in 0..3 {
                let what = format!("{} × {}, {precision:?}, round {round}", net.spec.heads, net.len);
                same_bits(&what, &train(&beside, &net, 3, Between::Prepared), &want);
            }
        }
    }
}

#[test]
fn threads_with_one_queue_have_the_bits_of_one() {
    let (Some(alone), Some(beside)) =
        (gpu(Precision::High, Beside::Never), gpu(Precision::High, Beside::Always))
    else {
        return;
    };
    let nets = nets();
    let want: Vec<_> = nets.iter().map(|(_, net)| train(&alone, net, 3, Between::Nothing)).collect();
    for _ in 0..3 {
        std::thread::scope(|scope| {
            for ((name, net), want) in nets.iter().zip(&want) {
                let be = beside.clone();
                scope.spawn(move || same_bits(name, &train(&be, net, 3, Between::Prepared), want));
            }
        });
    }
}

#[test]
fn little_more_memory_is_held_and_a_steady_step_asks_for_none() {
    for precision in [Precision::Highest, Precision::High] {
        let net = Net { layers: 4, ..PLAIN(256, 8, 1024) };
        let mut held = Vec::new();
        for beside in [Beside::Never, Beside::Always] {
            let Some(be) = gpu(precision, beside) else { return };
            let mut counts = Vec::new();
            train_and(&be, &net, 6, Between::Prepared, &mut || counts.push(be.allocations()));
            assert_eq!(counts[5], counts[2], "{precision:?}, {beside:?}: {counts:?}");
            held.push(be.device_memory());
            be.trim();
            assert!(be.device_memory() < held[held.len() - 1] / 4, "memory is in use after all is dropped");
        }
        eprintln!("{precision:?}: {held:?} bytes");
        // The constants of a block and the gradients of its matrices are .4 MB a head, a block's operands .1.
        let most = if precision == Precision::Highest { 200_000 } else { 1_000_000 };
        assert!(held[1] <= held[0] + most * 256, "{precision:?}: {held:?}");
    }
}

/// Gradients that are dropped while they are computed beside the queue: the memory that others get is theirs.
#[test]
fn memory_that_is_dropped_in_between_is_not_written_to() {
    let Some(be) = gpu(Precision::High, Beside::Always) else { return };
    let net = PLAIN(64, 8, 512);
    let (spec, n) = (net.spec, net.batch * net.spec.heads * net.len);
    let [u, dy] = [1, 2].map(|stream| up(&be, &noise(1, stream, n)));
    let values = Flat::new(&be, &net.values(0));
    let call = SsmCall {
        spec,
        batch: net.batch,
        len: net.len,
        options: CallOptions { training: true, ..CallOptions::default() },
        version: 1,
    };
    let len = be.ssm_saved_len(&call);
    for round in 0..50u32 {
        let mut grads = Flat::new(&be, &net.values(0));
        let (mut y, mut du, mut saved) = (be.alloc(n).unwrap(), be.alloc(n).unwrap(), be.alloc(len).unwrap());
        let (mut plan, mut ws) = (be.ssm_plan(&spec).unwrap(), be.workspace());
        let forward = SsmForward {
            y: full(&be, &mut y),
            state_end: None,
            saved: Some(full(&be, &mut saved)),
            u: all(&be, &u),
            state0: None,
            params: values.ssm(&be),
            call,
        };
        be.ssm_forward(forward, &mut plan, &mut ws).unwrap();
        let size = be.len(&grads.buf);
        let [inv_dt, a_real, a_imag, b, c, p, d, ..] = grads.views_mut(&be);
        let backward = SsmBackward {
            du: Some(full(&be, &mut du)),
            dstate0: None,
            grads: SsmGrads { inv_dt, a_real, a_imag, b, c, p, d },
            dy: all(&be, &dy),
            dstate_end: None,
            u: all(&be, &u),
            state0: None,
            saved: all(&be, &saved),
            params: values.ssm(&be),
            call,
        };
        be.ssm_backward(backward, &mut plan, &mut ws).unwrap();
        drop(grads);
        drop(plan);
        let written: Vec<f64> = (0..size).map(|i| (i as u32 ^ round) as f64).collect();
        let others: Vec<_> = (0..4).map(|_| up(&be, &written)).collect();
        be.synchronize().unwrap();
        for other in &others {
            assert!(crate::layer::down(&be, other) == written, "round {round}");
        }
    }
}

/// What is recorded runs as one, and follows what was beside the queue before.
#[test]
fn a_recorded_backward_has_the_same_bits() {
    let (Some(alone), Some(beside)) =
        (gpu(Precision::High, Beside::Never), gpu(Precision::High, Beside::Always))
    else {
        return;
    };
    let net = PLAIN(64, 8, 512);
    let (spec, n) = (net.spec, net.batch * net.spec.heads * net.len);
    let run = |be: &Cuda, recorded: bool| -> Vec<Vec<f32>> {
        let [u, dy] = [1, 2].map(|stream| up(be, &noise(1, stream, n)));
        let values = Flat::new(be, &net.values(0));
        let mut grads = Flat::new(be, &net.values(0));
        let options = CallOptions { training: true, ..CallOptions::default() };
        let call = SsmCall { spec, batch: net.batch, len: net.len, options, version: 1 };
        let mut saved = be.alloc(be.ssm_saved_len(&call)).unwrap();
        let (mut y, mut du) = (be.alloc(n).unwrap(), be.alloc(n).unwrap());
        let (mut plan, mut ws) = (be.ssm_plan(&spec).unwrap(), be.workspace());
        let forward = SsmForward {
            y: full(be, &mut y),
            state_end: None,
            saved: Some(full(be, &mut saved)),
            u: all(be, &u),
            state0: None,
            params: values.ssm(be),
            call,
        };
        be.ssm_forward(forward, &mut plan, &mut ws).unwrap();
        let mut graph = <Cuda as Memory>::Graph::default();
        let mut results = Vec::new();
        for _ in 0..5 {
            let mut body = || {
                let [inv_dt, a_real, a_imag, b, c, p, d, ..] = grads.views_mut(be);
                let backward = SsmBackward {
                    du: Some(full(be, &mut du)),
                    dstate0: None,
                    grads: SsmGrads { inv_dt, a_real, a_imag, b, c, p, d },
                    dy: all(be, &dy),
                    dstate_end: None,
                    u: all(be, &u),
                    state0: None,
                    saved: all(be, &saved),
                    params: values.ssm(be),
                    call,
                };
                be.ssm_backward(backward, &mut plan, &mut ws)
            };
            match recorded {
                true => be.replay(&mut graph, [1, 0], &mut body).unwrap(),
                false => body().unwrap(),
            }
            let mut host = vec![0.0; be.len(&grads.buf)];
            be.download(&mut host, all(be, &grads.buf)).unwrap();
            results.push(host);
        }
        results
    };
    let want = run(&alone, false);
    for recorded in [false, true] {
        same_bits(&format!("recorded: {recorded}"), &run(&beside, recorded), &want);
    }
}
