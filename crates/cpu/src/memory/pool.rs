//! Vectors of one type that are asked for once and then reused.

use crate::memory::{counter::Counter, refusal::refuse};
use s4_backend::host_memory;

/// A pool of vectors of one type. Capacities are powers of two and a vector serves requests of its own class
/// alone: equal requests find equal classes, so a repeated call asks for no more memory, and the
/// classes below the largest together hold no more than it does, a vector each.
#[derive(Debug)]
pub(crate) struct Pool<E> {
    free: Vec<Vec<E>>,
    counter: Counter,
}

impl<E: Copy + Default> Pool<E> {
    pub(crate) fn new(counter: Counter) -> Self {
        Pool { free: Vec::new(), counter }
    }

    /// A vector of exactly `len` elements with arbitrary contents.
    pub(crate) fn take(&mut self, len: usize) -> Vec<E> {
        if len == 0 {
            return Vec::new();
        }
        let capacity = len.next_power_of_two();
        let mut v = match self.free.iter().position(|v| (capacity..2 * capacity).contains(&v.capacity())) {
            Some(i) => self.free.swap_remove(i),
            None => {
                self.counter.bump();
                // The operation writes to the `len` elements that it asked for; the elements beyond, up to the size of
                // the class, cost addresses but no memory, since nothing is written there.
                host_memory::reserved("s4-node", "scratch", len, capacity)
                    .unwrap_or_else(|error| refuse(error))
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
