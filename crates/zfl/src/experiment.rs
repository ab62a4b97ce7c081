//! An experiment with every value resolved: what `config.toml` of a run holds.

use crate::args::{
    Activation, Arithmetic, Body, BodyChoice, LearningArgs, Network, RunArgs, ServerArgs, Weighting,
};
use crate::refusal::{Refusal, require};
use crate::run_dir;
use anyhow::{Context, Result};
use fl_data::{Partition, Splits};
use fl_nn::Shape;
use serde::{Serialize, Serializer};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use zfl_orchestrator::Board;
use zfl_orchestrator::board::Guest;
use zfl_orchestrator::sandbox::NetworkMode;

/// The board of a bare device unless another is asked for.
const DEFAULT_BOARD: &str = "microvm";

/// Most examples that a device gets unless more are asked for: the share of each of 50 devices in
/// MNIST, which fits every board.
const DEFAULT_MAX_EXAMPLES: u32 = 1200;

/// Partitions of a server that is not told how many devices there may be: 600 images each of MNIST.
const DEFAULT_SERVER_CLIENTS: u32 = 100;

/// The passes and batches of a server whose devices do not set their own.
const DEFAULT_LOCAL_EPOCHS: u32 = 5;
const DEFAULT_BATCH_SIZE: u32 = 600;

/// Memory of a board that is certainly not free for data and model: code, stack, network buffers.
const FIRMWARE_BYTES: u64 = 1 << 20;

/// How often devices that train are asked how far they are.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(2);

/// Everything that decides how a run goes.
#[derive(Debug, Serialize)]
pub struct Experiment {
    /// The run's name.
    pub name: String,
    /// The version of zfl that resolved it.
    pub zfl_version: &'static str,
    /// What a device is; absent for a server, which does not know.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<Body>,
    /// The machine of an emulated device.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "name_of")]
    pub board: Option<Arc<Board>>,
    /// How emulated devices were asked to reach the aggregator.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<Network>,
    /// Devices, and partitions of the data.
    pub clients: u32,
    /// Rounds.
    pub rounds: u32,
    /// Devices chosen for a round.
    pub clients_per_round: u32,
    /// Updates without which a round fails.
    pub quorum: u32,
    /// Longest wait for devices to be ready before a round, in seconds.
    pub ready_deadline_s: f64,
    /// Longest wait for updates in a round, in seconds.
    pub round_deadline_s: f64,
    /// How updates are weighed.
    pub weighting: Weighting,
    /// Passes over a device's data in a round.
    pub local_epochs: u32,
    /// Examples per step of SGD.
    pub batch_size: u32,
    /// Step size of SGD.
    pub learning_rate: f32,
    /// Arithmetic of the first layer on the devices.
    pub arithmetic: Arithmetic,
    /// Units per layer, inputs first.
    pub layers: Vec<u32>,
    /// Activation of the hidden layers.
    pub activation: Activation,
    /// What every random stream is derived from.
    pub seed: u64,
    /// Training examples of each device.
    pub examples_per_client: u32,
    /// Where the data set is.
    pub data: PathBuf,
    /// The run directory.
    pub out: PathBuf,
}

/// What `run` and `server` arrive at in their own ways.
struct Setting {
    kind: &'static str,
    clients: u32,
    rounds: u32,
    clients_per_round: u32,
    local_epochs: u32,
    batch_size: u32,
}

impl Experiment {
    /// Resolves `zfl run`'s arguments, and loads the data that they ask for.
    ///
    /// # Errors
    /// A [`Refusal`] if the arguments do not fit each other, the data or the board.
    pub fn of_run(args: &RunArgs, root: &Path) -> Result<(Self, Splits)> {
        let body = body_of(args, root)?;
        let board = board_of(body, args, root)?;
        let setting = Setting {
            kind: body.name(),
            clients: args.clients,
            rounds: args.rounds,
            clients_per_round: args.clients_per_round.unwrap_or(args.clients),
            local_epochs: args.epochs,
            batch_size: args.batch_size,
        };
        let (mut experiment, data) = Self::resolve(&setting, &args.learning, root)?;
        if let Some(board) = &board {
            experiment.fits(board)?;
            experiment.network = Some(args.network);
        }
        experiment.body = Some(body);
        experiment.board = board.map(Arc::new);
        Ok((experiment, data))
    }

