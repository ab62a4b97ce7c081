//! The metrics: quantities of a client in a round, each one row of a table.
//!
//! A row is all that a metric is: its name, its unit, who measures it, how the rounds of a device become
//! one number, and what people are told of it. The columns of `clients.csv`, JSON, OpenMetrics, the
//! report, `zfl devices`, the screens and the table of `docs/cost.md` are made of these rows.

mod host;
mod row;
mod table;
mod totals;
mod values;

pub use host::HostCost;
pub use table::METRICS;
pub use totals::Totals;
pub use values::Values;

use crate::event::ClientRecord;

/// A quantity of a client in a round.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// The name: the column of `clients.csv`, the key in JSON.
    pub name: &'static str,
    /// The unit of its values.
    pub unit: Unit,
    /// The type of its values.
    pub kind: Kind,
    /// The party that measures it.
    pub by: Source,
    /// The rule by which the rounds of a device become one number.
    pub folds: Folds,
    /// True if displays of a live run show the last round instead of all.
    pub shows_last: bool,
    /// True if it counts from the device's boot on; a round then has its growth.
    pub since_boot: bool,
    /// A few words for it.
    pub label: &'static str,
    /// A description, for docs/cost.md.
    pub doc: &'static str,
    /// The exactness, for docs/cost.md.
    pub exact: &'static str,
    /// The group in which tables for people have it.
    pub topic: Topic,
    /// The head of its column in `zfl devices`; none if it has no column there.
    pub head: Option<&'static str>,
    /// The name of its figure in a report; none if it has none.
    pub figure: Option<&'static str>,
    /// The name for OpenMetrics, without prefix and unit; none if it is not scraped.
    pub scraped: Option<&'static str>,
    /// True if the page and the screen show it.
    pub on_screen: bool,
    /// The form in which people are shown a value.
    pub shown: Shown,
    reads: Reads,
}

/// The unit of a metric's values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// A number of things.
    Count,
    /// Cross-entropy.
    Nats,
    /// Time.
    Seconds,
    /// Time.
    Milliseconds,
    /// Time.
    Microseconds,
    /// Memory or traffic.
    Bytes,
    /// Energy.
    Joules,
}

/// The party that measures a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The firmware itself.
    Device,
    /// The aggregator, at its sockets.
    Server,
    /// zfl, from the operating system.
    Host,
    /// The switch, frame by frame.
    Link,
    /// Nobody: it is computed from the others.
    Model,
}

/// The rule by which the rounds of a device become one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Folds {
    /// The sum.
    Sum,
    /// The highest.
    Max,
    /// The last that is known.
    Last,
    /// The mean.
    Mean,
}

/// The type of a metric's values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A whole number, exact up to 2^53.
    Whole,
    /// A number in double precision.
    Real,
    /// A number in single precision.
    Single,
    /// Seconds of the host's clock, written to the microsecond.
    Clock,
}

/// The group in which tables for people have a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Topic {
    /// Learning, and the time that a round takes of a device.
    Work,
    /// Memory of the device.
    Memory,
    /// Bytes and segments.
    Traffic,
    /// The host's part.
    Host,
}

/// The form in which people are shown a value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shown {
    /// The unit, with a prefix: `kB`.
    pub unit: &'static str,
    /// Its size in the metric's own unit.
    pub per: f64,
    /// Digits behind the point.
    pub digits: usize,
}

/// The origin of a value.
#[derive(Clone, Copy, Debug)]
enum Reads {
    /// The record of a client in a round: such a metric is a column of `clients.csv`.
    Record(fn(&ClientRecord) -> Option<f64>),
    /// Other metrics of the same round.
    Others(fn(&Values) -> Option<f64>),
}

/// The number of a metric's row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Id(usize);

impl Id {
    /// The metric of this name. In a `const`, a name that is none does not compile.
    ///
    /// # Panics
    /// If there is no such metric.
    pub const fn of(name: &str) -> Self {
        let mut row = 0;
        while row < METRICS.len() {
            if same(METRICS[row].name.as_bytes(), name.as_bytes()) {
                return Self(row);
            }
            row += 1;
        }
        panic!("there is no metric of this name")
    }

    /// All of them, in the order of the table.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..METRICS.len()).map(Self)
    }

    /// Those of `zfl devices`, with the heads of their columns, by topic.
    pub fn in_table() -> impl Iterator<Item = (Self, &'static str)> {
        by_topic().filter_map(|id| Some((id, id.metric().head?)))
    }

    /// Those of the page and the screen, by topic.
    pub fn on_screen() -> impl Iterator<Item = Self> {
        by_topic().filter(|id| id.metric().on_screen)
    }

    /// The row.
    pub fn metric(self) -> &'static Metric {
        &METRICS[self.0]
    }
}

fn by_topic() -> impl Iterator<Item = Id> {
    let mut all: Vec<Id> = Id::all().collect();
    all.sort_by_key(|id| id.metric().topic);
    all.into_iter()
}

const fn same(one: &[u8], other: &[u8]) -> bool {
    let (mut at, len) = (0, one.len());
    while at < len && len == other.len() && one[at] == other[at] {
        at += 1;
    }
    at == len && len == other.len()
}

impl Unit {
    const fn shown(self) -> Shown {
        let (unit, per, digits) = match self {
            Self::Count => ("", 1.0, 0),
            Self::Nats => ("nats", 1.0, 4),
            Self::Seconds => ("s", 1.0, 3),
            Self::Milliseconds => ("ms", 1.0, 0),
            Self::Microseconds => ("ms", 1e3, 2),
            Self::Bytes => ("kB", 1e3, 1),
            Self::Joules => ("J", 1.0, 3),
        };
        Shown { unit, per, digits }
    }
}

impl Source {
    /// Name in docs/cost.md.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Device => "device",
            Self::Server => "server",
            Self::Host => "host",
            Self::Link => "link",
            Self::Model => "model",
        }
    }
}

impl Shown {
    /// A value of the metric as a number in this unit.
    pub fn scale(&self, value: f64) -> f64 {
        value / self.per
    }

    /// A value of the metric as text, without the unit.
    pub fn text(&self, value: f64) -> String {
        format!("{:.*}", self.digits, self.scale(value))
    }
}

impl Metric {
    /// True if it is a column of `clients.csv`.
    pub const fn is_column(&self) -> bool {
        matches!(self.reads, Reads::Record(_))
    }

    /// A value as `clients.csv` has it.
    pub fn cell(&self, value: f64) -> String {
        match self.kind {
            Kind::Whole => (value as u64).to_string(),
            Kind::Real => value.to_string(),
            Kind::Single => (value as f32).to_string(),
            Kind::Clock => format!("{value:.6}"),
        }
    }

    /// A value as JSON; null of what JSON cannot say.
    pub fn json(&self, value: f64) -> serde_json::Value {
        match self.kind {
            Kind::Whole => (value as u64).into(),
            Kind::Real | Kind::Clock => value.into(),
            // By its shortest digits, which are not those of the same number in double precision.
            Kind::Single => (value as f32)
                .to_string()
                .parse::<f64>()
                .unwrap_or(value)
                .into(),
        }
    }
}
