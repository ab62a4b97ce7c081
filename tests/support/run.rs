//! A run of `zfl run` with its directory, finished or going on.

use super::process::{Guarded, LIMIT, Process, descendants, wait_until};
use super::{Said, folder, zfl};
use serde_json::Value;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// A run that goes on. It is killed when the test ends; its files stay if the test fails.
#[derive(Debug)]
pub struct Live {
    child: Guarded,
    folder: Option<TempDir>,
}

/// A run that has ended.
#[derive(Debug)]
pub struct Run {
    pub said: Said,
    live: Live,
}

impl Live {
    /// Starts `zfl run` with these arguments and a run directory of its own.
    pub fn start(arguments: &[&str]) -> Self {
        let mut command = zfl();
        command.arg("run").args(arguments);
        // Which body is the default depends on what is built on this machine.
        if !arguments
            .iter()
            .any(|arg| matches!(*arg, "--body" | "--board"))
        {
            command.args(["--body", "bare"]);
        }
        Self::start_as(&mut command)
    }

    /// Starts a command with `--out` and a run directory of its own behind it.
    pub fn start_as(command: &mut Command) -> Self {
        let folder = folder();
        let file = |name: &str| File::create(folder.path().join(name)).expect("the disk has room");
        let child = Guarded::start(
            command
                .arg("--out")
                .arg(folder.path().join("run"))
                .stdout(file("stdout"))
                .stderr(file("stderr")),
        );
        Self {
            child,
            folder: Some(folder),
        }
    }

    /// Starts `zfl run --resume` for a run that was broken off, in its own directory.
    pub fn resume(run: Run, arguments: &[&str]) -> Self {
        let mut live = run.live;
        let file = |name: &str| File::create(live.folder().join(name)).expect("the disk has room");
        let mut command = zfl();
        command
            .args(["run", "--resume"])
            .arg(live.out())
            .args(arguments);
        command.stdout(file("stdout")).stderr(file("stderr"));
        live.child = Guarded::start(&mut command);
        live
    }

    /// The process of zfl.
    pub fn pid(&self) -> u32 {
        self.child.pid()
    }

    /// The run directory.
    pub fn out(&self) -> PathBuf {
        self.folder().join("run")
    }

    /// Standard output so far.
    pub fn said_so_far(&self) -> String {
        fs::read_to_string(self.folder().join("stdout")).unwrap_or_default()
    }

    /// Waits for an event of which `wanted` is true.
    #[track_caller]
    pub fn wait_for(&mut self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let events = self.out().join("events.jsonl");
        wait_until(what, LIMIT, || {
            // Asked before the events are read: after its end there come no more.
            let ended = self.child.ended();
            let mut events = self::events(&events).into_iter();
            let found = events.find(|event| wanted(event));
            if let (None, Some(status)) = (&found, ended) {
                panic!("zfl has ended ({status}) without this: {what}");
            }
            found
        })
    }

    /// Waits until training of this round has begun on some device. What becomes of another is open:
    /// it may not have begun, and it may be done.
    #[track_caller]
    pub fn wait_for_round(&mut self, round: u64) {
        self.wait_for(&format!("round {round} has begun"), |event| {
            event["event"] == "client_started" && event["round"] == round
        });
    }

    /// Waits until training of this round has begun on this device. It may be done already, unless it
    /// has more to do than a test takes.
    #[track_caller]
    pub fn wait_for_start(&mut self, client: u32, round: u64) {
        self.wait_for(
            &format!("client {client} trains in round {round}"),
            |event| {
                event["event"] == "client_started"
                    && event["client"] == client
                    && event["round"] == round
            },
        );
    }

    /// The emulated machines, by client.
    pub fn machines(&self) -> Vec<(u32, Process)> {
        let machines = descendants(self.pid()).into_iter().filter_map(|process| {
            // The orchestrator names a machine after its client, for people who look at `ps`.
            let mut words = process
                .command_line
                .split(' ')
                .skip_while(|word| *word != "-name");
            let client = words.nth(1)?.strip_prefix("zfl-")?.parse().ok()?;
            Some((client, process))
        });
        machines.collect()
    }

