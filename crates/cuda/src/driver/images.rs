//! The compiled kernels that the build embedded: one image per module and architecture.

/// One image: module (stem of its `.cu`), architecture (`"sm_90a"`, `"compute_80"`), deflated bytes.
pub(crate) struct Image {
    pub(crate) module: &'static str,
    pub(crate) arch: &'static str,
    pub(crate) deflated: &'static [u8],
}

include!(concat!(env!("OUT_DIR"), "/images.rs"));

/// Whether this build has kernels at all.
pub fn available() -> bool {
    !IMAGES.is_empty()
}

/// The architectures of this build, as a text for users.
pub fn architectures() -> String {
    let mut list: Vec<&str> = IMAGES.iter().map(|i| i.arch).collect();
    list.sort_unstable();
    list.dedup();
    if list.is_empty() { "none".into() } else { list.join(" ") }
}

/// The modules of this build.
pub(crate) fn modules() -> Vec<&'static str> {
    let mut list: Vec<&str> = IMAGES.iter().map(|i| i.module).collect();
    list.dedup();
    list.sort_unstable();
    list.dedup();
    list
}

/// The kernels in an image: a cubin names a section after each, PTX declares them as entries.
pub(crate) fn names(image: &Image) -> Vec<String> {
    let bytes = miniz_oxide::inflate::decompress_to_vec(image.deflated).unwrap_or_default();
    let mark: &[u8] = if bytes.starts_with(b"\x7fELF") { b".text." } else { b".entry " };
    let word = |b: &&u8| b.is_ascii_alphanumeric() || **b == b'_';
    let mut found: Vec<String> = (0..bytes.len().saturating_sub(mark.len()))
        .filter(|&i| bytes[i..].starts_with(mark))
        .map(|i| bytes[i + mark.len()..].iter().take_while(word).map(|&b| b as char).collect())
        .filter(|name: &String| !name.is_empty())
        .collect();
    found.sort_unstable();
    found.dedup();
    found
}

/// Rank of an image for a chip of this capability, highest first, `None` where it does not run: the chip's own machine
/// code, machine code of an earlier chip of the same major version, then PTX from newest to oldest. Code for 9.0a runs
/// on Hopper alone.
pub(crate) fn preference(arch: &str, capability: (u32, u32)) -> Option<u32> {
    let number = |s: &str| s.trim_end_matches('a').parse::<u32>().ok();
    let (major, minor) = capability;
    if let Some(rest) = arch.strip_prefix("sm_") {
        let n = number(rest)?;
        let fits = n / 10 == major && if rest.ends_with('a') { n % 10 == minor } else { n % 10 <= minor };
        fits.then_some(1000 + n % 10)
    } else {
        let n = number(arch.strip_prefix("compute_")?)?;
        (n <= major * 10 + minor).then_some(n)
    }
}

/// The number in an architecture's name: 90 of `"sm_90a"`, 75 of `"compute_75"`.
pub(crate) fn generation(arch: &str) -> u32 {
    arch.trim_start_matches(|c: char| !c.is_ascii_digit()).trim_end_matches('a').parse().unwrap_or(0)
}

/// Shared memory that one block may have, bytes (CUDA C++ Programming Guide, "Compute Capabilities").
pub(crate) fn shared_memory(capability: (u32, u32)) -> usize {
    let kib = match capability {
        (8, 0) | (8, 7) => 163,
        (9..=11, _) => 227,
        (8 | 12, _) => 99,
        _ => 64,
    };
    kib << 10
}

/// The image of `module` that suits `capability`; `force` names one architecture (tests of the PTX).
pub(crate) fn pick(module: &str, capability: (u32, u32), force: Option<&str>) -> Option<&'static Image> {
    IMAGES
        .iter()
        .filter(|i| i.module == module && force.is_none_or(|f| f == i.arch))
        .filter_map(|i| Some((preference(i.arch, capability)?, i)))
        .max_by_key(|(p, _)| *p)
        .map(|(_, i)| i)
}

/// Whether a chip runs PTX, which the driver compiles first, with a library that a container may lack.
pub(crate) fn compiled_by_driver(capability: (u32, u32), force: Option<&str>) -> bool {
    pick("memory", capability, force).is_some_and(|image| image.arch.starts_with("compute_"))
}

#[cfg(test)]
mod tests {
    use super::{generation, preference};

    #[test]
    fn generations_are_read_from_names() {
        assert_eq!(["sm_75", "sm_90a", "sm_120", "compute_80"].map(generation), [75, 90, 120, 80]);
    }

    #[test]
    fn machine_code_before_ptx() {
        let best = |cap| {
            ["sm_75", "sm_80", "sm_86", "sm_89", "sm_90a", "sm_100", "sm_120", "compute_75", "compute_80"]
                .into_iter()
                .filter_map(|a| Some((preference(a, cap)?, a)))
                .max()
                .map(|(_, a)| a)
        };
        assert_eq!(best((7, 5)), Some("sm_75"));
        assert_eq!(best((8, 0)), Some("sm_80"));
        assert_eq!(best((8, 7)), Some("sm_86"));
        assert_eq!(best((8, 9)), Some("sm_89"));
        assert_eq!(best((9, 0)), Some("sm_90a"));
        assert_eq!(best((10, 3)), Some("sm_100"));
        assert_eq!(best((11, 0)), Some("compute_80"));
        assert_eq!(best((12, 1)), Some("sm_120"));
        assert_eq!(best((7, 0)), None);
    }
}
