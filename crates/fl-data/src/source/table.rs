//! A data set of features from CSV: a file, or a folder with `train.csv` and `test.csv`.
//!
//! The first line names the columns. `label` is the class of an example, as a number or a name; `client`, if it is there,
//! says whom it is from; `split`, if it is there, says `train` or `test`. All other columns are features.

use crate::error::{DataError, Problem};
use crate::scaling::Scaling;
use crate::source::Loaded;
use crate::source::directory::MAX_FILE_BYTES;
use crate::source::gzip::{MAGIC, Members};
use crate::source::packing;
use crate::source::rows::{self, Row, Rows, Take};
use csv::{Reader, ReaderBuilder, StringRecord};
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

/// Names of the files in a folder; the first is for training.
const NAMES: [&str; 2] = ["train.csv", "test.csv"];

/// The files of a data set in CSV, if there is one of this path.
pub(super) fn files(path: &Path) -> Option<Vec<PathBuf>> {
    let is_table = |path: &Path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let name = name.to_ascii_lowercase();
        name.ends_with(".csv") || name.ends_with(".csv.gz") || name.ends_with(".tsv")
    };
    if path.is_file() {
        return is_table(path).then(|| vec![path.to_owned()]);
    }
    let named = |name: &str| {
        let plain = path.join(name);
        let packed = path.join(format!("{name}.gz"));
        [plain, packed].into_iter().find(|file| file.is_file())
    };
    let found: Vec<PathBuf> = NAMES.into_iter().filter_map(named).collect();
    (!found.is_empty()).then_some(found)
}

/// Loads a data set from these files.
///
/// # Errors
/// [`DataError`] names the file, the line and the column that cannot be used.
pub(super) fn load(
    path: &Path,
    files: Vec<PathBuf>,
    scaling: Option<&Scaling>,
) -> Result<Loaded, DataError> {
    let refused = |path: &Path| {
        let path = path.to_owned();
        move |problem| DataError {
            path,
            problem,
            expected_sha256: None,
        }
    };
    let open = |file: PathBuf| {
        let head = Head::read(&file).map_err(refused(&file))?;
        Ok((file, head))
    };
    let files: Vec<(PathBuf, Head)> = files.into_iter().map(open).collect::<Result<_, _>>()?;
    let [first, others @ ..] = &files[..] else {
        return Err(refused(path)(Problem::Format("it holds no example".into())));
    };
    for (file, head) in others {
        if head.columns != first.1.columns {
            let problem = "its columns are others than those for training: write both files with the same columns";
            return Err(refused(file)(Problem::Format(problem.into())));
        }
    }
    if path.is_dir() && others.is_empty() {
        let missing = NAMES.into_iter().find(|name| !first.0.ends_with(name));
        let missing = path.join(missing.unwrap_or_default());
        let problem =
            Problem::Table("the file is missing: give both, or the one with --data".into());
        return Err(refused(&missing)(problem));
    }
    let tables = Tables { files: &files };
    let assembled = match scaling {
        Some(scaling) => rows::assemble_scaled(&tables, scaling),
        None => rows::assemble(&tables),
    };
    assembled.map_err(|problem| match problem {
        // Told by the file that has it.
        Problem::At(file, problem) => refused(&file)(*problem),
        problem => refused(path)(problem),
    })
}

/// Loads a data set from the text of a file.
///
/// # Errors
/// Words for people.
pub fn load_text(text: &str) -> Result<Loaded, Problem> {
    struct Text<'a>(&'a str, Head);
    impl Rows for Text<'_> {
        fn columns(&self) -> &[String] {
            &self.1.columns
        }

        fn each(&self, take: Take<'_>) -> Result<(), Problem> {
            self.1.each(self.1.reader(self.0.as_bytes()), None, take)
        }
    }
    let head = Head::of(text.lines().next().unwrap_or_default())?;
    rows::assemble(&Text(text, head))
}

/// The files of a data set.
struct Tables<'a> {
    files: &'a [(PathBuf, Head)],
}

impl Rows for Tables<'_> {
    fn columns(&self) -> &[String] {
        self.files.first().map_or(&[], |(_, head)| &head.columns)
    }

    fn each(&self, take: Take<'_>) -> Result<(), Problem> {
        for (at, (file, head)) in self.files.iter().enumerate() {
            let told = |problem| Problem::At(file.clone(), Box::new(problem));
            let is_test = (self.files.len() > 1).then_some(at > 0);
            let reader = head.reader(open(file).map_err(told)?);
            head.each(reader, is_test, take).map_err(told)?;
        }
        Ok(())
    }
}

/// The first line of a file.
#[derive(Debug, PartialEq, Eq)]
struct Head {
    delimiter: u8,
    /// Names of the features, in their order.
    columns: Vec<String>,
    label: usize,
    client: Option<usize>,
    split: Option<usize>,
}

impl Head {
    fn read(file: &Path) -> Result<Self, Problem> {
        let mut line = Vec::new();
        let mut content = BufReader::new(open(file)?.take(MAX_LINE));
        content.read_until(b'\n', &mut line)?;
        Self::of(&String::from_utf8_lossy(&line))
            .map_err(|problem| packing::problem(file).unwrap_or(problem))
    }

