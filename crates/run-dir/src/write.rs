//! The files of a run.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use fl_nn::Model;
use fl_proto::codec::{Codec, Cursor, F32, Plan};
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use zfl_files::Dir;

use crate::seal::{Damaged, Seal, SealedFile, TABLES, hex, with_checksum};
use crate::together::{Pending, begin};
use crate::{
    Checkpoint, ClientRecord, ClientRow, CompleteRound, EVENTS, EvaluationRecord, EventLog,
    PID_FILE, RoundRecord, StateDir,
};

/// The table of the examples of each client.
pub const PARTITION: &str = "partition.csv";

/// The scales of features that were no octets, and the names of classes.
pub const SCALING: &str = "scaling.json";

/// The folder of copies of files that the configuration names, as names of files in it begin.
pub const INPUTS: &str = "inputs/";

/// Most that a model's file says about it, in bytes.
const MAX_ABOUT_MODEL: u64 = 1 << 20;

const TRAFFIC_HEAD: [&str; 4] = ["round", "client", "bytes_up", "bytes_down"];

/// The tables that grow, with the names of their columns.
pub(crate) fn heads() -> [(&'static str, Vec<&'static str>); 4] {
    let [rounds, clients, traffic] = TABLES;
    [
        (rounds, RoundRecord::HEAD.to_vec()),
        (clients, ClientRow::head().collect()),
        (traffic, TRAFFIC_HEAD.to_vec()),
        (EvaluationRecord::FILE, EvaluationRecord::HEAD.to_vec()),
    ]
}

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
    /// Evaluations of devices, from the first on.
    evaluations: Option<Table>,
    /// Files that stay as they are.
    inputs: BTreeMap<String, Seal>,
    state: StateDir,
    /// The last complete round.
    last: Option<CompleteRound>,
}

/// A round whose model is to be written.
#[derive(Clone, Debug)]
pub struct RoundEnd {
    /// The round.
    pub round: u32,
    /// Clients that are gone for good, and why.
    pub gone: BTreeMap<u32, String>,
    /// Seal of the events up to here, which are in the file.
    pub events: Seal,
    /// The algorithm's state, which is written.
    pub state: StateDir,
}

/// A table being written.
#[derive(Debug)]
struct Table {
    file: PathBuf,
    rows: csv::Writer<SealedFile>,
}

