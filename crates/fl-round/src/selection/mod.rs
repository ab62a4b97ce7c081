//! Selection: which of the clients that are there train in a round.
//!
//! A selector is a file with an implementation of [`Selector`], and a line in the list below. It is a pure
//! function of the seed, the round, who is there, and the [`Facts`] of each client, which follow from results
//! that count. What is kept for a resume are the facts.
//!
//! # Invariants
//! - No selector sees a clock, or an order of arrival.
//! - Draws are made for all clients in the order of their numbers, so that who is away changes nobody else's.
//! - Among equals the lower number goes first, unless the selector says that it draws.

use alloc::vec::Vec;
use core::fmt;

use fl_param::{ParamError, ParamSpec, Params};
use fl_rng::{Pcg32, Purpose};

/// Declares the files of selectors, and the list of them.
macro_rules! selectors {
    ($($file:ident::$selector:ident,)*) => {
        $(mod $file;)*

        /// All selectors; the first is the default.
        pub static SELECTORS: &[&dyn Selector] = &[$(&$file::$selector,)*];
    };
}

selectors! {
    uniform::Uniform,
    round_robin::RoundRobin,
    availability::Availability,
    power_of_choice::PowerOfChoice,
    oort::Oort,
    energy::Energy,
}

/// Rule by which the clients of a round are chosen.
pub trait Selector: Sync {
    /// Name on the command line and in files.
    fn name(&self) -> &'static str;

    /// Meaning, in one line.
    fn doc(&self) -> &'static str;

    /// Paper that describes it, if it is of one.
    fn paper(&self) -> Option<&'static str> {
        None
    }

    /// Parameters, with defaults and bounds.
    fn params(&self) -> &'static [ParamSpec] {
        &[]
    }

    /// Chooses at most `from.size` of the clients that are there, each once.
    fn choose(&self, from: &Candidates<'_>, params: &Params) -> Vec<Pick>;
}

/// Clients to choose from.
#[derive(Clone, Copy, Debug)]
pub struct Candidates<'a> {
    /// Seed of the run.
    pub seed: u64,
    /// The round.
    pub round: u32,
    /// Clients that the round wants.
    pub size: usize,
    /// Clients that are there, in order.
    pub there: &'a [u32],
    /// Facts of all clients, by number.
    pub facts: &'a [Facts],
}

/// A client that was chosen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pick {
    /// The client.
    pub client: u32,
    /// The number that it was chosen by, if the selector has one.
    pub score: Option<f64>,
}

/// Facts of a client that a selector may go by.
///
/// They change at the end of a round. An update counts once it is in the model of a round. A client that
/// failed was chosen, and else nothing of it changes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Facts {
    /// Training examples that it has.
    pub num_examples: u32,
    /// Energy that it began with, in joules; `None`: no end of it.
    pub budget_j: Option<f64>,
    /// Rounds that it was chosen for.
    pub times_chosen: u32,
    /// The last of those rounds; 0: never.
    pub last_chosen: u32,
    /// The last round that an update of it counted in; 0: never.
    pub last_counted: u32,
    /// Mean training loss of the last local epoch, of its last update that counted, in nats.
    pub loss: Option<f32>,
    /// Time that a round takes it, computing and link, as of that update.
    pub took_us: Option<u64>,
    /// Energy that a round takes it, as of that update, in joules.
    pub round_j: f64,
    /// Energy that its rounds have taken, in joules.
    pub used_j: f64,
}

impl Facts {
    /// Energy that is left, in joules; `None`: no end of it.
    pub fn left_j(&self) -> Option<f64> {
        Some(self.budget_j? - self.used_j)
    }
}

/// Measurements of an update that came.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Measured {
    /// Mean training loss of the last local epoch, in nats.
    pub loss: f32,
    /// Time of the round on its device, computing and link: counted or estimated, never the host's.
    pub took_us: Option<u64>,
    /// Energy of the round on its device, in joules.
    pub energy_j: Option<f64>,
}

/// A selector with the values of its parameters.
#[derive(Clone, Copy)]
pub struct Selection {
    /// The selector.
    pub selector: &'static dyn Selector,
    /// Values of its parameters.
    pub params: Params,
}

impl Selection {
    /// All selectors, with the defaults of their parameters.
    pub fn all() -> impl Iterator<Item = Self> {
        SELECTORS.iter().map(|&selector| Self {
            selector,
            params: Params::defaults(selector.params()),
        })
    }

    /// A selector by its name, with its defaults.
    pub fn named(name: &str) -> Option<Self> {
        Self::all().find(|one| one.selector.name() == name)
    }

    /// Sets a parameter.
    ///
    /// # Errors
    /// [`ParamError`]; nothing has changed then.
    pub fn set(&mut self, name: &str, value: f64) -> Result<(), ParamError> {
        self.params.set(name, value)
    }
}

impl Default for Selection {
    /// Uniform.
    fn default() -> Self {
        let selector = SELECTORS[0];
        Self {
            selector,
            params: Params::defaults(selector.params()),
        }
    }
}

impl fmt::Debug for Selection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { selector, params } = self;
        write!(f, "{} {params:?}", selector.name())
    }
}

impl Candidates<'_> {
    /// Facts of a client; all unknown if there is no such client.
    pub fn facts(&self, client: u32) -> Facts {
        let facts = self.facts.get(client as usize);
        facts.copied().unwrap_or_default()
    }

    /// Clients that are there, in a permutation of all that the seed and the round alone decide.
    fn shuffled(&self) -> Vec<u32> {
        let mut order: Vec<u32> = (0..self.facts.len() as u32).collect();
        Pcg32::for_round(Purpose::Cohort, self.seed, self.round).shuffle(&mut order);
        order.retain(|client| self.there.binary_search(client).is_ok());
        order
    }

    /// Draws `count` of these clients without putting any back, each with a probability that is its weight's
    /// part of those that are left: the ones with the least of `-ln(u) / weight` for u uniform in (0, 1].
    ///
    /// Efraimidis and Spirakis 2006, *Weighted random sampling with a reservoir*.
    fn draw(&self, from: &[u32], count: usize, weight: impl Fn(u32) -> f64) -> Vec<u32> {
        let mut rng = Pcg32::for_round(Purpose::Selection, self.seed, self.round);
        let draws: Vec<f64> = self.facts.iter().map(|_| draw(&mut rng)).collect();
        let key = |client: u32| {
            let drawn = draws.get(client as usize).copied().unwrap_or(1.0);
            -libm::log(drawn) / weight(client).max(f64::MIN_POSITIVE)
        };
        let mut keyed: Vec<(f64, u32)> = from.iter().map(|&client| (key(client), client)).collect();
        keyed.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        keyed.into_iter().take(count).map(|(_, id)| id).collect()
    }
}

/// A number uniform in (0, 1], in steps of 2^-32.
fn draw(rng: &mut Pcg32) -> f64 {
    (f64::from(rng.next_u32()) + 1.0) / 4_294_967_296.0
}

/// The first `size` clients, without a score.
fn unscored(clients: Vec<u32>, size: usize) -> Vec<Pick> {
    let first = clients.into_iter().take(size);
    first
        .map(|client| Pick {
            client,
            score: None,
        })
        .collect()
}

/// The `size` clients with the highest scores; of equal ones the lower number.
fn highest(mut picks: Vec<Pick>, size: usize) -> Vec<Pick> {
    let score = |pick: &Pick| pick.score.unwrap_or(f64::NEG_INFINITY);
    picks.sort_by(|a, b| score(b).total_cmp(&score(a)).then(a.client.cmp(&b.client)));
    picks.truncate(size);
    picks
}
