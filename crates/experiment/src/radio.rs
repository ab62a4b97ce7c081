//! Devices behind a radio: which one, where they stand, and what does not fit its packets.

use crate::choice::Places;
use crate::estimate::wire;
use crate::experiment::Experiment;
use crate::groups::FleetGroup;
use crate::refusal::{Refusal, require};
use crate::root::Root;
use crate::settings::Settings;
use zfl_netsim::radio::{
    Conditions, FRAME_BYTES, MESSAGE_BYTES, MeshConfig, RadioProfile, Topology, TopologyKind,
};

/// Nodes in the range of a node on average, where places are drawn.
const NEIGHBOURS: f64 = 10.0;

/// Most of a file of places, in bytes.
const MAX_PLACES_BYTES: u64 = 64 * 1024;

/// Least share of the frames that has to arrive: of fewer, hardly a transfer comes to its end.
const LEAST_HEARD: f64 = 0.1;

/// Octets that the heads of a message may take.
const HEADS: u64 = 1_024;

/// Radio of every device of a fleet.
#[derive(Clone, Debug)]
pub(crate) struct Radio {
    profile: RadioProfile,
    pub places: Places,
    /// Text of the file of places, and where they are.
    file: Option<(String, TopologyKind)>,
    pub conditions: Conditions,
}

impl Radio {
    /// The radio that is asked for, if one is.
    ///
    /// # Errors
    /// If there is no such radio, or what goes with one is asked for without it.
    pub fn resolve(settings: &Settings, root: &Root) -> Result<Option<Self>, Refusal> {
        let conditions = Conditions {
            loss: settings.radio_loss(),
            bit_errors: settings.bit_error_rate(),
        };
        let Some(name) = &settings.radio else {
            let is_bare = settings.topology.is_none() && settings.topology_file.is_none();
            require(is_bare && conditions == Conditions::default(), || {
                "topology, topology_file, radio_loss and bit_error_rate do nothing without a radio: give --radio hc-12, \
                 say"
                    .into()
            })?;
            return Ok(None);
        };
        let heard = conditions.heard(FRAME_BYTES);
        require(heard >= LEAST_HEARD, || {
            format!(
                "of 1000 frames {:.0} would arrive, and a mesh needs {:.0}: lower radio_loss or bit_error_rate",
                heard * 1e3,
                LEAST_HEARD * 1e3
            )
        })?;
        require(!name.contains('/'), || {
            format!("radio {name}: give the name of a file in links/radio")
        })?;
        let profile =
            RadioProfile::load(root.tree(), name).map_err(|error| Refusal(error.to_string()))?;
        Ok(Some(Self {
            profile,
            places: settings.topology(),
            file: read_places(settings)?,
            conditions,
        }))
    }

    /// Text of the file of places.
    pub fn text(&self) -> Option<&String> {
        self.file.as_ref().map(|(text, _)| text)
    }

    fn kind(&self) -> TopologyKind {
        match (self.places, &self.file) {
            (_, Some((_, places))) => places.clone(),
            (Places::Line, _) => TopologyKind::Line,
            (Places::Random, _) => TopologyKind::Random {
                neighbours: NEIGHBOURS,
            },
            (Places::Grid | Places::File, None) => TopologyKind::Grid,
        }
    }
}

/// The file of places, for the topology that reads one.
///
/// # Errors
/// If it is not there, or a line of it is no place.
fn read_places(settings: &Settings) -> Result<Option<(String, TopologyKind)>, Refusal> {
    let path = match (settings.topology(), &settings.topology_file) {
        (Places::File, Some(path)) => path,
        (Places::File, None) => {
            let advice = "topology: the places are in a file: give --topology-file with it";
            return Err(Refusal(advice.into()));
        }
        (_, Some(_)) => {
            let advice = "topology_file is for the topology `file`: give --topology file, or leave the file out";
            return Err(Refusal(advice.into()));
        }
        (_, None) => return Ok(None),
    };
    let text = zfl_files::read_text(path, MAX_PLACES_BYTES);
    let text = text.map_err(|error| Refusal(format!("topology_file: {error}")))?;
    let places = Topology::read(&text)
        .map_err(|error| Refusal(format!("topology_file: {}: {error}", path.display())))?;
    Ok(Some((text, places)))
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
                 --body bare or zephyr, or leave --radio out"
                    .into()
            },
        )?;
        require(self.edges.is_empty(), || {
            "a radio has one gateway and no edges: leave --edges or --radio out".into()
        })?;
        self.fits_a_radio()?;
        let leaves = self.clients as usize;
        let topology = Topology::new(&radio.kind(), leaves, radio.profile.range_m, self.seed);
        let topology = topology.map_err(|error| Refusal(format!("topology: {error}")))?;
        Ok(Some(MeshConfig {
            radio: radio.profile.clone(),
            topology,
            conditions: radio.conditions,
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
