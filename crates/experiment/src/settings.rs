//! Settings: what flags and an experiment file say. Nothing here has a default yet.
//!
//! An experiment file is TOML; `experiments/README.md` documents its keys. The `config.toml` of a run
//! is one too, with every value resolved. Where both a flag and the file say something, the flag
//! goes first.

use crate::choice::{self, BodyChoice, Network, Time};
use crate::refusal::{Refusal, require};
use crate::rule::RuleSettings;
use crate::values::{PATIENCE, is_patience};
use fl_nn::Activation;
use fl_proto::Arithmetic;
use serde::Deserialize;
use std::path::{Path, PathBuf};
use zfl_aggregator::Weighting;
use zfl_machine::Guest;
use zfl_orchestrator::faults::FaultConfig;

/// Looks up the guest that a board boots, if the board is known.
pub type GuestOf<'a> = &'a dyn Fn(&str) -> Option<Guest>;

/// Everything that can be asked for.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// The run's name.
    pub name: Option<String>,
    /// Devices, unless `fleet` says it.
    pub clients: Option<u32>,
    /// Rounds.
    pub rounds: Option<u32>,
    /// Devices whose updates a round is meant to have.
    pub clients_per_round: Option<u32>,
    /// Devices asked beyond that.
    pub over_commit: Option<u32>,
    /// Counts late updates in the next round.
    pub use_late: Option<bool>,
    /// Updates without which a round fails.
    pub quorum: Option<u32>,
    /// Longest wait for devices to be ready, in seconds.
    pub ready_deadline_s: Option<f64>,
    /// Longest wait for updates, in seconds.
    pub round_deadline_s: Option<f64>,
    /// Longest time without progress, in seconds.
    pub watchdog_s: Option<f64>,
    /// Weights of the updates.
    #[serde(deserialize_with = "choice::read")]
    pub weighting: Option<Weighting>,
    /// Passes over a device's data.
    pub local_epochs: Option<u32>,
    /// Examples per step of SGD.
    pub batch_size: Option<u32>,
    /// Step size of SGD.
    pub learning_rate: Option<f32>,
    /// Arithmetic of the first layer.
    #[serde(deserialize_with = "choice::read")]
    pub arithmetic: Option<Arithmetic>,
    /// Units of the hidden layers.
    pub hidden: Option<Vec<u32>>,
    /// Activation of the hidden layers.
    #[serde(deserialize_with = "choice::read")]
    pub activation: Option<Activation>,
    /// Seed of every random stream.
    pub seed: Option<u64>,
    /// Examples of each device, unless its group says it.
    pub examples_per_client: Option<u32>,
    /// Folder of the data set.
    pub data: Option<PathBuf>,
    /// Rule by which the training examples are dealt out.
    pub partition: RuleSettings,
    /// Network of emulated devices.
    #[serde(deserialize_with = "choice::read")]
    pub network: Option<Network>,
    /// Time on emulated devices.
    #[serde(deserialize_with = "choice::read")]
    pub time: Option<Time>,
    /// Of every group that does not say it.
    #[serde(flatten)]
    pub device: DeviceSettings,
    /// Groups of like devices; clients are numbered through them in order.
    pub fleet: Vec<GroupSettings>,
    /// Trouble on purpose.
    pub faults: FaultConfig,
    /// Trouble that flags ask for.
    #[serde(skip)]
    pub fault_flags: FaultFlags,

    /// Folder for the results.
    pub out: Option<PathBuf>,
    /// Units of all layers, as `config.toml` tells them: they follow from `hidden` and the data.
    pub layers: Option<Vec<u32>>,
    /// The version that wrote it.
    pub zfl_version: Option<String>,
}

/// A device's make.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DeviceSettings {
    /// Its body.
    #[serde(deserialize_with = "choice::read")]
    pub body: Option<BodyChoice>,
    /// Its machine.
    pub board: Option<String>,
    /// The link profile between it and the aggregator.
    pub link: Option<String>,
    /// Share of frames that each direction of its link loses.
    pub loss: Option<f64>,
    /// One-way delay of its link, in milliseconds.
    pub delay_ms: Option<f64>,
    /// Million instructions a second.
    pub mips: Option<f64>,
    /// Slows it to that in the host's time too.
    pub throttle: Option<bool>,
    /// Its memory.
    pub memory_mib: Option<u32>,
}

/// Like devices.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GroupSettings {
    /// Its name.
    pub name: Option<String>,
    /// Its number of devices.
    pub count: Option<u32>,
    /// Training examples of each.
    pub examples: Option<u32>,
    /// Passes over their data, instead of the experiment's.
    pub local_epochs: Option<u32>,
    /// Examples per step, instead of the experiment's.
    pub batch_size: Option<u32>,
    /// Their make.
    #[serde(flatten)]
    pub device: DeviceSettings,
}

