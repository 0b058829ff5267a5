//! Allocation, transfer, what a steady step asks for, and running out.

use crate::{
    gpu,
    layer::{Run, down, outputs_of, up},
};
use s4_backend::*;
use s4_cuda::{Cuda, Options};
use s4_testing::{golden, noise, relative};

#[test]
fn transfers_and_whole_buffer_operations() {
    if let Some(be) = gpu() {
        transfers(&be);
    }
}

pub fn transfers(be: &Cuda) {
    for n in [1, 31, 1000, 70_001] {
        let (a, b) = (noise(1, 1, n), noise(1, 2, n));
        let (da, mut db) = (up(be, &a), up(be, &b));
        assert_eq!(down(be, &da), a);
        be.axpy(be.view_mut(&mut db, 0..n), 2.0, be.view(&da, 0..n)).unwrap();
        let want: Vec<f64> = a.iter().zip(&b).map(|(a, b)| (*b as f32 + 2.0 * *a as f32) as f64).collect();
        assert!(relative(&down(be, &db), &want) < 1e-7);
        be.fill(be.view_mut(&mut db, 0..n), 3.5).unwrap();
        assert_eq!(down(be, &db), vec![3.5; n]);
        be.copy(be.view_mut(&mut db, 0..n), be.view(&da, 0..n)).unwrap();
        assert_eq!(down(be, &db), a);
        // By the kernel that stands for the driver's call.
        db = be.alloc(n + 1).unwrap();
        for (to, from) in [(1, 0), (0, 0)] {
            let mut copy = || be.copy(be.view_mut(&mut db, to..n), be.view(&da, from..n - to + from));
            be.enqueue_together(n, &mut copy).unwrap();
            assert_eq!(down(be, &db)[to..n], a[..n - to]);
        }
    }
    for (batch, rows, cols) in [(1, 1, 9), (3, 33, 70), (2, 128, 5)] {
        let x = noise(1, 3, batch * rows * cols);
        let (d, mut t) = (up(be, &x), be.alloc(x.len()).unwrap());
        be.transpose(be.view_mut(&mut t, 0..x.len()), be.view(&d, 0..x.len()), batch, rows, cols).unwrap();
        let got = down(be, &t);
        for b in 0..batch {
            for r in 0..rows {
                for c in 0..cols {
                    assert_eq!(got[(b * cols + c) * rows + r], x[(b * rows + r) * cols + c]);
                }
            }
        }
    }
    assert!(be.upload(be.view_mut(&mut be.alloc(3).unwrap(), 0..3), &[1.0]).is_err());
}

#[test]
fn a_steady_call_allocates_nothing() {
    let Some(be) = gpu() else { return };
    let case = golden::Case::load("dplr_legs_n64");
    let plain = Run {
        spec: case.spec,
        params: case.params.clone(),
        batch: 4,
        len: 300,
        rate: 1.0,
        algorithm: Algorithm::Auto,
        lengths: None,
        states: true,
        uneven: false,
        seed: 1,
        scale: 1.0,
    };
    // A call with states runs by chunks, whatever was asked for.
    for (&algorithm, states) in Algorithm::ALL.iter().flat_map(|a| [(a, false), (a, true)]) {
        let run = Run { algorithm, states, ..plain.clone() };
        let first = outputs_of(&be, &run);
        let second = outputs_of(&be, &run);
        let before = be.allocations();
        assert_eq!(outputs_of(&be, &run), first);
        assert_eq!(second, first);
        assert_eq!(be.allocations(), before, "{algorithm}, states {states}");
    }
}

