//! Edges: the fleet dealt out to aggregators between its devices and the root.

use crate::boards;
use crate::experiment::Experiment;
use crate::refusal::{Refusal, require};
use crate::root::Root;
use crate::rule::Strategy;
use crate::settings::Settings;
use fl_algo::{Choice, MODEL, ServerRule, Sizes, Way};
use fl_proto::cluster::GatewayMemory;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt::{self, Display, Formatter};
use std::ops::Range;
use zfl_aggregator::Clusters;
use zfl_machine::board::Guest;
use zfl_machine::{Board, MemoryPart};

/// Edges by level, from those of the root down: `[3, 2]` is three edges with two below each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EdgeTree(Vec<u32>);

/// An edge in a tree of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EdgeNode {
    /// Its number in the whole run: first those of the root in order, then those below them.
    pub number: u32,
    /// Edges between it and the root, and itself.
    pub level: u32,
    /// The edge above it; none if that is the root.
    pub parent: Option<u32>,
    /// Its clients, those of edges below it among them.
    pub cluster: Range<u32>,
    /// Clusters of the edges below it.
    pub below: Clusters,
}

/// Memory of a machine that its firmware takes before anything else: image, stack and buffers of the card. Zephyr's heap
/// has a size of its own (`ZFL_HEAP_SIZE`), and so the rest of the machine is no gateway's.
const fn gateway_own_bytes(guest: Guest) -> u64 {
    match guest {
        Guest::Bare => 2 << 20,
        Guest::Zephyr => 5 << 20,
    }
}

/// Deepest tree: a run with more levels is a mistake.
const DEEPEST: usize = 8;

/// The gateways of an experiment, and the memory of the one with the most devices.
#[derive(Clone, Debug)]
pub struct GatewayPlan {
    /// Gateways.
    pub count: u32,
    /// Most devices of one of them.
    pub largest: u32,
    /// Their machine.
    pub board: Board,
    /// Memory for sums and devices.
    pub memory: GatewayMemory,
}

impl GatewayPlan {
    /// Memory of the machine.
    pub fn ram_bytes(&self) -> u64 {
        u64::from(self.board.machine.memory_mib) << 20
    }

    /// Memory that is taken, by the firmware and for sums and devices.
    pub fn taken_bytes(&self) -> u64 {
        self.memory.total() + gateway_own_bytes(self.board.body)
    }

    /// Places of the bytes.
    pub fn parts(&self) -> Vec<MemoryPart> {
        let GatewayMemory {
            sums_bytes,
            update_bytes,
            base_bytes,
            order_bytes,
            clients_bytes,
            connections_bytes,
        } = self.memory;
        let mut parts = vec![
            MemoryPart::new(
                "firmware's own, at most",
                gateway_own_bytes(self.board.body),
            ),
            MemoryPart::new("connections", connections_bytes),
            MemoryPart::new("exact sums", sums_bytes),
            MemoryPart::new("one update", update_bytes),
            MemoryPart::new("model of changes", base_bytes),
            MemoryPart::new("order of a round", order_bytes),
            MemoryPart::new("words of devices", clients_bytes),
        ];
        parts.retain(|part| part.bytes > 0);
        parts
    }
}

