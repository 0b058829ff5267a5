//! Noise as input, and timing.

use s4_backend::{Memory, random::Rng};
use s4_cuda::{Buf, Cuda};
use std::time::Instant;

/// A buffer of noise.
pub fn noise(be: &Cuda, n: usize, scale: f32) -> Buf {
    // A short block of noise, repeated: host time is not what is measured.
    let mut rng = Rng::new(1, 1);
    let block: Vec<f32> = (0..n.min(1 << 16)).map(|_| scale * rng.normal() as f32).collect();
    let mut buf = be.alloc(n).expect("memory");
    for at in (0..n).step_by(block.len().max(1)) {
        let some = block.len().min(n - at);
        be.upload(be.view_mut(&mut buf, at..at + some), &block[..some]).expect("upload");
    }
    buf
}

/// Median of several timed batches of calls, each enough to hide the waits.
pub fn time(be: &Cuda, mut f: impl FnMut()) -> f64 {
    for _ in 0..2 {
        f();
    }
    be.synchronize().expect("warm-up");
    let mut all = [0.0; 5];
    for t in &mut all {
        let start = Instant::now();
        for _ in 0..4 {
            f();
        }
        be.synchronize().expect("run");
        *t = start.elapsed().as_secs_f64() * 250.0;
    }
    all.sort_by(f64::total_cmp);
    all[2]
}

/// A view of a whole buffer.
pub fn whole_mut<'a>(be: &Cuda, buf: &'a mut Buf) -> <Cuda as Memory>::Mut<'a> {
    let n = be.len(buf);
    be.view_mut(buf, 0..n)
}
