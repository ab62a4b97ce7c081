//! The global model on the test set.

use fl_data::Dataset;
use fl_nn::{Arithmetic, Evaluation, Evaluator, Model, TrainError, Workspace};
use zfl_run_dir::Confusion;

use crate::spread::spread;

/// Largest mean loss of a model, in nats. One that knows nothing has a few; from one that is so far off no
/// training finds a way back.
pub(crate) const LARGEST_LOSS: f64 = 1e6;

/// Examples per piece of work. Fixed, so that the sum has the same order on every machine.
const CHUNK: usize = 500;

/// Loss and accuracy on a data set, by all processors, in the given arithmetic.
///
/// # Errors
/// [`TrainError`] if the model or the data do not fit, or the model has diverged: its loss is not finite, or
/// beyond all bounds.
pub fn evaluate(
    model: &Model,
    params: &[f32],
    data: &Dataset,
    arithmetic: Arithmetic,
) -> Result<Evaluation, TrainError> {
    let chunks: Vec<(&[u8], &[u8])> = data
        .inputs
        .chunks(CHUNK * data.num_inputs)
        .zip(data.labels.chunks(CHUNK))
        .collect();
    let found = spread(&chunks, |own| -> Result<Vec<Evaluation>, TrainError> {
        own.iter()
            .map(|c| evaluate_chunk(model, params, c.0, c.1, arithmetic))
            .collect()
    });
    let found: Vec<_> = found.into_iter().collect::<Result<_, _>>()?;
    let mut total = Evaluation::default();
    for part in found.into_iter().flatten() {
        total.num_examples += part.num_examples;
        total.correct += part.correct;
        total.loss_sum += part.loss_sum;
    }
    checked(total)
}

/// An evaluation whose loss is one of a model.
fn checked(found: Evaluation) -> Result<Evaluation, TrainError> {
    match found.mean_loss() > LARGEST_LOSS {
        true => Err(TrainError::Diverged),
        false => Ok(found),
    }
}

/// Classes of a data set, and what a model takes them for.
///
/// # Errors
/// [`TrainError`] if the model or the data do not fit.
pub fn classes(
    model: &Model,
    params: &[f32],
    data: &Dataset,
    arithmetic: Arithmetic,
) -> Result<Confusion, TrainError> {
    let mut confusion = Confusion::of(data.num_classes);
    let mut evaluator = Evaluator::new(model, arithmetic)?;
    let plan = *evaluator.plan();
    let (mut floats, mut ints) = (vec![0.0; plan.floats], vec![0; plan.ints]);
    let mut workspace = Workspace {
        floats: &mut floats,
        ints: &mut ints,
        order: &mut [],
    };
    let mut tell = |label, prediction| confusion.add(label, prediction);
    let (inputs, labels) = (&data.inputs, &data.labels);
    evaluator.step(params, inputs, labels, &mut workspace, u32::MAX, &mut tell)?;
    Ok(confusion)
}

/// Loss and accuracy on a few examples, here and now.
pub(crate) fn evaluate_chunk(
    model: &Model,
    params: &[f32],
    inputs: &[u8],
    labels: &[u8],
    arithmetic: Arithmetic,
) -> Result<Evaluation, TrainError> {
    let plan = model.evaluation_plan()?;
    let (mut floats, mut ints) = (vec![0.0; plan.floats], vec![0; plan.ints]);
    let mut order = vec![0; plan.order];
    let workspace = Workspace {
        floats: &mut floats,
        ints: &mut ints,
        order: &mut order,
    };
    model
        .evaluate(params, inputs, labels, workspace, arithmetic)
        .and_then(checked)
}
