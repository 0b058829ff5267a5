//! Compiles `kernels/*.cu` with NVRTC, for every supported chip, and embeds the result compressed.
//!
//! NVRTC is looked for in `S4_NVRTC` (the library or its folder), `CUDA_HOME`, and the project's `.cuda/`, which
//! `scripts/nvrtc.mjs` fills. Where it is nowhere, the build succeeds without kernels and says so.
//! `S4_CUDA_ARCHS="90a compute_80"` restricts the list while developing; `S4_CUDA_REQUIRE=1` turns a build
//! without all kernels into an error (CI). Compiled images are kept in `.cuda/cache` under a hash of all that they
//! are made of, so that debug and release builds, and builds after a kernel was changed, compile only what is new.

use std::{
    collections::hash_map::DefaultHasher,
    env,
    ffi::{CStr, CString, c_char, c_int, c_void},
    fs,
    hash::{Hash, Hasher},
    path::{Path, PathBuf},
    ptr,
};

/// Machine code of every generation, and PTX for chips that come later.
const ARCHS: &str = "75 80 86 89 90a 100 120 compute_75 compute_80";
/// Debug builds are for development: Hopper, and everything else by the driver's compiler.
const DEBUG_ARCHS: &str = "90a compute_75 compute_80";

fn main() {
    for variable in ["S4_NVRTC", "CUDA_HOME", "S4_CUDA_ARCHS", "S4_CUDA_REQUIRE", "S4_CUDA_LINEINFO"] {
        println!("cargo:rerun-if-env-changed={variable}");
    }
    println!("cargo:rerun-if-changed=kernels");
    println!("cargo:rerun-if-changed=build.rs");
    let out = PathBuf::from(env::var_os("OUT_DIR").unwrap());
    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap()).join("../..");
    // `scripts/nvrtc.mjs` touches this file when it has filled `.cuda/`: watching a folder that may not exist
    // would compile the crate again every time.
    let require = env::var_os("S4_CUDA_REQUIRE").is_some_and(|v| v != "0");

    let own = root.join(".cuda");
    let cache = if own.is_dir() { own.join("cache") } else { out.clone() };
    let images = match find_nvrtc(&root) {
        Some((library, include)) => match compile_all(&library, include.as_deref(), &cache, &out) {
            Ok(images) => images,
            Err(e) => panic!("{e}"),
        },
        None if require => panic!("S4_CUDA_REQUIRE is set and NVRTC was not found; run scripts/nvrtc.mjs"),
        None => {
            println!(
                "cargo:warning=s4-cuda: built without GPU kernels (NVRTC not found; `node scripts/nvrtc.mjs` fetches it)"
            );
            String::new()
        }
    };
    fs::write(out.join("images.rs"), format!("static IMAGES: &[Image] = &[\n{images}];\n")).unwrap();
}