impl EdgeTree {
    /// Reads "3" or "3x2".
    ///
    /// # Errors
    /// Advice: the value to give instead.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let advice = || {
            "give a number of edges such as 3, or one for each level from the root: 3x2".to_owned()
        };
        let levels: Result<Vec<u32>, _> = text.split('x').map(|one| one.trim().parse()).collect();
        match levels.map_err(|_| advice())?.as_slice() {
            [0] => Ok(Self::default()),
            levels if levels.len() > DEEPEST || levels.contains(&0) => Err(advice()),
            levels => Ok(Self(levels.to_vec())),
        }
    }

    /// Edges of the root, and none below them.
    pub fn flat(edges: u32) -> Self {
        match edges {
            0 => Self::default(),
            edges => Self(vec![edges]),
        }
    }

    /// True if devices join the root.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Levels of edges.
    pub fn depth(&self) -> u32 {
        self.0.len() as u32
    }

    /// Edges of a level, from 1; beyond 32 bits there are too many for any fleet.
    fn of_level(&self, level: usize) -> u64 {
        let each = self.0.iter().take(level);
        each.fold(1, |all, one| u64::saturating_mul(all, (*one).into()))
    }

    /// Edges that devices join.
    fn lowest(&self) -> u64 {
        self.of_level(self.0.len())
    }

    /// Clusters of the edges of the root.
    pub(crate) fn clusters(&self, clients: u32) -> Clusters {
        let of_root = self.nodes(clients);
        let ranges = of_root.iter().filter(|node| node.parent.is_none());
        Clusters {
            first: 0,
            edges: of_root.len() as u32,
            levels: (1..=self.0.len())
                .map(|level| self.of_level(level) as u32)
                .collect(),
            ranges: ranges.map(|node| node.cluster.clone()).collect(),
        }
    }

    /// All edges in the order of their numbers; each cluster has as many clients as can be.
    pub fn nodes(&self, clients: u32) -> Vec<EdgeNode> {
        let mut nodes: Vec<EdgeNode> = Vec::new();
        let mut above = 0;
        for level in 1..=self.0.len() {
            let (first, count) = (nodes.len() as u32, self.of_level(level));
            let from = |edge: u64| (edge * u64::from(clients) / count) as u32;
            let each = self.0[level - 1];
            for edge in 0..count {
                let parent = (level > 1).then(|| above + edge as u32 / each);
                nodes.push(EdgeNode {
                    number: first + edge as u32,
                    level: level as u32,
                    parent,
                    cluster: from(edge)..from(edge + 1),
                    below: Clusters::default(),
                });
            }
            above = first;
        }
        let edges = nodes.len() as u32;
        for at in 0..nodes.len() {
            let (number, cluster) = (nodes[at].number, nodes[at].cluster.clone());
            nodes[at].below.edges = edges;
            let Some(parent) = nodes[at].parent else {
                continue;
            };
            let below = &mut nodes[parent as usize].below;
            if below.is_empty() {
                below.first = number;
            }
            below.ranges.push(cluster);
        }
        nodes
    }
}

impl Display for EdgeTree {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let levels: Vec<_> = self.0.iter().map(u32::to_string).collect();
        f.write_str(if levels.is_empty() { "0" } else { "" })?;
        f.write_str(&levels.join("x"))
    }
}

impl Serialize for EdgeTree {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self.0[..] {
            [] => to.serialize_u32(0),
            [edges] => to.serialize_u32(edges),
            _ => to.collect_str(self),
        }
    }
}

impl<'de> Deserialize<'de> for EdgeTree {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "a number of edges, or a text such as \"3x2\"")]
        enum Said {
            Edges(u32),
            Levels(String),
        }
        let text = match Said::deserialize(from)? {
            Said::Edges(edges) => edges.to_string(),
            Said::Levels(levels) => levels,
        };
        Self::parse(&text).map_err(D::Error::custom)
    }
}

/// Body of the edges.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "each has its line of help in `choice`")]
pub enum EdgeBody {
    #[default]
    Host,
    Bare,
    Zephyr,
}

impl EdgeBody {
    /// Guest of the gateways, if the edges are such.
    fn guest(self) -> Option<Guest> {
        match self {
            Self::Host => None,
            Self::Bare => Some(Guest::Bare),
            Self::Zephyr => Some(Guest::Zephyr),
        }
    }

    /// True for processes of the host.
    pub fn is_host(&self) -> bool {
        *self == Self::Host
    }
}

/// Sums that an edge sends up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each has its line of help in `choice`")]
pub enum EdgeSums {
    Exact,
    Rounded,
}

impl EdgeSums {
    /// True for sums that round nothing.
    pub fn is_exact(&self) -> bool {
        *self == Self::Exact
    }
}

