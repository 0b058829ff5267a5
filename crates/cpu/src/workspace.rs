//! Scratch memory that is asked for once and then reused: a steady step allocates nothing.

use crate::huge::HugePool;
use num_complex::Complex;
use s4_backend::Scalar;
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

/// Counts every time memory is asked of the system.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counter(Arc<AtomicU64>);

impl Counter {
    pub(crate) fn bump(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A pool of vectors of one type. Capacities are powers of two and a vector serves requests of its own class
/// alone: the same requests find the same classes, so a repeated call never asks for memory again, and the
/// classes below the largest together hold no more than it does, a vector each.
#[derive(Debug)]
pub(crate) struct Pool<E> {
    free: Vec<Vec<E>>,
    counter: Counter,
}

impl<E: Copy + Default> Pool<E> {
    fn new(counter: Counter) -> Self {
        Pool { free: Vec::new(), counter }
    }

    /// A vector of exactly `len` elements with arbitrary contents.
    pub(crate) fn take(&mut self, len: usize) -> Vec<E> {
        if len == 0 {
            return Vec::new();
        }
        let class = len.next_power_of_two();
        let mut v = match self.free.iter().position(|v| (class..2 * class).contains(&v.capacity())) {
            Some(i) => self.free.swap_remove(i),
            None => {
                self.counter.bump();
                let mut v = Vec::new();
                v.reserve_exact(class);
                v
            }
        };
        // Only the part that was never written is initialised.
        v.resize(len, E::default());
        v
    }

    /// A zeroed vector of `len` elements.
    pub(crate) fn take_zeroed(&mut self, len: usize) -> Vec<E> {
        let mut v = self.take(len);
        v.fill(E::default());
        v
    }

    /// Returns a vector to the pool.
    pub(crate) fn give(&mut self, v: Vec<E>) {
        if v.capacity() > 0 {
            self.free.push(v);
        }
    }
}

/// The scratch memory of one model. Operations take vectors and give them back; contents are garbage.
#[derive(Debug)]
pub struct Workspace<T> {
    pub(crate) real: Pool<T>,
    /// Of the transforms.
    pub(crate) complex: HugePool<Complex<T>>,
    pub(crate) f64: Pool<f64>,
    pub(crate) c64: Pool<Complex<f64>>,
}

impl<T: Scalar> Workspace<T> {
    pub(crate) fn new(counter: &Counter) -> Self {
        Workspace {
            real: Pool::new(counter.clone()),
            complex: HugePool::new(counter.clone()),
            f64: Pool::new(counter.clone()),
            c64: Pool::new(counter.clone()),
        }
    }
}
