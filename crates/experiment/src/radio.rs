//! Devices behind a radio: which one, where they stand, and what does not fit its packets.

use crate::choice::Places;
use crate::estimate::wire;
use crate::experiment::Experiment;
use crate::groups::FleetGroup;
use crate::refusal::{Refusal, require};
use crate::root::Root;
use crate::settings::Settings;
use zfl_netsim::radio::{
    Conditions, MESSAGE_BYTES, MeshConfig, RadioProfile, Topology, TopologyKind,
};

/// Nodes in the range of a node on average, where places are drawn.
const NEIGHBOURS: f64 = 10.0;

/// Octets that the heads of a message may take.
const HEADS: u64 = 1_024;

/// Radio of every device of a fleet.
#[derive(Clone, Debug)]
pub(crate) struct Radio {
    profile: RadioProfile,
    pub places: Places,
    pub loss: f64,
}

impl Radio {
    /// The radio that is asked for, if one is.
    ///
    /// # Errors
    /// If there is no such radio, or what goes with one is asked for without it.
    pub fn resolve(settings: &Settings, root: &Root) -> Result<Option<Self>, Refusal> {
        let (places, loss) = (settings.topology(), settings.radio_loss());
        let Some(name) = &settings.radio else {
            require(settings.topology.is_none() && loss == 0.0, || {
                "topology and radio_loss do nothing without a radio: give --radio hc-12, say".into()
            })?;
            return Ok(None);
        };
        require(!name.contains('/'), || {
            format!("radio {name}: give the name of a file in links/radio")
        })?;
        let profile =
            RadioProfile::load(root.tree(), name).map_err(|error| Refusal(error.to_string()))?;
        Ok(Some(Self {
            profile,
            places,
            loss,
        }))
    }
}

/// Tells if the devices of a group are machines that can have a radio.
fn has_radio(group: &FleetGroup) -> bool {
    let board = group.board.as_ref();
    board.is_some_and(|board| board.radio.is_some())
}

impl Experiment {
    /// The mesh of its devices, if they have a radio.
    ///
    /// # Errors
    /// If they cannot be reached so; the text says what to change.
    pub fn mesh(&self) -> Result<Option<MeshConfig>, Refusal> {
        let Some(radio) = &self.mesh_radio else {
            return Ok(None);
        };
        require(
            self.groups.iter().all(|group| group.board.is_none())
                || self.groups.iter().all(has_radio),
            || {
                "a radio is for native devices, or for emulated ones of boards that have one: take --body native or \
                 --body bare, or leave --radio out"
                    .into()
            },
        )?;
        require(self.edges.is_empty(), || {
            "a radio has one gateway and no edges: leave --edges or --radio out".into()
        })?;
        self.fits_a_radio()?;
        let kind = match radio.places {
            Places::Grid => TopologyKind::Grid,
            Places::Line => TopologyKind::Line,
            Places::Random => TopologyKind::Random {
                neighbours: NEIGHBOURS,
            },
        };
        let leaves = self.clients as usize;
        let topology = Topology::new(&kind, leaves, radio.profile.range_m, self.seed);
        let topology = topology.map_err(|error| Refusal(format!("topology: {error}")))?;
        Ok(Some(MeshConfig {
            radio: radio.profile.clone(),
            topology,
            conditions: Conditions {
                loss: radio.loss,
                bit_errors: 0.0,
            },
            seed: self.seed,
        }))
    }

    /// Refuses what is longer than the longest message of a leaf.
    fn fits_a_radio(&self) -> Result<(), Refusal> {
        let most = MESSAGE_BYTES as u64 - HEADS;
        let inputs = u64::from(self.layers.first().copied().unwrap_or(0));
        let examples = self
            .groups
            .iter()
            .map(|group| u64::from(group.max_examples))
            .max();
        let data = examples.unwrap_or(0) * inputs;
        require(data <= most, || {
            format!(
                "{data} octets of data, and a leaf takes {most} at a time by radio: lower --examples to {}",
                most / inputs.max(1)
            )
        })?;
        let message = wire::start_bytes(self).max(wire::update_bytes(self));
        require(message <= most, || {
            format!(
                "a message of {message} octets, and a leaf takes {most} at a time by radio: lower --hidden, or take \
                 --encoding-down int8 --encoding-up int8"
            )
        })
    }
}
