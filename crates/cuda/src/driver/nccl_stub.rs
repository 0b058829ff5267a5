// A library with the functions of NCCL that are used, for tests where there is no GPU: it remembers what it was asked for, and says so in
// the text of its last error. Compiled by the test (nccl.rs) with the version that it is to have in STUB_VERSION.
#![allow(non_snake_case)]
use std::{
    ffi::{c_char, c_int, c_void, CString},
    sync::atomic::{AtomicI32, AtomicUsize, Ordering::SeqCst},
};

static OPEN_GROUPS: AtomicI32 = AtomicI32::new(0);
static CALLS: AtomicI32 = AtomicI32::new(0);
static ELEMENTS: AtomicUsize = AtomicUsize::new(0);
/// A code that no version of NCCL has.
const UNKNOWN: c_int = 99;

#[no_mangle]
pub unsafe extern "C" fn ncclGetVersion(version: *mut c_int) -> c_int {
    *version = env!("STUB_VERSION").parse().unwrap();
    0
}
#[no_mangle]
pub unsafe extern "C" fn ncclGetUniqueId(id: *mut [u8; 128]) -> c_int {
    *id = std::array::from_fn(|i| i as u8);
    0
}
#[no_mangle]
pub unsafe extern "C" fn ncclCommInitRank(comm: *mut *mut c_void, ranks: c_int, id: [u8; 128], rank: c_int) -> c_int {
    let whole = (0..128).all(|i| id[i] == i as u8);
    *comm = (1000 * ranks + rank) as usize as *mut c_void;
    if whole { 0 } else { 4 }
}
fn collective(len: usize) -> c_int {
    CALLS.fetch_add(1, SeqCst);
    ELEMENTS.fetch_add(len, SeqCst);
    if len == 13 { UNKNOWN } else { 7 }
}
#[no_mangle]
pub extern "C" fn ncclAllReduce(_: *const c_void, _: *mut c_void, len: usize, kind: c_int, op: c_int, _: *mut c_void, _: *mut c_void) -> c_int {
    if (kind, op) == (7, 0) { collective(len) } else { 4 }
}
#[no_mangle]
pub extern "C" fn ncclBroadcast(_: *const c_void, _: *mut c_void, len: usize, kind: c_int, root: c_int, _: *mut c_void, _: *mut c_void) -> c_int {
    if (kind, root) == (7, 0) { collective(len) } else { 4 }
}
#[no_mangle]
pub extern "C" fn ncclGroupStart() -> c_int {
    OPEN_GROUPS.fetch_add(1, SeqCst);
    0
}
#[no_mangle]
pub extern "C" fn ncclGroupEnd() -> c_int {
    OPEN_GROUPS.fetch_sub(1, SeqCst);
    0
}
#[no_mangle]
pub extern "C" fn ncclCommAbort(_: *mut c_void) -> c_int {
    0
}
#[no_mangle]
pub extern "C" fn ncclCommDestroy(_: *mut c_void) -> c_int {
    0
}
#[no_mangle]
pub unsafe extern "C" fn ncclCommGetAsyncError(comm: *mut c_void, state: *mut c_int) -> c_int {
    // Rank 1 of two has failed, every other is still at work.
    *state = if comm as usize == 2001 { 6 } else { 7 };
    0
}
#[no_mangle]
pub extern "C" fn ncclGetErrorString(code: c_int) -> *const c_char {
    if code == UNKNOWN { b"unknown result code\0".as_ptr().cast() } else { b"remote process exited\0".as_ptr().cast() }
}
#[no_mangle]
pub extern "C" fn ncclGetLastError(_: *mut c_void) -> *const c_char {
    let [open, calls] = [&OPEN_GROUPS, &CALLS].map(|n| n.load(SeqCst));
    let text = format!("{open} open, {calls} calls, {} elements", ELEMENTS.load(SeqCst));
    CString::new(text).unwrap().into_raw()
}
