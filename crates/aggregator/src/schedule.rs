//! Rate of the steps over the rounds: a pure function of the round, so that a resumed run goes on with it.

/// Schedule of the learning rate.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Schedule {
    /// Course after the warm-up.
    pub course: Course,
    /// Rounds in which the rate rises to its full height: in round `r` of `w` it is `r / w` of it.
    pub warmup_rounds: u32,
}

/// Course of the learning rate, as a factor of the rate at the beginning. `t` are the rounds since.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Course {
    /// Always the same.
    #[default]
    Constant,
    /// `gamma ^ (t / step_size)`, rounded down.
    Step {
        /// Rounds between two steps.
        step_size: u32,
        /// Factor of a step.
        gamma: f64,
    },
    /// `gamma ^ t`.
    Exponential {
        /// Factor of a round.
        gamma: f64,
    },
    /// Half a cosine down to `min_lr`, Loshchilov and Hutter 2017: <https://arxiv.org/abs/1608.03983>.
    Cosine {
        /// The round, counted from the first of the run, that would have the least rate.
        t_max: u32,
        /// Least rate.
        min_lr: f64,
    },
}

impl Schedule {
    /// The rate of a round, from 1, of a device whose full rate is `base`.
    pub fn rate(&self, base: f32, round: u32) -> f32 {
        let warmup = self.warmup_rounds;
        if round < warmup {
            return positive(f64::from(base) * f64::from(round) / f64::from(warmup));
        }
        // The last round of a warm-up has the full rate, and is the first of the course.
        let since = round - warmup.max(1);
        match self.course {
            Course::Constant => base,
            Course::Step { step_size, gamma } => {
                positive(f64::from(base) * power(gamma, since / step_size.max(1)))
            }
            Course::Exponential { gamma } => positive(f64::from(base) * power(gamma, since)),
            Course::Cosine { t_max, min_lr } => {
                let (base, span) = (f64::from(base), t_max.saturating_sub(warmup).max(1));
                let part = f64::from(since.min(span)) / f64::from(span);
                let height = (1.0 + libm::cos(core::f64::consts::PI * part)) / 2.0;
                let least = min_lr.min(base);
                positive(least + (base - least) * height)
            }
        }
    }
}

fn power(gamma: f64, exponent: u32) -> f64 {
    libm::pow(gamma, f64::from(exponent))
}

/// As f32, and never so small that a device would refuse it.
fn positive(rate: f64) -> f32 {
    (rate as f32).max(f32::MIN_POSITIVE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rates(course: Course, warmup_rounds: u32) -> Vec<f32> {
        let schedule = Schedule {
            course,
            warmup_rounds,
        };
        (1..=6).map(|round| schedule.rate(0.5, round)).collect()
    }

    #[test]
    fn every_course_is_that_of_its_formula() {
        assert_eq!(rates(Course::Constant, 0), [0.5; 6]);
        let step = Course::Step {
            step_size: 2,
            gamma: 0.5,
        };
        assert_eq!(rates(step, 0), [0.5, 0.5, 0.25, 0.25, 0.125, 0.125]);
        let exponential = Course::Exponential { gamma: 0.5 };
        let halves = [0.5, 0.25, 0.125, 0.0625, 0.031_25, 0.015_625];
        assert_eq!(rates(exponential, 0), halves);
        let cosine = Course::Cosine {
            t_max: 4,
            min_lr: 0.1,
        };
        let found = rates(cosine, 0);
        assert_eq!((found[0], found[2]), (0.5, 0.3));
        assert_eq!(found[4..], [0.1, 0.1], "it stays at the least");
    }

    #[test]
    fn a_warm_up_rises_to_the_full_rate_and_goes_before_any_course() {
        assert_eq!(
            rates(Course::Constant, 4),
            [0.125, 0.25, 0.375, 0.5, 0.5, 0.5]
        );
        let exponential = Course::Exponential { gamma: 0.5 };
        assert_eq!(rates(exponential, 3)[2..], [0.5, 0.25, 0.125, 0.0625]);
    }

    #[test]
    fn no_rate_is_one_that_a_device_refuses() {
        let schedule = Schedule {
            course: Course::Exponential { gamma: 1e-9 },
            warmup_rounds: 0,
        };
        assert!(schedule.rate(0.5, 4_000_000) > 0.0);
        let to_nothing = Course::Cosine {
            t_max: 5,
            min_lr: 0.0,
        };
        assert!(rates(to_nothing, 0).into_iter().all(|rate| rate > 0.0));
    }
}
