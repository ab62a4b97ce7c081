//! Schedules of the learning rate: `[schedule]`, `--schedule`, `--schedule-arg`.

use super::Chosen;
use super::declared::{Declared, DeclaredChoice};
use fl_param::{ParamSpec, Params};
use zfl_aggregator::{Course, Schedule};

/// A schedule with the values of its parameters.
pub type Scheduling = Chosen<ScheduleChoice>;

/// A schedule with the values of its parameters.
pub type ScheduleChoice = DeclaredChoice<Kind>;

/// Declaration of a schedule.
#[derive(Clone, Copy)]
pub struct Kind {
    name: &'static str,
    doc: &'static str,
    params: &'static [ParamSpec],
    course: fn(&Params) -> Course,
}

const fn rounds(name: &'static str, default: f64, min: f64, doc: &'static str) -> ParamSpec {
    ParamSpec {
        name,
        default,
        min,
        max: 1e6,
        whole: true,
        doc,
    }
}

const fn gamma(default: f64, doc: &'static str) -> ParamSpec {
    ParamSpec {
        name: "gamma",
        default,
        min: 1e-6,
        max: 1.0,
        whole: false,
        doc,
    }
}

const WARMUP: &str = "warmup_rounds";
const T_MAX: &str = "t_max";
const MIN_LR: &str = "min_lr";
const RISE: &str = "rounds in which the rate first rises to its full height";

const WARMUP_ROUNDS: ParamSpec = rounds(WARMUP, 0.0, 0.0, RISE);

static KINDS: [Kind; 5] = [
    Kind {
        name: "constant",
        doc: "the same rate in every round",
        params: &[WARMUP_ROUNDS],
        course: |_| Course::Constant,
    },
    Kind {
        name: "step",
        doc: "times gamma every step_size rounds",
        params: &[
            rounds("step_size", 10.0, 1.0, "rounds between two steps"),
            gamma(0.1, "factor of a step"),
            WARMUP_ROUNDS,
        ],
        course: |params| Course::Step {
            step_size: params.whole("step_size"),
            gamma: params.get("gamma"),
        },
    },
    Kind {
        name: "exponential",
        doc: "times gamma every round",
        params: &[gamma(0.99, "factor of a round"), WARMUP_ROUNDS],
        course: |params| Course::Exponential {
            gamma: params.get("gamma"),
        },
    },
    Kind {
        name: "cosine",
        doc: "half a cosine down to min_lr",
        params: &[
            ParamSpec {
                name: MIN_LR,
                default: 0.0,
                min: 0.0,
                max: 1e3,
                whole: false,
                doc: "least rate",
            },
            rounds(
                T_MAX,
                0.0,
                0.0,
                "round of the least rate; 0 is the one after the run's last",
            ),
            WARMUP_ROUNDS,
        ],
        course: |params| Course::Cosine {
            t_max: params.whole(T_MAX),
            min_lr: params.get(MIN_LR),
        },
    },
    Kind {
        name: "warm-up",
        doc: "rises to its full height, then stays",
        params: &[rounds(WARMUP, 5.0, 1.0, RISE)],
        course: |_| Course::Constant,
    },
];

impl ScheduleChoice {
    /// Sets what follows from the number of rounds, so that a run that is given more of them keeps its course.
    pub fn settle(&mut self, rounds: u32) {
        if self.params.whole(T_MAX) == 0 {
            // Only the cosine has it.
            let _ = self.params.set(T_MAX, f64::from(rounds).min(1e6));
        }
    }

    /// Least rate that it comes to.
    pub fn least_rate(&self) -> f64 {
        self.params.get(MIN_LR)
    }

    /// The schedule as the aggregator follows it.
    pub fn schedule(&self) -> Schedule {
        Schedule {
            course: (self.kind.course)(&self.params),
            warmup_rounds: self.params.whole(WARMUP),
        }
    }
}

impl Declared for Kind {
    const KIND: &'static str = "schedule";
    const ARG: (&'static str, &'static str) = (
        "schedule-arg",
        "Parameter of --schedule, as often as needed: gamma=0.98",
    );

    fn list() -> &'static [Self] {
        &KINDS
    }

    fn declaration(&self) -> (&'static str, &'static str, &'static [ParamSpec]) {
        (self.name, self.doc, self.params)
    }
}
