//! Memory that a node has been granted, which may be less than its machine has.

use std::fs;
use std::path::Path;

/// Memory that this process may have, in bytes: by its control group, and by its job of Slurm. None: all there is.
pub(super) fn memory() -> Option<u64> {
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let file = |folder: &Path| folder.join("memory.max").display().to_string();
    let limit =
        |folder: &Path| fs::read_to_string("/proc/self/root".to_owned() + &file(folder)).ok();
    let job = std::env::var("SLURM_MEM_PER_NODE").ok();
    least(&groups, limit, job.as_deref())
}

/// The least of the limits of a control group and of those above it, and of the megabytes of a job.
fn least(
    groups: &str,
    limit: impl Fn(&Path) -> Option<String>,
    job_mib: Option<&str>,
) -> Option<u64> {
    let group = groups.lines().find_map(|line| line.strip_prefix("0::/"));
    let mount = Path::new("/sys/fs/cgroup");
    let own = group.map(|group| mount.join(group));
    let folders = own.iter().flat_map(|own| own.ancestors());
    let folders = folders.take_while(|folder| folder.starts_with(mount));
    let limits = folders.filter_map(|folder| limit(folder)?.trim().parse().ok());
    // Slurm says 0 for all there is.
    let job = job_mib.and_then(|mib| mib.parse::<u64>().ok());
    let job = job
        .filter(|mib| *mib > 0)
        .map(|mib| mib.saturating_mul(1 << 20));
    limits.chain(job).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_limit_counts_also_that_of_a_group_above() {
        let limit = |folder: &Path| {
            let limit = match folder.to_str()? {
                "/sys/fs/cgroup/job/step" => "max\n",
                "/sys/fs/cgroup/job" => "1073741824\n",
                _ => return None,
            };
            Some(limit.to_owned())
        };
        let groups = "1:name=x:/y\n0::/job/step\n";
        assert_eq!(least(groups, limit, None), Some(1 << 30));
        assert_eq!(least(groups, limit, Some("512")), Some(512 << 20));
        assert_eq!(least(groups, limit, Some("0")), Some(1 << 30));
        assert_eq!(least("", limit, None), None);
    }
}
