//! An experiment with every value resolved, as `config.toml` of a run holds it.

use crate::choice::{self, Body, Choice, Counting, Network, Places, Time};
use crate::edges::{EdgeBody, EdgeSums, EdgeTree, GatewayPlan};
use crate::encoding::{self, Downward, Upward};
use crate::estimate::{deadlines, memory};
use crate::examples::{self, DataPart, Examples};
use crate::groups::{self, FleetGroup};
use crate::keys::spread::Spread;
use crate::place::{self, Place};
use crate::radio::Radio;
use crate::refusal::{Refusal, require};
use crate::root::{Data, Root};
use crate::rule::{Chosen, Hiding, Optimizing, Partitioning, Scheduling, Selecting, Strategy};
use crate::settings::Settings;
use crate::twin::Twin;
use crate::{derived, edges, inputs, native, privacy};
use anyhow::{Context, Result};
use fl_algo::{InputsIn, Sizes};
use fl_data::{Partition, Scaling, Splits};
use fl_nn::{Activation, Model};
use fl_proto::Arithmetic;
use serde::{Serialize, Serializer};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use zfl_aggregator::Weighting;
use zfl_machine::Board;
use zfl_orchestrator::faults::{FaultConfig, FaultPlan, Trace};

/// Partitions of a server that is not told how many devices there may be: 600 images each of MNIST.
const DEFAULT_SERVER_CLIENTS: u32 = 100;

