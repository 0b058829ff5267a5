//! NCCL, NVIDIA's library of sums over GPUs: opened at run time where there are several ranks, by a table of the few functions
//! that are used. A single GPU needs none of it.

use s4_backend::{COMM_ID_BYTES, CommId, Error, Result, group_error};
use std::{
    ffi::{CStr, c_char, c_int, c_void},
    path::PathBuf,
    sync::OnceLock,
};

/// The names under which NCCL is installed: the first is the only one of its wheels on PyPI.
const NAMES: [&str; 2] = ["libnccl.so.2", "libnccl.so"];
/// The variable that names the library's file.
const VARIABLE: &str = "S4_NCCL_LIBRARY";
/// NCCL 2.19, whose abort may be called while another thread is in a call.
const MIN_VERSION: c_int = 21900;

/// A communicator of NCCL.
pub(super) type Comm = *mut c_void;

/// `ncclUniqueId`, which is passed by value.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct UniqueId([c_char; COMM_ID_BYTES]);

impl From<CommId> for UniqueId {
    fn from(bytes: CommId) -> Self {
        UniqueId(bytes.map(|byte| byte as c_char))
    }
}

/// `ncclSuccess` of `ncclResult_t`, a C `int` here: later versions add codes.
const SUCCESS: c_int = 0;
/// `ncclInProgress`.
const IN_PROGRESS: c_int = 7;
/// `ncclFloat32` of `ncclDataType_t`.
const FLOAT32: c_int = 7;
/// `ncclSum` of `ncclRedOp_t`.
const SUM: c_int = 0;

/// The functions of NCCL that are used, with the signatures of `nccl.h`.
pub(super) struct Nccl {
    get_version: unsafe extern "C" fn(*mut c_int) -> c_int,
    get_unique_id: unsafe extern "C" fn(*mut UniqueId) -> c_int,
    comm_init_rank: unsafe extern "C" fn(*mut Comm, c_int, UniqueId, c_int) -> c_int,
    all_reduce:
        unsafe extern "C" fn(*const c_void, *mut c_void, usize, c_int, c_int, Comm, *mut c_void) -> c_int,
    broadcast:
        unsafe extern "C" fn(*const c_void, *mut c_void, usize, c_int, c_int, Comm, *mut c_void) -> c_int,
    group_start: unsafe extern "C" fn() -> c_int,
    group_end: unsafe extern "C" fn() -> c_int,
    comm_abort: unsafe extern "C" fn(Comm) -> c_int,
    comm_destroy: unsafe extern "C" fn(Comm) -> c_int,
    comm_get_async_error: unsafe extern "C" fn(Comm, *mut c_int) -> c_int,
    get_error_string: unsafe extern "C" fn(c_int) -> *const c_char,
    get_last_error: unsafe extern "C" fn(Comm) -> *const c_char,
}

/// Floats on the device that a collective reads and overwrites.
#[derive(Clone, Copy)]
pub(crate) struct Floats {
    pub ptr: u64,
    pub len: usize,
}

/// What a collective does with them.
#[derive(Clone, Copy)]
pub(crate) enum Collective {
    /// Each becomes its sum over all ranks.
    Sum,
    /// Each becomes that of a rank.
    Broadcast { root: usize },
}