    /// Resolves `zfl server`'s arguments, and loads the data that they ask for.
    ///
    /// # Errors
    /// A [`Refusal`] if the arguments do not fit each other or the data.
    pub fn of_server(args: &ServerArgs, root: &Path) -> Result<(Self, Splits)> {
        let clients = args
            .clients
            .unwrap_or(DEFAULT_SERVER_CLIENTS.max(args.clients_per_round));
        let setting = Setting {
            kind: "server",
            clients,
            rounds: args.rounds,
            clients_per_round: args.clients_per_round,
            local_epochs: DEFAULT_LOCAL_EPOCHS,
            batch_size: DEFAULT_BATCH_SIZE,
        };
        Self::resolve(&setting, &args.learning, root)
    }

    fn resolve(setting: &Setting, learning: &LearningArgs, root: &Path) -> Result<(Self, Splits)> {
        let Setting {
            clients,
            clients_per_round,
            rounds,
            ..
        } = *setting;
        require(clients_per_round <= clients, || {
            format!(
                "{clients_per_round} clients per round of {clients} clients: lower \
                 --clients-per-round or raise --clients"
            )
        })?;
        let quorum = learning.quorum.unwrap_or(clients_per_round.div_ceil(2));
        require(quorum <= clients_per_round, || {
            format!(
                "a quorum of {quorum} of {clients_per_round} clients per round can never be met: \
                 lower --quorum or raise --clients-per-round"
            )
        })?;
        let dir = learning.data.clone().unwrap_or_else(fl_data::default_dir);
        let data = fl_data::load(learning.data.as_deref()).map_err(|e| Refusal(e.to_string()))?;
        let examples_per_client = examples(learning.examples, clients, data.train.len())?;
        let layers = layers(&learning.hidden, &data)?;
        let name = learning.name.clone();
        let name = name.unwrap_or_else(|| run_dir::default_name(setting.kind, clients, rounds));
        let out = run_dir::choose(learning.out.as_deref(), root, &name)?;
        let experiment = Self {
            name,
            zfl_version: env!("CARGO_PKG_VERSION"),
            body: None,
            board: None,
            network: None,
            clients,
            rounds,
            clients_per_round,
            quorum,
            ready_deadline_s: learning.ready_deadline,
            round_deadline_s: learning.deadline,
            weighting: learning.weighting,
            local_epochs: setting.local_epochs,
            batch_size: setting.batch_size,
            learning_rate: learning.lr,
            arithmetic: learning.arithmetic,
            layers,
            activation: learning.activation,
            seed: learning.seed,
            examples_per_client,
            data: std::path::absolute(&dir).unwrap_or(dir),
            out,
        };
        experiment.training_bytes()?;
        Ok((experiment, data))
    }

    /// As in `config.toml`.
    ///
    /// # Errors
    /// If a value has no form in TOML.
    pub fn to_toml(&self) -> Result<String> {
        toml::to_string(self).context("the configuration cannot be written as TOML")
    }

