//! NVRTC, CUDA's run-time compiler: how it is found, and the functions of it that the build uses.

use std::{
    env,
    ffi::{CStr, CString, c_char, c_int, c_void},
    path::{Path, PathBuf},
    ptr,
};

/// Paths of the library and of CUDA's headers, looked for in the order that build.rs documents.
pub fn find(root: &Path) -> Option<(PathBuf, Option<PathBuf>)> {
    let names = ["libnvrtc.so.12", "libnvrtc.so", "nvrtc64_120_0.dll"];
    let within = |folder: &Path| names.iter().map(|n| folder.join(n)).find(|p| p.is_file());
    if let Some(given) = env::var_os("S4_NVRTC").map(PathBuf::from) {
        let library = if given.is_dir() { within(&given)? } else { given };
        return library.is_file().then_some((library, None));
    }
    let mut homes: Vec<(PathBuf, PathBuf)> = Vec::new();
    if let Some(home) = env::var_os("CUDA_HOME").map(PathBuf::from) {
        homes.push((home.join("lib64"), home.join("include")));
        homes.push((home.join("bin"), home.join("include")));
    }
    let own = root.join(".cuda/nvidia");
    for sub in ["lib", "bin"] {
        homes.push((own.join("cuda_nvrtc").join(sub), own.join("cuda_runtime/include")));
    }
    homes.into_iter().find_map(|(lib, include)| {
        let library = within(&lib)?.canonicalize().ok()?;
        Some((library, include.is_dir().then_some(include)))
    })
}

type Program = *mut c_void;

/// The functions of NVRTC that are used.
pub struct Nvrtc {
    version: unsafe extern "C" fn(*mut c_int, *mut c_int) -> c_int,
    create: unsafe extern "C" fn(
        *mut Program,
        *const c_char,
        *const c_char,
        c_int,
        *const *const c_char,
        *const *const c_char,
    ) -> c_int,
    compile: unsafe extern "C" fn(Program, c_int, *const *const c_char) -> c_int,
    destroy: unsafe extern "C" fn(*mut Program) -> c_int,
    log_size: unsafe extern "C" fn(Program, *mut usize) -> c_int,
    log: unsafe extern "C" fn(Program, *mut c_char) -> c_int,
    image_size: [unsafe extern "C" fn(Program, *mut usize) -> c_int; 2],
    image: [unsafe extern "C" fn(Program, *mut c_char) -> c_int; 2],
}

