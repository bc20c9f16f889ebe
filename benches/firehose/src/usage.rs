//! What the process and its threads have used: processor time to the nanosecond, and memory.
//!
//! In: Linux's `/proc`. Out: numbers, zero where there is no such file. The kernel's scheduler counts per thread, so the
//! producers, which a program would have anyway, and the client's own threads can be told apart.

use std::fs;
use std::time::Duration;

/// Processor time of the calling thread.
pub(crate) fn of_this_thread() -> Duration {
    cpu("/proc/thread-self/schedstat")
}

/// Processor time of all other threads that live.
pub(crate) fn of_other_threads() -> Duration {
    let tasks = fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let all: Duration = tasks.map(|task| cpu(&format!("{}/schedstat", task.path().display()))).sum();
    all.saturating_sub(of_this_thread())
}

/// Most memory the process has had in RAM, in bytes.
pub(crate) fn peak_memory() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

/// What else the machine is doing: the mean number of threads that wanted a core in the last minute.
pub(crate) fn load() -> String {
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    load.split_whitespace().next().unwrap_or("unknown").to_owned()
}

/// Threads that can run at the same time, as far as the system tells.
pub(crate) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// The first number of the file is nanoseconds on a core.
fn cpu(path: &str) -> Duration {
    let text = fs::read_to_string(path).unwrap_or_default();
    let ns = text.split_whitespace().next().and_then(|ns| ns.parse().ok());
    Duration::from_nanos(ns.unwrap_or(0))
}