    /// The experiment as far as the aggregator goes.
    ///
    /// # Errors
    /// A [`Refusal`] if there can be no such network.
    pub fn aggregator(&self) -> Result<zfl_aggregator::Config, Refusal> {
        Ok(zfl_aggregator::Config {
            clients: self.clients,
            rounds: self.rounds,
            first_round: 1,
            clients_per_round: self.clients_per_round,
            over_commit: 0,
            quorum: self.quorum,
            use_late: false,
            // A fleet is waited for as a whole, so that its cohorts do not depend on who boots first.
            // Devices that are started elsewhere may be fewer than there is room for.
            wait_for: if self.body.is_some() {
                self.clients
            } else {
                self.clients_per_round
            },
            ready_deadline: Duration::from_secs_f64(self.ready_deadline_s),
            round_deadline: Duration::from_secs_f64(self.round_deadline_s),
            progress_interval: Some(PROGRESS_INTERVAL),
            local_epochs: self.local_epochs,
            batch_size: self.batch_size,
            learning_rate: self.learning_rate,
            arithmetic: self.arithmetic.into(),
            weighting: self.weighting.into(),
            network: self.neural_network()?,
            seed: self.seed,
            any_address: false,
        })
    }

    /// The part of each client in `num_examples` training examples.
    ///
    /// # Errors
    /// A [`Refusal`] if they do not suffice.
    pub fn partition(&self, num_examples: usize) -> Result<Partition, Refusal> {
        let sizes = vec![self.examples_per_client as usize; self.clients as usize];
        fl_data::iid(num_examples, &sizes, self.seed).map_err(|error| Refusal(error.to_string()))
    }

    fn neural_network(&self) -> Result<fl_nn::Network, Refusal> {
        let sizes: Vec<_> = self.layers.iter().map(|&size| size as usize).collect();
        let shape = Shape::new(&sizes).map_err(|error| {
            Refusal(format!(
                "a network of {:?}: {error}; change --hidden",
                self.layers
            ))
        })?;
        let (params, most) = (shape.num_params(), fl_proto::MAX_PARAMS);
        require(params <= most as usize, || {
            format!("a network of {params} parameters, a message holds {most}: lower --hidden")
        })?;
        Ok(fl_nn::Network::new(shape, self.activation.into()))
    }

    /// What a device needs for its data and the training, in bytes.
    fn training_bytes(&self) -> Result<u64, Refusal> {
        let plan = self
            .neural_network()?
            .training_plan(self.batch_size as usize, self.examples_per_client as usize)
            .map_err(|error| {
                Refusal(format!(
                    "{error}; change --batch-size, --examples or --hidden"
                ))
            })?;
        let example_bytes = u64::from(self.layers[0]) + 1;
        Ok(plan.total_bytes() + example_bytes * u64::from(self.examples_per_client))
    }

    /// Refuses what certainly does not fit a board, before it is booted to find out.
    fn fits(&self, board: &Board) -> Result<(), Refusal> {
        let needed = self.training_bytes()?;
        let memory_mib = board.machine.memory_mib;
        let available = (u64::from(memory_mib) << 20).saturating_sub(FIRMWARE_BYTES);
        require(needed <= available, || {
            format!(
                "data and training take {:.1} MiB on a device, board {} has {memory_mib}: lower \
                 --examples, --batch-size or --hidden, or take --body native",
                needed as f64 / f64::from(1 << 20),
                board.name
            )
        })
    }
}

fn name_of<S: Serializer>(board: &Option<Arc<Board>>, to: S) -> Result<S::Ok, S::Error> {
    board.as_ref().map(|board| &board.name).serialize(to)
}

impl From<Activation> for fl_nn::Activation {
    fn from(activation: Activation) -> Self {
        match activation {
            Activation::Relu => Self::Relu,
            Activation::Sigmoid => Self::Sigmoid,
        }
    }
}

impl From<Arithmetic> for fl_proto::Arithmetic {
    fn from(arithmetic: Arithmetic) -> Self {
        match arithmetic {
            Arithmetic::Fixed => Self::Fixed,
            Arithmetic::Float => Self::Float,
        }
    }
}

impl From<Weighting> for zfl_aggregator::Weighting {
    fn from(weighting: Weighting) -> Self {
        match weighting {
            Weighting::NumExamples => Self::NumExamples,
            Weighting::Uniform => Self::Uniform,
        }
    }
}

impl From<Network> for NetworkMode {
    fn from(network: Network) -> Self {
        match network {
            Network::Auto => Self::Auto,
            Network::Bridge => Self::Bridge,
            Network::User => Self::User,
        }
    }
}

