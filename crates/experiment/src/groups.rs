//! Groups of like devices, with every value resolved: they say of each client what it is.

use crate::choice::{self, Body, Time};
use crate::keys::spread::Spread;
use crate::refusal::{Refusal, require};
use crate::root::Root;
use crate::rule::{Attacking, Partitioning};
use crate::settings::{DeviceSettings, GroupSettings, Settings};
use crate::{boards, native};
use serde::{Serialize, Serializer};
use std::sync::Arc;
use std::time::Duration;
use zfl_machine::{Board, Speed};
use zfl_netsim::{Link, Loss, profile::Profile};

/// Most examples that a device gets unless more are asked for: the share of each of 50 devices in
/// MNIST, which fits every board.
const DEFAULT_MAX_EXAMPLES: u32 = 1200;

/// Million instructions a second of a device of whose board no clock rate is known.
const DEFAULT_MIPS: f64 = 125.0;

/// Like devices.
#[derive(Clone, Debug, Serialize)]
pub struct FleetGroup {
    /// Its name.
    pub name: String,
    /// Its number of devices.
    pub count: u32,
    /// The body of each.
    #[serde(serialize_with = "choice::write")]
    pub body: Body,
    /// Their machine, if they are emulated.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "name_of")]
    pub board: Option<Arc<Board>>,
    /// Their link profile.
    #[serde(rename = "link", skip_serializing_if = "Option::is_none")]
    pub link_name: Option<String>,
    /// Share of frames that their links lose, instead of the profile's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loss: Option<f64>,
    /// Delay of their links, instead of the profile's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delay_ms: Option<f64>,
    /// Million instructions a second, if instructions are counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mips: Option<f64>,
    /// Slows them to that in the host's time, too.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub throttle: bool,
    /// Energy that each has for the run, in joules.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub energy_j: Option<f32>,
    /// Their memory, if it is not the board's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_mib: Option<u32>,
    /// Training examples of each, unless the partitioner decides that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub examples: Option<u32>,
    /// Passes over their data, if not the experiment's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub local_epochs: Option<Spread<u32>>,
    /// Examples per step, if not the experiment's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batch_size: Option<Spread<u32>>,
    /// Their step size, if not the experiment's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub learning_rate: Option<Spread<f32>>,
    /// Their attack on the run, if they make one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attack: Option<Attacking>,
    /// Training examples of the one that has most.
    #[serde(skip)]
    pub max_examples: u32,
    /// The text of their link profile.
    #[serde(skip)]
    pub link_text: Option<String>,
    /// All that is between one of them and the aggregator.
    #[serde(skip)]
    pub link: Link,
    /// Speed of their machines, if instructions are counted.
    #[serde(skip)]
    pub speed: Option<Speed>,
    /// The board whose clock rate and energy they are calculated with: for native ones with estimated time that of bare ones.
    #[serde(skip)]
    pub figures: Option<Arc<Board>>,
}

fn name_of<S: Serializer>(board: &Option<Arc<Board>>, to: S) -> Result<S::Ok, S::Error> {
    board.as_ref().map(|board| board.asked()).serialize(to)
}

impl FleetGroup {
    /// Memory of each device's machine, in MiB; none for native ones.
    pub fn memory_mib(&self) -> Option<u32> {
        let board = self.board.as_ref()?;
        Some(self.memory_mib.unwrap_or(board.machine.memory_mib))
    }

    /// The link that their frames really pass: native devices have none.
    pub fn wire(&self) -> Link {
        match self.board {
            Some(_) => self.link,
            None => Link::default(),
        }
    }

    /// Million instructions a second that they are calculated with.
    pub fn calculated_mips(&self) -> f64 {
        let clock = self.figures.as_ref().and_then(|board| board.clock);
        let mips = self.mips.or(clock.map(|clock| clock.mips));
        mips.unwrap_or(DEFAULT_MIPS)
    }

    /// For people: `microvm`, or `native devices`.
    pub fn kind(&self) -> String {
        let board = self.board.as_ref();
        board.map_or_else(|| "native".to_owned(), |board| board.name.clone())
    }
}