impl Nvrtc {
    /// Opened by absolute path and globally, so that NVRTC finds its own builtins without LD_LIBRARY_PATH.
    pub fn open(path: &Path) -> Result<Nvrtc, String> {
        #[cfg(unix)]
        // SAFETY: NVRTC's initialisers have no preconditions.
        let library: libloading::Library = unsafe {
            use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};
            Library::open(Some(path), RTLD_NOW | RTLD_GLOBAL)
                .map_err(|e| format!("{}: {e}", path.display()))?
                .into()
        };
        #[cfg(not(unix))]
        // SAFETY: as above.
        let library =
            unsafe { libloading::Library::new(path) }.map_err(|e| format!("{}: {e}", path.display()))?;
        let library: &'static libloading::Library = Box::leak(Box::new(library));
        fn symbol<T: Copy>(library: &libloading::Library, name: &str) -> Result<T, String> {
            // SAFETY: T is the function type that nvrtc.h gives for this name.
            unsafe { library.get::<T>(name.as_bytes()) }.map(|s| *s).map_err(|e| format!("{name}: {e}"))
        }
        Ok(Nvrtc {
            version: symbol(library, "nvrtcVersion")?,
            create: symbol(library, "nvrtcCreateProgram")?,
            compile: symbol(library, "nvrtcCompileProgram")?,
            destroy: symbol(library, "nvrtcDestroyProgram")?,
            log_size: symbol(library, "nvrtcGetProgramLogSize")?,
            log: symbol(library, "nvrtcGetProgramLog")?,
            image_size: [symbol(library, "nvrtcGetCUBINSize")?, symbol(library, "nvrtcGetPTXSize")?],
            image: [symbol(library, "nvrtcGetCUBIN")?, symbol(library, "nvrtcGetPTX")?],
        })
    }

    pub fn version(&self) -> Result<(c_int, c_int), String> {
        let (mut major, mut minor) = (0, 0);
        // SAFETY: both pointers are to live integers.
        match unsafe { (self.version)(&mut major, &mut minor) } {
            0 if major == 12 => Ok((major, minor)),
            0 => Err(format!(
                "NVRTC {major}.{minor} was found; CUDA 12 is needed so that driver 525 can run the kernels"
            )),
            e => Err(format!("nvrtcVersion: error {e}")),
        }
    }

    /// Machine code (`sm_90a`) or PTX (`compute_80`) of one source; `include`: the folders of its headers.
    pub fn compile(
        &self,
        file: &Path,
        source: &str,
        arch: &str,
        include: &[&Path],
    ) -> Result<Vec<u8>, String> {
        let lines = env::var_os("S4_CUDA_LINEINFO").is_some();
        let extra = if lines { &["--generate-line-info"][..] } else { &[] };
        let which = usize::from(arch.starts_with("compute_"));
        self.with_program(file, source, arch, include, extra, |program| {
            let mut size = 0;
            // SAFETY: the program is compiled; its image's size is asked of NVRTC before the buffer is made.
            let image = unsafe {
                (self.image_size[which])(program, &mut size);
                let mut image = vec![0u8; size];
                (self.image[which])(program, image.as_mut_ptr().cast());
                image
            };
            if image.is_empty() { Err("an empty image".into()) } else { Ok(image) }
        })
    }

    /// Whether a source is right for an architecture, as far as a compiler knows before it generates code: syntax, types, templates.
    pub fn check(&self, file: &Path, source: &str, arch: &str, include: &[&Path]) -> Result<(), String> {
        self.with_program(file, source, arch, include, &["--fdevice-syntax-only"], |_| Ok(()))
    }

    /// What `result` takes of a program that compiled without an error.
    fn with_program<R>(
        &self,
        file: &Path,
        source: &str,
        arch: &str,
        include: &[&Path],
        extra: &[&str],
        result: impl FnOnce(Program) -> Result<R, String>,
    ) -> Result<R, String> {
        let text = CString::new(source).map_err(|e| e.to_string())?;
        let name = CString::new(file.file_name().unwrap().to_string_lossy().as_bytes()).unwrap();
        let mut options = vec![format!("--gpu-architecture={arch}"), "--std=c++17".into()];
        options.extend(extra.iter().map(|option| option.to_string()));
        options.extend(include.iter().map(|folder| format!("--include-path={}", folder.display())));
        let options: Vec<CString> = options.into_iter().map(|o| CString::new(o).unwrap()).collect();
        let pointers: Vec<*const c_char> = options.iter().map(|o| o.as_ptr()).collect();
        // SAFETY: strings outlive the calls; the log's size is asked of NVRTC before its buffer is made.
        unsafe {
            let mut program: Program = ptr::null_mut();
            let code = (self.create)(&mut program, text.as_ptr(), name.as_ptr(), 0, ptr::null(), ptr::null());
            if code != 0 {
                return Err(format!("nvrtcCreateProgram: error {code}"));
            }
            let code = (self.compile)(program, pointers.len() as c_int, pointers.as_ptr());
            let mut size = 0;
            (self.log_size)(program, &mut size);
            let mut log = vec![0u8; size.max(1)];
            (self.log)(program, log.as_mut_ptr().cast());
            let log =
                CStr::from_bytes_until_nul(&log).map_or(String::new(), |l| l.to_string_lossy().into_owned());
            let result = if code != 0 { Err(format!("NVRTC error {code}\n{log}")) } else { result(program) };
            (self.destroy)(&mut program);
            result
        }
    }
}
