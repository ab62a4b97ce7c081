//! Settings: what flags and an experiment file say. Nothing here is resolved yet.
//!
//! An experiment file is TOML; `experiments/README.md` documents its keys. The `config.toml` of a run
//! is one too, with every value resolved. Where both a flag and the file say something, the flag
//! goes first.
//!
//! Each key is declared here and nowhere else; see [`crate::keys`] for what follows from that.

use crate::choice::{BodyChoice, Counting, Network, Places, Time};
use crate::edges::{EdgeBody, EdgeSums, EdgeTree};
use crate::encoding::{Downward, Upward};
use crate::keys::domain::{
    Count, Domain, File, Folder, Layers, Milliseconds, Mips, Name, Named, Number, Patience,
    Probability, Rate, RunName, Seconds, Seed, Seed64, Switch, Tree, Units,
};
use crate::keys::spread::{Counts, Rates, Spread};
use crate::keys::table::{self, Table};
use crate::keys::{Commands, Key, keys, schema};
use crate::refusal::Refusal;
use crate::root::set_name;
use crate::rule::{OptimizerChoice, PartitionChoice, PrivacyChoice, Rule, ScheduleChoice};
use fl_algo::{AttackChoice, Choice};
use fl_nn::Activation;
use fl_proto::Arithmetic;
use fl_round::Selection;
use serde::de::MapAccess;
use serde::{Deserialize, Deserializer};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use zfl_aggregator::Weighting;
use zfl_files::{Dir, FileError};
use zfl_machine::Guest;
use zfl_orchestrator::faults::FaultConfig;
use zfl_schema::{Document, Mistake};

/// Looks up the guest that a board boots, if the board is known.
pub type GuestOf<'a> = &'a dyn Fn(&str) -> Option<Guest>;