    fn of(line: &str) -> Result<Self, Problem> {
        let line = line.trim_start_matches('\u{feff}');
        let cells = |delimiter: u8| -> Vec<String> {
            let mut reader = builder(delimiter)
                .has_headers(false)
                .from_reader(line.as_bytes());
            let record = reader.records().next().and_then(Result::ok);
            record.map_or_else(Vec::new, |record| {
                record.iter().map(str::to_owned).collect()
            })
        };
        let place = |cells: &[String], name: &str| {
            cells
                .iter()
                .position(|cell| cell.eq_ignore_ascii_case(name))
        };
        let found = b",;\t".iter().find_map(|&delimiter| {
            let cells = cells(delimiter);
            Some((delimiter, place(&cells, "label")?, cells))
        });
        let Some((delimiter, label, cells)) = found else {
            return Err(Problem::Table(
                "its first line names no column `label`: name the columns in the first line, and the one with the \
                 classes `label`"
                    .to_owned(),
            ));
        };
        let (client, split) = (place(&cells, "client"), place(&cells, "split"));
        let others = [Some(label), client, split];
        let features = cells.into_iter().enumerate();
        let features = features.filter(|(at, _)| !others.contains(&Some(*at)));
        let columns: Vec<String> = features.map(|(_, name)| name).collect();
        if columns.is_empty() {
            return Err(Problem::Table(
                "it has no column of features beside `label`".to_owned(),
            ));
        }
        Ok(Self {
            delimiter,
            columns,
            label,
            client,
            split,
        })
    }

    fn reader<R: Read>(&self, content: R) -> Reader<R> {
        builder(self.delimiter).from_reader(content)
    }

    /// Hands out the rows below the first line.
    fn each<R: Read>(
        &self,
        mut reader: Reader<R>,
        is_test: Option<bool>,
        take: Take<'_>,
    ) -> Result<(), Problem> {
        let mut record = StringRecord::new();
        let mut features = Vec::with_capacity(self.columns.len());
        while reader.read_record(&mut record).map_err(problem_of)? {
            let line = record.position().map_or(0, csv::Position::line);
            let refused = |why: String| Problem::Table(format!("line {line}: {why}"));
            let cell = |at: usize| record.get(at).unwrap_or_default();
            self.features(&record, &mut features).map_err(refused)?;
            let named = |at: usize, column: &str| match cell(at) {
                "" => Err(refused(format!("column `{column}` is empty"))),
                text => Ok(text),
            };
            let client = self.client.map(|at| named(at, "client")).transpose()?;
            let said = self
                .split
                .map(|at| is_for_testing(cell(at)).map_err(refused));
            take(&Row {
                features: &features,
                label: named(self.label, "label")?,
                client,
                is_test: is_test.or(said.transpose()?),
            })?;
        }
        Ok(())
    }

    fn features(&self, record: &StringRecord, features: &mut Vec<f64>) -> Result<(), String> {
        let others = [Some(self.label), self.client, self.split];
        let cells = record.iter().enumerate();
        let cells = cells.filter(|(at, _)| !others.contains(&Some(*at)));
        features.clear();
        for ((_, text), name) in cells.zip(&self.columns) {
            let number = text.parse::<f64>().ok().filter(|number| number.is_finite());
            features.push(number.ok_or_else(|| {
                let (text, name) = (text.escape_debug(), name.escape_debug());
                format!(
                    "column `{name}`: `{text}` is no finite number; a column that says whom an example is from is \
                     called `client`, and any other text is no feature: leave it out"
                )
            })?);
        }
        // The file may be another one than it was when its first line was read.
        let whole = features.len() == self.columns.len();
        whole
            .then_some(())
            .ok_or_else(|| "its columns have changed while it was read".to_owned())
    }
}

/// Most of a first line, in bytes.
const MAX_LINE: u64 = 1 << 20;

fn builder(delimiter: u8) -> ReaderBuilder {
    let mut builder = ReaderBuilder::new();
    builder.delimiter(delimiter).trim(csv::Trim::All);
    builder
}

fn is_for_testing(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "train" => Ok(false),
        "test" => Ok(true),
        _ => Err(format!(
            "column `split`: `{}` is neither train nor test",
            text.escape_debug()
        )),
    }
}

fn problem_of(error: csv::Error) -> Problem {
    let line = error.position().map_or(0, csv::Position::line);
    match error.into_kind() {
        csv::ErrorKind::Io(error) => Problem::Io(error),
        csv::ErrorKind::UnequalLengths {
            expected_len, len, ..
        } => Problem::Table(format!(
            "line {line}: it has {len} columns, the first line {expected_len}"
        )),
        csv::ErrorKind::Utf8 { .. } => Problem::Table(format!("line {line}: it is no UTF-8")),
        _ => Problem::Table(format!("line {line}: it cannot be read")),
    }
}

/// Opens a file, packed with gzip or not; its content may have [`MAX_FILE_BYTES`].
fn open(file: &Path) -> Result<Box<dyn Read>, Problem> {
    let file = zfl_files::open(file, MAX_FILE_BYTES).map_err(io::Error::from)?;
    let mut file = BufReader::with_capacity(1 << 16, file);
    let content: Box<dyn Read> = match file.fill_buf()?.starts_with(&MAGIC) {
        true => Box::new(Members::new(file)),
        false => Box::new(file),
    };
    Ok(Box::new(Bounded {
        inner: content,
        left: MAX_FILE_BYTES,
    }))
}

/// Reads up to a bound, and fails beyond it.
struct Bounded<R> {
    inner: R,
    left: u64,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.left = self.left.checked_sub(read as u64).ok_or_else(|| {
            io::Error::other(format!(
                "it has more than {MAX_FILE_BYTES} bytes when unpacked"
            ))
        })?;
        Ok(read)
    }
}
