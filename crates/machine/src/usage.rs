//! Memory and processor time that a machine costs its host, and its own time, from `/proc`.

use std::time::Duration;

use nix::unistd::{SysconfVar, sysconf};

/// Memory and processor time that a device costs its host.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct HostUsage {
    /// Memory that belongs to it alone, in bytes.
    pub private_bytes: u64,
    /// Processor time since its start, in seconds.
    pub cpu_s: f64,
}

impl HostUsage {
    /// Reads the usage of the process `pid`; `None` if it is gone.
    ///
    /// `statm` is a look at three counters; `smaps_rollup`, which would tell clean private pages
    /// apart, walks all page tables: 14 ms instead of 20 us for each of 250 machines on a busy host,
    /// and the sums were the same to the page.
    pub fn of(pid: u32) -> Option<Self> {
        let read = |file| std::fs::read_to_string(format!("/proc/{pid}/{file}")).ok();
        let (statm, stat) = (read("statm")?, read("stat")?);
        Some(Self {
            private_bytes: private_pages(&statm)? * page_bytes()?,
            cpu_s: cpu_s(&stat)?,
        })
    }
}

/// Turns of a machine at the host's processors so far, over all of its threads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Turns {
    /// Time that it had a processor.
    pub ran: Duration,
    /// Time that it could have run and had to wait for one.
    pub waited: Duration,
}

impl Turns {
    /// Reads the turns of the process `pid`; `None` if it is gone, or this kernel does not count them
    /// (`CONFIG_SCHED_INFO`).
    pub fn of(pid: u32) -> Option<Self> {
        let threads = std::fs::read_dir(format!("/proc/{pid}/task")).ok()?;
        let of_thread = |thread: std::io::Result<std::fs::DirEntry>| {
            let thread = thread.ok()?.file_name().into_string().ok()?;
            let read =
                |file| std::fs::read_to_string(format!("/proc/{pid}/task/{thread}/{file}")).ok();
            turns(&read("schedstat")?)
        };
        threads.filter_map(of_thread).reduce(|a, b| Self {
            ran: a.ran + b.ran,
            waited: a.waited + b.waited,
        })
    }

    /// The machine's own part of the time that passed since an earlier look: asleep or at work, but not in
    /// the queue for a processor. Time at work always counts.
    pub fn own_time(&self, earlier: &Self, passed: Duration) -> Duration {
        let ran = self.ran.saturating_sub(earlier.ran).min(passed);
        let waited = self.waited.saturating_sub(earlier.waited);
        ran.max(passed.saturating_sub(waited))
    }
}

/// The first two fields of a thread's `schedstat`, in nanoseconds.
fn turns(schedstat: &str) -> Option<Turns> {
    let mut fields = schedstat.split_whitespace().map(str::parse);
    let mut next = || Some(Duration::from_nanos(fields.next()?.ok()?));
    Some(Turns {
        ran: next()?,
        waited: next()?,
    })
}

/// Pages that are resident and backed by no file: the second field without the third. A process that has
/// ended and is not waited for has none.
fn private_pages(statm: &str) -> Option<u64> {
    let mut fields = statm.split_whitespace().skip(1).map(str::parse::<u64>);
    let (resident, shared) = (fields.next()?.ok()?, fields.next()?.ok()?);
    Some(resident.saturating_sub(shared)).filter(|_| resident > 0)
}

fn page_bytes() -> Option<u64> {
    let size = sysconf(SysconfVar::PAGE_SIZE).ok()??;
    u64::try_from(size).ok()
}

/// User and system time: fields 14 and 15, counted from the end of the name, which may hold
/// anything.
fn cpu_s(stat: &str) -> Option<f64> {
    /// Linux tells user space 100 ticks a second, whatever it counts itself.
    const TICKS_PER_S: f64 = 100.0;
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(11);
    let ticks = fields.next()?.parse::<u32>().ok()? + fields.next()?.parse::<u32>().ok()?;
    Some(f64::from(ticks) / TICKS_PER_S)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_full_of_traps_does_not_move_the_fields() {
        let stat = "7 (a) R 1 2) S 1 7 7 0 -1 4194304 100 0 0 0 250 50 0 0 20 0 3 0 5000";
        assert_eq!(cpu_s(stat), Some(3.0));
        assert_eq!(cpu_s("7 (short) S 1"), None);
    }

    #[test]
    fn time_in_the_queue_for_a_processor_is_not_a_machines_own() {
        let s = Duration::from_secs;
        let own = |ran: u64, waited: u64, passed: u64| {
            let earlier = Turns {
                ran: s(7),
                waited: s(9),
            };
            let later = Turns {
                ran: s(7 + ran),
                waited: s(9 + waited),
            };
            later.own_time(&earlier, s(passed))
        };
        assert_eq!(own(0, 0, 60), s(60), "it sleeps, or was stopped");
        assert_eq!(own(60, 0, 60), s(60), "it runs on a host that is idle");
        assert_eq!(own(1, 59, 60), s(1), "it hardly got to run");
        assert_eq!(own(5, 120, 60), s(5), "two threads waited at once");
        assert_eq!(own(90, 0, 60), s(60), "two threads ran at once");
    }

    #[test]
    fn turns_are_read_from_the_kernel() {
        let expected = Turns {
            ran: Duration::from_nanos(15),
            waited: Duration::from_nanos(7),
        };
        assert_eq!(turns("15 7 3\n"), Some(expected));
        assert_eq!(turns("15"), None);
        assert!(Turns::of(std::process::id()).unwrap().ran > Duration::ZERO);
        assert_eq!(Turns::of(u32::MAX), None);
    }

    #[test]
    fn private_memory_is_what_no_file_backs() {
        assert_eq!(private_pages("9000 500 120 3 0 700 0"), Some(380));
        assert_eq!(private_pages("0 0 0 0 0 0 0"), None, "it has ended");
        assert_eq!(private_pages("9000 500"), None);
    }

    #[test]
    fn memory_that_is_taken_shows() {
        let private = || HostUsage::of(std::process::id()).unwrap().private_bytes;
        let before = private();
        let taken = std::hint::black_box(vec![1u8; 32 << 20]);
        // Other tests run in this process, too, so it is not to the page.
        assert!(private() >= before + (16 << 20));
        drop(taken);
    }

    #[test]
    fn a_process_can_be_measured_and_one_that_is_gone_cannot() {
        assert!(HostUsage::of(std::process::id()).unwrap().private_bytes > 0);
        assert_eq!(HostUsage::of(u32::MAX), None);
    }
}
