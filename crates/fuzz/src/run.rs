//! Runs one case and judges it: no panic, memory within the reader's limit, and a right value or a right refusal. That it
//! ends in time is watched from another thread, by the program.

use crate::{ALLOCATOR, Reader};
use std::{cell::RefCell, panic};

thread_local! {
    /// Place and message of the last panic on this thread.
    static LAST_PANIC: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Has panics remembered instead of printed.
pub fn catch_panics() {
    panic::set_hook(Box::new(|info| LAST_PANIC.with_borrow_mut(|last| *last = info.to_string())));
}

/// Reads a case: whether it was read or refused, or in what the reader is at fault.
pub fn run(reader: &Reader, bytes: &[u8]) -> Result<bool, String> {
    ALLOCATOR.reset_peak_usage();
    let before = ALLOCATOR.current_usage();
    let outcome = panic::catch_unwind(panic::AssertUnwindSafe(|| (reader.read)(bytes)));
    let used = ALLOCATOR.peak_usage().saturating_sub(before);
    let read = match outcome {
        Ok(outcome) => outcome?,
        Err(_) => return Err(LAST_PANIC.take().replace('\n', " ")),
    };
    let most = reader.most_memory(bytes.len());
    match used <= most {
        true => Ok(read),
        false => Err(format!("{used} bytes of memory for a file of {}, {most} are the most", bytes.len())),
    }
}
