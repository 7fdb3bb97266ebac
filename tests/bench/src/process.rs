//! What the system says of a process and of the machine: `/proc` (proc(5)).

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::Write as _,
    path::Path,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use system_tests::programs::workspace;

/// The unit of processor time in `/proc`: `USER_HZ`, which is 100 on every architecture that Linux has
/// of late.
const TICKS_PER_SECOND: f64 = 100.0;

/// The machine, as far as it explains figures.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Machine {
    pub(crate) cores: usize,
    pub(crate) cpu_model: String,
}

impl Machine {
    pub(crate) fn look() -> Result<Self> {
        let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        Ok(Self {
            cores: thread::available_parallelism()?.get(),
            cpu_model: cpu_model(&text).unwrap_or("unknown").to_owned(),
        })
    }
}

/// The revision of the source that is measured, where there is one; `+` stands for changes since.
pub(crate) fn revision() -> Option<String> {
    let git = Command::new("git")
        .current_dir(workspace())
        .args(["describe", "--always", "--dirty=+", "--exclude=*"])
        .output()
        .ok()?;
    let text = String::from_utf8(git.stdout).ok()?;
    git.status.success().then(|| text.trim().to_owned())
}

/// Processor time that a process has used, in seconds, all its threads together.
pub(crate) fn cpu_seconds(id: u32) -> Result<f64> {
    let text = fs::read_to_string(format!("/proc/{id}/stat"))?;
    let ticks = cpu_ticks(&text).with_context(|| format!("/proc/{id}/stat: {text}"))?;
    Ok(f64::from(ticks) / TICKS_PER_SECOND)
}

/// The same by the names of its threads, those of one kind together. Threads that have ended are left
/// out.
pub(crate) fn cpu_seconds_by_thread(id: u32) -> Result<BTreeMap<String, f64>> {
    let mut seconds = BTreeMap::new();
    for thread in fs::read_dir(format!("/proc/{id}/task"))? {
        // It may end while it is looked at.
        let text = fs::read_to_string(thread?.path().join("stat")).unwrap_or_default();
        if let (Some(name), Some(ticks)) = (name(&text), cpu_ticks(&text)) {
            *seconds.entry(name.to_owned()).or_default() += f64::from(ticks) / TICKS_PER_SECOND;
        }
    }
    Ok(seconds)
}

/// Processor time that the machine has spent, in seconds, whoever asked for it.
pub(crate) fn cpu_seconds_of_all() -> Result<f64> {
    let text = fs::read_to_string("/proc/stat")?;
    let ticks = busy_ticks(&text).with_context(|| format!("/proc/stat: {text}"))?;
    Ok(ticks / TICKS_PER_SECOND)
}

/// Memory that a process holds, in KiB.
pub(crate) fn resident_kib(id: u32) -> Result<u64> {
    let text = fs::read_to_string(format!("/proc/{id}/status"))?;
    kib(&text, "VmRSS:").with_context(|| format!("/proc/{id}/status has no VmRSS"))
}

/// The most memory that a process has held since it began, in KiB.
pub(crate) fn peak_kib(id: u32) -> Result<u64> {
    let text = fs::read_to_string(format!("/proc/{id}/status"))?;
    kib(&text, "VmHWM:").with_context(|| format!("/proc/{id}/status has no VmHWM"))
}

/// How many files this process, and those that it starts, may have open.
pub(crate) fn open_files_limit() -> Result<u64> {
    let text = fs::read_to_string("/proc/self/limits")?;
    soft_open_files(&text).context("/proc/self/limits has no open files")
}

/// Small writes that are on the disk which has `folder`, in a second, one after another: what commits
/// of the host's database wait for.
pub(crate) fn disk_syncs_per_s(folder: &Path) -> Result<f64> {
    const FOR: Duration = Duration::from_secs(1);
    let path = folder.join("sync");
    let mut file = File::create(&path)?;
    let (start, mut count) = (Instant::now(), 0_u32);
    while start.elapsed() < FOR {
        file.write_all(&[0; 4096])?;
        file.sync_data()?;
        count += 1;
    }
    let rate = f64::from(count) / start.elapsed().as_secs_f64();
    fs::remove_file(path)?;
    Ok(rate)
}

fn cpu_model(cpuinfo: &str) -> Option<&str> {
    let line = cpuinfo
        .lines()
        .find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim())
}