/// Trouble that flags ask for, or take away.
#[derive(Clone, Copy, Debug, Default)]
pub struct FaultFlags {
    /// Probability of a drop-out.
    pub drop_out: Option<f64>,
    /// Probability of a crash.
    pub crash: Option<f64>,
    /// Boots crashed devices again.
    pub reboot: bool,
}

/// `flags` where it says something, else `file`.
macro_rules! merged {
    ($flags:ident over $file:ident: $($field:ident),* $(,)?) => {
        $($file.$field = $flags.$field.or($file.$field);)*
    };
}

impl Settings {
    /// Reads an experiment file. Relative paths in it are meant from its folder.
    ///
    /// # Errors
    /// A [`Refusal`] with the place of the first mistake.
    pub fn read(path: &Path) -> Result<Self, Refusal> {
        let refused = |error: String| Refusal(format!("{}: {error}", path.display()));
        let text = std::fs::read_to_string(path).map_err(|error| refused(error.to_string()))?;
        let mut settings = Self::parse(&text).map_err(refused)?;
        settings.resolve_paths(path.parent().unwrap_or(Path::new("")));
        Ok(settings)
    }

    /// Takes the paths in it from this folder, and makes them ones that can be read from any other.
    fn resolve_paths(&mut self, folder: &Path) {
        let own = [&mut self.data, &mut self.faults.trace, &mut self.out];
        for path in own.into_iter().flatten() {
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

    fn parse(text: &str) -> Result<Self, String> {
        let settings: Self = toml::from_str(text).map_err(|error| error.to_string())?;
        settings.check().map_err(|Refusal(problem)| problem)?;
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

    /// Lays these, which are flags, over what a file says. `guest_of` tells what a board boots, if it is
    /// known.
    ///
    /// # Errors
    /// A [`Refusal`] if they contradict each other.
    pub fn over(self, mut file: Self, guest_of: GuestOf<'_>) -> Result<Self, Refusal> {
        let flags = self;
        require(file.fleet.is_empty() || flags.clients.is_none(), || {
            "the experiment file has a [[fleet]], which says how many devices there are: leave \
             --clients out"
                .to_owned()
        })?;
        if flags.hidden.is_some() || flags.data.is_some() {
            file.layers = None;
        }
        for group in &mut file.fleet {
            flags.override_group(group);
        }
        merged!(flags over file: name, clients, rounds, clients_per_round, over_commit, use_late,
            quorum, ready_deadline_s, round_deadline_s, watchdog_s, weighting, local_epochs,
            batch_size, learning_rate, arithmetic, hidden, activation, seed, examples_per_client,
            data, network, time);
        file.partition = flags.partition.over(file.partition);
        if flags.device.body == Some(BodyChoice::Native) && flags.network.is_none() {
            file.network = None;
        }
        // Native devices run at the host's speed: the file's count of instructions is of its machines.
        if flags.device.body == Some(BodyChoice::Native) && flags.time.is_none() {
            file.time = None;
        }
        if flags.time == Some(Time::Host) {
            file.device.count_nothing();
        }
        for group in &mut file.fleet {
            group.device = flags.device.clone().over(group.device.clone(), guest_of);
        }
        file.device = flags.device.over(file.device, guest_of);
        flags.fault_flags.over(&mut file.faults)?;
        Ok(file)
    }

    /// Clears the keys of a group that these, which are flags of all groups, override.
    fn override_group(&self, group: &mut GroupSettings) {
        if self.examples_per_client.is_some() {
            group.examples = None;
        }
        if self.local_epochs.is_some() {
            group.local_epochs = None;
        }
        if self.batch_size.is_some() {
            group.batch_size = None;
        }
        if self.time == Some(Time::Host) {
            group.device.count_nothing();
        }
    }

    /// Refuses values that flags could not have.
    fn check(&self) -> Result<(), Refusal> {
        let counts = [
            ("clients", self.clients),
            ("rounds", self.rounds),
            ("clients_per_round", self.clients_per_round),
            ("quorum", self.quorum),
            ("local_epochs", self.local_epochs),
            ("batch_size", self.batch_size),
            ("examples_per_client", self.examples_per_client),
        ];
        positive("", &counts)?;
        for (key, value) in [
            ("ready_deadline_s", self.ready_deadline_s),
            ("round_deadline_s", self.round_deadline_s),
        ] {
            require(value.is_none_or(|s| s > 0.0 && s <= 86_400.0), || {
                format!("{key}: give a number of seconds above 0 and up to 86400")
            })?;
        }
        require(self.watchdog_s.is_none_or(is_patience), || {
            format!("watchdog_s: give a number of seconds {PATIENCE}")
        })?;
        let rate = self.learning_rate;
        require(
            rate.is_none_or(|rate| rate.is_finite() && rate > 0.0),
            || "learning_rate: give a number above 0, such as 0.5".to_owned(),
        )?;
        let hidden = self.hidden.iter().flatten();
        require(hidden.into_iter().all(|&units| units > 0), || {
            "hidden: give at least 1 unit a layer".to_owned()
        })?;
        if let Some(name) = &self.name {
            crate::values::name(name).map_err(|advice| Refusal(format!("name: {advice}")))?;
        }
        let crash = &self.faults.crash;
        require(!crash.reboot || crash.probability > 0.0, || {
            "faults.crash: reboot is for devices that crash: give it a probability above 0"
                .to_owned()
        })?;
        self.device.check("")?;
        self.fleet.iter().enumerate().try_for_each(|(at, group)| {
            let place = format!("fleet {}: ", at + 1);
            let counts = [
                ("count", Some(group.count.unwrap_or(0))),
                ("examples", group.examples),
                ("local_epochs", group.local_epochs),
                ("batch_size", group.batch_size),
            ];
            positive(&place, &counts)?;
            group.device.check(&place)
        })
    }
}

impl FaultFlags {
    /// Puts these before what a file says.
    ///
    /// # Errors
    /// A [`Refusal`] if what they say would change nothing.
    fn over(self, faults: &mut FaultConfig) -> Result<(), Refusal> {
        faults.drop_out = self.drop_out.unwrap_or(faults.drop_out);
        let crash = &mut faults.crash;
        crash.probability = self.crash.unwrap_or(crash.probability);
        // Nothing that crashes can boot again for it.
        crash.reboot = self.reboot || crash.reboot && crash.probability > 0.0;
        require(!self.reboot || crash.probability > 0.0, || {
            "--reboot is for devices that crash, and none does: give --crash a probability, too, or \
             leave --reboot out (a scheduled crash has `reboot` of its own)"
                .to_owned()
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

    /// These, and what they leave open as `other` has it.
    pub fn over(self, mut other: Self, guest_of: GuestOf<'_>) -> Self {
        let flags = self;
        // The same experiment without emulation: what only a machine can have is left out.
        if flags.body == Some(BodyChoice::Native) {
            other = Self::default();
        }
        // A board belongs to a body: whoever asks for another body does not mean the old board, and
        // whoever asks for a board means the body that it boots.
        if flags.excludes_board(&other, guest_of) {
            other.board = None;
        }
        if flags.excludes_body(&other, guest_of) {
            other.body = None;
        }
        merged!(flags over other: body, board, link, loss, delay_ms, mips, throttle, memory_mib);
        other
    }

    /// Leaves out what makes a machine count its instructions.
    fn count_nothing(&mut self) {
        (self.mips, self.throttle) = (None, None);
    }

    /// Tells whether the board of `other` does not boot the body that is asked for here.
    pub(crate) fn excludes_board(&self, other: &Self, guest_of: GuestOf<'_>) -> bool {
        self.board.is_none() && !belong(self.body, other.board.as_deref(), guest_of)
    }

    /// Tells whether the board that is asked for here does not boot the body of `other`.
    pub(crate) fn excludes_body(&self, other: &Self, guest_of: GuestOf<'_>) -> bool {
        self.body.is_none() && !belong(other.body, self.board.as_deref(), guest_of)
    }

    fn check(&self, place: &str) -> Result<(), Refusal> {
        positive(place, &[("memory_mib", self.memory_mib)])?;
        require(self.loss.is_none_or(|p| (0.0..=1.0).contains(&p)), || {
            format!("{place}loss: give a probability from 0 to 1")
        })?;
        let delay = self.delay_ms;
        require(
            delay.is_none_or(|ms| (0.0..=60_000.0).contains(&ms)),
            || format!("{place}delay_ms: give a number from 0 to 60000"),
        )
    }
}

/// A path meant from this folder, as it is from any.
fn standing(folder: &Path, path: &Path) -> PathBuf {
    let path = folder.join(path);
    std::path::absolute(&path).unwrap_or(path)
}

/// Tells whether a device can have both; what is not said or not known is in nobody's way.
fn belong(body: Option<BodyChoice>, board: Option<&str>, guest_of: GuestOf<'_>) -> bool {
    match (body.and_then(BodyChoice::guest), board) {
        (Some(guest), Some(board)) => guest_of(board).is_none_or(|boots| boots == guest),
        _ => true,
    }
}

fn positive(place: &str, counts: &[(&str, Option<u32>)]) -> Result<(), Refusal> {
    counts.iter().try_for_each(|(key, count)| {
        require(*count != Some(0), || {
            format!("{place}{key}: give at least 1")
        })
    })
}

#[cfg(test)]
mod tests;
