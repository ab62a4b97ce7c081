//! Instructions are counted exactly: the same job takes the same number of them in every run.

use std::sync::atomic::{AtomicBool, Ordering};

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

/// How the host behaves meanwhile.
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

fn extras(aggregator: &Aggregator, shift: Option<u8>) -> Extras {
    Extras {
        forward: Some(aggregator.device_port),
        icount: shift,
    }
}

/// One round on a fresh machine.
fn train(board: &'static str, job: Job, shift: u8, host: Host) -> Update {
    let aggregator = Aggregator::new(job);
    let mut session = Session::boot_with(board, &extras(&aggregator, Some(shift)));
    session.play(&format!(
        "zfl:~$ {} icount={shift}",
        aggregator.run_command()
    ));
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        if host == Host::Busy {
            for _ in 0..2 {
                scope.spawn(|| {
                    while !is_over.load(Ordering::Relaxed) {
                        std::hint::spin_loop();
                    }
                });
            }
        }
        let update = round(&aggregator, &mut session, host);
        is_over.store(true, Ordering::Relaxed);
        update
    })
}

fn round(aggregator: &Aggregator, session: &mut Session, host: Host) -> Update {
    let answer = aggregator.start(1);
    assert_eq!(answer.status, 202, "{answer:?}");
    if host == Host::Quiet {
        return aggregator.update();
    }
    let mut times_disturbed = 0;
    loop {
        if let Some(update) = aggregator.try_update() {
            assert!(
                times_disturbed > 0,
                "the training was over before it was disturbed"
            );
            return update;
        }
        session.type_line("stat");
        let ready = aggregator.ready();
        times_disturbed += u32::from(ready.is_some_and(|ready| ready.body.contains("training")));
    }
}
