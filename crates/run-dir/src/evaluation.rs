//! Evaluation on the devices: a row for each client, and the distribution over all of a round.

use fl_proto::Cost;
use serde::{Deserialize, Serialize};

use crate::round::RoundRecord;

/// Bins of a histogram of accuracies.
pub const BINS: usize = 20;

/// A row of `evaluations.csv`: one client's evaluation of a round's model on the examples that it holds out.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EvaluationRecord {
    /// The round.
    pub round: u32,
    /// The client.
    pub client: u32,
    /// `received`, or why there is no evaluation.
    pub outcome: String,
    /// Examples that it holds out.
    pub num_evaluated: u32,
    /// Findings about the global model.
    pub global: Option<Score>,
    /// Findings about the client's personal model, if it has one.
    pub personal: Option<Score>,
    /// Cost to the device.
    pub cost: Option<Cost>,
    /// HTTP bytes of the evaluation from the client.
    pub bytes_up: u64,
    /// HTTP bytes of the evaluation to the client.
    pub bytes_down: u64,
}

/// Findings about one model on one client.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Score {
    /// Examples whose class was recognised.
    pub correct: u32,
    /// Mean cross-entropy, in nats.
    pub loss: f32,
}

impl EvaluationRecord {
    /// The file's name in the run directory.
    pub const FILE: &str = "evaluations.csv";

    /// The names of the columns.
    pub const HEAD: [&str; 14] = [
        "round",
        "client",
        "outcome",
        "num_evaluated",
        "correct",
        "accuracy",
        "loss",
        "personal_correct",
        "personal_accuracy",
        "personal_loss",
        "evaluate_us",
        "instructions",
        "bytes_up",
        "bytes_down",
    ];

    /// The row.
    pub fn cells(&self) -> [String; Self::HEAD.len()] {
        let [correct, accuracy, loss] = self.score(self.global);
        let [own_correct, own_accuracy, own_loss] = self.score(self.personal);
        let cost = self.cost.as_ref();
        let instructions = cost.and_then(|cost| cost.instructions);
        [
            self.round.to_string(),
            self.client.to_string(),
            self.outcome.clone(),
            self.num_evaluated.to_string(),
            correct,
            accuracy,
            loss,
            own_correct,
            own_accuracy,
            own_loss,
            text(cost.map(|cost| cost.train_us)),
            text(instructions),
            self.bytes_up.to_string(),
            self.bytes_down.to_string(),
        ]
    }

    fn score(&self, score: Option<Score>) -> [String; 3] {
        [
            text(score.map(|score| score.correct)),
            text(score.map(|score| self.accuracy(score))),
            text(score.map(|score| score.loss)),
        ]
    }

    /// Share of the examples that a model recognised.
    pub fn accuracy(&self, score: Score) -> f64 {
        f64::from(score.correct) / f64::from(self.num_evaluated.max(1))
    }
}

fn text(value: Option<impl ToString>) -> String {
    value.map_or_else(String::new, |value| value.to_string())
}

/// The evaluations of a round together.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RoundEvaluation {
    /// The round.
    pub round: u32,
    /// Clients whose evaluation came.
    pub devices: u32,
    /// Clients that were chosen and gave none.
    pub missing: u32,
    /// From choosing the clients to the last answer, in seconds.
    pub evaluate_s: f64,
    /// The global model.
    pub global: ModelEvaluation,
    /// The personal models of those that have one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub personal: Option<ModelEvaluation>,
}

/// Evaluations of one model, or of as many as there are clients.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ModelEvaluation {
    /// Distribution of the accuracies over clients.
    #[serde(flatten)]
    pub distribution: Distribution,
    /// Mean cross-entropy, weighted by examples, in nats.
    pub loss: f64,
    /// Classes and what they were taken for, on all clients together.
    pub confusion: Confusion,
}

