//! Instructions are counted exactly: the same job takes the same number of them in every run.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use super::BOARDS;
use super::aggregator::{Aggregator, Job, Update};
use super::board::Extras;
use super::session::Session;

/// Long enough to be disturbed: some 300 ms under emulation.
const JOB: Job = Job {
    num_examples: 300,
    local_epochs: 5,
    batch_size: 32,
};

/// Load of the host during the training.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Host {
    /// It waits for the update.
    Quiet,
    /// It computes, asks `/ready` all the time, and types into the shell.
    Busy,
}

#[test]
fn instructions_do_not_depend_on_what_the_host_does() {
    let boards = BOARDS.map(|board| {
        let quiet = train(board, JOB, 3, Host::Quiet);
        let busy = train(board, JOB, 3, Host::Busy);
        let slow = train(board, JOB, 5, Host::Quiet);
        assert_eq!(quiet.params, busy.params, "{board}: the models differ");
        let [quiet, busy, slow] = [quiet, busy, slow].map(instructions);
        assert_eq!(
            quiet, busy,
            "{board}: what the host does shows in the count"
        );
        assert_eq!(
            quiet, slow,
            "{board}: the speed of the clock shows in the count"
        );
        quiet
    });
    assert_eq!(boards[0], boards[1], "the machine shows in the count");
}

#[test]
fn more_training_takes_more_instructions() {
    let once = Job {
        local_epochs: 1,
        ..JOB
    };
    let (one, five) = (
        instructions(train("microvm", once, 3, Host::Quiet)),
        instructions(train("microvm", JOB, 3, Host::Quiet)),
    );
    assert!(one > 1_000_000, "{one} instructions for 300 examples");
    // The first step checks the labels, the others do the same each.
    assert!(
        five.abs_diff(5 * one) < one / 10,
        "{one} for one epoch, {five} for five"
    );
}

#[test]
fn without_icount_nothing_is_counted() {
    let aggregator = Aggregator::new(JOB);
    let mut session = Session::boot_with("microvm", &extras(&aggregator, None));
    session.play(&format!("zfl:~$ {}", aggregator.run_command()));
    assert_eq!(aggregator.start(1).status, 202);
    assert_eq!(aggregator.update().results.cost.instructions, None);
}

fn instructions(update: Update) -> u64 {
    let count = update.results.cost.instructions;
    count.expect("the device counts its instructions")
}

/// As with a QEMU before 7.2.
#[test]
fn a_processor_without_avx2_trains_the_same_model() {
    let fast = train("microvm", JOB, 3, Host::Quiet);
    for cpu in [
        "qemu32,+ssse3,+sse4.1,+rdrand",
        // AVX2 that nobody can switch on: QEMU takes no OSXSAVE then.
        "qemu32,+ssse3,+sse4.1,+rdrand,+avx,+avx2,+xsave",
    ] {
        let slow = train_on("microvm", Some(cpu), JOB, 3, Host::Quiet);
        assert_eq!(fast.params, slow.params, "{cpu}");
        let [fast, slow] = [&fast, &slow].map(|update| update.results.cost.instructions);
        assert!(fast < slow, "{cpu}: {fast:?} with AVX2, {slow:?} without");
    }
}

fn extras(aggregator: &Aggregator, shift: Option<u8>) -> Extras {
    Extras {
        forward: Some(aggregator.device),
        icount: shift,
        cpu: None,
    }
}

/// One round on a fresh machine.
fn train(board: &'static str, job: Job, shift: u8, host: Host) -> Update {
    train_on(board, None, job, shift, host)
}

/// As [`train`], on another processor.
fn train_on(
    board: &'static str,
    cpu: Option<&'static str>,
    job: Job,
    shift: u8,
    host: Host,
) -> Update {
    let aggregator = Aggregator::new(job);
    let extras = Extras {
        cpu,
        ..extras(&aggregator, Some(shift))
    };
    let mut session = Session::boot_with(board, &extras);
    session.play(&format!(
        "zfl:~$ {} icount={shift}",
        aggregator.run_command()
    ));
    match host {
        Host::Quiet => round(&aggregator),
        Host::Busy => disturbed(&mut session, &aggregator, || round(&aggregator)),
    }
}

fn round(aggregator: &Aggregator) -> Update {
    let answer = aggregator.start(1);
    assert_eq!(answer.status, 202, "{answer:?}");
    aggregator.update()
}

/// Disturbs host and device from before the work to its end; the device must have been asked while it
/// trained.
fn disturbed<T>(session: &mut Session, device: &Aggregator, work: impl FnOnce() -> T) -> T {
    let (is_over, times) = (AtomicBool::new(false), AtomicU32::new(0));
    let is_on = || !is_over.load(Ordering::Relaxed);
    let done = std::thread::scope(|scope| {
        // It is over as well if the work panics.
        let _end = End(&is_over);
        for _ in 0..2 {
            scope.spawn(|| {
                while is_on() {
                    std::hint::spin_loop();
                }
            });
        }
        scope.spawn(|| {
            while is_on() {
                session.type_line("stat");
                let ready = device.ready();
                let trains = ready.is_some_and(|ready| ready.body.contains("training"));
                times.fetch_add(trains.into(), Ordering::Relaxed);
            }
        });
        work()
    });
    assert!(
        times.into_inner() > 0,
        "the training was over before it was disturbed"
    );
    done
}

/// Sets a flag when it is dropped.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
