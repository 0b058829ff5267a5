//! Counts the requests for memory to the system, so that a test can show that a repeated call makes none.

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
