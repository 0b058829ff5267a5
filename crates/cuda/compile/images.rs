//! The images of the kernels: one per source and architecture, deflated, and the table that embeds them.

use crate::{codes, nvrtc::Nvrtc};
use std::{
    cmp::Reverse,
    collections::{BTreeMap, hash_map::DefaultHasher},
    env, fs,
    hash::{Hash, Hasher},
    path::{Path, PathBuf},
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

/// Machine code of every generation, and PTX for chips that come later.
const ARCHS: &str = "75 80 86 89 90a 100 120 compute_75 compute_80";
/// Debug builds are for development: Hopper, and everything else by the driver's compiler.
const DEBUG_ARCHS: &str = "90a compute_75 compute_80";

/// One image: to compile, or to take from the cache.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Job {
    /// Stem of the source's name, by which launches name it.
    module: String,
    arch: String,
    file: PathBuf,
    source: String,
    target: PathBuf,
}

/// Compiles every image that is not cached; gives the Rust text of the table, one entry per module and architecture.
pub fn compile_all(
    library: &Path,
    include: Option<&Path>,
    cache: &Path,
    out: &Path,
) -> Result<String, String> {
    fs::create_dir_all(cache).map_err(|e| format!("{}: {e}", cache.display()))?;
    let nvrtc = Nvrtc::open(library)?;
    let kernels = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap()).join("kernels");
    // Headers that are generated.
    let made = out.join("include");
    fs::create_dir_all(&made).map_err(|e| format!("{}: {e}", made.display()))?;
    fs::write(made.join("codes.cuh"), codes::header()).map_err(|e| e.to_string())?;
    let own = [kernels.as_path(), made.as_path()];
    let sources = sources(&kernels)?;
    let mut jobs = jobs(&sources, &own, cache, nvrtc.version()?)?;

    // The longest first, so that no thread is left alone with one of them: machine code, then large sources.
    jobs.sort_by_key(|job| (job.arch.starts_with("compute_"), Reverse(job.source.len())));
    let folders: Vec<&Path> = own.into_iter().chain(include).collect();
    let checked = env::var("S4_CUDA_SYNTAX").unwrap_or_default();
    for_all(&checked.split_whitespace().collect::<Vec<_>>(), |arch| {
        sources.values().try_for_each(|(file, source)| {
            let checked = nvrtc.check(file, source, arch, &folders);
            checked.map_err(|e| format!("{} for {arch}:\n{e}", file.display()))
        })
    })?;
    for_all(&jobs, |job| make(&nvrtc, job, &folders))?;

    jobs.sort();
    let mut text = String::new();
    for Job { module, arch, target, .. } in &jobs {
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

/// Calls `work` with each item, on as many threads as cargo allows; all errors in one text.
fn for_all<T: Sync>(items: &[T], work: impl Fn(&T) -> Result<(), String> + Sync) -> Result<(), String> {
    let next = AtomicUsize::new(0);
    let threads = env::var("NUM_JOBS").ok().and_then(|n| n.parse().ok()).unwrap_or(2usize);
    let errors = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..threads.min(items.len()) {
            scope.spawn(|| {
                while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Err(e) = work(item) {
                        errors.lock().unwrap().push(e);
                    }
                }
            });
        }
    });
    let errors = errors.into_inner().unwrap();
    if errors.is_empty() { Ok(()) } else { Err(errors.join("\n")) }
}

/// Every `.cu` below `kernels` with its text, by the stem of its name.
fn sources(kernels: &Path) -> Result<BTreeMap<String, (PathBuf, String)>, String> {
    let mut sources = BTreeMap::new();
    for file in files(kernels)?.into_iter().filter(|f| f.extension().is_some_and(|e| e == "cu")) {
        let module = file.file_stem().unwrap().to_string_lossy().into_owned();
        let source = fs::read_to_string(&file).map_err(|e| e.to_string())?;
        if let Some((other, _)) = sources.insert(module, (file.clone(), source)) {
            return Err(format!("two modules of one name: {} and {}", other.display(), file.display()));
        }
    }
    Ok(sources)
}

/// Each source for every wanted architecture, with the path of its image in the cache.
fn jobs(
    sources: &BTreeMap<String, (PathBuf, String)>,
    include: &[&Path],
    cache: &Path,
    version: (i32, i32),
) -> Result<Vec<Job>, String> {
    let wanted = env::var("S4_CUDA_ARCHS").unwrap_or_else(|_| {
        let whole = env::var("PROFILE").is_ok_and(|p| p == "release")
            || env::var_os("S4_CUDA_REQUIRE").is_some_and(|v| v != "0");
        if whole { ARCHS } else { DEBUG_ARCHS }.into()
    });
    let lines = env::var_os("S4_CUDA_LINEINFO").is_some();
    let mut jobs = Vec::new();
    for (module, (file, source)) in sources {
        // An image is compiled again only when something it reads changed.
        let mut headers = DefaultHasher::new();
        hash_headers(source, include, &mut headers)?;
        for arch in wanted.split_whitespace() {
            let arch = if arch.starts_with("compute_") { arch.into() } else { format!("sm_{arch}") };
            let mut hash = DefaultHasher::new();
            (source, headers.finish(), &arch, version, lines).hash(&mut hash);
            let target = cache.join(format!("{module}.{arch}.{:016x}.z", hash.finish()));
            jobs.push(Job {
                module: module.clone(),
                arch,
                file: file.clone(),
                source: source.clone(),
                target,
            });
        }
    }
    Ok(jobs)
}

/// All files below a folder.
fn files(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(|e| format!("{}: {e}", folder.display()))? {
        let path = entry.map_err(|e| e.to_string())?.path();
        if path.is_dir() {
            found.extend(files(&path)?);
        } else {
            found.push(path);
        }
    }
    Ok(found)
}

/// The headers that a source includes, and those that they include.
fn hash_headers(source: &str, include: &[&Path], hash: &mut DefaultHasher) -> Result<(), String> {
    for name in source.lines().filter_map(|l| l.strip_prefix("#include \"")?.split('"').next()) {
        let file = include.iter().map(|folder| folder.join(name)).find(|file| file.is_file());
        let file = file.ok_or_else(|| format!("{name}: no such header"))?;
        let text = fs::read_to_string(file).map_err(|e| format!("{name}: {e}"))?;
        text.hash(hash);
        hash_headers(&text, include, hash)?;
    }
    Ok(())
}

/// Compiles an image that is not in the cache.
fn make(nvrtc: &Nvrtc, job: &Job, include: &[&Path]) -> Result<(), String> {
    let Job { arch, file, source, target, .. } = job;
    if target.is_file() {
        return Ok(());
    }
    let image = nvrtc
        .compile(file, source, arch, include)
        .map_err(|e| format!("{} for {arch}:\n{e}", file.display()))?;
    let bytes = miniz_oxide::deflate::compress_to_vec(&image, 8);
    // Written to a temporary file and renamed: another build may be reading the same image.
    let aside = target.with_extension(format!("{}", std::process::id()));
    fs::write(&aside, bytes)
        .and_then(|()| fs::rename(&aside, target))
        .map_err(|e| format!("{}: {e}", target.display()))
}
