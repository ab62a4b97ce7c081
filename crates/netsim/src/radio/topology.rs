//! Topology: where radios stand, and who hears whom.

use std::collections::VecDeque;

use fl_rng::{Pcg32, Purpose};

/// Most nodes of a mesh, its gateway included: the router's addresses have one octet, and 0 is for all.
const MAX_NODES: usize = 255;

/// Draws of places until all nodes are joined.
const MAX_DRAWS: u32 = 1_000;

/// Arrangement of nodes.
#[derive(Clone, Debug, PartialEq)]
pub enum TopologyKind {
    /// One behind the other, the gateway at the end.
    Line,
    /// A square, filled row by row, the gateway in its middle.
    Grid,
    /// Uniform in a square with the gateway in its middle, drawn until all are joined.
    Random {
        /// Nodes in the range of a node on average.
        neighbours: f64,
    },
    /// Places in metres, the gateway's first.
    Places(Vec<(f64, f64)>),
}

/// Places of nodes and who hears whom; node 0 is the gateway.
#[derive(Clone, Debug, PartialEq)]
pub struct Topology {
    places: Vec<(f64, f64)>,
    hears: Vec<Vec<usize>>,
    hops: Vec<u8>,
}

/// Reason why there is no such mesh.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum TopologyError {
    /// The router has no addresses for so many.
    #[error("a mesh of {0} nodes: give it 1 to 254 leaves")]
    Nodes(usize),
    /// A node is out of reach.
    #[error(
        "node {node} hears no way to the gateway: place it nearer, or take a radio of a longer range"
    )]
    Apart {
        /// The first one.
        node: usize,
    },
    /// No draw joined all of them.
    #[error(
        "{MAX_DRAWS} draws of {leaves} places left some leaf without a way to the gateway: raise the \
         neighbours of a node ({neighbours}), or give another seed"
    )]
    Sparse {
        /// Nodes beside the gateway.
        leaves: usize,
        /// As asked for.
        neighbours: f64,
    },
    /// A file has places for others.
    #[error("{places} places for a gateway and {leaves} leaves: give {} lines `x y`, the gateway's first", .leaves + 1)]
    Count {
        /// Places in it.
        places: usize,
        /// Nodes beside the gateway.
        leaves: usize,
    },
    /// A line of a file is no place.
    #[error("line {line} is no place: write two numbers of metres, `x y`")]
    Place {
        /// From 1 on.
        line: usize,
    },
}

impl Topology {
    /// A gateway and so many leaves with a radio of this range.
    ///
    /// # Errors
    /// If there can be no such mesh.
    pub fn new(
        kind: &TopologyKind,
        leaves: usize,
        range_m: f64,
        seed: u64,
    ) -> Result<Self, TopologyError> {
        let nodes = leaves + 1;
        if !(2..=MAX_NODES).contains(&nodes) {
            return Err(TopologyError::Nodes(nodes));
        }
        // Within the range along an edge, beyond it along a diagonal.
        let step_m = range_m * 0.9;
        match kind {
            TopologyKind::Line => {
                let place = |node| (node as f64 * step_m, 0.0);
                Self::of((0..nodes).map(place).collect(), range_m)
            }
            TopologyKind::Grid => {
                let side = (1..).find(|side| side * side >= nodes).unwrap_or(nodes);
                let place = |cell| ((cell % side) as f64 * step_m, (cell / side) as f64 * step_m);
                let mut places: Vec<_> = (0..nodes).map(place).collect();
                let middle = (nodes.div_ceil(side) - 1) / 2 * side + (side - 1) / 2;
                places.swap(0, middle);
                Self::of(places, range_m)
            }
            TopologyKind::Random { neighbours } => Self::random(leaves, *neighbours, range_m, seed),
            TopologyKind::Places(places) if places.len() != nodes => Err(TopologyError::Count {
                places: places.len(),
                leaves,
            }),
            TopologyKind::Places(places) => Self::of(places.clone(), range_m),
        }
    }

    /// Places as a file has them: `x y` in metres a line, the gateway first; `#` begins a comment.
    ///
    /// # Errors
    /// If a line is no place.
    pub fn read(text: &str) -> Result<TopologyKind, TopologyError> {
        let lines = text
            .lines()
            .map(|line| line.split('#').next().unwrap_or("").trim());
        let lines = lines.enumerate().filter(|(_, line)| !line.is_empty());
        let place = |(index, line): (usize, &str)| {
            let mut words = line.split_whitespace().map(str::parse::<f64>);
            match (words.next(), words.next(), words.next()) {
                (Some(Ok(x)), Some(Ok(y)), None) if x.is_finite() && y.is_finite() => Ok((x, y)),
                _ => Err(TopologyError::Place { line: index + 1 }),
            }
        };
        lines
            .take(MAX_NODES + 1)
            .map(place)
            .collect::<Result<_, _>>()
            .map(TopologyKind::Places)
    }

    fn random(
        leaves: usize,
        neighbours: f64,
        range_m: f64,
        seed: u64,
    ) -> Result<Self, TopologyError> {
        let mut random = Pcg32::new(Purpose::Topology, seed);
        let area = leaves as f64 * std::f64::consts::PI * range_m * range_m / neighbours.max(1.0);
        let side_m = area.sqrt();
        let mut uniform = || f64::from(random.next_u32()) / 4_294_967_296.0 * side_m;
        for _ in 0..MAX_DRAWS {
            let mut places = vec![(side_m / 2.0, side_m / 2.0)];
            places.extend((0..leaves).map(|_| (uniform(), uniform())));
            if let Ok(joined) = Self::of(places, range_m) {
                return Ok(joined);
            }
        }
        Err(TopologyError::Sparse { leaves, neighbours })
    }

