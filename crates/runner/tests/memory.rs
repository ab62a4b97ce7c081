//! Memory of a run whose devices are natives: it grows with the cohort, and with the fleet only by a little.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use zfl_experiment::{BodyChoice, Experiment, Out, Root, Settings};
use zfl_run_dir::Event;
use zfl_runner::{Observer, Runner};

/// Bytes of a device that is in no cohort, all in all: its own, what is known of it elsewhere, and what the allocator
/// keeps of its join. A device that held 20 digits of its own, a model and its messages would take three times as much.
const MOST_EACH: usize = 7_500;

/// Most open files and threads of the process at the end of a round.
#[derive(Default)]
struct Counted {
    files: AtomicUsize,
    threads: AtomicUsize,
}

impl Observer for Counted {
    fn on_event(&self, event: &Event) {
        if let Event::RoundFinished { .. } = event {
            let count = |folder| fs::read_dir(folder).unwrap().count();
            self.files
                .fetch_max(count("/proc/self/fd"), Ordering::Relaxed);
            self.threads
                .fetch_max(count("/proc/self/task"), Ordering::Relaxed);
        }
    }
}

/// Most memory that this process has ever had, in bytes.
fn peak() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    let kib = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<usize>().ok());
    kib.unwrap() << 10
}

/// Runs so many devices of which eight are chosen a round; returns the peak, the files and the threads.
fn run(clients: u32) -> (usize, usize, usize) {
    let folder = tempfile::tempdir().unwrap();
    let settings = format!(
        "body = \"native\"\ndata = \"zfl:digits\"\nclients = {clients}\nclients_per_round = 8\nrounds = 2\n\
         local_epochs = 1\nexamples_per_client = 20\npartition = \"overlapping\"\nhidden = []\n"
    );
    let settings: Settings = toml::from_str(&settings).unwrap();
    assert!(matches!(settings.device.body, Some(BodyChoice::Native)));
    let out = folder.path().join("run");
    let (experiment, data) =
        Experiment::of_run(&settings, Out::New(Some(&out)), &Root::find(None).unwrap()).unwrap();
    let counted = Arc::new(Counted::default());
    let summary = Runner::new(experiment, data).run(counted.clone()).unwrap();
    assert!(summary.training.success, "{:?}", summary.training.reason);
    // Nobody but those of the two cohorts has a log.
    let logs = fs::read_dir(out.join("serial")).unwrap().count();
    assert!(logs <= 16, "{logs} logs");
    let of = |count: &AtomicUsize| count.load(Ordering::Relaxed);
    (peak(), of(&counted.files), of(&counted.threads))
}

/// One test, since the peak is that of the whole process.
#[test]
fn a_device_outside_the_cohort_takes_little_memory_and_no_file_nor_thread() {
    let (few, many) = (4_200, 9_200);
    let (before, files, threads) = run(few);
    let (after, more_files, more_threads) = run(many);
    let each = after.saturating_sub(before) / (many - few) as usize;
    assert!(each <= MOST_EACH, "{each} bytes a device");
    // Some of the runtime's threads come and go.
    assert!(
        more_files <= files + 16,
        "{more_files} files, {files} before"
    );
    assert!(
        more_threads <= threads + 16,
        "{more_threads} threads, {threads} before"
    );
}
