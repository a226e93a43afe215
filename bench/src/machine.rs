//! The facts about this machine, and the CPU time and memory that a process on it has used.

use std::io::{Seek, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::stats::{Samples, micros};

/// Describes the machine in one line: its cores, its kernel, its load before the run, and the time
/// of a small commit in `dir`.
///
/// # Errors
/// If no file can be written in `dir`.
pub(crate) fn facts(dir: &Path) -> Result<String> {
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let memory_kib = field_kib(&memory, "MemTotal:").unwrap_or(0);
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let commits = commit_times(dir)?;
    Ok(format!(
        "{} cores, {:.1} GiB memory, Linux {}; load before the run {}; a commit (4 KiB write + fsync, 200 times): p50 {:.2} ms, p99 {:.2} ms",
        cores(),
        memory_kib as f64 / f64::from(1 << 20),
        kernel.trim(),
        load.split(' ').next().unwrap_or("unknown"),
        commits.percentile(50.0).unwrap_or(0.0),
        commits.percentile(99.0).unwrap_or(0.0),
    ))
}

/// Returns the number of cores that this process may use.
pub(crate) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn commit_times(dir: &Path) -> Result<Samples> {
    let mut file = tempfile::tempfile_in(dir).context("create a file for the commit times")?;
    let block = [0x5a_u8; 4096];
    let mut times = Vec::new();
    // The loop writes to the same 256 KiB again and again, as a write-ahead log does.
    for number in 0..200_u64 {
        file.seek(std::io::SeekFrom::Start(number % 64 * 4096))?;
        let start = Instant::now();
        file.write_all(&block)?;
        file.sync_all()?;
        times.push(micros(start.elapsed()));
    }
    Ok(Samples::new(times))
}

/// Lets this process, and its child processes, open as many files as the system allows.
pub(crate) fn raise_open_files() {
    let limit = getrlimit(Resource::Nofile);
    // A limit that cannot be raised stays: a scenario that needs more files will fail and say so.
    let _ = setrlimit(
        Resource::Nofile,
        Rlimit {
            current: limit.maximum,
            maximum: limit.maximum,
        },
    );
}

/// Reads the CPU time that a process has used, in user mode and in the kernel.
///
/// # Errors
/// If there is no such process.
pub(crate) fn cpu_time(pid: u32) -> Result<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .with_context(|| format!("process {pid}"))?;
    let ticks = cpu_ticks(&stat).with_context(|| format!("/proc/{pid}/stat"))?;
    Ok(Duration::from_secs_f64(
        ticks as f64 / rustix::param::clock_ticks_per_second() as f64,
    ))
}

/// Adds `utime` and `stime` of `/proc/PID/stat`, the 14th and the 15th field. The second field, the
/// name in parentheses, may itself hold spaces and parentheses.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_ascii_whitespace().skip(11);
    Some(fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?)
}

/// Reads the CPU time that all processes and the kernel have used since the machine started.
///
/// # Errors
/// If `/proc/stat` cannot be read.
pub(crate) fn all_cpu_time() -> Result<Duration> {
    let stat = std::fs::read_to_string("/proc/stat").context("/proc/stat")?;
    let ticks = all_cpu_ticks(&stat).context("/proc/stat")?;
    Ok(Duration::from_secs_f64(
        ticks as f64 / rustix::param::clock_ticks_per_second() as f64,
    ))
}

/// Adds the busy times in the line `cpu` of `/proc/stat`: user, nice, system, irq, softirq and
/// steal, but not idle and iowait.
fn all_cpu_ticks(stat: &str) -> Option<u64> {
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let ticks: Vec<u64> = line
        .split_ascii_whitespace()
        .take(8)
        .map(|field| field.parse().ok())
        .collect::<Option<_>>()?;
    let idle = ticks.get(3)? + ticks.get(4)?;
    Some(ticks.iter().sum::<u64>() - idle)
}

/// Reads the memory of a process that is in RAM (`VmRSS`), in KiB.
///
/// # Errors
/// If there is no such process.
pub(crate) fn memory_kib(pid: u32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))
        .with_context(|| format!("process {pid}"))?;
    field_kib(&status, "VmRSS:").with_context(|| format!("/proc/{pid}/status"))
}

fn field_kib(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_ticks_with_an_odd_name() {
        let stat = "42 (a) b (c) S 1 42 42 0 -1 4194304 100 0 0 0 250 50 7 7 20 0 3 0 100 1 2";
        assert_eq!(cpu_ticks(stat), Some(300));
        assert_eq!(cpu_ticks("42 (a) S 1"), None);
    }

    #[test]
    fn all_cpu_ticks_leave_out_idle_time() {
        let stat = "cpu  10 20 30 4000 500 6 7 8 90 90\ncpu0 1 1 1 1 1 1 1 1 1 1\n";
        assert_eq!(all_cpu_ticks(stat), Some(10 + 20 + 30 + 6 + 7 + 8));
        assert_eq!(all_cpu_ticks("cpu0 1 1\n"), None);
    }

    #[test]
    fn memory_of_a_status() {
        assert_eq!(
            field_kib("Name:\tx\nVmRSS:\t   12345 kB\n", "VmRSS:"),
            Some(12345)
        );
        assert_eq!(field_kib("Name:\tx\n", "VmRSS:"), None);
    }

    #[test]
    fn this_process_is_measured() {
        assert!(cpu_time(std::process::id()).is_ok());
        assert!(memory_kib(std::process::id()).unwrap() > 100);
    }
}