    fn of(places: Vec<(f64, f64)>, range_m: f64) -> Result<Self, TopologyError> {
        let near = |(a, b): ((f64, f64), (f64, f64))| {
            let (x, y) = (a.0 - b.0, a.1 - b.1);
            x * x + y * y <= range_m * range_m
        };
        let hears: Vec<Vec<usize>> = (0..places.len())
            .map(|node| {
                let others = (0..places.len()).filter(|&other| other != node);
                others
                    .filter(|&other| near((places[node], places[other])))
                    .collect()
            })
            .collect();
        let hops = hops(&hears);
        match hops.iter().position(Option::is_none) {
            Some(node) => Err(TopologyError::Apart { node }),
            None => Ok(Self {
                places,
                hears,
                hops: hops.into_iter().flatten().collect(),
            }),
        }
    }

    /// Nodes, the gateway included.
    pub fn nodes(&self) -> usize {
        self.places.len()
    }

    /// Places in metres.
    pub fn places(&self) -> &[(f64, f64)] {
        &self.places
    }

    /// The nodes that hear a node, in order.
    pub fn hears(&self, node: usize) -> &[usize] {
        &self.hears[node]
    }

    /// Hops from a node to the gateway on the shortest way.
    pub fn hops(&self, node: usize) -> u8 {
        self.hops[node]
    }

    /// Nodes that have no way to the gateway while these are down, in order, and those that are down not among them.
    pub fn cut_off(&self, is_down: impl Fn(usize) -> bool) -> Vec<usize> {
        let up = |node: &usize| !is_down(*node);
        let hears = (0..self.nodes()).map(|node| match is_down(node) {
            true => Vec::new(),
            false => self.hears[node].iter().copied().filter(up).collect(),
        });
        let hops = hops(&hears.collect::<Vec<_>>());
        let cut = (0..self.nodes()).filter(|node| hops[*node].is_none());
        cut.filter(up).collect()
    }

    /// Hops of the node that is farthest away.
    pub fn depth(&self) -> u8 {
        self.hops.iter().copied().max().unwrap_or(0)
    }
}

/// Hops from node 0 to each; `None` where there is no way.
fn hops(hears: &[Vec<usize>]) -> Vec<Option<u8>> {
    let mut hops = vec![None; hears.len()];
    let mut next = VecDeque::from([(0, 0_u8)]);
    while let Some((node, far)) = next.pop_front() {
        if hops[node].is_none() {
            hops[node] = Some(far);
            next.extend(
                hears[node]
                    .iter()
                    .map(|&other| (other, far.saturating_add(1))),
            );
        }
    }
    hops
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topology(kind: TopologyKind, leaves: usize) -> Topology {
        Topology::new(&kind, leaves, 100.0, 7).unwrap()
    }

    #[test]
    fn hops_are_those_of_the_shortest_way() {
        let line = topology(TopologyKind::Line, 3);
        assert_eq!([0, 1, 2, 3].map(|node| line.hops(node)), [0, 1, 2, 3]);
        assert_eq!(line.hears(1), [0, 2]);
        let grid = topology(TopologyKind::Grid, 12);
        assert_eq!((grid.nodes(), grid.depth(), grid.hops(5)), (13, 3, 2));
    }

    #[test]
    fn whoever_has_no_way_around_a_relay_is_cut_off_with_it() {
        let line = topology(TopologyKind::Line, 4);
        assert_eq!(line.cut_off(|node| node == 2), [3, 4]);
        assert_eq!(line.cut_off(|node| node == 2 || node == 3), [4]);
        let grid = topology(TopologyKind::Grid, 12);
        let cut = (1..13).map(|down| (down, grid.cut_off(|node| node == down)));
        let cut: Vec<_> = cut.filter(|(_, cut)| !cut.is_empty()).collect();
        assert_eq!(cut, [(8, vec![12])], "the last is alone in its row");
    }

    #[test]
    fn a_random_mesh_is_joined_and_follows_from_the_seed() {
        let kind = TopologyKind::Random { neighbours: 10.0 };
        let mesh = topology(kind.clone(), 200);
        assert_eq!(mesh, topology(kind.clone(), 200));
        assert_ne!(mesh, Topology::new(&kind, 200, 100.0, 8).unwrap());
        let heard: usize = (0..201).map(|node| mesh.hears(node).len()).sum();
        assert!((6.0..11.0).contains(&(heard as f64 / 201.0)), "{heard}");
        assert!((1..201).all(|node| mesh.hops(node) > 0));
    }

    #[test]
    fn a_mesh_that_cannot_be_says_what_to_change() {
        let refused = |kind: &TopologyKind, leaves| {
            Topology::new(kind, leaves, 100.0, 7)
                .unwrap_err()
                .to_string()
        };
        assert!(refused(&TopologyKind::Line, 255).contains("254 leaves"));
        let apart = Topology::read("0 0 # the gateway\n\n50 0\n500 0\n").unwrap();
        assert!(refused(&apart, 2).contains("node 2"));
        assert!(refused(&TopologyKind::Random { neighbours: 1.0 }, 100).contains("neighbours"));
        assert_eq!(
            Topology::read("0 0\n1 x"),
            Err(TopologyError::Place { line: 2 })
        );
    }
}