#[test]
fn a_replay_is_the_work_itself() {
    let Some(be) = gpu() else { return };
    let n = 1000;
    let x = noise(1, 1, n);
    let (from, mut to) = (up(&be, &x), be.alloc(n).unwrap());
    let mut graph = <Cuda as Memory>::Graph::default();
    let mut times = 0.0;
    for round in 0..12u64 {
        // A new buffer or a new key makes the recording stale.
        let held = (round == 5).then(|| be.alloc(10).unwrap());
        let key = [round / 8, 0];
        be.replay(&mut graph, key, &mut || be.axpy(be.view_mut(&mut to, 0..n), 1.0, be.view(&from, 0..n)))
            .unwrap();
        drop(held);
        times += 1.0;
        let want: Vec<f64> = x.iter().map(|x| times * x).collect();
        assert!(relative(&down(&be, &to), &want) < 1e-6, "round {round}");
    }
    let launched = be.launches();
    for _ in 0..5 {
        be.replay(&mut graph, [1, 0], &mut || be.axpy(be.view_mut(&mut to, 0..n), 1.0, be.view(&from, 0..n)))
            .unwrap();
    }
    assert_eq!(be.launches(), launched, "recorded work needs no launches of its own");
    let want: Vec<f64> = x.iter().map(|x| 17.0 * x).collect();
    assert!(relative(&down(&be, &to), &want) < 1e-6);
    // What cannot be recorded still runs.
    let mut host = vec![0.0f32; n];
    let mut other = <Cuda as Memory>::Graph::default();
    for _ in 0..3 {
        host.fill(0.0);
        be.replay(&mut other, [0, 0], &mut || be.download(&mut host, be.view(&to, 0..n))).unwrap();
        assert!(relative(&host.iter().map(|&x| x as f64).collect::<Vec<_>>(), &want) < 1e-6);
    }
}

#[test]
fn a_panic_while_recording_leaves_the_device_as_it_was() {
    let Some(be) = gpu() else { return };
    let shape = LinearShape { batch: 1 << 10, inputs: 2, outputs: 2, len: 1 << 8 };
    let n = 1 << 19;
    let (x, mut dx, mut dw) = (up(&be, &noise(1, 1, n)), be.alloc(n).unwrap(), be.alloc(4).unwrap());
    // The gradient of the weight takes scratch.
    let mut backward = |be: &Cuda| {
        let (dx, dw, x) = (be.view_mut(&mut dx, 0..n), be.view_mut(&mut dw, 0..4), be.view(&x, 0..n));
        let weight = be.sub(x, 0..4);
        let args = LinearBackward { dx: Some(dx), dweight: dw, dbias: None, dy: x, x, weight, shape };
        be.linear_backward(args, &mut be.workspace())
    };
    let mut graph = <Cuda as Memory>::Graph::default();
    be.replay(&mut graph, [0, 0], &mut || backward(&be)).unwrap();
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        be.replay(&mut graph, [0, 0], &mut || {
            backward(&be)?;
            panic!("as asked")
        })
    }));
    assert!(caught.is_err());
    let warm = be.allocations();
    backward(&be).unwrap();
    assert_eq!(be.allocations(), warm, "the common scratch is lost");
    for _ in 0..3 {
        be.replay(&mut graph, [0, 0], &mut || backward(&be)).unwrap();
    }
    be.synchronize().unwrap();
    let held = be.device_memory();
    be.trim();
    assert!(be.device_memory() < held, "the device still thinks that it is recording");
}

#[test]
fn out_of_memory_is_an_error_and_nothing_is_lost() {
    let Some(gpu) = gpu() else { return };
    let ordinal: usize = gpu.device_id().trim_start_matches("cuda:").parse().unwrap();
    let be = Cuda::with(ordinal, &Options { memory_limit: Some(1 << 20), ..Options::default() }).unwrap();
    let x = noise(1, 1, 1000);
    let kept = up(&be, &x);
    let Err(error) = be.alloc(1 << 20) else { panic!("4 MB of 1 MB were given") };
    assert_eq!(error.code, Code::Memory);
    assert!(error.to_string().contains("bytes"), "{error}");
    assert_eq!(down(&be, &kept), x);
    assert!(be.alloc(1000).is_ok());
    // Twice the memory of the device.
    let Err(error) = gpu.alloc(1 << 36) else { panic!("256 GiB were given") };
    assert_eq!(error.code, Code::Memory);
}
