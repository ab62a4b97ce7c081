//! What a machine costs its host, from `/proc`.

/// What a device costs its host.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Usage {
    /// Memory that belongs to it alone, in bytes.
    pub private_bytes: u64,
    /// Processor time since its start, in seconds.
    pub cpu_s: f64,
}

impl Usage {
    /// The processor time alone of the process `pid`, which costs next to nothing to find out.
    pub(crate) fn cpu_s_of(pid: u32) -> Option<f64> {
        cpu_s(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    /// Of the process `pid`; `None` if it is gone.
    pub(crate) fn of(pid: u32) -> Option<Self> {
        let rollup = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        Some(Self {
            private_bytes: private_bytes(&rollup)?,
            cpu_s: cpu_s(&stat)?,
        })
    }
}

fn private_bytes(rollup: &str) -> Option<u64> {
    let private = rollup.lines().filter(|line| line.starts_with("Private_"));
    let kib = private.map(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
    kib.sum::<Option<u64>>().map(|kib| kib * 1024)
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
    fn private_memory_is_clean_and_dirty() {
        let rollup = "Rss: 900 kB\nPrivate_Clean:   100 kB\nPrivate_Dirty:   28 kB\nSwap: 5 kB\n";
        assert_eq!(private_bytes(rollup), Some(128 * 1024));
    }

    #[test]
    fn a_process_can_be_measured_and_one_that_is_gone_cannot() {
        assert!(Usage::of(std::process::id()).unwrap().private_bytes > 0);
        assert_eq!(Usage::of(u32::MAX), None);
    }
}