keys! {
    /// Everything that can be asked for.
    pub struct Settings at |settings| settings, table EXPERIMENT {
        /// Devices in the fleet; a `[[fleet]]` says it by its groups
        clients: Count = 50, Run "clients" "";
        /// Rounds of federated averaging
        rounds: Count = 20, Run "rounds" "";
        /// Devices whose updates a round aims for
        clients_per_round: Count | "all", Run "clients-per-round" "";
        /// Network between emulated devices and the aggregator; see docs/network.md
        network: Named<Network> = Network::Auto, Run "network" "Fleet";
        /// Radio by which native devices reach a gateway, a file of links/radio: hc-12, lora-sf7 …; see docs/radio.md
        radio: Name | "none", Run "radio" "Fleet";
        /// Places of the gateway and its leaves
        topology: Named<Places> = Places::Grid, Run "topology" "Fleet";
        /// File with the place of the gateway and then of each leaf, `x y` in metres a line; for the topology `file`
        topology_file: File | "none", Run "topology-file" "Fleet";
        /// Share of the frames that a radio in range does not hear: 0.05 or 5%
        radio_loss: Probability = 0.0, Run "radio-loss" "Fleet";
        /// Share of the bits of a frame that a radio hears wrong: 0.0001 or 0.01%
        bit_error_rate: Probability = 0.0, Run "bit-error-rate" "Fleet";
        /// Edges that the devices are dealt out to, each an aggregator that sends one update for its cluster: 3, or 3x2
        /// for three with two below each; see docs/edges.md
        edges: Tree = EdgeTree::default(), RunAndServer "edges" "Edges";
        /// Body of the edges: processes of the host, or gateways, firmware on machines of their own
        edge_body: Named<EdgeBody> = EdgeBody::Host, Run "edge-body" "Edges";
        /// Rounds of a cluster for one of the whole fleet: kappa of HierFAVG
        edge_rounds: Count = 1, RunAndServer "edge-rounds" "Edges";
        /// Devices of an edge that is lost for good boot again behind its neighbour
        edge_handover: Switch = false, Run "edge-handover" "Edges";
        /// Sums that an edge sends up: exact ones give the model of a run without edges, rounded ones take fewer bytes
        edge_sums: Named<EdgeSums> = EdgeSums::Exact, RunAndServer "edge-sums" "Edges";
        /// Time on devices: the host's, that of counted instructions, or an estimate; see docs/cost.md
        time: Named<Time> = Time::Host, Run "time" "Fleet";
        /// Costs of training on emulated devices: cycles take a plugin that `cargo xtask build-plugin` builds; see docs/cost.md
        cost: Named<Counting> = Counting::Instructions, Run "cost" "Fleet";
        /// Real part whose time and energy are told of each round, a file of profiles/: stm32l4r5, nrf52840 …
        profile: Name | "none", Run "profile" "Fleet";
        /// Optimizer of each device, whose state begins anew in every round
        optimizer: Rule<OptimizerChoice> | "\"sgd\"", RunAndServer "optimizer" "Training";
        /// Differential privacy; see docs/privacy.md
        privacy: Rule<PrivacyChoice> | "none", RunAndServer "privacy" "Training";
        /// Schedule of the learning rate over the rounds
        schedule: Rule<ScheduleChoice> | "\"constant\"", RunAndServer "schedule" "Training";
        /// Devices of a round, rounded to whole ones, that do a random number of epochs, from 1 to `local_epochs`
        stragglers: Probability = 0.0, RunAndServer "stragglers" "Training";
        /// Leave the updates of stragglers out
        drop_stragglers: Switch = false, RunAndServer "drop-stragglers" "Training";
        /// Units of the hidden layers; as a flag separated by commas: 200,200, or none
        hidden: Units = vec![16], RunAndServer "hidden" "Training";
        /// Activation of the hidden layers
        activation: Named<Activation> = Activation::Relu, RunAndServer "activation" "Training";
        /// Arithmetic of the training: fixed point is several times faster on emulated devices, in the first layer or in all
        arithmetic: Named<Arithmetic> = Arithmetic::Fixed, RunAndServer "arithmetic" "Training";
        /// Source of every random number; the same seed gives the same model, bit by bit
        seed: Seed64 = 1, RunAndServer "seed" "Training";
        /// Data set: a folder with the four files of MNIST or a set like it, a file of CSV, or a name, such as
        /// zfl:digits, digits of 8 x 8 pixels that are built in; `zfl data list` has the names, docs/data.md the formats
        data: Folder | "the tree's data/mnist, else zfl:digits", RunAndServer "data" "Training";
        /// Training examples of each device; the mean, if the partition decides how many each has
        examples_per_client: Count | "an equal share of the data, at most 1200", RunAndServer "examples" "Training";
        /// Rule by which the training examples are dealt out
        partition: Rule<PartitionChoice> | "\"iid\"", RunAndServer "partition" "Training";
        /// File that says which examples each device has, a line of indices for each; for the partition `natural`
        partition_file: File | "none", RunAndServer "partition-file" "Training";
        /// Share of each device's examples that it keeps out of its training, to evaluate new models on: 0.2 or 20%
        holdout: Probability = 0.0, RunAndServer "holdout" "Training";
        /// Share of all devices that evaluate a new model, drawn for each round
        evaluate_fraction: Probability | "the cohort of the round", RunAndServer "evaluate-fraction" "Rounds";
        /// Rounds from one evaluation on the devices to the next; the last round has one anyway
        evaluate_every: Count = 1, RunAndServer "evaluate-every" "Rounds";
        /// Algorithm that devices and server follow
        strategy: Rule<Choice> | "\"fedavg\"", RunAndServer "strategy" "Training";
        /// Rule by which the clients of a round are chosen; see docs/selection.md
        selection: Rule<Selection> | "\"uniform\"", RunAndServer "selection" "Rounds";
        /// Encoding of the model on its way to a device
        encoding_down: Rule<Downward> | "\"f32\"", RunAndServer "encoding-down" "Training";
        /// Encoding of a device's update
        encoding_up: Rule<Upward> | "\"f32\"", RunAndServer "encoding-up" "Training";
        /// Weights of the updates of a round
        weighting: Named<Weighting> | "\"num-examples\"; \"uniform\" with central privacy", RunAndServer "weighting" "Rounds";
        /// Fewest updates that a round needs; with fewer the run fails
        quorum: Count | "half of those asked for", RunAndServer "quorum" "Rounds";
        /// Devices asked beyond those that a round aims for; it ends when enough have answered
        over_commit: Number = 0, RunAndServer "over-commit" "Rounds";
        /// Use an update that comes too late in the next round, instead of only counting it
        use_late: Switch = false, RunAndServer "use-late" "Rounds";
        /// Longest wait for the updates of a round, in seconds; it then goes on without those that are missing
        round_deadline_s: Seconds = 120.0, RunAndServer "deadline" "Rounds";
        /// Longest wait for devices to be ready before a round, in seconds, booting included, from the
        /// last that came for the first time on; later rounds start without those that missed it
        ready_deadline_s: Seconds = 120.0, RunAndServer "ready-deadline" "Rounds";
        /// Seconds after which a device is killed and booted again that trains nothing in a round, or failed
        /// one and answers nothing
        watchdog_s: Patience = 60.0, Run "watchdog" "Rounds";
        /// Name of the run
        name: RunName | "from the time and what is run", RunAndServer "name" "Results";
        /// Folder for the results, which must not exist or be empty
        out: Folder | "runs/NAME", RunAndServer "out" "Results";
        /// Units of all layers, as `config.toml` has them; they must agree with `hidden` and the data
        layers: Layers;
        /// Version of zfl that wrote the file; a line warns if another one reads it
        zfl_version: Name;
    } beside {
        /// Keys that a group may set for itself.
        pub training: TrainingSettings,
        /// Make of every device whose group does not say it.
        pub device: DeviceSettings,
        /// Groups of like devices; clients are numbered through them in order.
        pub fleet: Vec<GroupSettings>,
        /// Trouble on purpose.
        pub faults: FaultConfig,
        /// Trouble that flags ask for.
        pub fault_flags: FaultFlags,
    }
}

