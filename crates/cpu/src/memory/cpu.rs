//! Buffers are vectors, views are slices.

use crate::{
    linalg::prefetch::{line, to_next_line},
    linalg::{
        fft::{Fft, Plans},
        simd::Level,
        transpose::{TILE, transpose_strip},
    },
    memory::{counter::Counter, workspace::Workspace},
};
use num_complex::Complex;
use rayon::prelude::*;
use s4_backend::{Code, Dtype, Error, Memory, Result, Scalar, checks::same_len, host_memory};
use std::{
    marker::PhantomData,
    ops::Range,
    sync::{Arc, Mutex, PoisonError},
};

/// The CPU with its own thread pool. Cheap to clone.
#[derive(Clone)]
pub struct Cpu<T> {
    pub(crate) inner: Arc<Inner>,
    /// Whether this handle's operations stay on the thread that calls them.
    alone: bool,
    scalar: PhantomData<fn() -> T>,
}

pub(crate) struct Inner {
    pub(crate) pool: rayon::ThreadPool,
    pub(crate) threads: usize,
    pub(crate) counter: Counter,
    pub(crate) level: Level,
    pub(crate) plans: Plans,
}

/// Integers on the CPU.
#[derive(Clone, Debug, Default)]
pub struct Ints(pub(crate) Vec<i32>);

impl Ints {
    /// As a slice.
    pub fn as_slice(&self) -> &[i32] {
        &self.0
    }
}

impl<T: Scalar> Cpu<T> {
    /// A pool of `threads` threads; 0 means one for each core.
    pub fn new(threads: usize) -> Result<Self> {
        let threads = match threads {
            0 => std::thread::available_parallelism().map_or(1, |n| n.get()),
            n => n,
        };
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .thread_name(|i| format!("s4-cpu-{i}"))
            .build()
            .map_err(|e| {
                Error::new(Code::Memory, "s4-node", format!("{threads} threads with their stacks"), e)
            })?;
        Ok(Cpu {
            inner: Arc::new(Inner {
                pool,
                threads,
                counter: Counter::default(),
                level: Level::detect(),
                plans: Plans::default(),
            }),
            alone: false,
            scalar: PhantomData,
        })
    }

    /// Threads that this handle's operations go over: those of the pool, or the caller's alone.
    pub fn threads(&self) -> usize {
        if self.alone { 1 } else { self.inner.threads }
    }

    /// Instruction set in use.
    pub fn level(&self) -> Level {
        self.inner.level
    }

    /// The transform of length `len` ≥ 1 in this backend's type; planned at the first call.
    pub(crate) fn fft(&self, len: usize) -> Fft {
        self.inner.plans.fft(len, T::DTYPE)
    }

    /// The transform of length `len` ≥ 1 in f64.
    pub(crate) fn fft64(&self, len: usize) -> Fft {
        self.inner.plans.fft(len, Dtype::F64)
    }

    /// The twist of the right-angle convolution; see [`Plans::twist`].
    pub(crate) fn twist(&self, len: usize) -> Arc<Vec<Complex<T>>> {
        self.inner.plans.twist(len, &self.inner.counter)
    }

    /// Runs `op` on the pool; rayon calls inside it use this pool's threads. Handing over costs
    /// microseconds: short work goes by [`Cpu::tasks`], which stays on this thread where that is quicker.
    /// (Running `op` in place with one thread would send its rayon calls to the global pool.)
    pub(crate) fn install<R: Send>(&self, op: impl FnOnce() -> R + Send) -> R {
        self.inner.pool.install(op)
    }
}

/// Elements that one task should at least have before a loop is worth splitting over threads.
pub(crate) const MIN_ELEMENTS_PER_TASK: usize = 1 << 14;

impl<T: Scalar> Memory for Cpu<T> {
    type Scalar = T;
    type Buf = Vec<T>;
    type Ints = Ints;
    type Ref<'a> = &'a [T];
    type Mut<'a> = &'a mut [T];
    type Workspace = Workspace<T>;
    type AsyncDownload = Vec<T>;
    /// Nothing to record: a call is what is computed.
    type Graph = ();