/// Refuses what cannot be done where an edge adds the updates of its cluster up.
pub(crate) fn check(
    settings: &Settings,
    clients: u32,
    (strategy, rule): (&Strategy, &dyn ServerRule),
) -> Result<(), Refusal> {
    let (edges, rounds, name) = (
        settings.edges(),
        settings.edge_rounds(),
        strategy.0.algorithm.name,
    );
    if edges.is_empty() {
        let usual = rounds == 1
            && settings.edge_sums().is_exact()
            && settings.edge_body().is_host()
            && !settings.edge_handover();
        return require(usual, || {
            "--edge-rounds, --edge-sums, --edge-body and --edge-handover are of edges: give --edges, too"
                .to_owned()
        });
    }
    require(
        !settings.edge_handover() || edges.depth() == 1 && edges.lowest() > 1,
        || {
            format!(
                "--edge-handover gives the devices of a lost edge to its neighbour, with one level of two edges or more: \
             --edges {edges} has another form; leave one of the two out"
            )
        },
    )?;
    require(edges.lowest() <= clients.into(), || {
        let edges = edges.lowest();
        format!("{edges} edges for {clients} devices: an edge needs one at least, lower --edges")
    })?;
    require(rule.adds_up(), || {
        format!(
            "edges: strategy {name} needs each update by itself, and an edge sends the sum of its cluster's: take \
             another --strategy (docs/algorithms.md says which add up), or leave --edges out"
        )
    })?;
    require(rounds == 1 || rule.takes_the_mean(), || {
        format!(
            "edges: strategy {name} needs more of the updates than their mean, so a cluster cannot run rounds of its \
             own: leave --edge-rounds out"
        )
    })?;
    let each = [
        (
            settings.over_commit() > 0,
            "--over-commit: which updates come first, only the root could know",
        ),
        (
            settings.use_late(),
            "--use-late: the sums of a round are closed",
        ),
        (settings.drop_stragglers(), "--drop-stragglers"),
        (
            settings.privacy.is_some(),
            "--privacy: a bound and its noise are of each update",
        ),
        (
            settings.holdout() > 0.0,
            "--holdout: devices behind edges evaluate no model yet",
        ),
    ];
    for (is_asked, what) in each {
        require(!is_asked, || {
            format!("edges go without {what}; leave it or --edges out")
        })?;
    }
    Ok(())
}

/// Refuses what a gateway, which has no experiment and little memory, cannot do.
pub(crate) fn check_gateways(
    settings: &Settings,
    strategy: &Strategy,
    sizes: &Sizes,
) -> Result<(), Refusal> {
    if settings.edge_body().is_host() {
        return Ok(());
    }
    let (edges, name) = (settings.edges(), strategy.0.algorithm.name);
    let each = [
        (edges.depth() > 1, "--edges of more than one level"),
        (settings.edge_rounds() > 1, "--edge-rounds"),
        (!settings.edge_sums().is_exact(), "--edge-sums rounded"),
        (settings.edge_handover(), "--edge-handover"),
    ];
    for (is_asked, what) in each {
        require(!is_asked, || {
            format!("gateways go without {what}: leave it out, or take --edge-body host")
        })?;
    }
    let Choice {
        algorithm,
        device_params,
        ..
    } = &strategy.0;
    let half = algorithm.device;
    let mut sections = [Way::Up, Way::Down]
        .into_iter()
        .flat_map(|way| half.sections(device_params, way, sizes));
    let is_plain =
        sections.all(|section| section.name == MODEL) && !half.keeps_personal(device_params, sizes);
    require(is_plain, || {
        format!(
            "gateways keep nothing of their clients and add up models alone, and strategy {name} has more: take \
             --edge-body host, or another --strategy"
        )
    })
}

impl Experiment {
    /// The board of the gateways, if the edges are such.
    pub fn gateway_board(&self) -> Option<&Board> {
        self.gateway.as_ref().map(|plan| &plan.board)
    }

    /// Gateways and their memory, if the edges are such.
    pub fn gateway_plan(&self) -> Option<&GatewayPlan> {
        self.gateway.as_ref()
    }

    /// Finds the board of the gateways: one of the fleet that boots their body and has their firmware, or else the
    /// usual one of that body.
    ///
    /// # Errors
    /// A [`Refusal`] if there is none, no device is a machine that could reach them, or its memory is too little for the
    /// sums.
    pub(crate) fn find_gateway(&self, root: &Root) -> Result<Option<GatewayPlan>, Refusal> {
        let Some(guest) = self.edge_body.guest() else {
            return Ok(None);
        };
        let mut fleet = self.groups.iter().filter_map(|group| group.board.as_ref());
        require(fleet.clone().next().is_some(), || {
            format!(
                "--edge-body {guest}: gateways are machines, and no device of this fleet is one: take --body bare or \
                 zephyr, or --edge-body host"
            )
        })?;
        let board = fleet
            .by_ref()
            .filter(|board| board.body == guest)
            .find_map(|board| board.as_gateway());
        let usual = || Ok(boards::default_board(root, guest)?.and_then(|board| board.as_gateway()));
        let board = board.map_or_else(usual, |board| Ok(Some(board)))?.ok_or_else(|| {
            Refusal(format!(
                "--edge-body {guest}: no board has the firmware of such a gateway: take another --edge-body"
            ))
        })?;
        let nodes = self.edges.nodes(self.clients);
        let sizes = nodes.iter().map(|node| node.cluster.len() as u32);
        let largest = sizes.max().unwrap_or(0);
        let plan = GatewayPlan {
            count: nodes.len() as u32,
            largest,
            memory: self.aggregator().gateway_memory(largest),
            board,
        };
        let (needed, taken) = (plan.memory.total(), plan.taken_bytes());
        require(taken <= plan.ram_bytes(), || {
            let missing = taken - plan.ram_bytes();
            format!(
                "a gateway of {largest} devices needs {needed} bytes for its sums, and {missing} are missing on board {}: \
                 take more --edges, a smaller model, or --edge-body host",
                plan.board.name
            )
        })?;
        Ok(Some(plan))
    }

