//! What the machine and the container around the program allow: memory, and the local time.
//!
//! Processors are left to the standard library, which reads the affinity and the quota of the control group when the runtime asks
//! for its number of threads.

use std::path::{Component, Path};
use std::sync::Arc;

use hubferry_core::transfer::throttle::{Throttle, Timetable};

/// What a run may use altogether unless told otherwise.
const USUAL: u64 = 64 << 20;

/// What the program needs beside the bytes in flight: code, runtime, connections with their buffers and TLS state, what the allocator
/// keeps, listings of the usual size. Measured.
const BASE: u64 = 38 << 20;

/// Less than this in flight would stop side-by-side reading.
const LEAST_BUFFERS: u64 = 8 << 20;

/// The smallest total that may be asked for: with so little in flight, connections and allocator keep little as well.
pub(crate) const LEAST: u64 = 32 << 20;

/// The memory of a run when nobody names one: the usual, or a quarter of what the container has.
pub(crate) fn usual_memory() -> u64 {
    memory_limit(Path::new("/")).map_or(USUAL, |limit| USUAL.min(limit / 4))
}

/// What is left for the bytes in flight when the program may use `total`.
pub(crate) fn buffers(total: u64) -> u64 {
    total.saturating_sub(BASE).max(LEAST_BUFFERS)
}

/// The smallest limit of the control groups that this process is in, and of those around them. `root` is `/`.
fn memory_limit(root: &Path) -> Option<u64> {
    let groups = std::fs::read_to_string(root.join("proc/self/cgroup")).ok()?;
    let mut limits = Vec::new();
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(group)) = (parts.next(), parts.next()) else { continue };
        if controllers.is_empty() {
            limits.extend(limits_upwards(&root.join("sys/fs/cgroup"), group, "memory.max"));
            limits.extend(limits_upwards(&root.join("sys/fs/cgroup/unified"), group, "memory.max"));
        } else if controllers.split(',').any(|name| name == "memory") {
            limits.extend(limits_upwards(&root.join("sys/fs/cgroup/memory"), group, "memory.limit_in_bytes"));
        }
    }
    limits.into_iter().min()
}

/// The limits of `group` and every group above it, up to the mount. Inside of a container the path may be that of the host and not
/// exist here; then what the mount itself says counts.
fn limits_upwards(mount: &Path, group: &str, file: &str) -> Vec<u64> {
    let group = Path::new(group.trim_start_matches('/'));
    let plain = group.components().all(|part| matches!(part, Component::Normal(_)));
    let group = if plain { group } else { Path::new("") };
    group.ancestors().filter_map(|group| limit(&mount.join(group).join(file))).collect()
}

/// `max`, and the huge number that older kernels write, are no limit.
fn limit(file: &Path) -> Option<u64> {
    let bytes: u64 = std::fs::read_to_string(file).ok()?.trim().parse().ok()?;
    (bytes < 1 << 60).then_some(bytes)
}

/// A throttle that keeps `timetable` by the local time; `None` when it never limits anything.
pub(crate) fn throttle(timetable: &Timetable) -> Option<Arc<Throttle>> {
    match timetable.constant() {
        Some(None) => None,
        Some(Some(rate)) => Some(Arc::new(Throttle::new(rate))),
        None => {
            let timetable = timetable.clone();
            Some(Arc::new(Throttle::following(move || rate_at(&timetable, &jiff::Zoned::now()))))
        }
    }
}

fn rate_at(timetable: &Timetable, now: &jiff::Zoned) -> Option<u64> {
    let part = |number: i8| u32::try_from(number).unwrap_or_default();
    timetable.at(part(now.weekday().to_monday_zero_offset()), part(now.hour()) * 60 + part(now.minute()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn container(files: &[(&str, &str)]) -> Option<u64> {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        memory_limit(root.path())
    }

    #[test]
    fn the_smallest_limit_on_the_way_up_counts() {
        let found = container(&[
            ("proc/self/cgroup", "0::/pods/one/main\n"),
            ("sys/fs/cgroup/pods/one/main/memory.max", "max\n"),
            ("sys/fs/cgroup/pods/one/memory.max", "134217728\n"),
            ("sys/fs/cgroup/pods/memory.max", "1073741824\n"),
        ]);
        assert_eq!(found, Some(128 * MIB));
    }

    #[test]
    fn older_kernels_and_both_at_once() {
        let unlimited = "9223372036854771712\n";
        let groups = "12:cpu,cpuacct:/x\n9:memory:/docker/abc\n1:name=systemd:/\n0::/\n";
        let found = container(&[
            ("proc/self/cgroup", groups),
            ("sys/fs/cgroup/memory/docker/abc/memory.limit_in_bytes", "268435456\n"),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", unlimited),
        ]);
        assert_eq!(found, Some(256 * MIB));
        let inside = [("proc/self/cgroup", groups), ("sys/fs/cgroup/memory/memory.limit_in_bytes", "67108864")];
        assert_eq!(container(&inside), Some(64 * MIB), "the path is that of the host");
        assert_eq!(container(&[("proc/self/cgroup", groups), ("sys/fs/cgroup/memory/memory.limit_in_bytes", unlimited)]), None);
    }

    #[test]
    fn nothing_strange_is_followed_or_believed() {
        assert_eq!(container(&[]), None);
        assert_eq!(container(&[("proc/self/cgroup", "garbage\n0:\n::\n"), ("sys/fs/cgroup/memory.max", "many")]), None);
        let outside = [("proc/self/cgroup", "0::/../../other\n"), ("other/memory.max", "1"), ("sys/fs/cgroup/memory.max", "4096")];
        assert_eq!(container(&outside), Some(4096));
    }

    #[test]
    fn the_program_itself_comes_off_the_total() {
        assert_eq!(buffers(64 * MIB), 26 * MIB);
        assert_eq!(buffers(LEAST), 8 * MIB);
        assert_eq!(buffers(MIB), 8 * MIB, "a tiny container still gets something done");
        assert!(usual_memory() <= 64 * MIB);
    }

    #[test]
    fn the_local_time_chooses_the_rate() {
        let timetable: Timetable = "Sun-08:00,1M 23:00,off".parse().unwrap();
        let at = |text: &str| rate_at(&timetable, &text.parse().unwrap());
        assert_eq!(at("2024-06-30T07:59[UTC]"), None);
        assert_eq!(at("2024-06-30T08:00+02[+02:00]"), Some(1_000_000));
        assert_eq!(at("2024-06-30T23:00-05[-05:00]"), None);
        assert_eq!(at("2024-07-01T12:00[UTC]"), None);
        assert!(throttle(&timetable).is_some() && throttle(&"off".parse().unwrap()).is_none());
    }
}
