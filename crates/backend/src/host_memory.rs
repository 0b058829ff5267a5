//! Memory of the host, asked for so that what cannot be had is refused before work begins, and never ends the process.

use crate::{Code, Error, Result};

/// Requests below this are not looked at: the allocator's own answer is enough, and reading limits costs microseconds.
const WORTH_A_LOOK: u128 = 16 << 20;

/// `ERR_S4_MEMORY` where `bytes` are more than this process may still have.
pub fn check(op: &'static str, what: &str, bytes: u128) -> Result<()> {
    if bytes < WORTH_A_LOOK {
        return Ok(());
    }
    match memory_left() {
        Some(left) if bytes > u128::from(left) => Err(Error::new(
            Code::Memory,
            op,
            format!("{} of memory for {what}", readable(bytes)),
            format!("{} that this process may still have", readable(left.into())),
        )),
        _ => Ok(()),
    }
}

/// Bytes as people read them.
fn readable(bytes: u128) -> String {
    const GIB: u128 = 1 << 30;
    if bytes < GIB / 10 {
        return format!("{:.1} MiB", bytes as f64 / (1 << 20) as f64);
    }
    format!("{:.1} GiB", bytes as f64 / GIB as f64)
}

/// Zeros, asked for so that a size that cannot be had is an error.
pub fn zeros<T: Copy + Default>(op: &'static str, what: &str, len: usize) -> Result<Vec<T>> {
    let mut v = reserved(op, what, len, len)?;
    v.resize(len, T::default());
    Ok(v)
}

/// A copy, asked for like [`zeros`].
pub fn copied<T: Copy>(op: &'static str, what: &str, x: &[T]) -> Result<Vec<T>> {
    let mut v = reserved(op, what, x.len(), x.len())?;
    v.extend_from_slice(x);
    Ok(v)
}

/// Makes `v` have `len` elements, whatever they are; where it has to grow and cannot, an error like that of [`zeros`].
pub fn resize<T: Copy + Default>(op: &'static str, what: &str, v: &mut Vec<T>, len: usize) -> Result<()> {
    if len > v.capacity() {
        *v = reserved(op, what, len, len)?;
    }
    v.resize(len, T::default());
    Ok(())
}

/// Room for `room` elements, of which `len` will be written to, or `ERR_S4_MEMORY`.
pub fn reserved<T>(op: &'static str, what: &str, len: usize, room: usize) -> Result<Vec<T>> {
    let bytes = len as u128 * size_of::<T>() as u128;
    check(op, what, bytes)?;
    let mut v = Vec::new();
    v.try_reserve_exact(room).map_err(|_| {
        let left = memory_left().map_or("less".into(), |left| readable(left.into()));
        let expected = format!("{} of memory for {what}", readable(bytes));
        Error::new(Code::Memory, op, expected, format!("{left} that this process may still have"))
    })?;
    Ok(v)
}

/// Bytes that this process may still have: what the machine has available, what its control groups and its limit of
/// address space leave. Nothing where the system does not say.
pub fn memory_left() -> Option<u64> {
    let read = |path: &str| std::fs::read_to_string(path).ok();
    let machine = read("/proc/meminfo").and_then(|text| kib_of(&text, "MemAvailable:"));
    let space = read("/proc/self/limits").and_then(|text| {
        let line = text.lines().find(|line| line.starts_with("Max address space"))?;
        let limit: u64 = line.split_whitespace().nth(3)?.parse().ok()?;
        let used = kib_of(&read("/proc/self/status")?, "VmSize:")?;
        Some(limit.saturating_sub(used))
    });
    let groups = read("/proc/self/cgroup").and_then(|text| group_left(&text, &read));
    [machine, space, groups].into_iter().flatten().min()
}

/// A line `Name:  123 kB`, in bytes.
fn kib_of(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find(|line| line.starts_with(name))?;
    line[name.len()..].split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
}

/// What the control groups of a process (its `/proc/self/cgroup`) leave: the least of its own and its ancestors'.
fn group_left(groups: &str, read: &impl Fn(&str) -> Option<String>) -> Option<u64> {
    let mut least: Option<u64> = None;
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { continue };
        let second = controllers.is_empty();
        let (root, max, used, reclaimable) = if second {
            ("/sys/fs/cgroup", "memory.max", "memory.current", ["inactive_file ", "active_file "])
        } else if controllers.split(',').any(|c| c == "memory") {
            let root = "/sys/fs/cgroup/memory";
            (
                root,
                "memory.limit_in_bytes",
                "memory.usage_in_bytes",
                ["total_inactive_file ", "total_active_file "],
            )
        } else {
            continue;
        };
        // In a container the path is often that of the host, and the group itself is mounted at the root.
        let mut path = path.trim_end_matches('/');
        loop {
            let number = |file: &str| read(&format!("{root}{path}/{file}"))?.trim().parse::<u64>().ok();
            // Version 1 writes a number near 2^63 for no limit.
            if let (Some(max), Some(used)) = (number(max).filter(|max| *max < 1 << 62), number(used)) {
                // The kernel gives file pages back before it refuses, those that were read more than once too.
                let stat = read(&format!("{root}{path}/memory.stat")).unwrap_or_default();
                let cached: u64 = stat
                    .lines()
                    .filter_map(|line| reclaimable.iter().find_map(|name| line.strip_prefix(name)))
                    .filter_map(|n| n.trim().parse::<u64>().ok())
                    .sum();
                let left = max.saturating_sub(used.saturating_sub(cached));
                least = Some(least.map_or(left, |l| l.min(left)));
            }
            let Some(at) = path.rfind('/') else { break };
            path = &path[..at];
        }
    }
    least
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_leave_the_least_of_their_limits() {
        let files = |path: &str| -> Option<String> {
            let text = match path {
                "/sys/fs/cgroup/a/b/memory.max" => "max\n",
                "/sys/fs/cgroup/a/memory.max" => "1000\n",
                "/sys/fs/cgroup/a/memory.current" => "700\n",
                "/sys/fs/cgroup/a/memory.stat" => "anon 3\ninactive_file 100\nactive_file 7\n",
                "/sys/fs/cgroup/memory.max" => "5000\n",
                "/sys/fs/cgroup/memory.current" => "700\n",
                "/sys/fs/cgroup/memory/c/memory.limit_in_bytes" => "9223372036854771712\n",
                "/sys/fs/cgroup/memory/c/memory.usage_in_bytes" => "1\n",
                "/sys/fs/cgroup/memory/memory.limit_in_bytes" => "300\n",
                "/sys/fs/cgroup/memory/memory.usage_in_bytes" => "100\n",
                _ => return None,
            };
            Some(text.into())
        };
        assert_eq!(group_left("0::/a/b\n", &files), Some(407));
        assert_eq!(group_left("0::/\n", &files), Some(4300));
        assert_eq!(group_left("4:memory:/c\n3:cpu:/x\n", &files), Some(200));
        assert_eq!(group_left("3:cpu:/x\n", &files), None);
    }

    #[test]
    fn what_cannot_be_had_is_refused_with_what_there_is() {
        check("test", "little", 1 << 20).unwrap();
        if memory_left().is_none() {
            return;
        }
        let error = check("test", "a galaxy", 1 << 70).unwrap_err();
        assert_eq!(error.code, Code::Memory);
        assert!(error.expected.contains("a galaxy") && error.got.contains("iB"), "{error}");
    }
}
