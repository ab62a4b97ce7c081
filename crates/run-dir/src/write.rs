//! The files of a run.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use fl_nn::Model;
use safetensors::tensor::{Dtype, TensorView};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use zfl_files::Dir;

use crate::{ClientRecord, ClientRow, EVENTS, MAX_TABLE, PID_FILE, RoundRecord};

/// Most of a table's first line, and of what a model's file says about it, in bytes.
const MAX_HEAD: u64 = 64 << 10;
const MAX_ABOUT_MODEL: u64 = 1 << 20;

const TRAFFIC_HEAD: [&str; 4] = ["round", "client", "bytes_up", "bytes_down"];

/// A row of `traffic.csv`: HTTP bytes of one client from the end of one round to that of the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traffic {
    /// The round; behind the last one stands what came after it.
    pub round: u32,
    /// The client.
    pub client: u32,
    /// Bytes from it.
    pub bytes_up: u64,
    /// Bytes to it.
    pub bytes_down: u64,
}

/// A run directory being written.
#[derive(Debug)]
pub struct RunDir {
    dir: Dir,
    rounds: Table,
    clients: Table,
    traffic: Table,
}

/// A table being written.
#[derive(Debug)]
struct Table {
    file: PathBuf,
    rows: csv::Writer<File>,
    /// Columns that the file has: fewer than rows have if a version of before made it.
    columns: usize,
}

impl Table {
    fn create<'a>(dir: &Dir, name: &str, head: impl IntoIterator<Item = &'a str>) -> Result<Self> {
        let head: Vec<&str> = head.into_iter().collect();
        let file = dir.path().join(name);
        let mut rows = csv::Writer::from_writer(dir.create(name)?);
        let written = rows.write_record(&head).map(|()| rows.flush());
        written.with_context(|| at(dir.path(), name))??;
        let columns = head.len();
        Ok(Self {
            file,
            rows,
            columns,
        })
    }

    fn reopen(dir: &Dir, name: &str) -> Result<Self> {
        let file = dir.path().join(name);
        let table = dir.open_file(name, MAX_TABLE)?;
        let mut head = csv::Reader::from_reader(table.take(MAX_HEAD));
        let head = head.headers().with_context(|| at(dir.path(), name));
        let columns = head?.len();
        let rows = csv::WriterBuilder::new().from_writer(dir.append(name)?);
        Ok(Self {
            file,
            rows,
            columns,
        })
    }

    fn add(
        &mut self,
        rows: impl IntoIterator<Item = impl IntoIterator<Item = String>>,
    ) -> Result<()> {
        for row in rows {
            self.rows.write_record(row.into_iter().take(self.columns))?;
        }
        let flushed = self.rows.flush();
        flushed.with_context(|| format!("write {}", self.file.display()))
    }
}

impl RunDir {
    /// The model's file.
    pub const MODEL: &str = "model.safetensors";

    /// Makes the directory and its tables; an existing one must be empty.
    ///
    /// # Errors
    /// If it is in use or cannot be written.
    pub fn create(path: &Path) -> Result<Self> {
        let dir = match Dir::create_new(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Dir::open(path),
            made => made,
        };
        let dir = dir.context("make the run directory")?;
        if dir.names()?.iter().any(|name| name != PID_FILE) {
            bail!(
                "{} is not empty: give another --out, or remove it",
                path.display()
            );
        }
        Ok(Self {
            rounds: Table::create(&dir, "rounds.csv", RoundRecord::HEAD)?,
            clients: Table::create(&dir, "clients.csv", ClientRow::head())?,
            traffic: Table::create(&dir, "traffic.csv", TRAFFIC_HEAD)?,
            dir,
        })
    }

