//! Attacks: what malicious clients do to their data or their updates.
//!
//! An attacker's device does what every device does. The attack happens on the server, to the labels
//! before they are handed out and to the updates after a round has closed. So it is the same on every
//! body, and costs a device nothing.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::fmt;

use fl_param::{ParamError, ParamSpec, Params};
use fl_rng::{Pcg32, Purpose, derive_seed};

use crate::attacks::ATTACKS;
use crate::server::Update;

/// One attack: all that is to be known of it. A hook that is left out changes nothing.
pub trait Attack: Sync {
    /// Name in files.
    fn name(&self) -> &'static str;

    /// Meaning, in one line.
    fn doc(&self) -> &'static str;

    /// Paper that describes it.
    fn paper(&self) -> &'static str;

    /// Parameters, with defaults and bounds.
    fn params(&self) -> &'static [ParamSpec] {
        &[]
    }

    /// Changes the labels of an attacker's examples, in the order in which its device receives them.
    ///
    /// # Shapes
    /// `labels` is `[num_examples]`, each below the number of classes before and after.
    fn labels(&self, params: &Params, examples: &Examples, labels: &mut [u8]) {
        let _ = (params, examples, labels);
    }

    /// Changes the updates of a round's attackers, which are in the order of clients. Vectors that a
    /// device keeps are left as they are, since the device keeps its own.
    fn updates(&self, params: &Params, scene: &Scene<'_>, attackers: &mut [&mut Update]) {
        let _ = (params, scene, attackers);
    }
}

/// The examples of an attacker.
#[derive(Clone, Copy, Debug)]
pub struct Examples {
    /// Seed of the experiment.
    pub seed: u64,
    /// The attacker.
    pub client: u32,
    /// Number of classes.
    pub num_classes: u8,
}

impl Examples {
    /// The attacker's own stream of random numbers for its examples.
    pub fn rng(&self) -> Pcg32 {
        stream(self.seed, self.client, 0)
    }
}

/// All that attackers know of a round.
#[derive(Clone, Copy, Debug)]
pub struct Scene<'a> {
    /// Seed of the experiment.
    pub seed: u64,
    /// The round, from 1.
    pub round: u32,
    /// The global model that the round began with.
    pub global: &'a [f32],
    /// Updates of the clients that do not attack, in the order of clients.
    pub honest: &'a [&'a Update],
}

impl Scene<'_> {
    /// An attacker's own stream of random numbers in this round.
    pub fn rng(&self, client: u32) -> Pcg32 {
        stream(self.seed, client, self.round)
    }
}

fn stream(seed: u64, client: u32, round: u32) -> Pcg32 {
    Pcg32::new(Purpose::Attack, derive_seed(seed, client, round))
}

/// An attack with the values of its parameters.
#[derive(Clone, Copy)]
pub struct AttackChoice {
    /// The attack.
    pub attack: &'static dyn Attack,
    /// Values of its parameters.
    pub params: Params,
}

impl AttackChoice {
    /// An attack with its defaults.
    pub fn new(attack: &'static dyn Attack) -> Self {
        let params = Params::defaults(attack.params());
        Self { attack, params }
    }

    /// An attack by its name, with its defaults.
    pub fn named(name: &str) -> Option<Self> {
        let mut known = ATTACKS.iter().copied();
        known.find(|known| known.name() == name).map(Self::new)
    }

    /// Sets a parameter.
    ///
    /// # Errors
    /// [`ParamError`]; nothing has changed then.
    pub fn set(&mut self, name: &str, value: f64) -> Result<(), ParamError> {
        self.params.set(name, value)
    }

    /// Changes the labels of an attacker's examples.
    ///
    /// # Shapes
    /// `labels` is `[num_examples]`.
    pub fn labels(&self, examples: &Examples, labels: &mut [u8]) {
        self.attack.labels(&self.params, examples, labels);
    }
}

impl PartialEq for AttackChoice {
    fn eq(&self, other: &Self) -> bool {
        self.attack.name() == other.attack.name() && self.params == other.params
    }
}

impl fmt::Debug for AttackChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AttackChoice")
            .field("attack", &self.attack.name())
            .field("params", &self.params)
            .finish()
    }
}

/// Attackers of a run, by client.
pub type Attackers = BTreeMap<u32, AttackChoice>;

/// Changes the attackers' updates of a round; returns how many there were. `updates` are in the order of
/// clients, and the scene's honest updates are those among them.
///
/// Clients with the same attack act together. No attack sees what another one did.
pub fn attack(
    attackers: &Attackers,
    (seed, round): (u64, u32),
    global: &[f32],
    updates: &mut [Update],
) -> usize {
    let mut kinds: Vec<&AttackChoice> = Vec::new();
    for choice in attackers.values() {
        if !kinds.contains(&choice) {
            kinds.push(choice);
        }
    }
    let mut count = 0;
    for choice in kinds {
        let (mut honest, mut own) = (Vec::new(), Vec::new());
        for update in updates.iter_mut() {
            match attackers.get(&update.client) {
                None => honest.push(&*update),
                Some(other) if other == choice => own.push(update),
                Some(_) => {}
            }
        }
        let scene = Scene {
            seed,
            round,
            global,
            honest: &honest,
        };
        count += own.len();
        choice.attack.updates(&choice.params, &scene, &mut own);
    }
    count
}