impl Table {
    fn create<'a>(dir: &Dir, name: &str, head: impl IntoIterator<Item = &'a str>) -> Result<Self> {
        let mut table = Self::of(dir, name, dir.create(name)?)?;
        table.add([head.into_iter().map(str::to_owned)])?;
        Ok(table)
    }

    fn of(dir: &Dir, name: &str, file: File) -> Result<Self> {
        let rows = SealedFile::new(file).with_context(|| at(dir.path(), name))?;
        Ok(Self {
            file: dir.path().join(name),
            rows: csv::Writer::from_writer(rows),
        })
    }

    fn add(
        &mut self,
        rows: impl IntoIterator<Item = impl IntoIterator<Item = String>>,
    ) -> Result<()> {
        for row in rows {
            self.rows.write_record(row)?;
        }
        let flushed = self.rows.flush();
        flushed.with_context(|| format!("write {}", self.file.display()))
    }

    fn seal(&self) -> Seal {
        self.rows.get_ref().seal()
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
        let [rounds, clients, traffic] = TABLES;
        Ok(Self {
            rounds: Table::create(&dir, rounds, RoundRecord::HEAD)?,
            clients: Table::create(&dir, clients, ClientRow::head())?,
            traffic: Table::create(&dir, traffic, TRAFFIC_HEAD)?,
            evaluations: None,
            inputs: BTreeMap::new(),
            state: StateDir::of(path),
            last: None,
            dir,
        })
    }

    /// Goes on with a directory that holds this round and nothing later.
    pub(crate) fn go_on(dir: Dir, last: CompleteRound) -> Result<Self> {
        let table = |name| Table::of(&dir, name, dir.append(name)?);
        let [rounds, clients, traffic] = TABLES;
        let files = last.files.iter();
        let inputs = files.filter(|(name, _)| is_input(name));
        Ok(Self {
            rounds: table(rounds)?,
            clients: table(clients)?,
            traffic: table(traffic)?,
            evaluations: match last.files.contains_key(EvaluationRecord::FILE) {
                true => Some(table(EvaluationRecord::FILE)?),
                false => None,
            },
            inputs: inputs
                .map(|(name, seal)| (name.clone(), seal.clone()))
                .collect(),
            state: StateDir::sealed(dir.path(), &last.files),
            last: Some(last),
            dir,
        })
    }

    /// The algorithm's state at the end of the last complete round.
    pub fn state(&self) -> &StateDir {
        &self.state
    }

    /// Writes a file that stays as it is; its name is [`PARTITION`] or [`SCALING`], or begins with [`INPUTS`].
    ///
    /// # Errors
    /// If the disk does not take it.
    pub fn keep(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        match name.split_once('/') {
            Some((folder, file)) => self.dir.make_folder(folder)?.write(file, bytes)?,
            None => self.dir.write(name, bytes)?,
        }
        self.inputs.insert(name.to_owned(), Seal::of(bytes));
        Ok(())
    }

    /// Path of the directory.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// The log of events, where it goes on.
    ///
    /// # Errors
    /// If it cannot be opened.
    pub fn events(&self) -> Result<EventLog> {
        let log = EventLog::new(self.dir.append(EVENTS)?);
        log.with_context(|| at(self.dir.path(), EVENTS))
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

    /// Adds to the table of evaluations on devices, which is made for the first of them.
    ///
    /// # Errors
    /// If the disk does not take them.
    pub fn evaluations(&mut self, rows: &[EvaluationRecord]) -> Result<()> {
        let table = match &mut self.evaluations {
            Some(table) => table,
            none => {
                let (name, head) = (EvaluationRecord::FILE, EvaluationRecord::HEAD);
                none.insert(Table::create(&self.dir, name, head)?)
            }
        };
        table.add(rows.iter().map(EvaluationRecord::cells))
    }

    /// Makes a round complete: its checkpoint, then its model. Rows, events and state are written by now.
    ///
    /// # Errors
    /// If the disk does not take them.
    pub fn complete(&mut self, end: RoundEnd, model: &Model, params: &[f32]) -> Result<()> {
        let RoundEnd {
            round,
            gone,
            events,
            state,
        } = end;
        let file = model_file(model, params, round)?;
        let tables = [&self.rounds, &self.clients, &self.traffic];
        let mut files = self.inputs.clone();
        files.extend(state.seals());
        files.extend(
            TABLES
                .map(str::to_owned)
                .into_iter()
                .zip(tables.map(Table::seal)),
        );
        let evaluations = self.evaluations.as_ref();
        files.extend(evaluations.map(|table| (EvaluationRecord::FILE.to_owned(), table.seal())));
        let grown = evaluations.map(|_| EvaluationRecord::FILE);
        files.insert(EVENTS.to_owned(), events);
        files.insert(Self::MODEL.to_owned(), Seal::of(&file));
        let complete = CompleteRound { round, gone, files };
        let rounds = self.last.take().into_iter().chain([complete.clone()]);
        let rounds = rounds.collect();
        let checkpoint = with_checksum(&Checkpoint { rounds })?;
        let dir = &self.dir;
        let prepare = |name, bytes: &[u8]| dir.prepare(name, |file| file.write_all(bytes));
        let write_checkpoint = || prepare(Checkpoint::FILE, &checkpoint);
        let (checkpoint, model) = std::thread::scope(|scope| {
            let files = TABLES.into_iter().chain(grown).chain([EVENTS]);
            let files = files.map(|name| begin(scope, move || sync(dir, name)));
            let files: Vec<_> = files.collect();
            let checkpoint = begin(scope, write_checkpoint);
            let model = prepare(Self::MODEL, &file);
            files.into_iter().try_for_each(Pending::end)?;
            anyhow::Ok((checkpoint.end()?, model?))
        })?;
        checkpoint.place()?;
        model.place()?;
        (self.last, self.state) = (Some(complete), state);
        self.state.tidy()
    }

    /// Reads the parameters of a run's model, and its round.
    ///
    /// # Errors
    /// If the file is not that of such a model, or the checksum in it is another's.
    pub fn read_model(run: &Path, model: &Model) -> Result<(Vec<f32>, u32)> {
        let max = 4 * model.shape().num_params() as u64 + MAX_ABOUT_MODEL;
        let bytes = Dir::open(run)?.read(Self::MODEL, max)?;
        let file = run.join(Self::MODEL);
        let read = parse_model(&bytes, model).with_context(|| format!("read {}", file.display()));
        let (params, About { round, sha256 }) = read?;
        match model_sha256(&params) == sha256 {
            true => Ok((params, round)),
            false => Err(Damaged::at(
                &file,
                "its parameters are not those that were written",
            )),
        }
    }

    /// Writes a JSON file with a checksum in it, whole or not at all.
    ///
    /// # Errors
    /// If the disk does not take it.
    pub fn json<T: Serialize>(&self, name: &str, value: &T) -> Result<()> {
        self.replace(name, &with_checksum(value)?)
    }

    /// Writes a file, whole or not at all.
    ///
    /// # Errors
    /// If the disk does not take it.
    pub fn replace(&self, name: &str, bytes: &[u8]) -> Result<()> {
        Ok(self.dir.write(name, bytes)?)
    }
}