keys! {
    /// Training that a group may have of its own.
    pub struct TrainingSettings at |settings| &mut settings.training, table TRAINING {
        /// Passes over a device's own data in each round
        local_epochs: Counts = Spread::All(5), RunAndServer "epochs" "Training";
        /// Examples in each step of gradient descent
        batch_size: Counts = Spread::All(600), RunAndServer "batch-size" "Training";
        /// Step size of gradient descent
        learning_rate: Rates | "0.5; with Adam 0.001", RunAndServer "lr" "Training";
    }
}

keys! {
    /// A device's make.
    pub struct DeviceSettings at |settings| &mut settings.device, table DEVICE {
        /// Body of a device; as a flag it leaves boards of the file that boot it
        body: Named<BodyChoice> = BodyChoice::Auto, Run "body" "Fleet";
        /// Machine of an emulated device, a folder of boards/; it says the body, too
        board: Name | "the body's: microvm", Run "board" "Fleet";
        /// Link between a device and the aggregator, a file of links/: wifi, lte-m, nb-iot …
        link: Name | "none", Run "link" "Fleet";
        /// Share of frames that each direction of a link loses; as a flag 0.05 or 5%
        loss: Probability | "the link's", Run "loss" "Fleet";
        /// Delay of a frame in each direction of a link, in milliseconds
        delay_ms: Milliseconds | "the link's", Run "delay" "Fleet";
        /// Million instructions a second of a device whose time is counted or estimated
        mips: Mips | "the board's where instructions are counted or estimated, else the host's speed", Run "mips" "Fleet";
        /// Keep that speed in the host's time, too
        throttle: Switch = false;
        /// Energy that a device has for the run, in joules; the selection `energy` goes by it
        energy_j: Rate | "no end of it", Run "energy" "Fleet";
        /// Memory of the machine, in MiB, up to 2048; a zephyr device has its board's
        memory_mib: Count | "the board's";
    }
}

keys! {
    /// Like devices.
    pub struct GroupSettings at |_| unreachable!("no flag sets a key of one group"), table GROUP {
        /// Name of the group
        name: Name | "`group-1` …";
        /// Number of devices
        count: Count;
        /// Training examples of each
        examples: Count | "`examples_per_client`";
        /// Attack that each of them makes on the run
        attack: Rule<AttackChoice> | "none";
    } beside {
        /// Their own training.
        pub training: TrainingSettings,
        /// Their make.
        pub device: DeviceSettings,
    }
}

