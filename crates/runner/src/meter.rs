//! Costs of devices as their host sees them: those that a device itself cannot know.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use zfl_aggregator::Calculated;
use zfl_experiment::estimate::{instructions, wire};
use zfl_experiment::{Experiment, FleetGroup, Time, Twin};
use zfl_netsim::radio::NodeStats;
use zfl_netsim::{ClientStats, ROUND_TRIPS_PER_EXCHANGE};
use zfl_orchestrator::Fleet;
use zfl_run_dir::{ClientRecord, HostCost};
use zfl_twin::Counts;

/// Reads off what devices cost, from one update to the next.
pub(crate) struct Meter {
    /// The groups in the order of their clients, and the first client behind each.
    groups: Vec<(u32, FleetGroup)>,
    /// Bytes of a `/start`. The bytes that a device really sent and received depend on how often it was
    /// asked for its progress, and so on the host.
    start_bytes: u64,
    /// Bytes of an update.
    update_bytes: u64,
    num_params: u64,
    /// Examples in a step of each client.
    batch_sizes: Vec<u32>,
    /// Time is an estimate, also where instructions are counted.
    estimates: bool,
    /// Cores and the part, where cycles are counted.
    twin: Option<Twin>,
    clients: Mutex<BTreeMap<u32, Seen>>,
}

/// Readings of a client, from boot to boot and from update to update.
#[derive(Default)]
struct Seen {
    boot_ms: Option<u64>,
    /// A native device has none.
    last: Option<Box<Readings>>,
}

/// Readings at a client's last update.
#[derive(Clone, Default)]
struct Readings {
    cpu_s: f64,
    link: ClientStats,
    radio: NodeStats,
    radio_s: f64,
    counts: Counts,
}

impl Meter {
    /// For the devices of an experiment.
    pub fn new(experiment: &Experiment) -> Self {
        let mut end = 0;
        let groups = experiment.groups.iter().map(|group| {
            end += group.count;
            (end, group.clone())
        });
        let aggregator = experiment.aggregator();
        Self {
            groups: groups.collect(),
            start_bytes: wire::start_bytes(experiment),
            update_bytes: wire::update_bytes(experiment),
            num_params: experiment.num_params(),
            batch_sizes: (0..experiment.clients)
                .map(|client| aggregator.local(1, client).batch_size)
                .collect(),
            estimates: experiment.time == Some(Time::Estimate),
            twin: experiment.twin.clone(),
            clients: Mutex::default(),
        }
    }

    /// A device runs, after so long a boot. Its machine's processor time begins anew.
    pub fn booted(&self, client: u32, boot_ms: u64) {
        self.with(client, |seen| {
            seen.boot_ms = Some(boot_ms);
            if let Some(last) = &mut seen.last {
                (last.cpu_s, last.counts) = (0.0, Counts::default());
            }
        });
    }

    /// Costs of a client since its last update, now that another has come.
    pub fn seen(&self, fleet: &Fleet, update: &ClientRecord, steps: u32) -> Option<HostCost> {
        let client = update.client;
        let group = self.group(client)?;
        let usage = fleet.usage(client);
        let link = fleet.link_stats(client);
        let radio = fleet.radio_stats(client);
        let mut cost = self.with(client, |seen| {
            let mut cost = HostCost {
                boot_ms: seen.boot_ms,
                ..HostCost::default()
            };
            if let Some(usage) = usage {
                let last = seen.last();
                cost.private_bytes = Some(usage.private_bytes);
                cost.cpu_s = Some((usage.cpu_s - last.cpu_s).max(0.0));
                last.cpu_s = usage.cpu_s;
            }
            if let Some((radio, now_s)) = radio {
                let last = seen.last();
                count_radio(&mut cost, &last.radio, &radio);
                cost.radio_s = Some((now_s - last.radio_s).max(0.0));
                (last.radio, last.radio_s) = (radio, now_s);
            }
            if let Some(link) = link {
                let last = seen.last();
                count(&mut cost, &last.link, &link);
                last.link = link;
            }
            cost
        });
        if let Some(counts) = fleet.counts(client) {
            let since = self.with(client, |seen| {
                let last = seen.last();
                let since = counts.since(&last.counts);
                last.counts = counts;
                since
            });
            self.count_cycles(&mut cost, group, &since);
        }
        let counted = update.cost.as_ref().and_then(|cost| cost.instructions);
        let instructions = match self.estimates {
            true => Some(self.estimated(update, steps)),
            false => counted,
        };
        let has_speed = self.estimates || group.speed.is_some();
        cost.virtual_s = instructions
            .filter(|_| has_speed)
            .map(|instructions| computing_s(group, instructions));
        if self.estimates || group.board.is_some() {
            cost.link_s = Some(self.link_s(group));
            cost.energy_j = instructions.and_then(|count| self.energy_j(group, count));
        }
        Some(cost)
    }