/// Everything that decides how a run goes.
#[derive(Debug, Serialize)]
pub struct Experiment {
    /// The run's name.
    pub name: String,
    /// The version of zfl that resolved it.
    pub zfl_version: &'static str,
    /// The body of every device; absent if they differ, and for a server, which does not know.
    #[serde(
        skip_serializing_if = "Option::is_none",
        serialize_with = "choice::write_some"
    )]
    pub body: Option<Body>,
    /// The machine of every device, if it is one.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "name_of")]
    pub board: Option<Arc<Board>>,
    /// The link profile of every device, if it is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub link: Option<String>,
    /// Network of emulated devices, as asked for.
    #[serde(
        skip_serializing_if = "Option::is_none",
        serialize_with = "choice::write_some"
    )]
    pub network: Option<Network>,
    /// Radio of the devices, if they have one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub radio: Option<String>,
    /// Their places.
    #[serde(
        skip_serializing_if = "Option::is_none",
        serialize_with = "choice::write_some"
    )]
    pub topology: Option<Places>,
    /// File of their places.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub topology_file: Option<PathBuf>,
    /// Share of the frames that a radio in range does not hear.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub radio_loss: Option<f64>,
    /// Share of the bits that arrive flipped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bit_error_rate: Option<f64>,
    /// The radio itself.
    #[serde(skip)]
    pub(crate) mesh_radio: Option<Radio>,
    /// Time on devices, unless it is the host's.
    #[serde(
        skip_serializing_if = "Option::is_none",
        serialize_with = "choice::write_some"
    )]
    pub time: Option<Time>,
    /// Costs that are counted, unless it is instructions alone.
    #[serde(
        skip_serializing_if = "Option::is_none",
        serialize_with = "choice::write_some"
    )]
    pub cost: Option<Counting>,
    /// Real part whose time and energy are told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    /// Its numbers, those of the cores, and the plugin that counts for them.
    #[serde(skip)]
    pub twin: Option<Twin>,
    /// Devices, and partitions of the data.
    pub clients: u32,
    /// Edges that the devices are dealt out to.
    #[serde(skip_serializing_if = "EdgeTree::is_empty")]
    pub edges: EdgeTree,
    /// Body of the edges.
    #[serde(
        skip_serializing_if = "EdgeBody::is_host",
        serialize_with = "choice::write"
    )]
    pub edge_body: EdgeBody,
    /// Gateways, if the edges are such.
    #[serde(skip)]
    pub(crate) gateway: Option<GatewayPlan>,
    /// Rounds of a cluster for one of the fleet.
    #[serde(skip_serializing_if = "is_one")]
    pub edge_rounds: u32,
    /// Devices of an edge that is lost for good go to its neighbour.
    #[serde(skip_serializing_if = "is_false")]
    pub edge_handover: bool,
    /// Sums that an edge sends up.
    #[serde(
        skip_serializing_if = "EdgeSums::is_exact",
        serialize_with = "choice::write"
    )]
    pub edge_sums: EdgeSums,
    /// Rounds.
    pub rounds: u32,
    /// Devices whose updates a round is meant to have.
    pub clients_per_round: u32,
    /// Devices chosen beyond that.
    pub over_commit: u32,
    /// Counts a late update in the next round.
    pub use_late: bool,
    /// Updates without which a round fails.
    pub quorum: u32,
    /// Longest wait for devices to be ready before a round, in seconds.
    pub ready_deadline_s: f64,
    /// Longest wait for updates in a round, in seconds.
    pub round_deadline_s: f64,
    /// Longest time in a round that a device may make no progress, in seconds.
    pub watchdog_s: f64,
    /// Weights of the updates.
    #[serde(serialize_with = "choice::write")]
    pub weighting: Weighting,
    /// Passes over a device's data in a round.
    pub local_epochs: Spread<u32>,
    /// Examples per step of SGD.
    pub batch_size: Spread<u32>,
    /// Step size of SGD.
    pub learning_rate: Spread<f32>,
    /// Share of a round's devices that do only some of their epochs.
    pub stragglers: f64,
    /// Leaves their updates out.
    pub drop_stragglers: bool,
    /// Arithmetic of the training.
    #[serde(serialize_with = "choice::write")]
    pub arithmetic: Arithmetic,
    /// Encoding of the model on its way to a device.
    #[serde(serialize_with = "encoding::write")]
    pub encoding_down: Chosen<Downward>,
    /// Encoding of a device's update.
    #[serde(serialize_with = "encoding::write")]
    pub encoding_up: Chosen<Upward>,
    /// Units of the hidden layers.
    pub hidden: Vec<u32>,
    /// Units per layer, inputs first: they follow from that and the data.
    pub layers: Vec<u32>,
    /// Activation of the hidden layers.
    #[serde(serialize_with = "choice::write")]
    pub activation: Activation,
    /// Seed of every random stream.
    pub seed: u64,
    /// Training examples of each device, if they all have as many; the mean, if the partitioner decides
    /// sizes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub examples_per_client: Option<u32>,
    /// Share of each device's examples that it holds out.
    #[serde(skip_serializing_if = "is_zero")]
    pub holdout: f64,
    /// Share of all devices that evaluate a new model; absent for the cohort.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub evaluate_fraction: Option<f64>,
    /// Rounds from one evaluation to the next.
    #[serde(skip_serializing_if = "is_one")]
    pub evaluate_every: u32,
    /// Folder of the data set, unless it is the one that comes with zfl.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<PathBuf>,
    /// File of indices that says which examples each client has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partition_file: Option<PathBuf>,
    /// The examples.
    #[serde(skip)]
    pub examples: Data,
    /// The text of the file of indices.
    #[serde(skip)]
    pub partition_text: Option<String>,
    /// Names of the clients, where the data have some.
    #[serde(skip)]
    pub client_names: Vec<String>,
    /// Scales of features that were no octets.
    #[serde(skip)]
    pub scaling: Option<Scaling>,
    /// The run directory. Not written down: it is where the file is, also after it was moved.
    #[serde(skip)]
    pub out: PathBuf,
    /// Place of the run directory of a new run, until it is made.
    #[serde(skip)]
    place: Option<Place>,
    /// Rule by which the training examples are dealt out.
    #[serde(rename = "partition")]
    pub partitioning: Partitioning,
    /// Algorithm that devices and server follow.
    pub strategy: Strategy,
    /// Rule by which the clients of a round are chosen.
    pub selection: Selecting,
    /// Optimizer of the devices.
    pub optimizer: Optimizing,
    /// Schedule of the learning rate.
    pub schedule: Scheduling,
    /// Differential privacy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub privacy: Option<Hiding>,
    /// Trouble on purpose.
    #[serde(skip_serializing_if = "FaultConfig::is_empty")]
    pub faults: FaultConfig,
    /// The text of the availability trace.
    #[serde(skip)]
    pub trace: Option<String>,
    /// Groups of devices; none for a server.
    #[serde(skip_serializing_if = "Vec::is_empty", rename = "fleet")]
    pub groups: Vec<FleetGroup>,
    /// Choices that most runs have otherwise, in lines for people.
    #[serde(skip)]
    pub notes: Vec<String>,
    /// The model.
    #[serde(skip)]
    pub model: Model,
    /// The training examples of each client.
    #[serde(skip)]
    pub partition: Partition,
    /// Bytes of the data set.
    #[serde(skip)]
    pub data_bytes: u64,
    /// The examples that each client holds out.
    #[serde(skip)]
    pub held_out: Partition,
}