/// `utime` and `stime`, the 14th and 15th field. The second one is the program's name in brackets, which
/// may have blanks and brackets in it.
fn cpu_ticks(stat: &str) -> Option<u32> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<u32>().ok();
    Some(ticks()? + ticks()?)
}

/// The name in brackets, without the number at its end.
fn name(stat: &str) -> Option<&str> {
    let (before, _) = stat.rsplit_once(')')?;
    let (_, name) = before.split_once('(')?;
    Some(name.trim_end_matches(|end: char| end.is_ascii_digit() || end == '-'))
}

/// The first line of `/proc/stat`: user, nice, system, idle, iowait, irq, softirq, steal. What a
/// hypervisor took away is not idle either.
fn busy_ticks(stat: &str) -> Option<f64> {
    let line = stat.lines().next()?.strip_prefix("cpu ")?;
    let ticks: Option<Vec<f64>> = line
        .split_whitespace()
        .map(|word| word.parse().ok())
        .collect();
    let ticks = ticks?;
    Some(ticks.get(..3)?.iter().sum::<f64>() + ticks.get(5..8)?.iter().sum::<f64>())
}

fn kib(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find(|line| line.starts_with(name))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

fn soft_open_files(limits: &str) -> Option<u64> {
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))?;
    let soft = line.split_whitespace().next()?;
    if soft == "unlimited" {
        return Some(u64::MAX);
    }
    soft.parse().ok()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn processor_time_is_read_behind_any_name() {
        let fields = "S 1 2 2 0 -1 4194304 100 0 3 0 250 50 7 9 20 0 8 0 12345 1000 200";
        for name in ["kdh-host", "a b", "x) y ("] {
            let stat = format!("42 ({name}) {fields}");
            assert_eq!(cpu_ticks(&stat), Some(300), "{name}");
        }
        assert_eq!(cpu_ticks("42 (kdh-host) S 1"), None);
        assert_eq!(cpu_ticks(""), None);
    }

    #[test]
    fn threads_of_a_kind_have_one_name() {
        for (stat, expected) in [
            ("7 (sqlx-worker-12) S 1", Some("sqlx-worker")),
            ("7 (hsm-worker) S 1", Some("hsm-worker")),
            ("7 (x) y (2) S 1", Some("x) y (")),
            ("7", None),
        ] {
            assert_eq!(name(stat), expected, "{stat}");
        }
    }

    #[test]
    fn what_is_not_idle_is_busy() {
        let stat = "cpu  10 20 30 1000 2000 1 2 3 99 99\ncpu0 1 1 1 1 1 1 1 1 1 1\n";
        assert_eq!(busy_ticks(stat), Some(66.0));
        assert_eq!(busy_ticks("cpu  10 20\n"), None);
        assert_eq!(busy_ticks(""), None);
    }

    #[test]
    fn memory_and_limits_are_read() {
        let status = "Name:\tkdh-host\nVmPeak:\t  900 kB\nVmRSS:\t   12345 kB\n";
        assert_eq!(kib(status, "VmRSS:"), Some(12345));
        assert_eq!(kib(status, "VmPeak:"), Some(900));
        assert_eq!(kib("Name:\tkthreadd\n", "VmRSS:"), None);
        let limits = |soft| format!("Limit  Soft  Hard\nMax open files   {soft}   4096   files\n");
        assert_eq!(soft_open_files(&limits("1024")), Some(1024));
        assert_eq!(soft_open_files(&limits("unlimited")), Some(u64::MAX));
        assert_eq!(soft_open_files(""), None);
    }

    #[test]
    fn a_processor_says_its_name() {
        let text = "processor\t: 0\nmodel name\t: Example 3000: Turbo\nmodel name\t: other\n";
        assert_eq!(cpu_model(text), Some("Example 3000: Turbo"));
        assert_eq!(cpu_model("processor: 0"), None);
    }

    #[test]
    fn this_process_is_there() {
        let this = std::process::id();
        assert!(cpu_seconds(this).unwrap() >= 0.0);
        assert!(!cpu_seconds_by_thread(this).unwrap().is_empty());
        assert!(cpu_seconds_of_all().unwrap() > 0.0);
        assert!(resident_kib(this).unwrap() > 0);
        assert!(peak_kib(this).unwrap() > 0);
        assert!(open_files_limit().unwrap() > 0);
    }
}
