//! Counts what is asked of the system, so that a test can say that a steady call asks for nothing.

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