impl Body {
    /// As on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bare => "bare",
            Self::Zephyr => "zephyr",
            Self::Native => "native",
        }
    }

    fn of(guest: Guest) -> Self {
        match guest {
            Guest::Bare => Self::Bare,
            Guest::Zephyr => Self::Zephyr,
        }
    }

    fn guest(self) -> Option<Guest> {
        match self {
            Self::Bare => Some(Guest::Bare),
            Self::Zephyr => Some(Guest::Zephyr),
            Self::Native => None,
        }
    }
}

/// The body asked for, or what a board boots, or the best that is built.
fn body_of(args: &RunArgs, root: &Path) -> Result<Body, Refusal> {
    let load = |name: &str| Board::load(root, name).map_err(|error| Refusal(error.to_string()));
    Ok(match (args.body, &args.board) {
        (BodyChoice::Bare, _) => Body::Bare,
        (BodyChoice::Zephyr, _) => Body::Zephyr,
        (BodyChoice::Native, _) => Body::Native,
        (BodyChoice::Auto, Some(name)) => Body::of(load(name)?.body),
        (BodyChoice::Auto, None) => {
            let built = |name: String| {
                let board = load(&name).ok();
                board.is_some_and(|b| b.body == Guest::Zephyr && b.kernel.image.is_file())
            };
            if zfl_orchestrator::board::known(root).into_iter().any(built) {
                Body::Zephyr
            } else {
                Body::Bare
            }
        }
    })
}

/// The board asked for, or the body's own; none for native devices.
fn board_of(body: Body, args: &RunArgs, root: &Path) -> Result<Option<Board>, Refusal> {
    let Some(guest) = body.guest() else {
        require(args.board.is_none(), || {
            "native devices run on no board: leave --board out, or take --body bare".to_owned()
        })?;
        require(args.network == Network::Auto, || {
            "native devices use this machine's loopback: leave --network out".to_owned()
        })?;
        return Ok(None);
    };
    let load = |name: &str| Board::load(root, name).map_err(|error| Refusal(error.to_string()));
    if let Some(name) = &args.board {
        let board = load(name)?;
        require(board.body == guest, || {
            format!(
                "board {name} does not boot --body {}: leave one of the two out",
                body.name()
            )
        })?;
        return Ok(Some(board));
    }
    // The default of bare is by name: the others are slower to boot.
    let mut names = zfl_orchestrator::board::known(root);
    names.sort_by_key(|name| name != DEFAULT_BOARD);
    for name in names {
        let board = load(&name)?;
        if board.body == guest {
            return Ok(Some(board));
        }
    }
    Err(Refusal(format!(
        "there is no board for --body {} under {}: take --body bare or native",
        body.name(),
        root.join("boards").display()
    )))
}

/// How many examples each device gets.
fn examples(asked: Option<u32>, clients: u32, available: usize) -> Result<u32, Refusal> {
    let share = fl_data::equal_share(available, clients);
    let share = u32::try_from(share).unwrap_or(u32::MAX);
    require(share > 0, || {
        format!(
            "{available} training examples do not suffice for {clients} clients: lower --clients"
        )
    })?;
    let examples = asked.unwrap_or(share.min(DEFAULT_MAX_EXAMPLES));
    require(examples <= share, || {
        format!(
            "{clients} clients with {examples} examples each, but the data set has {available}: \
             lower --examples to {share} or less, or lower --clients"
        )
    })?;
    Ok(examples)
}

/// Units per layer, inputs and classes as the data have them.
fn layers(hidden: &[u32], data: &Splits) -> Result<Vec<u32>, Refusal> {
    let size = |size: usize| {
        u32::try_from(size).map_err(|_| Refusal("the examples are too wide: change --data".into()))
    };
    let mut layers = vec![size(data.train.num_inputs)?];
    layers.extend(hidden);
    layers.push(size(data.train.num_classes)?);
    Ok(layers)
}