impl Nccl {
    /// The library, opened at the first call. `ERR_S4_DISTRIBUTED` says where it was looked for.
    pub fn open() -> Result<&'static Nccl> {
        static OPENED: OnceLock<Nccl> = OnceLock::new();
        if let Some(nccl) = OPENED.get() {
            return Ok(nccl);
        }
        let given = std::env::var_os(VARIABLE).filter(|path| !path.is_empty()).map(PathBuf::from);
        let names = match given {
            Some(path) => vec![path],
            None => NAMES.map(PathBuf::from).to_vec(),
        };
        let nccl = Nccl::open_first(&names)?;
        Ok(OPENED.get_or_init(|| nccl))
    }

    /// The first of these libraries that opens, if it is new enough.
    fn open_first(names: &[PathBuf]) -> Result<Nccl> {
        let expected = || {
            format!(
                "NCCL {} or newer ({VARIABLE} with the path of libnccl.so.2, or its folder on the loader's path: \
                 `pip install nvidia-nccl-cu12` has it)",
                version_text(MIN_VERSION)
            )
        };
        let mut errors = Vec::new();
        let library = names.iter().find_map(|name| {
            // SAFETY: opening a library runs its initialisers, and NCCL's have no preconditions.
            let opened = unsafe { libloading::Library::new(name) };
            opened.map_err(|e| errors.push(format!("{}: {e}", name.display()))).ok()
        });
        let Some(library) = library else { return Err(group_error(expected(), errors.join("; "))) };
        // It stays open for the life of the process: it has threads of its own.
        let library: &'static libloading::Library = Box::leak(Box::new(library));
        let nccl = Nccl::load(library)
            .map_err(|name| group_error(expected(), format!("a library without {name}")))?;
        let version = nccl.version();
        match version >= MIN_VERSION {
            true => Ok(nccl),
            false => Err(group_error(expected(), format!("NCCL {}", version_text(version)))),
        }
    }

    /// The name of the first function that the library lacks is the error.
    fn load(library: &'static libloading::Library) -> Result<Nccl, &'static str> {
        fn symbol<T: Copy>(
            library: &'static libloading::Library,
            name: &'static str,
        ) -> Result<T, &'static str> {
            // SAFETY: T is the function type that nccl.h gives for this name.
            unsafe { library.get::<T>(name.as_bytes()) }.map(|s| *s).map_err(|_| name)
        }
        Ok(Nccl {
            get_version: symbol(library, "ncclGetVersion")?,
            get_unique_id: symbol(library, "ncclGetUniqueId")?,
            comm_init_rank: symbol(library, "ncclCommInitRank")?,
            all_reduce: symbol(library, "ncclAllReduce")?,
            broadcast: symbol(library, "ncclBroadcast")?,
            group_start: symbol(library, "ncclGroupStart")?,
            group_end: symbol(library, "ncclGroupEnd")?,
            comm_abort: symbol(library, "ncclCommAbort")?,
            comm_destroy: symbol(library, "ncclCommDestroy")?,
            comm_get_async_error: symbol(library, "ncclCommGetAsyncError")?,
            get_error_string: symbol(library, "ncclGetErrorString")?,
            get_last_error: symbol(library, "ncclGetLastError")?,
        })
    }

    fn version(&self) -> c_int {
        let mut version = 0;
        // SAFETY: the pointer is to a live local.
        match unsafe { (self.get_version)(&mut version) } {
            SUCCESS => version,
            _ => 0,
        }
    }

    /// A new id for a group.
    pub fn unique_id(&self) -> Result<CommId> {
        let mut id = UniqueId([0; COMM_ID_BYTES]);
        // SAFETY: the pointer is to a live local.
        let code = unsafe { (self.get_unique_id)(&mut id) };
        self.check("an id for the group of ranks", code, std::ptr::null_mut())?;
        Ok(id.0.map(|c| c as u8))
    }

    /// Joins a group, on the device whose context is current on this thread. Returns when all ranks have.
    pub fn join(&self, id: CommId, rank: usize, world_size: usize) -> Result<Comm> {
        let mut comm = std::ptr::null_mut();
        // SAFETY: the pointer is to a live local; rank and number of ranks are checked by NCCL.
        let code = unsafe { (self.comm_init_rank)(&mut comm, world_size as c_int, id.into(), rank as c_int) };
        self.check("NCCL to connect the ranks", code, comm)?;
        Ok(comm)
    }

    /// Enqueues a collective on `stream`.
    pub fn enqueue(
        &self,
        comm: Comm,
        stream: *mut c_void,
        views: &[Floats],
        collective: Collective,
    ) -> Result<()> {
        // SAFETY: every group that is started is ended on this thread.
        self.check("NCCL to begin a group of calls", unsafe { (self.group_start)() }, comm)?;
        let mut enqueued = Ok(());
        for &Floats { ptr, len } in views.iter().filter(|view| view.len > 0) {
            let data = ptr as *mut c_void;
            // SAFETY: the ranges are live device memory of `len` floats, which nothing else touches before the call has ended on
            // the stream; source and destination may be the same; the communicator is live.
            let code = unsafe {
                match collective {
                    Collective::Sum => (self.all_reduce)(data, data, len, FLOAT32, SUM, comm, stream),
                    Collective::Broadcast { root } => {
                        (self.broadcast)(data, data, len, FLOAT32, root as c_int, comm, stream)
                    }
                }
            };
            enqueued = enqueued.and_then(|()| self.check("NCCL to take a call", code, comm));
        }
        // SAFETY: as above.
        let ended = self.check("NCCL to enqueue a group of calls", unsafe { (self.group_end)() }, comm);
        enqueued.and(ended)
    }

    /// What has gone wrong in calls that were enqueued, if anything has.
    pub fn async_error(&self, comm: Comm) -> Option<String> {
        let mut state = SUCCESS;
        // SAFETY: the communicator is live, the pointer is to a live local.
        let code = unsafe { (self.comm_get_async_error)(comm, &mut state) };
        let failed = [code, state].into_iter().find(|&code| code != SUCCESS && code != IN_PROGRESS)?;
        Some(self.text(failed, comm))
    }

    /// Ends a communicator, with what it is doing. It must not be used again.
    pub fn abort(&self, comm: Comm) {
        // SAFETY: the communicator is live, and given up here; another thread may be in a call with it, which ends then.
        unsafe { (self.comm_abort)(comm) };
    }

    /// Frees a communicator that has nothing to do. It must not be used again.
    pub fn destroy(&self, comm: Comm) {
        // SAFETY: the communicator is live, and given up here.
        unsafe { (self.comm_destroy)(comm) };
    }

    fn check(&self, expected: &str, code: c_int, comm: Comm) -> Result<()> {
        match code {
            SUCCESS | IN_PROGRESS => Ok(()),
            code => Err(self.error(expected, code, comm)),
        }
    }

    #[cold]
    fn error(&self, expected: &str, code: c_int, comm: Comm) -> Error {
        group_error(expected, self.text(code, comm))
    }

    /// What a code means, and what NCCL last said.
    fn text(&self, code: c_int, comm: Comm) -> String {
        let text = |ptr: *const c_char| match ptr.is_null() {
            true => String::new(),
            // SAFETY: NCCL gives texts of its own that end with 0.
            false => unsafe { CStr::from_ptr(ptr) }.to_string_lossy().trim().to_string(),
        };
        // SAFETY: any code may be asked for; the last error is of the thread, whatever the communicator.
        let (meaning, last) =
            unsafe { (text((self.get_error_string)(code)), text((self.get_last_error)(comm))) };
        match last.is_empty() {
            true => format!("NCCL's error {code}, {meaning}"),
            false => format!("NCCL's error {code}, {meaning} ({last})"),
        }
    }
}