    /// Time and energy of a client's round: as counted, or else as estimated.
    pub fn calculated(&self, update: &ClientRecord, steps: u32) -> Option<Calculated> {
        let group = self.group(update.client)?;
        let counted = update.cost.as_ref().and_then(|cost| cost.instructions);
        let counted = counted.filter(|_| group.speed.is_some());
        let instructions = counted.unwrap_or_else(|| self.estimated(update, steps));
        let took_s = computing_s(group, instructions) + self.link_s(group);
        Some(Calculated {
            took: Duration::try_from_secs_f64(took_s).unwrap_or(Duration::MAX),
            energy_j: self.energy_j(group, instructions),
        })
    }

    /// Cycles of what was counted; time and energy on the part, if it has this core.
    fn count_cycles(&self, cost: &mut HostCost, group: &FleetGroup, counts: &Counts) {
        let (Some(twin), Some(board)) = (&self.twin, &group.board) else {
            return;
        };
        // A guest that marks nothing counts nothing.
        let core = twin.cores.get(&board.machine.cpu);
        let Some(core) = core.filter(|_| counts.of("regions") > 0) else {
            return;
        };
        let cycles = core.cycles(counts);
        cost.cycles = Some(cycles);
        let profile = twin.profile.as_ref();
        if let Some(profile) = profile.filter(|profile| profile.core == core.name) {
            let (computing_s, link_s) = (profile.seconds(cycles), self.link_s(group));
            cost.twin_s = Some(computing_s + link_s);
            cost.twin_j = Some(profile.joules(computing_s, link_s));
        }
    }

    fn estimated(&self, update: &ClientRecord, steps: u32) -> u64 {
        let batch_size = self.batch_sizes.get(update.client as usize);
        let batch_size = batch_size.copied().unwrap_or(u32::MAX);
        instructions::of_training(self.num_params, steps, update.num_examples, batch_size)
    }

    /// Energy of a round by the model of its board, if that has one.
    fn energy_j(&self, group: &FleetGroup, instructions: u64) -> Option<f64> {
        let model = group.figures.as_ref()?.energy.as_ref()?;
        let (sent, received) = (self.update_bytes, self.start_bytes);
        Some(model.estimate(instructions, sent, received, self.link_s(group)))
    }

    /// Time on the link of what a round sends there and back.
    fn link_s(&self, group: &FleetGroup) -> f64 {
        let round_trips = 2 * ROUND_TRIPS_PER_EXCHANGE;
        let (up, down) = group
            .link
            .transfer_time(self.update_bytes, self.start_bytes, round_trips);
        // A link over which nothing ever arrives takes for ever, which TOML and JSON cannot say.
        (up.as_secs_f64() + down.as_secs_f64()).min(f64::MAX)
    }

    fn group(&self, client: u32) -> Option<&FleetGroup> {
        let (_, group) = self.groups.iter().find(|(end, _)| client < *end)?;
        Some(group)
    }

    fn with<T>(&self, client: u32, read: impl FnOnce(&mut Seen) -> T) -> T {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        read(clients.entry(client).or_default())
    }
}

impl Seen {
    fn last(&mut self) -> &mut Readings {
        self.last.get_or_insert_default()
    }
}

/// Time that so many instructions take, in seconds.
fn computing_s(group: &FleetGroup, instructions: u64) -> f64 {
    instructions as f64 / (group.calculated_mips() * 1e6)
}

/// The radio's counts since the last time.
fn count_radio(cost: &mut HostCost, before: &NodeStats, now: &NodeStats) {
    let since = |of: fn(&NodeStats) -> u64| of(now).saturating_sub(of(before));
    cost.radio_packets = Some(since(|radio| radio.packets));
    cost.radio_again = Some(since(|radio| radio.again));
    cost.radio_relayed = Some(since(|radio| radio.repeated));
    cost.radio_airtime_s = Some(since(|radio| radio.airtime_us) as f64 / 1e6);
    cost.radio_energy_j = Some((now.energy_j - before.energy_j).max(0.0));
    cost.radio_hops = Some(now.hops);
}

/// The link's counts since the last time.
fn count(cost: &mut HostCost, before: &ClientStats, now: &ClientStats) {
    let since = |of: fn(&ClientStats) -> u64| Some(of(now).saturating_sub(of(before)));
    cost.link_segments_up = since(|link| link.uplink.tcp_segments);
    cost.link_segments_down = since(|link| link.downlink.tcp_segments);
    cost.link_retransmissions =
        since(|link| link.uplink.tcp_retransmissions + link.downlink.tcp_retransmissions);
    cost.link_bytes = since(|link| link.uplink.bytes + link.downlink.bytes);
    cost.link_dropped = since(|link| link.uplink.tcp_dropped + link.downlink.tcp_dropped);
}
