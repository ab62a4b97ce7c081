//! A device that runs out of memory refuses the round, says why, and lives on.

use super::aggregator::{Aggregator, Job};
use super::board::Extras;
use super::session::Session;

const JOB: Job = Job {
    num_examples: 100,
    local_epochs: 1,
    batch_size: 100,
};

#[test]
fn without_memory_a_round_is_refused_and_the_next_one_is_not() {
    for board in super::BOARDS {
        let aggregator = Aggregator::new(JOB);
        let extras = Extras {
            forward: Some(aggregator.device),
            ..Extras::default()
        };
        let mut session = Session::boot_with(board, &extras);
        session.play(&format!("zfl:~$ {}", aggregator.run_command()));
        // A device that finds no memory for its data cannot join, which is another story.
        session.wait_for("zfl: ready");
        // Before the first round and after one: what a round needs is not kept for the next.
        for round in [1, 3] {
            session.type_line("hog all");
            session.wait_for("KiB taken, 16 KiB left");
            let refused = aggregator.start(round);
            assert_eq!(refused.status, 507, "{board}: {refused:?}");
            assert!(refused.body.contains("training needs"), "{refused:?}");
            session.wait_for("refused: training needs");
            let ready = aggregator.ready().expect("the device lives");
            assert!(ready.body.contains(r#""state":"ready""#), "{ready:?}");

            session.type_line("hog 0");
            session.wait_for("0 KiB taken");
            assert_eq!(aggregator.start(round).status, 202, "{board}");
            assert_eq!(aggregator.update().results.round, round);
        }
    }
}