/// Distribution of accuracies over clients, each from 0 to 1.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Distribution {
    /// Mean over clients.
    pub mean: f64,
    /// Mean weighted by examples: the share of all examples.
    pub weighted_mean: f64,
    /// Mean over the worst tenth of the clients, rounded up.
    pub worst_decile: f64,
    /// Standard deviation over clients.
    pub deviation: f64,
    /// The least.
    pub min: f64,
    /// First quartile, interpolated.
    pub q1: f64,
    /// Median.
    pub median: f64,
    /// Third quartile.
    pub q3: f64,
    /// The greatest.
    pub max: f64,
    /// Clients by accuracy, in bins of equal width; 1 is in the last.
    pub histogram: Vec<u32>,
}

impl Distribution {
    /// The distribution of these accuracies, each with its number of examples, in the order of clients.
    /// `None` if there are none.
    pub fn of(each: &[(f64, u32)]) -> Option<Self> {
        let mut sorted: Vec<f64> = each.iter().map(|one| one.0).collect();
        sorted.sort_by(f64::total_cmp);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let mean = mean(each.iter().map(|one| one.0));
        let examples: f64 = each.iter().map(|one| f64::from(one.1)).sum();
        let weighted: f64 = each.iter().map(|one| one.0 * f64::from(one.1)).sum();
        let variance = self::mean(each.iter().map(|one| (one.0 - mean).powi(2)));
        let mut histogram = vec![0; BINS];
        for accuracy in &sorted {
            histogram[((accuracy * BINS as f64) as usize).min(BINS - 1)] += 1;
        }
        Some(Self {
            mean,
            weighted_mean: weighted / examples.max(1.0),
            worst_decile: self::mean(sorted[..sorted.len().div_ceil(10)].iter().copied()),
            deviation: variance.sqrt(),
            min,
            q1: quantile(&sorted, 0.25),
            median: quantile(&sorted, 0.5),
            q3: quantile(&sorted, 0.75),
            max,
            histogram,
        })
    }
}

fn mean(values: impl ExactSizeIterator<Item = f64>) -> f64 {
    let count = values.len().max(1) as f64;
    values.sum::<f64>() / count
}

/// A quantile of sorted numbers, interpolated between the two next to it.
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let place = share * (sorted.len() - 1) as f64;
    let (below, above) = (
        sorted[place.floor() as usize],
        sorted[place.ceil() as usize],
    );
    below + (above - below) * place.fract()
}

/// Classes of examples, and what a model took them for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confusion {
    /// Examples of each class.
    pub counts: Vec<u32>,
    /// Those of them that were recognised.
    pub correct: Vec<u32>,
    /// A row for each class with the times that it was taken for each class; none of more than
    /// [`MAX_CONFUSED`](fl_proto::message::MAX_CONFUSED) classes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub taken_for: Vec<Vec<u32>>,
}

impl Confusion {
    /// Nothing of so many classes yet.
    pub fn of(classes: usize) -> Self {
        let rows = match classes <= fl_proto::message::MAX_CONFUSED {
            true => classes,
            false => 0,
        };
        Self {
            counts: vec![0; classes],
            correct: vec![0; classes],
            taken_for: vec![vec![0; classes]; rows],
        }
    }

    /// Adds an example.
    pub fn add(&mut self, label: usize, prediction: usize) {
        let is_right = label == prediction;
        for (count, more) in [(&mut self.counts, true), (&mut self.correct, is_right)] {
            if let Some(count) = count.get_mut(label) {
                *count += u32::from(more);
            }
        }
        let row = self.taken_for.get_mut(label);
        if let Some(times) = row.and_then(|row| row.get_mut(prediction)) {
            *times += 1;
        }
    }

    /// Adds the numbers of a section of an evaluation, and the examples of each class that it is about.
    pub fn add_section(&mut self, numbers: &[u32], counts: &[u32]) {
        let classes = self.counts.len();
        add(&mut self.counts, counts);
        if self.taken_for.is_empty() {
            return add(&mut self.correct, numbers);
        }
        for (label, row) in numbers.chunks(classes.max(1)).enumerate().take(classes) {
            add(&mut self.taken_for[label], row);
            self.correct[label] += row.get(label).copied().unwrap_or(0);
        }
    }
}

