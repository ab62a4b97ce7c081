//! `zfl data`: data sets, and how they are dealt out.

mod get;

pub use get::{GetArgs, folder};

use crate::args::{DataArgs, DataCommand, ShowArgs};
use crate::terminal::text::clean;
use crate::{output, run};
use anyhow::Result;
use fl_data::SETS;
use std::fmt::Write;
use zfl_experiment::{Experiment, Refusal, Root};

/// Carries `zfl data` out.
///
/// # Errors
/// A [`Refusal`] of what cannot be meant.
pub fn data(args: DataArgs, root: &Root) -> Result<()> {
    match args.command {
        DataCommand::List => list(root),
        DataCommand::Get(args) => get::get(&args, root),
        DataCommand::Show(args) => show(*args, root),
    }
}

/// Prints the sets that have a name.
fn list(root: &Root) -> Result<()> {
    for set in &SETS {
        let there = root
            .set_folder(set.name)
            .is_some_and(|folder| folder.is_dir());
        let state = match (set.fetched_bytes, there) {
            (0, _) => String::new(),
            (_, true) => ", fetched".to_owned(),
            (bytes, false) => {
                let mb = bytes as f64 / 1e6;
                format!(", {mb:.1} MB to fetch: zfl data get {}", set.name)
            }
        };
        output::line(&format!("{:<14} {}", set.name, set.about))?;
        output::line(&format!(
            "{:15}{} examples, inputs {}{state}",
            "", set.examples, set.shape
        ))?;
        output::line(&format!("{:15}licence: {}", "", set.licence))?;
    }
    output::line("--data takes a name, a folder of IDX files, or a file of CSV: docs/data.md")
}

/// Prints what each device would get.
fn show(args: ShowArgs, root: &Root) -> Result<()> {
    let asked = run::experiment(args.keys.0, args.file.as_deref(), root);
    let (experiment, data) = asked.map_err(Refusal::of)?;
    for line in &experiment.notes {
        output::note(line);
    }
    if args.csv {
        return output::print(&experiment.partition.to_csv(&data.train));
    }
    let counts = experiment.partition.label_counts(&data.train);
    output::print(&table(&experiment, &counts))?;
    let (summary, rule) = (
        experiment.partition.summary(&data.train),
        &experiment.partitioning,
    );
    output::line(&format!(
        "{} devices by {rule}: {summary}",
        experiment.clients
    ))
}

/// A row for each device: its examples, its classes, and its examples of each class; `.` for none.
fn table(experiment: &Experiment, counts: &[Vec<u32>]) -> String {
    let classes = counts.first().map_or(0, Vec::len);
    let width = counts
        .iter()
        .flatten()
        .max()
        .map_or(1, |most| most.to_string().len());
    let width = width.max(classes.saturating_sub(1).to_string().len()) + 1;
    let mut text = "client examples classes of class".to_owned();
    for class in 0..classes {
        let _ = write!(text, " {class:>width$}");
    }
    text.push('\n');
    for (client, row) in counts.iter().enumerate() {
        let there = row.iter().filter(|&&count| count > 0).count();
        let examples = experiment.partition.indices(client).len();
        let _ = write!(text, "{client:>6} {examples:>8} {there:>7}         ");
        for count in row {
            let _ = match count {
                0 => write!(text, " {:>width$}", "."),
                count => write!(text, " {count:>width$}"),
            };
        }
        if let Some(name) = experiment.client_names.get(client) {
            let _ = write!(text, "  {}", clean(name));
        }
        text.push('\n');
    }
    text
}
