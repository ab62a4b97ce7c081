//! `zfl eval`: a model on examples.

use crate::{output, runs};
use anyhow::{Context, Error, Result, ensure};
use clap::{Args, ValueEnum};
use fl_data::{Dataset, Scaling};
use fl_nn::Evaluation;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use zfl_experiment::{Refusal, Root, load_data};
use zfl_export::SavedModel;
use zfl_run_dir::{Confusion, RunDir};

pub const EXAMPLES: &str = "\
Examples:
  zfl eval runs/NAME --data data/mnist                on the test set of the run
  zfl eval NAME --data zfl:fashion-mnist
  zfl eval model.safetensors --data mine.csv --examples all

A CSV file is scaled as the training data of the model were.";

#[derive(Args)]
pub struct EvalArgs {
    /// Run directory, the name of a run in runs/, or a model that `zfl export` has written as safetensors
    #[arg(value_name = "MODEL")]
    pub model: PathBuf,

    /// Folder or file of the data, or the name of a set, as for `zfl run`
    #[arg(long, value_name = "DIR|NAME")]
    pub data: PathBuf,

    /// Examples of it to take
    #[arg(long, value_name = "NAME", default_value = "test")]
    pub examples: Part,

    /// Arithmetic of the first layer: fixed or float [default: that of the training, integer as fixed]
    #[arg(long, value_name = "NAME", value_parser = ["fixed", "float"])]
    pub arithmetic: Option<String>,
}

/// Part of a data set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// Those for testing
    Test,
    /// Those for training
    Train,
    /// All
    All,
}

/// Carries `zfl eval` out.
///
/// # Errors
/// A [`Refusal`] of what is no model, no data, or does not fit; if the model diverges on the data.
pub fn eval(args: &EvalArgs, root: &Root) -> Result<()> {
    let mut saved = model(&args.model, root).map_err(|error| Error::from(Refusal::of(error)))?;
    let data = examples(args, &saved, root).map_err(|error| Error::from(Refusal::of(error)))?;
    if let Some(name) = &args.arithmetic {
        saved.about.arithmetic.clone_from(name);
    }
    let arithmetic = saved.about.arithmetic()?;
    let found = zfl_aggregator::evaluate(&saved.model, &saved.params, &data, arithmetic);
    let found = found.context("evaluate the model")?;
    let confusion = zfl_aggregator::classes(&saved.model, &saved.params, &data, arithmetic)
        .context("evaluate the model")?;
    output::print(&text(&saved, &found, &confusion))
}

/// The model that is meant.
fn model(named: &Path, root: &Root) -> Result<SavedModel> {
    if !named.is_file() {
        return SavedModel::of_run(&runs::find(root.runs(), Some(named))?);
    }
    let above = named.parent().filter(|_| named.ends_with(RunDir::MODEL));
    match above.map(|above| Path::new(".").join(above)) {
        Some(run) if run.join("config.toml").is_file() => SavedModel::of_run(&run),
        _ => SavedModel::of_file(named),
    }
}

/// The examples that are meant, scaled for the model.
fn examples(args: &EvalArgs, saved: &SavedModel, root: &Root) -> Result<Dataset> {
    let scaling = saved.about.scaling.as_ref();
    let loaded = load_data(Some(&args.data), scaling, root)?;
    let splits = loaded.splits;
    let mut data = match args.examples {
        Part::Test => splits.test,
        Part::Train => splits.train,
        Part::All => {
            let mut all = splits.train;
            all.inputs.extend(splits.test.inputs);
            all.labels.extend(splits.test.labels);
            all
        }
    };
    let shape = saved.model.shape();
    let path = args.data.display();
    ensure!(
        data.num_inputs == shape.num_inputs(),
        "{path} has {} inputs, and the model takes {}",
        data.num_inputs,
        shape.num_inputs()
    );
    ensure!(
        data.num_classes <= shape.num_classes(),
        "{path} has {} classes, and the model knows {}",
        data.num_classes,
        shape.num_classes()
    );
    ensure!(
        !data.is_empty(),
        "{path} has no such example: take others with --examples"
    );
    let columns = |scaling: Option<&Scaling>| scaling.map_or(Vec::new(), |one| one.columns.clone());
    let (own, its) = (columns(scaling), columns(loaded.scaling.as_ref()));
    ensure!(
        own == its,
        "{path} has scales of {} columns, and the model of {}, not the same: octets fit a model without scales, \
         and a file of CSV is scaled as the model's data were",
        its.len(),
        own.len()
    );
    data.num_classes = shape.num_classes();
    Ok(data)
}

/// Accuracy, loss, a row for each class, and the confusion.
fn text(saved: &SavedModel, found: &Evaluation, confusion: &Confusion) -> String {
    let mut text = format!(
        "accuracy   {:.4}  ({} of {})\nloss       {:.6}\nmodel      round {}, sha256 {}\n\n",
        found.accuracy(),
        found.correct,
        found.num_examples,
        found.mean_loss(),
        saved.about.round,
        saved.about.sha256
    );
    let names = saved
        .about
        .scaling
        .as_ref()
        .map(|scaling: &Scaling| &scaling.classes);
    text.push_str("class  examples  right  share   taken for: ");
    let classes = 0..confusion.counts.len();
    let most = confusion
        .counts
        .iter()
        .max()
        .map_or(1, |most| most.to_string().len());
    let width = most.max(classes.len().to_string().len()) + 1;
    for class in classes.clone().filter(|_| !confusion.taken_for.is_empty()) {
        let _ = write!(text, "{class:>width$}");
    }
    text.push('\n');
    for class in classes {
        let (count, right) = (confusion.counts[class], confusion.correct[class]);
        let share = match count {
            0 => "-".to_owned(),
            _ => format!("{:.3}", f64::from(right) / f64::from(count)),
        };
        let _ = write!(
            text,
            "{class:>5}  {count:>8}  {right:>5}  {share:>5}              "
        );
        for times in confusion.taken_for.get(class).into_iter().flatten() {
            let _ = write!(text, "{times:>width$}");
        }
        if let Some(name) = names.and_then(|names| names.get(class)) {
            let _ = write!(text, "  {}", crate::terminal::text::clean(name));
        }
        text.push('\n');
    }
    text
}