    /// Refuses attacks behind edges: an attack sees the updates of the whole cohort.
    pub(crate) fn fits_edges(&self) -> Result<(), Refusal> {
        let attacks = self.groups.iter().any(|group| group.attack.is_some());
        require(self.edges.is_empty() || !attacks, || {
            "edges: an attack changes updates, and the root sees only sums of them: leave `attack` or --edges out"
                .to_owned()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_is_numbered_by_levels_and_its_clusters_lie_in_each_other() {
        let tree = EdgeTree::parse("2x3").unwrap();
        let nodes = tree.nodes(13);
        assert_eq!(nodes.len(), 8);
        let places: Vec<_> = nodes.iter().map(|one| (one.number, one.parent)).collect();
        let below = [(2, 0), (3, 0), (4, 0), (5, 1), (6, 1), (7, 1)];
        let below = below.map(|(number, parent)| (number, Some(parent)));
        assert_eq!(places, [&[(0, None), (1, None)][..], &below].concat());
        for node in &nodes[..2] {
            let ranges = &node.below.ranges;
            assert_eq!((node.below.first, ranges.len()), (2 + 3 * node.number, 3));
            assert_eq!(ranges[0].start..ranges[2].end, node.cluster);
            assert!(ranges.windows(2).all(|two| two[0].end == two[1].start));
        }
        assert_eq!(tree.clusters(13).ranges, [0..6, 6..13]);
        assert!(nodes[2].below.is_empty());
    }

    #[test]
    fn a_tree_is_written_as_it_is_read() {
        for (text, value) in [("0", "0"), ("3", "3"), ("3x2", "\"3x2\"")] {
            let tree = EdgeTree::parse(text).unwrap();
            assert_eq!(tree.to_string(), text);
            assert_eq!(toml::Value::try_from(&tree).unwrap().to_string(), value);
            let read: EdgeTree = toml::Value::try_from(&tree).unwrap().try_into().unwrap();
            assert_eq!(read, tree);
        }
        for text in ["", "x", "3x", "3x0", "-1", "3*2", "1x1x1x1x1x1x1x1x1"] {
            assert!(EdgeTree::parse(text).is_err(), "{text}");
        }
    }
    #[test]
    fn the_memory_of_a_gateway_is_told_to_the_byte_and_refused_with_what_is_missing() {
        let root = crate::Root::of_tree(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."));
        let of = |hidden: u32| {
            let mut settings = Settings {
                clients: Some(7),
                edges: Some(EdgeTree::parse("3").unwrap()),
                edge_body: Some(crate::EdgeBody::Bare),
                hidden: Some(vec![hidden]),
                ..Settings::default()
            };
            settings.device.board = Some("microvm".to_owned());
            Experiment::of_run(&settings, crate::Out::New(None), &root).map(|(it, _)| it)
        };
        let experiment = of(16).unwrap();
        let plan = experiment.gateway_plan().unwrap();
        assert_eq!((plan.count, plan.largest), (3, 3));
        assert_eq!(plan.board.name, "microvm-gateway");
        let told: u64 = plan.parts().iter().map(|part| part.bytes).sum();
        assert_eq!(told, plan.taken_bytes());
        let sums = plan
            .parts()
            .into_iter()
            .find(|part| part.name == "exact sums");
        assert_eq!(sums.unwrap().bytes, 12_730 * fl_algo::SUM_BYTES as u64);
        let refused = of(2_000).unwrap_err().to_string();
        assert!(
            refused.contains("are missing on board microvm-gateway"),
            "{refused}"
        );
    }
}