/// The groups of a fleet.
///
/// # Errors
/// A [`Refusal`] of what cannot be meant, or does not fit the data.
pub fn resolve(
    settings: &Settings,
    root: &Root,
    available: usize,
    partitioning: &Partitioning,
) -> Result<Vec<FleetGroup>, Refusal> {
    let asked = asked(settings, root)?;
    if partitioning.rule.decides_sizes() {
        sized_by_nobody_else(&asked, partitioning)?;
    }
    let share = share(settings, &asked, available, partitioning)?;
    let groups = asked.into_iter().enumerate();
    let groups: Vec<FleetGroup> = groups
        .map(|(at, group)| resolve_one(settings, root, at, group, share))
        .collect::<Result<_, _>>()?;
    if groups.iter().all(|group| group.board.is_none()) {
        native::fleet(settings)?;
    } else {
        native::only(settings)?;
    }
    Ok(groups)
}

/// The groups as asked for: one of all devices, where there is no `[[fleet]]`.
fn asked(settings: &Settings, root: &Root) -> Result<Vec<GroupSettings>, Refusal> {
    if settings.fleet.is_empty() {
        return Ok(vec![GroupSettings {
            name: Some("all".to_owned()),
            count: Some(settings.clients()),
            device: settings.device.clone(),
            ..GroupSettings::default()
        }]);
    }
    let counts = settings.fleet.iter().map(|group| group.count.unwrap_or(0));
    let sum = counts.fold(0_u32, u32::saturating_add);
    require(
        settings.clients.is_none_or(|clients| clients == sum),
        || {
            format!(
                "clients = {}, but the groups of [[fleet]] are {sum} devices: leave `clients` out",
                settings.clients.unwrap_or(0)
            )
        },
    )?;
    let guests = boards::guests(root);
    let with_defaults = |group: &GroupSettings| GroupSettings {
        device: group.device.clone().over(
            settings.device.clone(),
            settings.time() == Time::Estimate,
            &guests,
        ),
        ..group.clone()
    };
    Ok(settings.fleet.iter().map(with_defaults).collect())
}

/// Refuses sizes of groups where the partitioner decides them.
fn sized_by_nobody_else(
    groups: &[GroupSettings],
    partitioning: &Partitioning,
) -> Result<(), Refusal> {
    let sized = groups.iter().find_map(|group| group.examples);
    let rule = partitioning.rule.name();
    require(sized.is_none(), || {
        format!(
            "a group has examples = {}, but the partition `{rule}` decides how many each device has: leave \
             it out (--examples gives the mean), or take --partition iid",
            sized.unwrap_or(0)
        )
    })
}

/// Examples of each device whose group does not say how many.
fn share(
    settings: &Settings,
    groups: &[GroupSettings],
    available: usize,
    partitioning: &Partitioning,
) -> Result<u32, Refusal> {
    if partitioning.rule.shares() {
        let devices: usize = groups
            .iter()
            .map(|group| group.count.unwrap_or(0) as usize)
            .sum();
        let share = (available / devices.max(1)).clamp(1, DEFAULT_MAX_EXAMPLES as usize);
        return Ok(settings.examples_per_client.unwrap_or(share as u32));
    }
    let all = |with: bool| {
        let those = groups
            .iter()
            .filter(move |group| group.examples.is_some() == with);
        let each = those.map(|group| {
            // Both are 32 bits, so their product has room; the sum of many may not.
            u64::from(group.count.unwrap_or(0)) * u64::from(group.examples.unwrap_or(1))
        });
        each.fold(0, u64::saturating_add)
    };
    let (taken, open) = (all(true), all(false));
    require(taken <= available as u64, || {
        format!("the groups ask for {taken} training examples in all, the data set has {available}")
    })?;
    let left = available as u64 - taken;
    let Some(share) = left.checked_div(open) else {
        // Every group says how many.
        return Ok(0);
    };
    require(share > 0, || {
        format!("{left} training examples do not suffice for {open} clients: lower --clients")
    })?;
    let share = u32::try_from(share).unwrap_or(u32::MAX);
    let examples = settings.examples_per_client;
    let examples = examples.unwrap_or(share.min(DEFAULT_MAX_EXAMPLES));
    require(examples <= share, || {
        format!(
            "{open} clients with {examples} examples each, but the data set has {left}: lower \
             --examples to {share} or less, or lower --clients"
        )
    })?;
    Ok(examples)
}

/// Examples of each of the devices of a server, which has no groups.
///
/// # Errors
/// A [`Refusal`] if the data do not suffice.
pub fn equal_examples(
    settings: &Settings,
    clients: u32,
    available: usize,
    partitioning: &Partitioning,
) -> Result<u32, Refusal> {
    let all = GroupSettings {
        count: Some(clients),
        ..GroupSettings::default()
    };
    share(settings, &[all], available, partitioning)
}

