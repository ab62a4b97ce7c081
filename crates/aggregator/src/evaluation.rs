//! Evaluation on devices: the part of the round in which clients try the new model on examples of their own.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Result;
use axum::http::{HeaderMap, StatusCode};
use fl_data::Partition;
use fl_proto::message::{CONFUSION, CONFUSION_OWN, MAX_CONFUSED, MODEL, confusion_len};
use fl_proto::{Evaluated, wire_len};
use fl_round::{Arrival, Delivery, EvaluatedRound, Start, StartAnswer};
use tokio::task::spawn_blocking;
use zfl_run_dir::{
    Confusion, Distribution, EvaluationRecord, Event, ModelEvaluation, RoundEvaluation, Score,
};

use crate::broadcast::{Broadcast, Form};
use crate::config::Config;
use crate::evaluate::LARGEST_LOSS;
use crate::intake::{Body, control};
use crate::rounds::{Rounds, answer_of, try_start};
use crate::shared::{Refusal, Shared, refusal};
use crate::token;

/// Evaluation on devices, as a run has chosen it.
#[derive(Clone, Debug, Default)]
pub struct Evaluation {
    /// Examples of each client that it holds out: none of them is in its training.
    pub holdout: Partition,
    /// Rounds from one evaluation to the next.
    pub every: u32,
    /// Number of clients drawn from all; `None`: the cohort of the round.
    pub clients: Option<u32>,
}

/// An evaluation that was taken in.
#[derive(Debug)]
pub(crate) struct Taken {
    record: EvaluationRecord,
    /// Examples of each class that the client holds out.
    counts: Vec<u32>,
    confusion: Vec<u32>,
    confusion_own: Option<Vec<u32>>,
}

impl Config {
    /// Examples that a client holds out.
    pub(crate) fn holdout(&self, client: u32) -> &[u32] {
        let evaluation = self.evaluation.as_ref();
        evaluation.map_or(&[], |one| one.holdout.indices(client as usize))
    }

    /// Lengths of the sections of an evaluation.
    pub(crate) fn confusion_sections(&self) -> [u64; 2] {
        [confusion_len(self.model.shape().num_classes()) as u64; 2]
    }
}

/// Takes an evaluation in, if the body is one.
pub(crate) fn take_evaluation(
    shared: &Shared,
    id: u32,
    headers: &HeaderMap,
    body: &[u8],
) -> Option<Result<(), Refusal>> {
    shared.config.evaluation.as_ref()?;
    let most = wire_len::longest_json_body(shared.config.confusion_sections());
    if body.len() as u64 > most {
        return None;
    }
    let evaluated: Evaluated = control(headers, body)?;
    Some(checked(shared, id, headers, body, &evaluated))
}

fn checked(
    shared: &Shared,
    id: u32,
    headers: &HeaderMap,
    body: &[u8],
    evaluated: &Evaluated,
) -> Result<(), Refusal> {
    let sections = Body::of(headers, body)?.sections;
    let taken = Taken::of(shared, id, evaluated, &sections);
    match taken {
        Ok(taken) => shared.take_evaluation(taken, evaluated),
        Err(why) => {
            let why = format!("this evaluation cannot be: {why}");
            shared.give_up(id, evaluated.round, &evaluated.token, &why);
            Err(Refusal(StatusCode::BAD_REQUEST, why))
        }
    }
}

impl Taken {
    /// Checks an evaluation against what the server knows of the client's examples.
    fn of(
        shared: &Shared,
        id: u32,
        evaluated: &Evaluated,
        sections: &BTreeMap<String, Vec<f32>>,
    ) -> Result<Self, String> {
        let holdout = shared.config.holdout(id);
        let (got, want) = (evaluated.num_evaluated, holdout.len());
        if got as usize != want {
            return Err(format!("{got} examples, this client holds {want} out"));
        }
        let mut counts = vec![0; shared.config.model.shape().num_classes()];
        for label in shared.train.gather_labels(holdout) {
            counts[usize::from(label)] += 1;
        }
        let known = [CONFUSION, CONFUSION_OWN];
        if let Some(name) = sections.keys().find(|name| !known.contains(&name.as_str())) {
            return Err(format!("section {name} is not wanted"));
        }
        let confusion = sections
            .get(CONFUSION)
            .ok_or("section confusion is missing")?;
        let confusion = times(confusion, &counts)?;
        let own = sections.get(CONFUSION_OWN);
        let confusion_own = own.map(|own| times(own, &counts)).transpose()?;
        if confusion_own.is_some() != evaluated.personal_loss.is_some() {
            return Err("a personal model has a loss and a confusion, or neither".to_owned());
        }
        let global = score(&confusion, &counts, evaluated.loss)?;
        let own = confusion_own.as_ref().zip(evaluated.personal_loss);
        let own = own.map(|(confusion, loss)| score(confusion, &counts, loss));
        let record = EvaluationRecord {
            round: evaluated.round,
            client: id,
            outcome: "received".to_owned(),
            num_evaluated: got,
            global: Some(global),
            personal: own.transpose()?,
            cost: Some(evaluated.cost.clone()),
            bytes_up: 0,
            bytes_down: 0,
        };
        Ok(Self {
            record,
            counts,
            confusion,
            confusion_own,
        })
    }
}