keys! {
    /// Trouble that flags ask for, or take away.
    pub struct FaultFlags at |settings| &mut settings.fault_flags, table FAULT_FLAGS {
        /// Devices that are away for a round: 0.3 or 30%
        drop_out: Probability | "none", Run "drop-out" "Faults";
        /// Devices that are killed while they train in a round: 0.05 or 5%
        crash: Probability | "none", Run "crash" "Faults";
        /// Crashed devices boot again and rejoin
        reboot: Switch, Run "reboot" "Faults";
    }
}

/// Every key that flags can set.
pub fn keys() -> impl Iterator<Item = &'static Key> {
    let tables = [EXPERIMENT, TRAINING, DEVICE, FAULT_FLAGS];
    tables.into_iter().flatten()
}

impl<'de> Deserialize<'de> for Settings {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        table::read(from)
    }
}

impl Table for Settings {
    fn take<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error> {
        match key {
            "fleet" => self.fleet = map.next_value()?,
            "faults" => self.faults = map.next_value()?,
            _ => {
                let known = self.take_key(key, map)?
                    || self.training.take_key(key, map)?
                    || self.device.take_key(key, map)?;
                return if known {
                    Ok(())
                } else {
                    Err(table::unknown(key))
                };
            }
        }
        Ok(())
    }
}

impl<'de> Deserialize<'de> for GroupSettings {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        table::read(from)
    }
}

impl Table for GroupSettings {
    fn take<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error> {
        let known = self.take_key(key, map)?
            || self.training.take_key(key, map)?
            || self.device.take_key(key, map)?;
        if known {
            Ok(())
        } else {
            Err(table::unknown(key))
        }
    }
}

/// Most of an experiment file, in bytes: a group for each of 10,000 devices.
const MAX_BYTES: u64 = 8 << 20;

impl Settings {
    /// Reads an experiment file. Relative paths in it are meant from its folder.
    ///
    /// # Errors
    /// A [`Refusal`] with the place of the first mistake.
    pub fn read(path: &Path) -> Result<Self, Refusal> {
        Self::of_text(zfl_files::read_text(path, MAX_BYTES), path)
    }

    /// Reads the experiment that a run directory keeps.
    ///
    /// # Errors
    /// As [`Settings::read`]; if the file is a link.
    pub fn of_run(run: &Dir) -> Result<Self, Refusal> {
        let file = "config.toml";
        Self::of_text(run.read_text(file, MAX_BYTES), &run.path().join(file))
    }

    /// Reads an experiment that is a table of another file. Relative paths in it are meant from `folder`.
    ///
    /// # Errors
    /// The first problem, in words.
    pub fn of_table(table: &toml::Table, folder: &Path) -> Result<Self, String> {
        let text = toml::to_string(table).map_err(|error| error.to_string())?;
        let mut settings = Self::parse(&text).map_err(|mistake| mistake.problem)?;
        settings.resolve_paths(folder);
        Ok(settings)
    }

    fn of_text(text: Result<String, FileError>, path: &Path) -> Result<Self, Refusal> {
        let text = text.map_err(|error| Refusal(error.to_string()))?;
        let refused = |error: String| Refusal(format!("{}: {error}", path.display()));
        let mut settings = Self::parse(&text).map_err(|mistake| refused(mistake.to_string()))?;
        settings.resolve_paths(path.parent().unwrap_or(Path::new("")));
        Ok(settings)
    }

    /// Takes the paths in it from this folder, and makes them ones that can be read from any other.
    fn resolve_paths(&mut self, folder: &Path) {
        let own = [
            &mut self.data,
            &mut self.partition_file,
            &mut self.topology_file,
            &mut self.faults.trace,
            &mut self.out,
        ];
        for path in own.into_iter().flatten() {
            if names_a_set(folder, path) {
                continue;
            }
            *path = standing(folder, path);
        }
        for device in [&mut self.device]
            .into_iter()
            .chain(self.fleet.iter_mut().map(|group| &mut group.device))
        {
            device.resolve_paths(folder);
        }
        // Of a run that is repeated, the results lie there already.
        let is_here =
            |out: &PathBuf| out.canonicalize().ok() == folder.join(".").canonicalize().ok();
        self.out = self.out.take().filter(|out| !is_here(out));
    }