fn is_zero(number: &f64) -> bool {
    *number == 0.0
}

fn is_false(switch: &bool) -> bool {
    !switch
}

fn is_one(number: &u32) -> bool {
    *number == 1
}

/// Folder of a run's results.
#[derive(Clone, Copy, Debug)]
pub enum Out<'a> {
    /// To this folder, or one that follows from the name.
    New(Option<&'a Path>),
    /// To the folder of the run that goes on.
    Resumed(&'a Path),
}

impl Experiment {
    /// Resolves what `zfl run` was asked for, and loads the data that it needs.
    ///
    /// # Errors
    /// A [`Refusal`] if the settings do not fit each other, the data or the board.
    pub fn of_run(settings: &Settings, out: Out<'_>, root: &Root) -> Result<(Self, Splits)> {
        let examples = Examples::load(settings, out, root)?;
        Self::of_examples(settings, examples, out, root)
    }

    /// Resolves what a node of a launch was given, with its part of the data.
    ///
    /// # Errors
    /// As [`Experiment::of_run`].
    pub fn of_part(settings: &Settings, part: DataPart, root: &Root) -> Result<(Self, Splits)> {
        let nowhere = Out::Resumed(Path::new("."));
        Self::of_examples(settings, Examples::of_part(part), nowhere, root)
    }

    fn of_examples(
        settings: &Settings,
        mut examples: Examples,
        out: Out<'_>,
        root: &Root,
    ) -> Result<(Self, Splits)> {
        let partitioning = Partitioning::resolve(settings.partition.as_ref())?;
        let settings = &examples.counted(settings, &partitioning)?;
        let data = &examples.splits;
        let groups = groups::resolve(settings, root, examples.num_train(), &partitioning)?;
        let clients = groups.iter().map(|group| group.count).sum();
        let body = common(&groups, |group| Some(group.body), Body::eq);
        let kind = body.map_or("mixed", Body::name);
        let mut experiment = Self::resolve(settings, partitioning, clients, kind, data, out, root)?;
        let emulated = groups.iter().any(|group| group.board.is_some());
        // Said for all only if it is so of all: read again, it would give every group a speed.
        let mut machines = groups.iter().filter(|group| group.board.is_some());
        let counted = emulated && machines.all(|group| group.speed.is_some());
        experiment.notes.append(&mut examples.notes);
        experiment.body = body;
        experiment.board = common(
            &groups,
            |group| group.board.clone(),
            |a, b| a.asked() == b.asked(),
        );
        experiment.link = common(&groups, |group| group.link_name.clone(), String::eq);
        let network = Some(settings.network());
        experiment.network = network.filter(|&one| emulated || one == Network::Loopback);
        experiment.mesh_radio = Radio::resolve(settings, root)?;
        let radio = experiment.mesh_radio.as_ref();
        experiment.radio = radio.and(settings.radio.clone());
        experiment.topology = radio.map(|radio| radio.places);
        experiment.topology_file = radio.and(settings.topology_file.clone());
        experiment.radio_loss = radio.map(|radio| radio.conditions.loss);
        experiment.bit_error_rate = radio.map(|radio| radio.conditions.bit_errors);
        experiment.time = match settings.time() {
            Time::Estimate => Some(Time::Estimate),
            _ => counted.then_some(Time::Icount),
        };
        experiment.twin = Twin::resolve(settings, root, &groups)?;
        let twin = experiment.twin.as_ref();
        experiment.cost = twin.map(|_| Counting::Cycles);
        experiment.profile = twin
            .and_then(|twin| twin.profile.as_ref())
            .map(|profile| profile.name.clone());
        let notes: Vec<_> = twin.into_iter().flat_map(Twin::notes).collect();
        experiment.notes.extend(notes);
        experiment.examples_per_client = common(&groups, |group| group.examples, u32::eq);
        experiment.groups = groups;
        experiment.deal(&examples)?;
        examples.tell(&mut experiment);
        memory::fits(&experiment)?;
        let notes: Vec<_> = memory::notes(&experiment).collect();
        experiment.notes.extend(notes);
        let deadlines = deadlines::fit(&experiment, settings)?;
        experiment.ready_deadline_s = deadlines.ready_s;
        experiment.round_deadline_s = deadlines.round_s;
        experiment.watchdog_s = deadlines.watchdog_s;
        experiment.notes.extend(deadlines.notes);
        experiment.mesh()?;
        experiment.can_suffer()?;
        experiment.fits_edges()?;
        experiment.gateway = experiment.find_gateway(root)?;
        experiment.notes.extend(experiment.notes_on_time());
        experiment.notes.extend(experiment.note_on_storage());
        experiment.notes.extend(privacy::notes(&experiment));
        experiment.can_be_written()?;
        if let Out::Resumed(_) = out {
            experiment.name_inputs_from_out();
        }
        Ok((experiment, examples.splits))
    }

    /// Resolves what `zfl server` was asked for, and loads the data that it needs.
    ///
    /// # Errors
    /// A [`Refusal`] if the settings do not fit each other or the data.
    pub fn of_server(
        settings: &Settings,
        out: Option<&Path>,
        root: &Root,
    ) -> Result<(Self, Splits)> {
        let out = Out::New(out);
        let mut examples = Examples::load(settings, out, root)?;
        let partitioning = Partitioning::resolve(settings.partition.as_ref())?;
        let settings = &examples.counted(settings, &partitioning)?;
        let data = &examples.splits;
        let least = settings.clients_per_round.unwrap_or(1);
        let clients = settings.clients;
        let clients = clients.unwrap_or(DEFAULT_SERVER_CLIENTS.max(least));
        let mut experiment =
            Self::resolve(settings, partitioning, clients, "server", data, out, root)?;
        experiment.notes.append(&mut examples.notes);
        let available = data.train.len();
        let share = groups::equal_examples(settings, clients, available, &experiment.partitioning)?;
        experiment.examples_per_client = Some(share);
        experiment.deal(&examples)?;
        examples.tell(&mut experiment);
        let most = experiment.partition.sizes().max().unwrap_or(0) as u32;
        let batch_size = experiment.batch_size.most();
        memory::training_bytes(&experiment, batch_size, most, InputsIn::Ram)?;
        experiment.notes.extend(experiment.notes_on_time());
        experiment.notes.extend(privacy::notes(&experiment));
        experiment.can_be_written()?;
        Ok((experiment, examples.splits))
    }

    fn resolve(
        settings: &Settings,
        partitioning: Partitioning,
        clients: u32,
        kind: &str,
        data: &Splits,
        out: Out<'_>,
        root: &Root,
    ) -> Result<Self> {
        let (clients_per_round, over_commit) = derived::cohort(settings, clients)?;
        let rounds = settings.rounds();
        let hidden = settings.hidden();
        let layers = derived::layers_of(settings, &hidden, data)?;
        let activation = settings.activation();
        let model = derived::model(&layers, activation)?;
        let strategy = Strategy::resolve(settings.strategy.as_ref())?;
        let sizes = Sizes::from(model.shape());
        let rule = strategy
            .0
            .server(sizes, clients, clients_per_round, settings.seed())
            .map_err(Refusal)?;
        edges::check(settings, clients, (&strategy, &*rule))?;
        edges::check_gateways(settings, &strategy, &sizes)?;
        let optimizer = Optimizing::resolve(settings.optimizer.as_ref())?;
        derived::fits_optimizer(&strategy, &*rule, &optimizer)?;
        derived::fits_arithmetic(settings.arithmetic(), &strategy, &optimizer)?;
        let privacy = privacy::resolve(settings, (&strategy, &*rule), &sizes, clients_per_round)?;
        let usual = Spread::All(optimizer.learning_rate());
        let learning_rate = settings.training.learning_rate.unwrap_or(usual);
        let schedule = derived::schedule(settings, rounds, learning_rate)?;
        let buffer_size = rule.policy().buffer_size;
        let counted = derived::counted(settings, clients_per_round, buffer_size)?;
        let quorum = derived::quorum(settings, clients_per_round, counted, buffer_size)?;
        let name = settings.name.clone();
        let name = name.unwrap_or_else(|| place::default_name(kind, clients, rounds));
        let (place, out) = match out {
            Out::New(out) => {
                let place = Place::of(out, root.runs(), &name);
                let path = place.look()?;
                (Some(place), path)
            }
            Out::Resumed(run) => (None, std::path::absolute(run)?),
        };
        Ok(Self {
            name,
            zfl_version: env!("CARGO_PKG_VERSION"),
            body: None,
            board: None,
            link: None,
            network: None,
            radio: None,
            topology: None,
            topology_file: None,
            radio_loss: None,
            bit_error_rate: None,
            mesh_radio: None,
            time: None,
            cost: None,
            profile: None,
            twin: None,
            clients,
            rounds,
            edges: settings.edges(),
            edge_body: settings.edge_body(),
            gateway: None,
            edge_rounds: settings.edge_rounds(),
            edge_handover: settings.edge_handover(),
            edge_sums: settings.edge_sums(),
            clients_per_round,
            over_commit,
            use_late: settings.use_late(),
            quorum,
            ready_deadline_s: settings.ready_deadline_s(),
            round_deadline_s: settings.round_deadline_s(),
            watchdog_s: settings.watchdog_s(),
            weighting: derived::weighting(settings, privacy.as_ref()),
            local_epochs: settings.training.local_epochs(),
            batch_size: settings.training.batch_size(),
            learning_rate,
            stragglers: settings.stragglers(),
            drop_stragglers: settings.drop_stragglers(),
            arithmetic: settings.arithmetic(),
            encoding_down: Chosen::resolve(settings.encoding_down.as_ref())?,
            encoding_up: Chosen::resolve(settings.encoding_up.as_ref())?,
            hidden,
            layers,
            activation,
            seed: settings.seed(),
            examples_per_client: None,
            holdout: derived::holdout(settings)?,
            evaluate_fraction: settings.evaluate_fraction,
            evaluate_every: settings.evaluate_every(),
            data: examples::named(settings, root)?,
            partition_file: settings.partition_file.clone(),
            examples: root.data(settings.data.as_deref())?,
            partition_text: None,
            client_names: Vec::new(),
            scaling: None,
            out,
            place,
            partitioning,
            strategy,
            selection: Selecting::resolve(settings.selection.as_ref())?,
            optimizer,
            schedule,
            privacy,
            faults: settings.faults.clone(),
            trace: inputs::trace(settings)?,
            groups: Vec::new(),
            notes: Vec::new(),
            model,
            partition: Partition::default(),
            data_bytes: [&data.train, &data.test]
                .map(|set| set.inputs.len() as u64)
                .iter()
                .sum(),
            held_out: Partition::default(),
        })
    }

    /// The group of a client, if there are groups.
    pub fn group(&self, client: u32) -> Option<&FleetGroup> {
        let mut first = 0;
        self.groups.iter().find(|group| {
            first += group.count;
            client < first
        })
    }

    /// Refuses faults that these devices cannot have.
    fn can_suffer(&self) -> Result<(), Refusal> {
        let plan = self.fault_plan()?;
        let edges = self.edges.nodes(self.clients).len() as u32;
        let lost = self.faults.validate_edges(edges);
        lost.map_err(|error| Refusal(error.to_string()))?;
        let longest_s = plan.longest_ms() as f64 / 1000.0;
        if self.groups.iter().any(|group| group.body == Body::Native) {
            native::faults(&plan)?;
        }
        require(longest_s < self.watchdog_s, || {
            format!(
                "faults: a freeze or cut of {longest_s} s, and the watchdog kills what does nothing for \
                 {} s: shorten the one or give a longer --watchdog",
                self.watchdog_s
            )
        })
    }

    /// The faults of the run.
    ///
    /// # Errors
    /// A [`Refusal`] if they make no sense for this fleet, or the trace cannot be read.
    pub fn fault_plan(&self) -> Result<FaultPlan, Refusal> {
        let path = self.faults.trace.as_deref().unwrap_or(Path::new(""));
        let refused = |error| Refusal(format!("{}: {error}", path.display()));
        let trace = self.trace.as_deref().map(Trace::parse);
        let trace = trace.transpose().map_err(refused)?;
        FaultPlan::new(self.faults.clone(), trace, self.seed, self.clients)
            .map_err(|error| Refusal(error.to_string()))
    }

    /// Makes the folder of a new run. If another run has just taken the name that was free, it gets the
    /// next one.
    ///
    /// # Errors
    /// A [`Refusal`] if it cannot be made.
    pub fn make_folder(&mut self) -> Result<(), Refusal> {
        if let Some(place) = self.place.take() {
            self.out = place.make()?;
        }
        Ok(())
    }

    /// Refuses paths that `config.toml` cannot name.
    fn can_be_written(&self) -> Result<(), Refusal> {
        let paths = [
            ("data", &self.data),
            ("partition_file", &self.partition_file),
            ("topology_file", &self.topology_file),
            ("faults.trace", &self.faults.trace),
        ];
        for (key, path) in paths {
            let path = path.as_deref().unwrap_or(Path::new(""));
            require(path.to_str().is_some(), || {
                format!(
                    "{key}: the name of {} is not UTF-8, and config.toml takes no other: rename it, or give \
                     a link to it (ln -s)",
                    path.display()
                )
            })?;
        }
        self.to_toml().map(drop).map_err(Refusal::of)
    }

    /// The first board of a group of which nobody knows who made it: as it was asked for.
    pub fn strangers_board(&self) -> Option<&str> {
        let mut boards = self.groups.iter().filter_map(|group| group.board.as_ref());
        let board = boards.find(|board| board.is_strangers)?;
        Some(board.asked())
    }

    /// As in `config.toml`.
    ///
    /// # Errors
    /// If a value has no form in TOML.
    pub fn to_toml(&self) -> Result<String> {
        toml::to_string(self).context("the configuration cannot be written as TOML")
    }

    /// As in `meta.json`.
    ///
    /// # Errors
    /// If a value has no form in TOML.
    pub fn to_json(&self) -> Result<serde_json::Value> {
        let table: toml::Table = toml::from_str(&self.to_toml()?)?;
        Ok(serde_json::to_value(table)?)
    }

    /// Group whose devices lose what stays on them when they reboot, as a line for people.
    fn note_on_storage(&self) -> Option<String> {
        let lacks = |group: &&FleetGroup| {
            let board = group.board.as_ref();
            board.is_some_and(|board| board.storage.is_none())
        };
        let kind = self.groups.iter().find(lacks)?.kind();
        (self.personal_numbers() > 0).then(|| {
            format!(
                "devices keep something that nobody else has, and {kind} has no storage: a device that reboots \
                 begins anew"
            )
        })
    }
}

/// A value that all groups have in common, if they do.
fn common<T>(
    groups: &[FleetGroup],
    of: impl Fn(&FleetGroup) -> Option<T>,
    same: impl Fn(&T, &T) -> bool,
) -> Option<T> {
    let mut each = groups.iter().map(of);
    let first = each.next()??;
    each.all(|other| other.is_some_and(|other| same(&other, &first)))
        .then_some(first)
}

fn name_of<S: Serializer>(board: &Option<Arc<Board>>, to: S) -> Result<S::Ok, S::Error> {
    board.as_ref().map(|board| board.asked()).serialize(to)
}