/// The numbers of a confusion section: how often each class was taken for each.
fn times(numbers: &[f32], counts: &[u32]) -> Result<Vec<u32>, String> {
    let classes = counts.len();
    let (got, want) = (numbers.len(), confusion_len(classes));
    if got != want {
        return Err(format!("{got} numbers of a confusion, {want} are expected"));
    }
    let is_count =
        |number: &&f32| **number >= 0.0 && **number <= 16_777_216.0 && number.fract() == 0.0;
    if let Some(number) = numbers.iter().find(|number| !is_count(number)) {
        return Err(format!("{number} times one class was taken for another"));
    }
    let times: Vec<u32> = numbers.iter().map(|number| *number as u32).collect();
    let is_whole = classes <= MAX_CONFUSED;
    for (label, (row, count)) in times.chunks(want / classes).zip(counts).enumerate() {
        let sum: u64 = row.iter().copied().map(u64::from).sum();
        let count = u64::from(*count);
        if sum > count || (is_whole && sum < count) {
            return Err(format!(
                "{sum} examples of class {label}, this client holds {count} out"
            ));
        }
    }
    Ok(times)
}

fn score(confusion: &[u32], counts: &[u32], loss: f32) -> Result<Score, String> {
    if loss < 0.0 || f64::from(loss) > LARGEST_LOSS {
        return Err(format!("a loss of {loss}"));
    }
    let mut one = Confusion::of(counts.len());
    one.add_section(confusion, counts);
    let correct = one.correct.iter().sum();
    Ok(Score { correct, loss })
}

impl Shared {
    fn take_evaluation(&self, taken: Taken, evaluated: &Evaluated) -> Result<(), Refusal> {
        let token = token::number(&evaluated.token);
        let placed = self.with(|state, now_us| {
            let update = state.next_number();
            let delivery = Delivery {
                measured: fl_round::Measured::default(),
                client: taken.record.client,
                round: taken.record.round,
                token,
                update,
            };
            state.machine.evaluated(now_us, delivery)?;
            state.evaluations.insert(update, taken);
            Ok(())
        });
        placed.map_err(|refused| refusal(&refused))
    }
}

impl Rounds {
    /// Encodes the new model for those who evaluate it.
    pub(crate) async fn open_evaluation(&mut self, clients: &[u32]) -> Result<Broadcast> {
        let with_json = self.shared.look(|state| {
            let mut clients = clients.iter().filter_map(|id| state.roster.get(*id));
            clients.any(|client| client.form == Form::Json)
        });
        self.evaluation_began = self.shared.look(|state| {
            let bytes = |id: &u32| Some((*id, state.roster.bytes(*id)?));
            clients.iter().filter_map(bytes).collect()
        });
        let (shared, params) = (self.shared.clone(), self.params.clone());
        let encode = move || {
            let travelling = shared.config.travelling();
            let tensors = shared.config.tensors();
            let outgoing = || {
                shared
                    .config
                    .outgoing(0, MODEL, &params[..travelling], &tensors)
            };
            let model = (travelling > 0).then(outgoing);
            Broadcast::new(model.as_slice(), with_json)
        };
        spawn_blocking(encode).await?
    }

