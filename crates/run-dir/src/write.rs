//! The files of a run.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use fl_nn::Model;
use safetensors::tensor::{Dtype, TensorView};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::event::{ClientRecord, RoundRecord};

const ROUNDS_HEAD: &[&str] = &[
    "round",
    "cohort_size",
    "results",
    "failures",
    "rejected",
    "late",
    "train_loss",
    "test_loss",
    "test_accuracy",
    "bytes_up",
    "bytes_down",
    "wait_s",
    "start_s",
    "train_s",
    "slowest_train_s",
    "aggregate_s",
    "eval_s",
    "round_s",
    "elapsed_s",
    "simulated_s",
    "simulated_elapsed_s",
];

const CLIENTS_HEAD: &[&str] = &[
    "round",
    "client",
    "outcome",
    "num_examples",
    "loss",
    "round_s",
    "bytes_up",
    "bytes_down",
    "train_us",
    "instructions",
    "heap_peak_bytes",
    "stack_peak_bytes",
    "device_bytes_received",
    "device_bytes_sent",
    "segments_sent",
    "segments_received",
    "retransmissions",
    "boot_ms",
    "virtual_s",
    "link_s",
    "energy_j",
    "host_cpu_s",
    "host_private_bytes",
    "link_segments_up",
    "link_segments_down",
    "link_retransmissions",
    "link_dropped",
];

const TRAFFIC_HEAD: &[&str] = &["round", "client", "bytes_up", "bytes_down"];

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
    path: PathBuf,
    rounds: csv::Writer<File>,
    clients: csv::Writer<File>,
    traffic: csv::Writer<File>,
}

impl RunDir {
    /// The model's file.
    pub const MODEL: &str = "model.safetensors";

    /// Makes the directory and its tables; an existing one must be empty.
    ///
    /// # Errors
    /// If it is in use or cannot be written.
    pub fn create(path: &Path) -> Result<Self> {
        if path
            .read_dir()
            .is_ok_and(|mut entries| entries.next().is_some())
        {
            bail!(
                "{} is not empty: give another --out, or remove it",
                path.display()
            );
        }
        fs::create_dir_all(path)
            .with_context(|| format!("make the run directory {}", path.display()))?;
        let table = |name: &str, head: &[&str]| -> Result<csv::Writer<File>> {
            let mut table = csv::Writer::from_writer(File::create(path.join(name))?);
            table.write_record(head)?;
            table.flush()?;
            Ok(table)
        };
        let rounds = table("rounds.csv", ROUNDS_HEAD).with_context(|| at(path, "rounds.csv"))?;
        let clients =
            table("clients.csv", CLIENTS_HEAD).with_context(|| at(path, "clients.csv"))?;
        let traffic =
            table("traffic.csv", TRAFFIC_HEAD).with_context(|| at(path, "traffic.csv"))?;
        Ok(Self {
            path: path.to_owned(),
            rounds,
            clients,
            traffic,
        })
    }

    /// Goes on with the directory of a run that was broken off.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn reopen(path: &Path) -> Result<Self> {
        let table = |name: &str| -> Result<csv::Writer<File>> {
            let file = File::options().append(true).open(path.join(name));
            Ok(csv::WriterBuilder::new().from_writer(file.with_context(|| at(path, name))?))
        };
        Ok(Self {
            path: path.to_owned(),
            rounds: table("rounds.csv")?,
            clients: table("clients.csv")?,
            traffic: table("traffic.csv")?,
        })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file for events, appended to.
    ///
    /// # Errors
    /// If it cannot be opened.
    pub fn events(&self) -> Result<File> {
        let file = File::options()
            .append(true)
            .create(true)
            .open(self.path.join("events.jsonl"));
        file.with_context(|| at(&self.path, "events.jsonl"))
    }

    /// Adds a round and its clients to the tables.
    ///
    /// # Errors
    /// If the disk does not take them.
    pub fn round(&mut self, round: &RoundRecord, clients: &[ClientRecord]) -> Result<()> {
        self.clients(clients)?;
        self.rounds.write_record(round_row(round))?;
        self.rounds
            .flush()
            .with_context(|| at(&self.path, "rounds.csv"))
    }