fn resolve_one(
    settings: &Settings,
    root: &Root,
    at: usize,
    asked: GroupSettings,
    share: u32,
) -> Result<FleetGroup, Refusal> {
    let device = &asked.device;
    let body = boards::body_of(device, root)?;
    let board = match body.guest() {
        Some(guest) => Some(Arc::new(boards::board_of(guest, device, root)?)),
        None => {
            native::device(device, settings.time())?;
            None
        }
    };
    let speed = speed_of(settings, device, board.as_deref())?;
    let figures = match (&board, settings.time()) {
        (Some(board), _) => Some(Arc::clone(board)),
        (None, Time::Estimate) => boards::of_natives(root)?.map(Arc::new),
        (None, _) => None,
    };
    let mips = match settings.time() {
        Time::Estimate => Some(estimated_mips(device, figures.as_deref())?),
        _ => speed.map(|speed| speed.mips()),
    };
    let profile = device.link.as_ref();
    let profile = profile.map(|name| Profile::load(root.tree(), name));
    let profile = profile.transpose();
    let profile = profile.map_err(|error| Refusal(error.to_string()))?;
    let examples = asked.examples.unwrap_or(share);
    let attack = asked
        .attack
        .as_ref()
        .map(|attack| Attacking::resolve(Some(attack)));
    Ok(FleetGroup {
        name: asked.name.unwrap_or_else(|| format!("group-{}", at + 1)),
        count: asked.count.unwrap_or(1),
        body,
        link_name: device.link.clone(),
        loss: device.loss,
        delay_ms: device.delay_ms,
        mips,
        throttle: device.throttle(),
        memory_mib: device.memory_mib,
        examples: Some(examples),
        max_examples: examples,
        local_epochs: asked.training.local_epochs,
        batch_size: asked.training.batch_size,
        learning_rate: asked.training.learning_rate,
        attack: attack.transpose()?,
        link_text: profile.as_ref().map(|profile| profile.text.clone()),
        link: link_of(device, profile)?,
        energy_j: device.energy_j,
        speed,
        board,
        figures,
    })
}

/// The link of a device: its profile, with what is said of loss and delay in place of the profile's.
fn link_of(device: &DeviceSettings, profile: Option<Profile>) -> Result<Link, Refusal> {
    let mut link = profile.map_or_else(Link::default, |profile| profile.link);
    for way in [&mut link.uplink, &mut link.downlink] {
        if let Some(probability) = device.loss {
            way.loss = Loss {
                probability,
                ..Loss::default()
            };
        }
        if let Some(ms) = device.delay_ms {
            way.delay = Duration::from_secs_f64(ms / 1000.0);
            way.jitter = way.jitter.min(way.delay);
        }
    }
    link.check().map(|()| link).map_err(Refusal)
}

/// Million instructions a second of a device whose time is estimated.
fn estimated_mips(device: &DeviceSettings, figures: Option<&Board>) -> Result<f64, Refusal> {
    let clock = figures.and_then(|board| board.clock);
    let mips = device.mips.or(clock.map(|clock| clock.mips));
    let speed = Speed::of_mips(mips.unwrap_or(DEFAULT_MIPS), false);
    let speed = speed.map_err(|error| Refusal(error.to_string()))?;
    require(!device.throttle(), || {
        "throttle slows a machine that counts its instructions, and time `estimate` counts none: leave one of \
         them out"
            .to_owned()
    })?;
    Ok(speed.mips())
}

fn speed_of(
    settings: &Settings,
    device: &DeviceSettings,
    board: Option<&Board>,
) -> Result<Option<Speed>, Refusal> {
    let throttle = device.throttle();
    let counted = settings.time() == Time::Icount;
    let Some(board) = board.filter(|_| settings.time() != Time::Estimate) else {
        return Ok(None);
    };
    require(
        settings.time != Some(Time::Host) || device.mips.is_none() && !throttle,
        || {
            "mips and throttle count instructions, which time `host` does not: leave one of them out".to_owned()
        },
    )?;
    let mips = match (device.mips, &board.clock) {
        (None, _) if !counted && !throttle => return Ok(None),
        _ if board.is_program() => {
            return Err(Refusal(format!(
                "board {} is a program of the host, whose time is the host's: take --time host, and leave mips and \
                 throttle out",
                board.name
            )));
        }
        (Some(mips), _) => mips,
        (None, Some(clock)) => clock.mips,
        (None, None) => {
            return Err(Refusal(format!(
                "board {} names no clock rate: give --mips, or a [clock] in its board.toml",
                board.name
            )));
        }
    };
    let speed = Speed::of_mips(mips, throttle);
    speed.map(Some).map_err(|error| Refusal(error.to_string()))
}
