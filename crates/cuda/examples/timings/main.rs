//! Times of the GPU's operations, ms, one line a case: `timings [high | bf16] [dense] [ssm] [two-sided] [fft] [cauchy] [step] [training] [once:LEN]`, all by default
//! (`once` runs a forward and a backward pass twice, for a profiler). The SSM's cases have 2²⁶ elements.

mod dense;
mod layer;
mod sequences;
mod steps;
mod tools;
mod training;

use s4_backend::{Algorithm, Memory, Mode};
use s4_cuda::{Cuda, Options, Precision, diagnose_text, probe};
use std::io::Write;

fn main() {
    let out = &mut std::io::stdout();
    writeln!(out, "{}", diagnose_text()).expect("output");
    let Ok(devices) = probe() else { return };
    let mut asked: Vec<String> = std::env::args().skip(1).collect();
    let precision = asked.iter().position(|a| a.parse::<Precision>().is_ok());
    let precision = precision.map_or(Precision::Highest, |i| asked.remove(i).parse().expect("tried"));
    writeln!(out, "precision {precision:?}").expect("output");
    let options = Options { precision, ..Options::default() };
    let be = Cuda::with(devices[0].ordinal, &options).expect("device");
    let total = 64 << 20;
    let lens = [1 << 10, 1 << 12, 1 << 14, 1 << 16, 1 << 18, 1 << 20];
    let all = ["dense", "ssm", "two-sided", "fft", "cauchy", "step", "training"].map(String::from);
    for section in if asked.is_empty() { &all[..] } else { &asked } {
        match section.as_str() {
            "dense" => {
                dense::norm(&be, out, 50, 512, 1024);
                dense::mix(&be, out, 50, 512, 1024);
                dense::mix(&be, out, 16, 256, 16384);
            }
            "ssm" => {
                for len in lens {
                    sequences::ssm(&be, out, total, Mode::S4, Algorithm::Chunk, len);
                }
                sequences::ssm(&be, out, total, Mode::S4d, Algorithm::Chunk, 1 << 12);
            }
            "two-sided" => {
                for shape in [(50, 512, 1024), (16, 256, 16384), (16, 128, 16000), (50, 256, 2048)] {
                    sequences::two_sided(&be, out, shape);
                }
            }
            "fft" => {
                for len in lens {
                    sequences::kernel_and_conv(&be, out, total, len);
                }
            }
            "cauchy" => {
                for len in &lens[..5] {
                    sequences::cauchy(&be, out, total, *len);
                }
            }
            "step" => {
                for batch in [1, 64, 1024] {
                    steps::step(&be, out, batch);
                    steps::stream(&be, out, batch);
                }
            }
            "training" => {
                training::training(devices[0].ordinal, out, (4, 64), (8, 1024));
                training::training(devices[0].ordinal, out, (6, 128), (16, 1024));
                training::training(devices[0].ordinal, out, (6, 512), (50, 1024));
            }
            // once:LEN
            other => sequences::once(&be, other.trim_start_matches("once:").parse().expect("a length")),
        }
        be.trim();
    }
    writeln!(out, "memory held: {:.2} GB, launches: {}", be.device_memory() as f64 / 1e9, be.launches())
        .expect("output");
}