/// A version as people write it: 22809 is 2.28.9, and 2708 of old 2.7.8.
fn version_text(version: c_int) -> String {
    let unit = if version < 10_000 { 1000 } else { 10_000 };
    format!("{}.{}.{}", version / unit, version % unit / 100, version % 100)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_library_that_is_absent_or_no_nccl_is_named() {
        let error = Nccl::open_first(&["/no/such/libnccl.so.2".into()]).err().unwrap();
        assert_eq!(error.code.as_str(), "ERR_S4_DISTRIBUTED");
        assert!(
            error.expected.contains("S4_NCCL_LIBRARY") && error.got.contains("/no/such/libnccl.so.2"),
            "{error}"
        );
        // The C library opens and has none of the functions.
        let error = Nccl::open_first(&["libc.so.6".into()]).err().unwrap();
        assert!(error.got.contains("ncclGetVersion"), "{error}");
    }

    #[test]
    fn versions_are_written_as_people_write_them() {
        assert_eq!([21900, 22809, 2708].map(version_text), ["2.19.0", "2.28.9", "2.7.8"]);
    }

    /// The library of nccl_stub.rs with this version, compiled by the compiler that runs the tests; `None` on a machine without one, to
    /// which only the test program was brought.
    fn stub(version: c_int) -> Option<PathBuf> {
        let compiler = option_env!("RUSTC").unwrap_or("rustc");
        if std::process::Command::new(compiler).arg("--version").output().is_err() {
            assert!(std::env::var_os("CI").is_none(), "a compiler for the library of this test");
            return None;
        }
        let folder = std::env::temp_dir().join(format!("s4-nccl-stub-{}-{version}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/src/driver/nccl_stub.rs");
        let compiled = std::process::Command::new(compiler)
            .args([
                "--crate-type",
                "cdylib",
                "--edition",
                "2021",
                "--crate-name",
                "nccl_stub",
                source,
                "--out-dir",
            ])
            .arg(&folder)
            .env("STUB_VERSION", version.to_string())
            .status()
            .unwrap();
        assert!(compiled.success());
        let name = format!("{}nccl_stub{}", std::env::consts::DLL_PREFIX, std::env::consts::DLL_SUFFIX);
        Some(folder.join(name))
    }

    #[test]
    fn a_library_that_is_too_old_is_refused() {
        let Some(path) = stub(21803) else { return };
        let error = Nccl::open_first(std::slice::from_ref(&path)).err().unwrap();
        assert_eq!(error.code.as_str(), "ERR_S4_DISTRIBUTED");
        assert!(error.expected.contains("2.19.0") && error.got == "NCCL 2.18.3", "{error}");
        std::fs::remove_dir_all(path.parent().unwrap()).unwrap();
    }

    #[test]
    fn calls_go_to_the_library_and_its_codes_come_back() {
        let Some(path) = stub(21900) else { return };
        let nccl = Nccl::open_first(std::slice::from_ref(&path)).unwrap();
        let id = nccl.unique_id().unwrap();
        assert_eq!(id, std::array::from_fn(|i| i as u8));
        let comm = nccl.join(id, 0, 2).unwrap();
        assert_eq!(comm as usize, 2000);
        let error = nccl.join([0; COMM_ID_BYTES], 0, 2).err().unwrap();
        assert!(error.got.contains("error 4"), "{error}");
        let views = |lens: &[usize]| lens.iter().map(|&len| Floats { ptr: 256, len }).collect::<Vec<_>>();
        let enqueue = |lens: &[usize], what| nccl.enqueue(comm, std::ptr::null_mut(), &views(lens), what);
        // The code 7, "in progress", is none of an error. Nothing is asked for an empty view.
        enqueue(&[4, 0, 5], Collective::Sum).unwrap();
        enqueue(&[6], Collective::Broadcast { root: 0 }).unwrap();
        // A call fails with a code that no version has, and the group of calls is ended all the same.
        let error = enqueue(&[1, 13, 2], Collective::Sum).unwrap_err();
        assert_eq!(error.code.as_str(), "ERR_S4_DISTRIBUTED");
        assert!(
            error.got.contains("error 99, unknown result code (1 open, 5 calls, 29 elements)"),
            "{error}"
        );
        let failed = nccl.async_error(nccl.join(id, 1, 2).unwrap()).unwrap();
        assert!(failed.contains("error 6, remote process exited (0 open, 6 calls, 31 elements)"), "{failed}");
        assert_eq!(nccl.async_error(comm), None);
        std::fs::remove_dir_all(path.parent().unwrap()).unwrap();
    }

    /// Where NCCL is, with or without a GPU: it makes ids, no two alike.
    #[test]
    fn nccl_makes_ids_where_it_is_installed() {
        if std::env::var_os(VARIABLE).is_none() {
            return;
        }
        let nccl = Nccl::open().unwrap();
        assert!(nccl.version() >= MIN_VERSION);
        assert_ne!(nccl.unique_id().unwrap(), nccl.unique_id().unwrap());
    }
}