/// The library and the folder of CUDA's headers, by the documented order.
fn find_nvrtc(root: &Path) -> Option<(PathBuf, Option<PathBuf>)> {
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

/// The headers that a source includes, and those that they include.
fn hash_headers(source: &str, folder: &Path, hash: &mut DefaultHasher) -> Result<(), String> {
    for name in source.lines().filter_map(|l| l.strip_prefix("#include \"")?.split('"').next()) {
        let text = fs::read_to_string(folder.join(name)).map_err(|e| format!("{name}: {e}"))?;
        text.hash(hash);
        hash_headers(&text, folder, hash)?;
    }
    Ok(())
}

/// Rust text of the table: one entry a module and architecture.
fn compile_all(library: &Path, include: Option<&Path>, cache: &Path, out: &Path) -> Result<String, String> {
    fs::create_dir_all(cache).map_err(|e| format!("{}: {e}", cache.display()))?;
    let nvrtc = Nvrtc::open(library)?;
    let version = nvrtc.version()?;
    let wanted = env::var("S4_CUDA_ARCHS").unwrap_or_else(|_| {
        let whole = env::var("PROFILE").is_ok_and(|p| p == "release")
            || env::var_os("S4_CUDA_REQUIRE").is_some_and(|v| v != "0");
        if whole { ARCHS } else { DEBUG_ARCHS }.into()
    });
    let folder = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap()).join("kernels");
    let mut files: Vec<PathBuf> =
        fs::read_dir(&folder).map_err(|e| e.to_string())?.map(|f| f.unwrap().path()).collect();
    files.sort();
    for file in files.iter().filter(|f| f.extension().is_some_and(|e| e == "cuh")) {
        println!("cargo:rerun-if-changed={}", file.display());
    }
    let lines = env::var_os("S4_CUDA_LINEINFO").is_some();
    let mut jobs = Vec::new();
    for file in files.iter().filter(|f| f.extension().is_some_and(|e| e == "cu")) {
        println!("cargo:rerun-if-changed={}", file.display());
        let source = fs::read_to_string(file).map_err(|e| e.to_string())?;
        // An image is compiled again only when something it reads changed.
        let mut headers = DefaultHasher::new();
        hash_headers(&source, &folder, &mut headers)?;
        for arch in wanted.split_whitespace() {
            let arch = if arch.starts_with("compute_") { arch.into() } else { format!("sm_{arch}") };
            let mut hash = DefaultHasher::new();
            (&source, headers.finish(), &arch, version, lines).hash(&mut hash);
            let name =
                format!("{}.{arch}.{:016x}.z", file.file_stem().unwrap().to_string_lossy(), hash.finish());
            jobs.push((file.clone(), source.clone(), arch, cache.join(name)));
        }
    }
    // The longest first, so that no thread is left alone with one of them: machine code, then large sources.
    jobs.sort_by_key(|(_, source, arch, _)| (arch.starts_with("compute_"), std::cmp::Reverse(source.len())));
    let next = std::sync::atomic::AtomicUsize::new(0);
    let threads = env::var("NUM_JOBS").ok().and_then(|n| n.parse().ok()).unwrap_or(2usize);
    let errors = std::sync::Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..threads.min(jobs.len()) {
            scope.spawn(|| {
                while let Some((file, source, arch, target)) =
                    jobs.get(next.fetch_add(1, std::sync::atomic::Ordering::Relaxed))
                {
                    if target.is_file() {
                        continue;
                    }
                    match nvrtc.compile(file, source, arch, &folder, include) {
                        Ok(image) => {
                            let bytes = miniz_oxide::deflate::compress_to_vec(&image, 8);
                            // Written aside and renamed: another build may look for the same image.
                            let aside = target.with_extension(format!("{}", std::process::id()));
                            if let Err(e) = fs::write(&aside, bytes).and_then(|()| fs::rename(&aside, target))
                            {
                                errors.lock().unwrap().push(format!("{}: {e}", target.display()));
                            }
                        }
                        Err(e) => errors.lock().unwrap().push(format!("{} for {arch}:\n{e}", file.display())),
                    }
                }
            });
        }
    });
    let errors = errors.into_inner().unwrap();
    if !errors.is_empty() {
        return Err(errors.join("\n"));
    }
    jobs.sort();
    let mut text = String::new();
    for (file, _, arch, target) in &jobs {
        let module = file.file_stem().unwrap().to_string_lossy();
        let own = out.join(target.file_name().unwrap());
        if !own.is_file() {
            fs::copy(target, &own).map_err(|e| format!("{}: {e}", target.display()))?;
        }
        text += &format!(
            "Image {{ module: {module:?}, arch: {arch:?}, deflated: include_bytes!({:?}) }},\n",
            own.display().to_string()
        );
    }
    Ok(text)
}

type Program = *mut c_void;

/// The functions of NVRTC that are used.
struct Nvrtc {
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
    fn open(path: &Path) -> Result<Nvrtc, String> {
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

    fn version(&self) -> Result<(c_int, c_int), String> {
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

    fn compile(
        &self,
        file: &Path,
        source: &str,
        arch: &str,
        folder: &Path,
        include: Option<&Path>,
    ) -> Result<Vec<u8>, String> {
        let text = CString::new(source).map_err(|e| e.to_string())?;
        let name = CString::new(file.file_name().unwrap().to_string_lossy().as_bytes()).unwrap();
        let mut options = vec![
            format!("--gpu-architecture={arch}"),
            "--std=c++17".into(),
            format!("--include-path={}", folder.display()),
        ];
        if env::var_os("S4_CUDA_LINEINFO").is_some() {
            options.push("--generate-line-info".into());
        }
        if let Some(include) = include {
            options.push(format!("--include-path={}", include.display()));
        }
        let options: Vec<CString> = options.into_iter().map(|o| CString::new(o).unwrap()).collect();
        let pointers: Vec<*const c_char> = options.iter().map(|o| o.as_ptr()).collect();
        let which = usize::from(arch.starts_with("compute_"));
        // SAFETY: strings outlive the calls; sizes are asked of NVRTC before each buffer is made.
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
            let result = if code != 0 {
                Err(format!("NVRTC error {code}\n{log}"))
            } else {
                let mut size = 0;
                (self.image_size[which])(program, &mut size);
                let mut image = vec![0u8; size];
                (self.image[which])(program, image.as_mut_ptr().cast());
                if image.is_empty() { Err("an empty image".into()) } else { Ok(image) }
            };
            (self.destroy)(&mut program);
            result
        }
    }
}