    /// Goes on with the directory of a run that was broken off.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn reopen(path: &Path) -> Result<Self> {
        let dir = Dir::open(path)?;
        Ok(Self {
            rounds: Table::reopen(&dir, "rounds.csv")?,
            clients: Table::reopen(&dir, "clients.csv")?,
            traffic: Table::reopen(&dir, "traffic.csv")?,
            dir,
        })
    }

    /// Path of the directory.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// The file for events, appended to.
    ///
    /// # Errors
    /// If it cannot be opened.
    pub fn events(&self) -> Result<File> {
        Ok(self.dir.append(EVENTS)?)
    }

    /// Adds a round and its clients to the tables.
    ///
    /// # Errors
    /// If the disk does not take them.
    pub fn round(&mut self, round: &RoundRecord, clients: &[ClientRecord]) -> Result<()> {
        self.clients(clients)?;
        self.rounds.add([round.cells()])
    }

    /// Adds clients to their table; those of a round that failed have no round to go with.
    ///
    /// # Errors
    /// If the disk does not take them.
    pub fn clients(&mut self, clients: &[ClientRecord]) -> Result<()> {
        self.clients.add(
            clients
                .iter()
                .map(|client| ClientRow::of(client).cells().collect::<Vec<_>>()),
        )
    }

    /// Adds to the table of every client's bytes.
    ///
    /// # Errors
    /// If the disk does not take them.
    pub fn traffic(&mut self, rows: &[Traffic]) -> Result<()> {
        let cells = |row: &Traffic| {
            let keys = [row.round, row.client].map(u64::from);
            let bytes = [row.bytes_up, row.bytes_down];
            keys.into_iter()
                .chain(bytes)
                .map(|cell| cell.to_string())
                .collect::<Vec<_>>()
        };
        self.traffic.add(rows.iter().map(cells))
    }

    /// Writes the model as safetensors: `layers.N.weight` `[d_in, d_out]` and `layers.N.bias`.
    ///
    /// # Errors
    /// If the disk does not take it.
    pub fn model(&self, name: &str, model: &Model, params: &[f32], round: u32) -> Result<()> {
        let bytes = param_bytes(params);
        let mut tensors = Vec::new();
        let mut at_byte = 0;
        for (i, pair) in model.shape().sizes().windows(2).enumerate() {
            let (d_in, d_out) = (pair[0] as usize, pair[1] as usize);
            for (part, shape) in [("weight", vec![d_in, d_out]), ("bias", vec![d_out])] {
                let end = at_byte + 4 * shape.iter().product::<usize>();
                let view = TensorView::new(Dtype::F32, shape, &bytes[at_byte..end])?;
                tensors.push((format!("layers.{i}.{part}"), view));
                at_byte = end;
            }
        }
        // One entry: more would come in a random order, and the file be another each time.
        let about = serde_json::json!({ "round": round, "sha256": model_sha256(params) });
        let metadata = [("zfl".to_owned(), about.to_string())];
        let file = safetensors::serialize(tensors, Some(metadata.into_iter().collect()))?;
        self.replace(name, &file)
    }

    /// Reads the parameters of a model that [`RunDir::model`] wrote, and its round.
    ///
    /// # Errors
    /// If the file is not that of such a model.
    pub fn read_model(path: &Path, model: &Model) -> Result<(Vec<f32>, u32)> {
        let max = 4 * model.shape().num_params() as u64 + MAX_ABOUT_MODEL;
        let (dir, name) = Dir::of(path)?;
        let bytes = dir.read(name, max)?;
        let (_, metadata) = safetensors::SafeTensors::read_metadata(&bytes)?;
        let round = metadata
            .metadata()
            .as_ref()
            .and_then(|m| serde_json::from_str::<serde_json::Value>(m.get("zfl")?).ok())
            .and_then(|about| about["round"].as_u64()?.try_into().ok());
        let round = round.with_context(|| format!("{} names no round", path.display()))?;
        let tensors = safetensors::SafeTensors::deserialize(&bytes)?;
        let mut params = Vec::with_capacity(model.shape().num_params());
        for i in 0..model.shape().sizes().len() - 1 {
            for part in ["weight", "bias"] {
                let data = tensors.tensor(&format!("layers.{i}.{part}"))?;
                params.extend(
                    data.data()
                        .as_chunks::<4>()
                        .0
                        .iter()
                        .map(|b| f32::from_le_bytes(*b)),
                );
            }
        }
        if params.len() != model.shape().num_params() {
            bail!("{} holds a model of another shape", path.display());
        }
        Ok((params, round))
    }

    /// Writes a JSON file, whole or not at all.
    ///
    /// # Errors
    /// If the disk does not take it.
    pub fn json<T: Serialize>(&self, name: &str, value: &T) -> Result<()> {
        let mut text = serde_json::to_vec_pretty(value)?;
        text.push(b'\n');
        self.replace(name, &text)
    }

    /// Writes a file, whole or not at all.
    ///
    /// # Errors
    /// If the disk does not take it.
    pub fn replace(&self, name: &str, bytes: &[u8]) -> Result<()> {
        Ok(self.dir.write(name, bytes)?)
    }
}

pub(crate) fn at(path: &Path, name: &str) -> String {
    format!("write {}", path.join(name).display())
}

fn param_bytes(params: &[f32]) -> Vec<u8> {
    params
        .iter()
        .flat_map(|param| param.to_le_bytes())
        .collect()
}

/// SHA-256 of the parameters as little-endian f32: what two runs are compared by.
pub fn model_sha256(params: &[f32]) -> String {
    let hash = Sha256::digest(param_bytes(params));
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}
