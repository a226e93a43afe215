//! The machine: how much memory this process may use.

use std::path::{Path, PathBuf};

/// The memory that is assumed if the machine does not report it, in bytes.
const ASSUMED: u64 = 4 << 30;

/// The memory that this process may use, in bytes: the machine's, or the least limit of the control groups that the
/// process is in.
pub(crate) fn memory() -> usize {
    let groups = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let limits = files_of_limits(&groups)
        .into_iter()
        .filter_map(|file| std::fs::read_to_string(file).ok()?.trim().parse().ok());
    let machine = std::fs::read_to_string("/proc/meminfo")
        .ok()
        .and_then(|text| total(&text))
        .unwrap_or(ASSUMED);
    let memory = limits.fold(machine, u64::min);
    usize::try_from(memory).unwrap_or(usize::MAX)
}

/// The total in `/proc/meminfo`, in bytes.
fn total(meminfo: &str) -> Option<u64> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// The files with the limits of a process, whose `/proc/self/cgroup` has the text `groups`: those of its groups, and of
/// all groups above them. A file that does not exist sets no limit.
fn files_of_limits(groups: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for line in groups.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else {
            continue;
        };
        // Version 2 has one hierarchy, version 1 one for each controller.
        let (root, name) = match controllers {
            "" => ("/sys/fs/cgroup", "memory.max"),
            list if list.split(',').any(|one| one == "memory") => {
                ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")
            }
            _ => continue,
        };
        let group = Path::new(root).join(path.trim_start_matches('/'));
        let above = group
            .ancestors()
            .take_while(|above| above.starts_with(root));
        files.extend(above.map(|group| group.join(name)));
    }
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_total_is_read_in_bytes() {
        let text = "MemFree: 1 kB\nMemTotal:       24609600 kB\nSwapTotal: 0 kB\n";
        assert_eq!(total(text), Some(24_609_600 * 1024));
        for text in ["", "MemTotal: x kB", "MemTotal: 7"] {
            assert_eq!(total(text), None, "{text}");
        }
    }

    #[test]
    fn limits_of_all_groups_above_count() {
        let files = |groups| -> Vec<String> {
            files_of_limits(groups)
                .iter()
                .map(|file| file.display().to_string())
                .collect()
        };
        assert_eq!(
            files("0::/a.slice/b.service\n"),
            [
                "/sys/fs/cgroup/a.slice/b.service/memory.max",
                "/sys/fs/cgroup/a.slice/memory.max",
                "/sys/fs/cgroup/memory.max",
            ]
        );
        assert_eq!(
            files("4:cpu:/x\n5:memory:/docker/1\n"),
            [
                "/sys/fs/cgroup/memory/docker/1/memory.limit_in_bytes",
                "/sys/fs/cgroup/memory/docker/memory.limit_in_bytes",
                "/sys/fs/cgroup/memory/memory.limit_in_bytes",
            ]
        );
        assert_eq!(files("0::/"), ["/sys/fs/cgroup/memory.max"]);
        assert_eq!(files("nonsense"), [""; 0]);
    }

    #[test]
    fn this_machine_has_memory() {
        assert!(memory() >= 64 << 20);
    }
}