    fn device_id(&self) -> String {
        "cpu".into()
    }

    fn alloc(&self, len: usize) -> Result<Vec<T>> {
        self.inner.counter.bump();
        host_memory::zeros("alloc", "an array", len)
    }

    fn elements_of_line(&self) -> usize {
        line::<T>()
    }

    fn begin_of_line(&self, buf: &Vec<T>) -> usize {
        to_next_line(buf)
    }

    fn alloc_ints(&self, len: usize) -> Result<Ints> {
        self.inner.counter.bump();
        host_memory::zeros("alloc_ints", "integers", len).map(Ints)
    }

    fn workspace(&self) -> Workspace<T> {
        Workspace::new(&self.inner.counter)
    }

    fn allocations(&self) -> u64 {
        self.inner.counter.get()
    }

    fn host_waits(&self) -> u64 {
        0
    }

    fn device_memory(&self) -> u64 {
        0
    }

    fn handles_of_threads(&self) -> Vec<Self> {
        (0..self.threads()).map(|_| Cpu { alone: true, ..self.clone() }).collect()
    }

    fn side_by_side<I: Send>(&self, items: &mut [I], work: impl Fn(&mut I) + Send + Sync) {
        // One job for each thread, which no thread takes while it waits within another.
        let next = Mutex::new(items.iter_mut());
        let take = || next.lock().unwrap_or_else(PoisonError::into_inner).next();
        self.inner.pool.broadcast(|_| {
            while let Some(item) = take() {
                work(item);
            }
        });
    }

    fn len(&self, buf: &Vec<T>) -> usize {
        buf.len()
    }