    /// Sends one `/start` that asks for an evaluation, and gives the machine its answer.
    pub(crate) fn ask_evaluation(
        &self,
        start: Start,
        broadcast: &Arc<Broadcast>,
    ) -> impl Future<Output = ()> + Send + use<> {
        let (shared, devices) = (self.shared.clone(), self.devices.clone());
        let broadcast = broadcast.clone();
        let message = self.message(start).map(|message| fl_proto::Start {
            evaluate: true,
            ..message
        });
        async move {
            let Start { client, round, .. } = start;
            let able =
                shared.look(|state| state.roster.get(client).is_some_and(|one| one.evaluates));
            let held = shared.config.holdout(client).len();
            let answer = match held {
                0 => StartAnswer::Refused(
                    "this client has too few examples to hold one out".to_owned(),
                ),
                _ if able => {
                    let asked = try_start(&shared, &devices, start, message, &broadcast).await;
                    asked.map_or_else(|error| answer_of(&error), |()| StartAnswer::Taken)
                }
                _ => StartAnswer::Refused(
                    "this device cannot evaluate: its firmware is older".to_owned(),
                ),
            };
            shared.with(|state, now_us| {
                state
                    .machine
                    .evaluation_answered(now_us, client, round, answer);
            });
        }
    }

    /// Writes the evaluations of a round down; `None` if nobody was asked.
    pub(crate) fn evaluations(
        &mut self,
        evaluated: &EvaluatedRound,
    ) -> Result<Option<RoundEvaluation>> {
        let EvaluatedRound {
            evaluations,
            missing,
            ..
        } = evaluated;
        if evaluations.is_empty() && missing.is_empty() {
            return Ok(None);
        }
        let taken: Vec<Taken> = self.shared.with(|state, _| {
            let take = |arrival: &Arrival| state.evaluations.remove(&arrival.update);
            let taken = evaluations.iter().filter_map(take).collect();
            // What came for a round that was broken off.
            state.evaluations.clear();
            taken
        });
        let classes = self.shared.config.model.shape().num_classes();
        let summary = summary(evaluated, &taken, classes);
        let mut rows: Vec<EvaluationRecord> = taken.into_iter().map(|one| one.record).collect();
        rows.extend(missing.iter().map(|failure| EvaluationRecord {
            round: failure.round,
            client: failure.client,
            outcome: failure.reason.clone(),
            num_evaluated: self.shared.config.holdout(failure.client).len() as u32,
            ..EvaluationRecord::default()
        }));
        rows.sort_by_key(|row| row.client);
        self.shared.look(|state| {
            for row in &mut rows {
                let before = self.evaluation_began.get(&row.client).copied();
                if let Some((before, now)) = before.zip(state.roster.bytes(row.client)) {
                    (row.bytes_up, row.bytes_down) = (now.0 - before.0, now.1 - before.1);
                }
            }
        });
        self.run_dir.evaluations(&rows)?;
        self.shared.log.emit(Event::DevicesEvaluated {
            record: Box::new(summary.clone()),
        });
        Ok(Some(summary))
    }
}

/// The evaluations of a round together, in client order.
fn summary(evaluated: &EvaluatedRound, taken: &[Taken], classes: usize) -> RoundEvaluation {
    let own = taken.iter().filter_map(|one| {
        let confusion = one.confusion_own.as_deref()?;
        Some((one, one.record.personal?, confusion))
    });
    let global = taken
        .iter()
        .filter_map(|one| Some((one, one.record.global?, &*one.confusion)));
    RoundEvaluation {
        round: evaluated.round,
        devices: taken.len() as u32,
        missing: evaluated.missing.len() as u32,
        evaluate_s: evaluated.duration_us as f64 / 1e6,
        global: together(global, classes).unwrap_or_else(|| ModelEvaluation {
            confusion: Confusion::of(classes),
            ..ModelEvaluation::default()
        }),
        personal: together(own, classes),
    }
}

/// Scores of one kind of model on all clients.
fn together<'a>(
    each: impl Iterator<Item = (&'a Taken, Score, &'a [u32])>,
    classes: usize,
) -> Option<ModelEvaluation> {
    let mut confusion = Confusion::of(classes);
    let (mut accuracies, mut loss, mut examples) = (Vec::new(), 0.0, 0.0);
    for (one, score, section) in each {
        let count = one.record.num_evaluated;
        accuracies.push((one.record.accuracy(score), count));
        loss += f64::from(score.loss) * f64::from(count);
        examples += f64::from(count);
        confusion.add_section(section, &one.counts);
    }
    Some(ModelEvaluation {
        distribution: Distribution::of(&accuracies)?,
        loss: loss / f64::max(examples, 1.0),
        confusion,
    })
}