    fn parse(text: &str) -> Result<Self, Mistake> {
        static SCHEMA: LazyLock<serde_json::Value> = LazyLock::new(schema);
        let document = Document::toml(text)?;
        document.check(&SCHEMA)?;
        let settings: Self = document.read()?;
        settings
            .check()
            .map_err(|(path, problem)| document.mistake(&path, problem))?;
        Ok(settings)
    }

    /// A line for people about a file that another version of zfl wrote.
    pub fn outdated(&self) -> Option<String> {
        let (theirs, ours) = (self.zfl_version.as_deref()?, env!("CARGO_PKG_VERSION"));
        (theirs != ours).then(|| {
            format!(
                "the file is of zfl {theirs}, this is zfl {ours}: the model may not be the same"
            )
        })
    }

    /// Refuses values that flags could not have: the path of the value, and advice.
    fn check(&self) -> Result<(), (String, String)> {
        self.check_keys("")?;
        self.training.check_keys("")?;
        self.device.check_keys("")?;
        let crash = &self.faults.crash;
        if crash.reboot && crash.probability == 0.0 {
            let problem = "`reboot` is for devices that crash: give `crash` a probability above 0";
            return Err(("faults.crash.reboot".to_owned(), problem.to_owned()));
        }
        self.faults
            .validate(u32::MAX)
            .map_err(|error| ("faults".to_owned(), error.to_string()))?;
        self.fleet.iter().enumerate().try_for_each(|(at, group)| {
            let place = format!("fleet.{at}.");
            group.check_keys(&place)?;
            group.training.check_keys(&place)?;
            group.device.check_keys(&place)
        })
    }
}

impl DeviceSettings {
    /// Takes board and link from this folder if they are paths: names have no slash.
    pub fn resolve_paths(&mut self, folder: &Path) {
        for text in [&mut self.board, &mut self.link].into_iter().flatten() {
            // A path that is no UTF-8 stays as it was given.
            if text.contains('/')
                && let Ok(path) = standing(folder, Path::new(&*text))
                    .into_os_string()
                    .into_string()
            {
                *text = path;
            }
        }
    }
}

/// Names of keys that are paths, or may be.
const PATHS: [&str; 7] = [
    "data",
    "partition_file",
    "topology_file",
    "trace",
    "out",
    "board",
    "link",
];

/// Makes the paths in an experiment's table, and in tables and lists below it, ones that can be read from any
/// folder: as [`Settings::read`] takes them from this one.
pub fn stand(table: &mut toml::Table, folder: &Path) {
    for (name, value) in table.iter_mut() {
        stand_value(name, value, folder);
    }
}

fn stand_value(name: &str, value: &mut toml::Value, folder: &Path) {
    let key = name.rsplit('.').next().unwrap_or(name);
    match value {
        toml::Value::Table(table) => stand(table, folder),
        toml::Value::Array(items) => {
            items
                .iter_mut()
                .for_each(|item| stand_value(name, item, folder));
        }
        toml::Value::String(text)
            if PATHS.contains(&key) && !names_a_set(folder, Path::new(&*text)) =>
        {
            // A board or a link without a slash is a name.
            let is_path = !matches!(key, "board" | "link") || text.contains('/');
            let path = standing(folder, Path::new(&*text));
            if let (true, Some(path)) = (is_path, path.to_str()) {
                *text = path.to_owned();
            }
        }
        _ => {}
    }
}

/// Tells if this is the name of a data set, and there is no file or folder of that name in this folder.
fn names_a_set(folder: &Path, path: &Path) -> bool {
    !standing(folder, path).exists() && set_name(path).is_some()
}

/// A path meant from this folder, as it is from any.
fn standing(folder: &Path, path: &Path) -> PathBuf {
    let path = folder.join(path);
    std::path::absolute(&path).unwrap_or(path)
}

mod over;

#[cfg(test)]
mod tests;