    fn view<'a>(&self, buf: &'a Vec<T>, range: Range<usize>) -> &'a [T] {
        &buf[range]
    }

    fn view_mut<'a>(&self, buf: &'a mut Vec<T>, range: Range<usize>) -> &'a mut [T] {
        &mut buf[range]
    }

    fn ref_len(&self, view: &[T]) -> usize {
        view.len()
    }

    fn mut_len(&self, view: &&mut [T]) -> usize {
        view.len()
    }

    fn ints_len(&self, ints: &Ints) -> usize {
        ints.0.len()
    }

    fn host_ints<'a>(&self, ints: &'a Ints) -> Option<&'a [i32]> {
        Some(&ints.0)
    }

    fn shorten<'short, 'long: 'short>(&self, view: &'long [T]) -> &'short [T] {
        view
    }

    fn sub<'a>(&self, view: Self::Ref<'a>, range: Range<usize>) -> Self::Ref<'a> {
        &view[range]
    }

    fn split_mut<'a>(&self, view: Self::Mut<'a>, at: usize) -> (Self::Mut<'a>, Self::Mut<'a>) {
        view.split_at_mut(at)
    }

    fn reborrow<'a>(&self, view: &'a mut &mut [T]) -> &'a mut [T] {
        view
    }

    fn freeze<'a>(&self, view: &'a &mut [T]) -> &'a [T] {
        view
    }

    fn upload(&self, dst: &mut [T], src: &[T]) -> Result<()> {
        same_len("upload", "the source", dst.len(), src.len())?;
        dst.copy_from_slice(src);
        Ok(())
    }

    fn upload_ints(&self, dst: &mut Ints, src: &[i32]) -> Result<()> {
        if dst.0.len() < src.len() {
            return Err(Error::shape("upload_ints", dst.0.len(), src.len()));
        }
        dst.0[..src.len()].copy_from_slice(src);
        Ok(())
    }

    fn download(&self, dst: &mut [T], src: &[T]) -> Result<()> {
        same_len("download", "the source", dst.len(), src.len())?;
        dst.copy_from_slice(src);
        Ok(())
    }

    fn async_download(&self, len: usize) -> Result<Vec<T>> {
        self.alloc(len)
    }

    fn start_download(&self, download: &mut Vec<T>, src: &[T]) -> Result<()> {
        self.download(download, src)
    }

    fn wait_download<'a>(&self, download: &'a mut Vec<T>) -> Result<&'a [T]> {
        Ok(download)
    }

    fn host_ref<'a>(&self, host: &'a [T]) -> Option<&'a [T]> {
        Some(host)
    }

    fn host_mut<'a>(&self, host: &'a mut [T]) -> Option<&'a mut [T]> {
        Some(host)
    }

    fn replay(&self, _: &mut (), _: [u64; 2], body: &mut dyn FnMut() -> Result<()>) -> Result<()> {
        body()
    }

    fn fill(&self, dst: &mut [T], value: T) -> Result<()> {
        dst.fill(value);
        Ok(())
    }

    fn copy(&self, dst: &mut [T], src: &[T]) -> Result<()> {
        same_len("copy", "the source", dst.len(), src.len())?;
        dst.copy_from_slice(src);
        Ok(())
    }

    fn axpy(&self, dst: &mut [T], alpha: T, src: &[T]) -> Result<()> {
        same_len("axpy", "the source", dst.len(), src.len())?;
        let level = self.inner.level;
        let add = |(d, s): (&mut [T], &[T])| {
            level.run(
                #[inline(always)]
                || {
                    for (d, &s) in d.iter_mut().zip(s) {
                        *d += alpha * s;
                    }
                },
            )
        };
        if self.threads() == 1 {
            add((dst, src));
            return Ok(());
        }
        let parts = MIN_ELEMENTS_PER_TASK;
        self.install(|| dst.par_chunks_mut(parts).zip(src.par_chunks(parts)).for_each(add));
        Ok(())
    }

    fn all_finite(&self, host: &[T]) -> bool {
        if host.len() < 2 * MIN_ELEMENTS_PER_TASK || self.threads() == 1 {
            return s4_backend::all_finite(host);
        }
        self.install(|| host.par_chunks(MIN_ELEMENTS_PER_TASK).all(s4_backend::all_finite))
    }

    fn transpose(&self, dst: &mut [T], src: &[T], batch: usize, rows: usize, cols: usize) -> Result<()> {
        same_len("transpose", "the source", batch * rows * cols, src.len())?;
        same_len("transpose", "the source", src.len(), dst.len())?;
        if rows == 1 || cols == 1 {
            dst.copy_from_slice(src);
            return Ok(());
        }
        // A strip of output rows a task; one thread does a small one quicker than it hands it over.
        let strip = |(d, s, c0): (&mut [T], &[T], usize)| transpose_strip(d, s, rows, cols, c0);
        let strips = |(d, s)| {
            let (d, s): (&mut [T], &[T]) = (d, s);
            d.chunks_mut(TILE * rows).enumerate().map(move |(i, d)| (d, s, i * TILE))
        };
        if src.len() < 2 * MIN_ELEMENTS_PER_TASK || self.threads() == 1 {
            dst.chunks_mut(rows * cols).zip(src.chunks(rows * cols)).flat_map(strips).for_each(strip);
            return Ok(());
        }
        self.install(|| {
            dst.par_chunks_mut(rows * cols).zip(src.par_chunks(rows * cols)).for_each(|(d, s)| {
                d.par_chunks_mut(TILE * rows).enumerate().for_each(|(i, d)| strip((d, s, i * TILE)))
            })
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transpose_twice_is_identity() {
        let be = Cpu::<f32>::new(2).unwrap();
        for (b, r, c) in [(1, 1, 5), (2, 33, 65), (3, 7, 1), (1, 128, 3), (3, 128, 1031), (5, 2, 32)] {
            let x: Vec<f32> = (0..b * r * c).map(|i| i as f32).collect();
            let (mut y, mut z) = (vec![0.0; x.len()], vec![0.0; x.len()]);
            be.transpose(&mut y, &x, b, r, c).unwrap();
            assert_eq!(y[r.min(2) - 1], x[(r.min(2) - 1) * c]);
            be.transpose(&mut z, &y, b, c, r).unwrap();
            assert_eq!(x, z);
        }
    }
}
