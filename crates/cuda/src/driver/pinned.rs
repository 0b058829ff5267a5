//! Page-locked host memory.

use cudarc::driver::{result, sys};
use std::{
    ffi::c_void,
    sync::{Mutex, MutexGuard},
};

/// Page-locked memory that transfers pass through, and the event after which the last of them has ended.
pub(crate) struct Pinned {
    pub(super) ptr: *mut c_void,
    pub(super) bytes: usize,
    pub(super) done_event: sys::CUevent,
}

// SAFETY: the memory belongs to this value alone, and is read and written through it; the driver locks its own state.
unsafe impl Send for Pinned {}
// SAFETY: as above.
unsafe impl Sync for Pinned {}

impl Pinned {
    /// Frees memory and event. Its last transfer has ended or its device is lost; the context is current.
    pub(super) fn free(self) {
        // SAFETY: the only owner gives memory and event up, and nothing reads or writes the memory any more.
        unsafe {
            let _ = result::event::destroy(self.done_event);
            let _ = result::free_host(self.ptr);
        }
    }
}

/// The page-locked memory of a queue's uploads, in the order of use.
#[derive(Default)]
pub(super) struct StagingMemory(Mutex<Vec<Pinned>>);

impl StagingMemory {
    pub(super) fn lock(&self) -> MutexGuard<'_, Vec<Pinned>> {
        self.0.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Takes everything out, to be freed when the queue ends.
    pub(super) fn take(&mut self) -> Vec<Pinned> {
        std::mem::take(self.0.get_mut().unwrap_or_else(|e| e.into_inner()))
    }
}