    /// Adds clients to their table; those of a round that failed have no round to go with.
    ///
    /// # Errors
    /// If the disk does not take them.
    pub fn clients(&mut self, clients: &[ClientRecord]) -> Result<()> {
        for client in clients {
            self.clients.write_record(client_row(client))?;
        }
        self.clients
            .flush()
            .with_context(|| at(&self.path, "clients.csv"))
    }

    /// Adds to the table of every client's bytes.
    ///
    /// # Errors
    /// If the disk does not take them.
    pub fn traffic(&mut self, rows: &[Traffic]) -> Result<()> {
        for row in rows {
            let row = [
                row.round.into(),
                row.client.into(),
                row.bytes_up,
                row.bytes_down,
            ];
            self.traffic
                .write_record(row.map(|cell: u64| cell.to_string()))?;
        }
        self.traffic
            .flush()
            .with_context(|| at(&self.path, "traffic.csv"))
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
        let bytes = fs::read(path).with_context(|| format!("read {}", path.display()))?;
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
        let (new, final_) = (self.path.join(format!(".{name}.new")), self.path.join(name));
        let written = File::create(&new).and_then(|mut file| {
            file.write_all(bytes)?;
            file.sync_data()
        });
        if let Err(error) = written.and_then(|()| fs::rename(&new, &final_)) {
            let _ = fs::remove_file(&new);
            return Err(error).with_context(|| at(&self.path, name));
        }
        Ok(())
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

fn maybe<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(String::new, |value| value.to_string())
}

fn round_row(r: &RoundRecord) -> Vec<String> {
    let s = |seconds: f64| format!("{seconds:.6}");
    vec![
        r.round.to_string(),
        r.cohort_size.to_string(),
        r.results.to_string(),
        r.failures.to_string(),
        r.rejected.to_string(),
        r.late.to_string(),
        maybe(r.train_loss),
        r.test_loss.to_string(),
        r.test_accuracy.to_string(),
        r.bytes_up.to_string(),
        r.bytes_down.to_string(),
        s(r.wait_s),
        s(r.start_s),
        s(r.train_s),
        maybe(r.slowest_train_s.map(s)),
        s(r.aggregate_s),
        s(r.eval_s),
        s(r.round_s),
        s(r.elapsed_s),
        maybe(r.simulated_s.map(s)),
        maybe(r.simulated_elapsed_s.map(s)),
    ]
}

fn client_row(c: &ClientRecord) -> Vec<String> {
    let cost = c.cost.clone();
    let host = c.host.unwrap_or_default();
    let cost = |field: fn(&fl_proto::Cost) -> Option<u64>| maybe(cost.as_ref().and_then(field));
    vec![
        c.round.to_string(),
        c.client.to_string(),
        c.outcome.clone(),
        c.num_examples.to_string(),
        maybe(c.loss),
        maybe(c.round_s.map(|s| format!("{s:.6}"))),
        c.bytes_up.to_string(),
        c.bytes_down.to_string(),
        cost(|c| Some(c.train_us)),
        cost(|c| c.instructions),
        cost(|c| c.heap_peak_bytes.map(u64::from)),
        cost(|c| c.stack_peak_bytes.map(u64::from)),
        cost(|c| Some(c.bytes_received)),
        cost(|c| Some(c.bytes_sent)),
        cost(|c| c.segments_sent.map(u64::from)),
        cost(|c| c.segments_received.map(u64::from)),
        cost(|c| c.retransmissions.map(u64::from)),
        maybe(host.boot_ms),
        maybe(host.virtual_s),
        maybe(host.link_s),
        maybe(host.energy_j),
        maybe(host.cpu_s),
        maybe(host.private_bytes),
        maybe(host.link_segments_up),
        maybe(host.link_segments_down),
        maybe(host.link_retransmissions),
        maybe(host.link_dropped),
    ]
}
