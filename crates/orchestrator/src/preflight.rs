//! Checks of what this process may have, before a run begins: open files, threads, address space.

use std::fs;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{Builder, JoinHandle};

use nix::sys::resource::{Resource, getrlimit};

use crate::admission::open_files;
use crate::fleet::{FleetError, system};
use crate::spec::{DeviceBody, DeviceSpec};

/// Threads that a runtime may have for what blocks, beside its workers.
pub const BLOCKING_THREADS: usize = 8;

/// Threads of a QEMU with one processor.
const PER_MACHINE: usize = 4;

/// The processes around a fleet, the log, the page, the bar, the machines, the switch, the display.
const OTHERS: usize = 10;

/// Stack of a thread, in MiB.
const STACK_MIB: u64 = 2;

/// Address space of a run beyond its threads and what it has once its data are loaded, in MiB.
const RUN_MIB: u64 = 64;

/// Address space of a QEMU with a small guest, in MiB: 330 were measured, most of it never touched.
const MACHINE_MIB: u64 = 352;

/// Stack of a thread that is only there to be counted: the least that the system takes.
const LEAST_STACK: usize = 64 << 10;

/// Checks that these devices, and what serves them with `other_files`, can have what they need.
///
/// # Errors
/// [`FleetError::Config`] with what is needed and what there is.
pub fn preflight(devices: &[DeviceSpec], other_files: u64) -> Result<(), FleetError> {
    open_files(devices, other_files).map_err(FleetError::Config)?;
    threads(devices.len(), needed_threads(devices))?;
    let limit = getrlimit(Resource::RLIMIT_AS);
    let (most, _) = limit.map_err(|e| system("address space", e.into()))?;
    let status = fs::read_to_string("/proc/self/status").map_err(|e| system("own size", e))?;
    address_space(devices, most >> 20, own_mib(&status))
}

/// Checks that each process may be as large as it has to be; all in MiB.
fn address_space(devices: &[DeviceSpec], most: u64, has: u64) -> Result<(), FleetError> {
    let emulated = |spec: &&DeviceSpec| matches!(spec.body, DeviceBody::Emulated(_));
    let natives = devices.iter().filter(|spec| !emulated(spec));
    let threads = needed_threads(natives);
    let own = has + RUN_MIB + STACK_MIB * threads as u64;
    let machine = match devices.iter().any(|spec| emulated(&spec)) {
        true => MACHINE_MIB,
        false => 0,
    };
    let needed = own.max(machine);
    if needed <= most {
        return Ok(());
    }
    Err(FleetError::Config(format!(
        "{} devices need an address space of about {needed} MiB in one process, which may have {most} MiB: \
         raise the limit (`ulimit -v`) or take fewer devices",
        devices.len()
    )))
}

/// Address space of a process as `/proc/PID/status` tells it, in MiB.
fn own_mib(status: &str) -> u64 {
    let size = status.lines().find_map(|line| line.strip_prefix("VmSize:"));
    let kib = size.and_then(|size| size.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    kib.unwrap_or(0) >> 10
}

fn needed_threads<'a>(devices: impl IntoIterator<Item = &'a DeviceSpec>) -> usize {
    let processors = std::thread::available_parallelism().map_or(1, |n| n.get());
    let of_devices = devices.into_iter().map(|spec| match spec.body {
        DeviceBody::Native => 1,
        // The workers are counted.
        DeviceBody::Pooled => 0,
        DeviceBody::Emulated(_) => PER_MACHINE,
    });
    // The workers of the runtime and of a pool, and as many for an evaluation.
    3 * processors + BLOCKING_THREADS + OTHERS + of_devices.sum::<usize>()
}

/// Starts so many threads, since no single number tells how many there may be: a user's limit, one of a
/// group of processes and the system's own all count.
fn threads(devices: usize, needed: usize) -> Result<(), FleetError> {
    let Err((there_are, why)) = trial(needed) else {
        return Ok(());
    };
    Err(FleetError::Config(format!(
        "{devices} devices and what serves them need {needed} threads and processes, and this process can \
         have {there_are} ({why}): raise the limit (`ulimit -u`, the pids of a container, TasksMax of a \
         unit) or take fewer devices"
    )))
}

/// Starts so many threads and ends them; how many there were, and why no more, if they were fewer.
fn trial(count: usize) -> Result<(), (usize, io::Error)> {
    let before = own_threads();
    let gate = Arc::new(Mutex::new(()));
    let shut = gate.lock().unwrap_or_else(PoisonError::into_inner);
    let mut started: Vec<JoinHandle<()>> = Vec::new();
    let refused = (0..count).find_map(|_| {
        let gate = Arc::clone(&gate);
        let wait = move || drop(gate.lock());
        let thread = Builder::new().stack_size(LEAST_STACK).spawn(wait);
        thread.map(|thread| started.push(thread)).err()
    });
    drop(shut);
    let there_are = started.len();
    for thread in started {
        // It does not panic.
        let _ = thread.join();
    }
    // One that was waited for may be about to go: a sandbox is made by a process without threads.
    while before == 1 && own_threads() > 1 {
        std::thread::yield_now();
    }
    refused.map_or(Ok(()), |why| Err((there_are, why)))
}

fn own_threads() -> usize {
    fs::read_dir("/proc/self/task").map_or(0, Iterator::count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_needs_its_threads_beside_those_of_the_run() {
        let native = |count| (0..count).map(|client| DeviceSpec::new(client, DeviceBody::Native));
        let needed = |count| needed_threads(&native(count).collect::<Vec<_>>());
        assert_eq!(needed(30), needed(0) + 30);
        preflight(&native(2).collect::<Vec<_>>(), 0).unwrap();
    }

    #[test]
    fn a_process_that_may_not_grow_is_refused_with_both_sizes() {
        let native = [DeviceSpec::new(0, DeviceBody::Native)];
        let needed = 90 + RUN_MIB + STACK_MIB * (needed_threads(&native) as u64);
        assert!(address_space(&native, needed, 90).is_ok());
        let refused = address_space(&native, needed - 1, 90)
            .unwrap_err()
            .to_string();
        for part in [format!("about {needed} MiB"), format!("{} MiB", needed - 1)] {
            assert!(refused.contains(&part), "{refused}");
        }
        assert!(refused.contains("ulimit -v"), "{refused}");
        assert_eq!(own_mib("VmPeak:\t 9 kB\nVmSize:\t  92160 kB\n"), 90);
    }

    #[test]
    fn a_trial_leaves_no_thread_behind() {
        // Other tests come and go in threads of their own, so only the outcome is looked at.
        assert!(trial(20).is_ok());
    }
}
