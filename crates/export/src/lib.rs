//! Results of a run in the forms that other programs read: tables, event files, and the model.
//!
//! [`Export`] is a run as it was read; [`Export::files`] makes the files of some [`Format`]s, and [`write()`] puts
//! them into a folder. [`SavedModel`] is a model with all that is needed to use it, of a run or of a file that was
//! exported.
//!
//! # Invariants
//! - The files depend on the run directory alone: a run exported again gives the same bytes.
//! - A model leaves zfl to the bit, and is compared with its hash when it comes back.
//! - A run directory that is not as zfl wrote it is refused.

#![forbid(unsafe_code)]

mod arrays;
mod columns;
mod model;
mod scalars;
mod table;
mod tensors;

use anyhow::{Context, Result, ensure};
use std::path::{Path, PathBuf};
use table::Table;
use zfl_files::Dir;
use zfl_run_dir::{Fold, MAX_FACTS, Record, RunSummary, Tail, replay};

pub use model::{About, SavedModel};

/// Form of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Tables as CSV.
    Csv,
    /// All in one file of JSON.
    Json,
    /// Tables as Parquet.
    Parquet,
    /// Numbers of each round as a file of events for TensorBoard.
    Tensorboard,
    /// The model as safetensors, as PyTorch has its layers.
    Safetensors,
    /// The model as arrays of Rust.
    Rust,
    /// The model as arrays of C.
    C,
}

impl Format {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Csv,
        Self::Json,
        Self::Parquet,
        Self::Tensorboard,
        Self::Safetensors,
        Self::Rust,
        Self::C,
    ];

    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Csv => "csv",
            Self::Json => "json",
            Self::Parquet => "parquet",
            Self::Tensorboard => "tensorboard",
            Self::Safetensors => "safetensors",
            Self::Rust => "rust",
            Self::C => "c",
        }
    }

    /// Tells if it is a form of the model.
    fn is_of_model(self) -> bool {
        matches!(self, Self::Safetensors | Self::Rust | Self::C)
    }
}

/// A file that is to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Its name; a folder may be before it.
    pub name: String,
    /// Its content.
    pub bytes: Vec<u8>,
}

/// A run as it was read.
#[derive(Debug)]
pub struct Export {
    run: PathBuf,
    fold: Fold,
    /// Seconds since 1970 at the run's start, by its first event.
    began_s: f64,
    tables: Vec<Table>,
}

impl Export {
    /// Reads a run directory.
    ///
    /// # Errors
    /// If it is none, or a file in it is not as zfl wrote it.
    pub fn of(run: &Path) -> Result<Self> {
        let fold = replay(run)?;
        let damage = zfl_run_dir::damage(run);
        ensure!(
            damage.is_empty(),
            "{}; put back what was there from a copy",
            damage.join("; ")
        );
        let mut tables = table::of_run(run)?;
        tables.extend(fold.tested().map(table::of_classes));
        Ok(Self {
            run: run.to_owned(),
            began_s: began_s(run)?,
            tables,
            fold,
        })
    }

    /// Makes the files of these forms.
    ///
    /// # Errors
    /// If a model is asked for and the run has none.
    pub fn files(&self, formats: &[Format]) -> Result<Vec<File>> {
        let is_asked = Format::ALL.into_iter().filter(|one| formats.contains(one));
        let mut files = Vec::new();
        let needs_model = formats.iter().any(|format| format.is_of_model());
        let model = needs_model.then(|| SavedModel::of_run(&self.run));
        let model = model.transpose().context(
            "export the model; the tables alone are had with --format csv,json,parquet,tensorboard",
        )?;
        for format in is_asked {
            match (format, &model) {
                (Format::Csv, _) => self.each_table("csv", Table::csv, &mut files)?,
                (Format::Parquet, _) => self.each_table("parquet", columns::parquet, &mut files)?,
                (Format::Json, _) => files.push(file("run.json", self.json()?)),
                (Format::Tensorboard, _) => files.push(self.events()),
                (Format::Safetensors, Some(model)) => {
                    files.push(file("model.safetensors", tensors::write(model)?));
                }
                (Format::Rust, Some(model)) => files.push(file("model.rs", arrays::rust(model))),
                (Format::C, Some(model)) => files.push(file("model.h", arrays::c(model))),
                (_, None) => {}
            }
        }
        Ok(files)
    }

    fn each_table(
        &self,
        form: &str,
        write: fn(&Table) -> Result<Vec<u8>>,
        files: &mut Vec<File>,
    ) -> Result<()> {
        for table in &self.tables {
            files.push(file(
                &format!("{form}/{}.{form}", table.name),
                write(table)?,
            ));
        }
        Ok(())
    }

    fn json(&self) -> Result<Vec<u8>> {
        let summary = match Dir::open(&self.run)?.read(RunSummary::FILE, MAX_FACTS) {
            Err(error) if error.is_missing() => serde_json::Value::Null,
            text => serde_json::from_slice(&text?)?,
        };
        let tables = self.tables.iter();
        let tables = tables.map(|table| (table.name.clone(), table.json()));
        let all = serde_json::json!({
            "meta": self.fold.meta(),
            "summary": summary,
            "tables": tables.collect::<serde_json::Map<_, _>>(),
        });
        Ok(serde_json::to_vec_pretty(&all)?)
    }

    fn events(&self) -> File {
        let name = format!(
            "tensorboard/events.out.tfevents.{:010}.zfl",
            self.began_s as u64
        );
        let rounds = self.fold.rounds().map(|row| &row.record);
        file(&name, scalars::events(rounds, self.began_s))
    }
}

fn file(name: &str, bytes: Vec<u8>) -> File {
    File {
        name: name.to_owned(),
        bytes,
    }
}

/// Seconds since 1970 at a run's first event.
fn began_s(run: &Path) -> Result<f64> {
    let mut first = None;
    Tail::new(run).poll(|record: Record| {
        first.get_or_insert((record.at, record.time_ms));
    })?;
    let (at, time_ms) = first.context("the run has no event yet")?;
    let at = humantime::parse_rfc3339_weak(&at).context("the first event has no time")?;
    let since = at.duration_since(std::time::UNIX_EPOCH)?;
    Ok((since.as_millis() as f64 - time_ms as f64) / 1e3)
}

/// Writes files into a folder, which is made where it is missing, and returns their paths.
///
/// # Errors
/// If one is there and `replaces` is false, before any is written; if the disk does not take them.
pub fn write(files: &[File], out: &Path, replaces: bool) -> Result<Vec<PathBuf>> {
    let paths: Vec<_> = files.iter().map(|file| out.join(&file.name)).collect();
    let taken = paths.iter().find(|path| path.symlink_metadata().is_ok());
    if let Some(taken) = taken.filter(|_| !replaces) {
        return Err(Taken(taken.clone()).into());
    }
    let dir = Dir::make(out)?;
    for file in files {
        match file.name.split_once('/') {
            Some((folder, name)) => dir.make_folder(folder)?.write(name, &file.bytes)?,
            None => dir.write(&file.name, &file.bytes)?,
        }
    }
    Ok(paths)
}

/// A file that is there already.
#[derive(Debug)]
pub struct Taken(PathBuf);

impl std::fmt::Display for Taken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let path = self.0.display();
        write!(
            f,
            "{path} is there: give --force to replace it, or another --out"
        )
    }
}

impl std::error::Error for Taken {}
