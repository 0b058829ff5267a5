//! A steady step of a stream asks the system for no memory at all, counted by the allocator itself, whoever asks.
//! A steady step of training keeps nothing that it asks for, and asks for no buffer: what remains is the packing
//! inside the GEMM crate and lists of a head's rows, a few kilobytes each, given back before the step ends.

use s4_cpu::Cpu;
use s4_nn::*;
use std::process::Command;

fn wave(n: usize) -> Vec<f32> {
    (0..n).map(|i| (i as f32 * 0.1).sin() + (i as f32 * 0.37).cos()).collect()
}

/// (blocks asked for, blocks kept) by the last 8 of 12 calls.
fn steady(mut f: impl FnMut()) -> (u64, i64) {
    (0..4).for_each(|_| f());
    let before = dhat::HeapStats::get();
    (0..8).for_each(|_| f());
    let after = dhat::HeapStats::get();
    (after.total_blocks - before.total_blocks, after.curr_blocks as i64 - before.curr_blocks as i64)
}

/// The count is the process's, so that it needs one to itself.
#[test]
fn steady_steps_ask_for_nothing() {
    let name = concat!(module_path!(), "::counted");
    let (_, name) = name.split_once("::").unwrap();
    let program = std::env::current_exe().unwrap();
    let run =
        Command::new(program).args(["--exact", name, "--ignored", "--test-threads=1"]).output().unwrap();
    let said = String::from_utf8_lossy(&run.stdout);
    assert!(
        run.status.success() && said.contains("1 passed"),
        "{said}{}",
        String::from_utf8_lossy(&run.stderr)
    );
}

#[test]
#[ignore = "steady_steps_ask_for_nothing runs it, in a process of its own"]
fn counted() {
    let _profiler = dhat::Profiler::builder().testing().build();
    for mode in ["s4", "s4d"] {
        let (batch, len) = (3, 300);
        let json = format!(
            r#"{{"input": 2, "output": 1, "features": 16, "layers": 2, "state": 16, "loss": "mse", "dropout": 0.1, "mode": "{mode}"}}"#
        );
        for threads in [1, 2] {
            let config = ModelConfig::from_json(&json).unwrap();
            let mut model = Model::new(Cpu::<f32>::new(threads).unwrap(), config).unwrap();
            let (x, y) = (wave(2 * batch * len), wave(batch * len));
            // Algorithm 1 is for bilinear layers, which S4D is not by default.
            for &algorithm in Algorithm::ALL.iter().filter(|&&a| mode == "s4" || a != Algorithm::Cauchy) {
                let mut trainer = Trainer::new(&model, TrainConfig::default()).unwrap();
                let data = Batch {
                    call: CallOptions { algorithm, ..Default::default() },
                    ..Batch::new(Input::Values(&x), TargetData::Values(&y), batch, len)
                };
                let mut kept = 1;
                // A thread of the pool that takes work for the first time keeps a block, once: what a step keeps comes again.
                for _ in 0..3 {
                    if kept > 0 {
                        kept = steady(|| {
                            trainer.train_step(&mut model, &data).unwrap();
                            trainer.read_stats(&model).unwrap();
                        })
                        .1;
                    }
                }
                assert!(kept <= 0, "{mode}, {threads} threads, {algorithm:?}: {kept} blocks kept");
            }
            let mut stream = model.stream(1, 1.0).unwrap();
            let mut y = [0.0];
            let (asked, kept) = steady(|| {
                let opts = StepOptions::default();
                stream.push(&mut model, Input::Values(&x[..2]), 1, &opts, &mut y).unwrap();
            });
            assert_eq!(
                (asked, kept),
                (0, 0),
                "{mode}, {threads} threads: blocks asked for and kept by a stream"
            );
        }
    }
}