    /// The machine of one client.
    #[track_caller]
    pub fn machine(&self, client: u32) -> Process {
        let machine = self.machines().into_iter().find(|(of, _)| *of == client);
        machine
            .unwrap_or_else(|| panic!("no machine of client {client} runs"))
            .1
    }

    /// Waits until every process of it has ended.
    #[track_caller]
    pub fn wait_for_end(&mut self) {
        let all = descendants(self.pid());
        self.child.finish();
        wait_until("every process is gone", LIMIT, || {
            (!all.iter().any(super::is_alive)).then_some(())
        });
    }

    /// Waits for the end.
    #[track_caller]
    pub fn finish(mut self) -> Run {
        let status = self.child.finish();
        let text = |name: &str| fs::read_to_string(self.folder().join(name)).unwrap_or_default();
        let said = Said {
            status: status.code(),
            out: text("stdout"),
            err: text("stderr"),
        };
        Run { said, live: self }
    }

    fn folder(&self) -> &Path {
        self.folder.as_ref().expect("it stays until the end").path()
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        if std::thread::panicking()
            && let Some(folder) = self.folder.take()
        {
            eprintln!("the files of this run stay in {}", folder.keep().display());
        }
    }
}

impl Run {
    /// Runs `zfl run` to its end.
    #[track_caller]
    pub fn of(arguments: &[&str]) -> Self {
        Live::start(arguments).finish()
    }

    /// Runs `zfl run` to its end and expects that every round completes.
    #[track_caller]
    pub fn succeeds(arguments: &[&str]) -> Self {
        let run = Self::of(arguments);
        assert_eq!(run.said.status, Some(0), "{arguments:?}: {run:?}");
        run
    }

    /// The run directory.
    pub fn out(&self) -> PathBuf {
        self.live.out()
    }

    /// `summary.json`.
    #[track_caller]
    pub fn summary(&self) -> Value {
        let path = self.out().join("summary.json");
        let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path:?}: {e}: {self:?}"));
        serde_json::from_str(&text).expect("summary.json is JSON")
    }

    /// The hash of the model.
    #[track_caller]
    pub fn model(&self) -> String {
        let hash = self.summary()["model_sha256"]
            .as_str()
            .expect("it is a string")
            .to_owned();
        assert_eq!(hash.len(), 64, "{hash}");
        hash
    }

    /// The failures of one kind, `died` or `no_update`, in the summary.
    pub fn failures(&self, kind: &str) -> Vec<Value> {
        let summary = self.summary();
        let all = summary["failures"].as_array().expect("it is a list").iter();
        all.filter(|failure| failure["kind"] == kind)
            .cloned()
            .collect()
    }

    /// Number of updates in each complete round, from the initial model on.
    pub fn results(&self) -> Vec<u64> {
        let events = self.events().into_iter();
        let rounds = events.filter(|event| event["event"] == "round_finished");
        rounds
            .map(|round| round["results"].as_u64().expect("it is a number"))
            .collect()
    }

    /// All events.
    pub fn events(&self) -> Vec<Value> {
        events(&self.out().join("events.jsonl"))
    }
}

/// The events that are written whole so far.
fn events(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap_or_default();
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    let parse = |line| serde_json::from_str(line).expect("each line of events.jsonl is JSON");
    whole.lines().map(parse).collect()
}

impl Run {
    /// Numbers that each device kept last and nobody else has, by client: its round and its numbers.
    pub fn kept_on_devices(&self) -> Vec<(u32, u32, Vec<u8>)> {
        let images = fs::read_dir(self.out().join("storage")).expect("devices have storage");
        let mut kept: Vec<_> = images.map(|image| kept(&image.unwrap().path())).collect();
        kept.sort_unstable();
        kept
    }
}

/// The newer slot of a device's storage: client, round and numbers (crates/fl-client/src/storage.rs).
fn kept(image: &Path) -> (u32, u32, Vec<u8>) {
    let octets = fs::read(image).unwrap();
    let slots = octets.chunks(octets.len() / 2);
    let round = |slot: &[u8]| u32::from_le_bytes(slot[8..12].try_into().unwrap());
    let newest = slots.max_by_key(|slot| round(slot)).unwrap();
    assert_eq!(&newest[..4], b"zflk", "{}", image.display());
    let client = u32::from_le_bytes(newest[12..16].try_into().unwrap());
    (client, round(newest), newest[64..].to_vec())
}
