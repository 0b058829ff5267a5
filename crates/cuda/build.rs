//! Compiles the `.cu` files under `kernels` with NVRTC, for every supported chip, and embeds the result compressed.
//!
//! NVRTC is looked for in `S4_NVRTC` (the library or its folder), `CUDA_HOME`, and the project's `.cuda/`, which
//! `scripts/nvrtc.mjs` fills. Where it is nowhere, the build succeeds without kernels and says so.
//! `S4_CUDA_ARCHS="90a compute_80"` restricts the list while developing; `S4_CUDA_SYNTAX` names architectures for which the sources are
//! read and checked alone, which takes seconds; `S4_CUDA_REQUIRE=1` turns a build without all kernels into an error (CI). Compiled images are kept in `.cuda/cache` under a hash of all that they
//! are made of, so that debug and release builds, and builds after a kernel was changed, compile only what is new.

#[path = "compile/codes.rs"]
mod codes;
#[path = "compile/images.rs"]
mod images;
#[path = "compile/nvrtc.rs"]
mod nvrtc;

use std::{env, fs, path::PathBuf};

fn main() {
    for variable in
        ["S4_NVRTC", "CUDA_HOME", "S4_CUDA_ARCHS", "S4_CUDA_SYNTAX", "S4_CUDA_REQUIRE", "S4_CUDA_LINEINFO"]
    {
        println!("cargo:rerun-if-env-changed={variable}");
    }
    println!("cargo:rerun-if-changed=kernels");
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=compile");
    println!("cargo:rerun-if-changed=src/dense/f16_copies.rs");
    let out = PathBuf::from(env::var_os("OUT_DIR").unwrap());
    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap()).join("../..");
    // `scripts/nvrtc.mjs` touches this file when it has filled `.cuda/`: watching a folder that may not exist
    // would compile the crate again every time.
    let require = env::var_os("S4_CUDA_REQUIRE").is_some_and(|v| v != "0");

    let own = root.join(".cuda");
    let cache = if own.is_dir() { own.join("cache") } else { out.clone() };
    let images = match nvrtc::find(&root) {
        Some((library, include)) => match images::compile_all(&library, include.as_deref(), &cache, &out) {
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
