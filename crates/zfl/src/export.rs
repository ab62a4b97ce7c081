//! `zfl export`: the results of a run for other programs.

use crate::{output, runs};
use anyhow::{Error, Result};
use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use std::path::{Path, PathBuf};
use zfl_experiment::{Refusal, Root};
use zfl_export::{Export, Format};

pub const EXAMPLES: &str = "\
Examples:
  zfl export runs/NAME                            every format, into runs/NAME-export
  zfl export NAME --format csv,parquet --out tables
  zfl export NAME --format safetensors --force    replaces the file of before

What each format holds, and how pandas, TensorBoard and PyTorch read it: docs/export.md.";

#[derive(Args)]
pub struct ExportArgs {
    /// Run directory, or the name of a run in runs/
    #[arg(value_name = "RUN")]
    pub run: PathBuf,

    /// Formats, separated by commas [default: all]
    #[arg(long, value_name = "NAME,…", value_delimiter = ',', value_parser = format())]
    pub format: Vec<Format>,

    /// Folder for the files [default: RUN-export]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,

    /// Replace files that are there
    #[arg(long)]
    pub force: bool,
}

fn format() -> impl TypedValueParser<Value = Format> {
    let names = PossibleValuesParser::new(Format::ALL.map(Format::name));
    names.map(|name| {
        let mut all = Format::ALL.into_iter();
        all.find(|format| format.name() == name)
            .unwrap_or(Format::Csv)
    })
}

/// Carries `zfl export` out.
///
/// # Errors
/// A [`Refusal`] of what is no run, cannot be read, or is there already; if the disk does not take the files.
pub fn export(args: &ExportArgs, root: &Root) -> Result<()> {
    let run = runs::find(root.runs(), Some(&args.run))?;
    let formats = match args.format.is_empty() {
        true => &Format::ALL[..],
        false => &args.format,
    };
    let files = Export::of(&run).and_then(|export| export.files(formats));
    let files = files.map_err(|error| Error::from(Refusal::of(error)))?;
    let out = args.out.clone().unwrap_or_else(|| beside(&run));
    zfl_experiment::place::may_hold(&out)?;
    let written = zfl_export::write(&files, &out, args.force);
    let written = written.map_err(|error| match error.is::<zfl_export::Taken>() {
        true => Refusal::of(error).into(),
        false => error,
    })?;
    for path in written {
        output::line(&path.display().to_string())?;
    }
    Ok(())
}

/// The folder beside a run for what is exported of it.
fn beside(run: &Path) -> PathBuf {
    let run = run.canonicalize().unwrap_or_else(|_| run.to_owned());
    let mut name = run.file_name().unwrap_or_default().to_owned();
    name.push("-export");
    run.with_file_name(name)
}