fn add(to: &mut [u32], more: &[u32]) {
    for (to, more) in to.iter_mut().zip(more) {
        *to += more;
    }
}

impl RoundRecord {
    /// The row with the numbers of an evaluation.
    pub fn with_evaluation(self, evaluation: &RoundEvaluation) -> Self {
        let global = &evaluation.global;
        let personal = evaluation.personal.as_ref();
        let own = |of: fn(&Distribution) -> f64| personal.map(|one| of(&one.distribution));
        let all = |value: f64| (evaluation.devices > 0).then_some(value);
        let over = &global.distribution;
        Self {
            evaluate_s: Some(evaluation.evaluate_s),
            devices_evaluated: Some(evaluation.devices),
            device_loss: all(global.loss),
            device_accuracy_mean: all(over.mean),
            device_accuracy_weighted_mean: all(over.weighted_mean),
            device_accuracy_worst_decile: all(over.worst_decile),
            device_accuracy_deviation: all(over.deviation),
            device_accuracy_min: all(over.min),
            device_accuracy_q1: all(over.q1),
            device_accuracy_median: all(over.median),
            device_accuracy_q3: all(over.q3),
            device_accuracy_max: all(over.max),
            personal_accuracy_mean: own(|over| over.mean),
            personal_accuracy_weighted_mean: own(|over| over.weighted_mean),
            personal_accuracy_worst_decile: own(|over| over.worst_decile),
            personal_accuracy_deviation: own(|over| over.deviation),
            personal_accuracy_min: own(|over| over.min),
            personal_accuracy_q1: own(|over| over.q1),
            personal_accuracy_median: own(|over| over.median),
            personal_accuracy_q3: own(|over| over.q3),
            personal_accuracy_max: own(|over| over.max),
            ..self
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Against NumPy: `mean`, `average`, `std`, `quantile` of the same numbers.
    #[test]
    fn the_distribution_is_that_of_numpy() {
        let each = [(0.5, 10), (1.0, 30), (0.0, 20), (0.75, 40)];
        let found = Distribution::of(&each).unwrap();
        let about = |value: f64, expected: f64| assert!((value - expected).abs() < 1e-12);
        about(found.mean, 0.5625);
        about(found.weighted_mean, 0.65);
        about(found.worst_decile, 0.0);
        about(found.deviation, 0.369_754_986_443_726_4);
        about(found.q1, 0.375);
        about(found.median, 0.625);
        about(found.q3, 0.8125);
        assert_eq!((found.min, found.max), (0.0, 1.0));
        assert_eq!(found.histogram.iter().sum::<u32>(), 4);
        assert_eq!((found.histogram[0], found.histogram[BINS - 1]), (1, 1));
        assert_eq!(Distribution::of(&[]), None);
    }

    #[test]
    fn the_worst_tenth_is_rounded_up() {
        let each: Vec<(f64, u32)> = (0..25).map(|n| (f64::from(n) / 100.0, 1)).collect();
        let found = Distribution::of(&each).unwrap();
        assert!(
            (found.worst_decile - 0.01).abs() < 1e-12,
            "of three clients"
        );
    }

    #[test]
    fn a_section_adds_up_to_the_examples_one_by_one() {
        let examples = [(0, 0), (0, 1), (1, 1), (2, 0), (2, 2), (2, 2)];
        let mut one_by_one = Confusion::of(3);
        for (label, prediction) in examples {
            one_by_one.add(label, prediction);
        }
        let mut section = Confusion::of(3);
        section.add_section(&[1, 1, 0, 0, 1, 0, 1, 0, 2], &[2, 1, 3]);
        assert_eq!(section, one_by_one);
        assert_eq!(
            (&*section.correct, &*section.counts),
            (&[1, 1, 2][..], &[2, 1, 3][..])
        );
        let mut many = Confusion::of(40);
        many.add(39, 39);
        many.add_section(&[1; 40], &[2; 40]);
        assert!(many.taken_for.is_empty());
        assert_eq!(
            (many.correct[39], many.counts[39], many.counts[0]),
            (2, 3, 2)
        );
    }
}