/// Brings a file to the disk that a checkpoint is about to vouch for.
fn sync(dir: &Dir, name: &str) -> Result<()> {
    let file = dir.open_file(name, u64::MAX)?;
    file.sync_data().with_context(|| at(dir.path(), name))
}

/// Facts that a model's file tells about it.
#[derive(Serialize, Deserialize)]
struct About {
    round: u32,
    sha256: String,
}

/// The model as safetensors: `layers.N.weight` `[d_in, d_out]` and `layers.N.bias`.
fn model_file(model: &Model, params: &[f32], round: u32) -> Result<Vec<u8>> {
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
    let about = About {
        round,
        sha256: model_sha256(params),
    };
    let metadata = [("zfl".to_owned(), serde_json::to_string(&about)?)];
    Ok(safetensors::serialize(
        tensors,
        Some(metadata.into_iter().collect()),
    )?)
}

fn parse_model(bytes: &[u8], model: &Model) -> Result<(Vec<f32>, About)> {
    let (_, metadata) = SafeTensors::read_metadata(bytes)?;
    let about = metadata.metadata().as_ref().and_then(|m| m.get("zfl"));
    let about = serde_json::from_str(about.context("it names no round")?)?;
    let tensors = SafeTensors::deserialize(bytes)?;
    let mut params = Vec::with_capacity(model.shape().num_params());
    for i in 0..model.shape().sizes().len() - 1 {
        for part in ["weight", "bias"] {
            let data = tensors.tensor(&format!("layers.{i}.{part}"))?;
            let numbers = data.data().as_chunks::<4>().0.iter();
            params.extend(numbers.map(|octets| f32::from_le_bytes(*octets)));
        }
    }
    let fits = params.len() == model.shape().num_params();
    ensure!(fits, "it holds a model of another shape");
    Ok((params, about))
}

/// Tells whether a file of this name stays as it is.
fn is_input(name: &str) -> bool {
    [PARTITION, SCALING].contains(&name) || name.starts_with(INPUTS)
}

pub(crate) fn at(path: &Path, name: &str) -> String {
    format!("write {}", path.join(name).display())
}

fn param_bytes(params: &[f32]) -> Vec<u8> {
    let mut bytes = vec![0; size_of_val(params)];
    F32.encode(&Plan::default(), params, &mut Cursor::default(), &mut bytes);
    bytes
}

/// SHA-256 of the parameters as little-endian f32: what two runs are compared by.
pub fn model_sha256(params: &[f32]) -> String {
    hex(&Sha256::digest(param_bytes(params)))
}
