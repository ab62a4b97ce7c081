//! Cycles, and the real part that a run is a twin of: what is needed to tell them.

use crate::choice::Counting;
use crate::groups::FleetGroup;
use crate::refusal::{Refusal, require};
use crate::root::Root;
use crate::settings::Settings;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use zfl_twin::{Core, Profile};

/// Place of the plugin in a tree, where `cargo xtask build-plugin` puts it.
pub const PLUGIN: &str = "build/plugin/libtcg_cost.so";

/// Numbers that turn what a plugin counts into cycles, time and energy.
#[derive(Clone, Debug)]
pub struct Twin {
    /// Plugin that counts.
    pub plugin: PathBuf,
    /// Cores of the fleet, by the name that boards have for them.
    pub cores: BTreeMap<String, Core>,
    /// Real part whose time and energy are told.
    pub profile: Option<Profile>,
    /// Boards of the fleet whose core has no table of cycles.
    pub untold: BTreeSet<String>,
}

impl Twin {
    /// The twin that is asked for, if one is.
    ///
    /// # Errors
    /// A [`Refusal`] if no board of the fleet has a core that is known, or the part's core, or the plugin is not built.
    pub fn resolve(
        settings: &Settings,
        root: &Root,
        groups: &[FleetGroup],
    ) -> Result<Option<Self>, Refusal> {
        if settings.profile.is_none() && settings.cost() == Counting::Instructions {
            return Ok(None);
        }
        let refused = |error: zfl_twin::TwinError| Refusal(error.to_string());
        let boards = groups.iter().filter_map(|group| group.board.as_ref());
        let (known, unknown): (Vec<_>, Vec<_>) =
            boards.partition(|board| Core::is_known(&board.machine.cpu));
        let untold: BTreeSet<_> = unknown.iter().map(|board| board.name.clone()).collect();
        let names = known.iter().map(|board| &board.machine.cpu);
        let cores = names.map(|name| Ok((name.clone(), Core::load(root.tree(), name)?)));
        let cores: BTreeMap<_, _> = cores.collect::<Result<_, _>>().map_err(refused)?;
        require(!cores.is_empty(), || {
            let boards = match untold.is_empty() {
                true => "native devices have no core".to_owned(),
                false => format!(
                    "no table of cycles is there for the core of {}",
                    list(&untold)
                ),
            };
            format!("{boards}: take --board mps2-an386, say")
        })?;
        let profile = settings.profile.as_deref();
        let profile = profile.map(|name| Profile::load(root.tree(), name));
        let profile = profile.transpose().map_err(refused)?;
        if let Some(profile) = &profile {
            require(cores.contains_key(&profile.core), || {
                format!(
                    "{} has a {}, and no board of this run has: take a board whose file says cpu = \"{}\"",
                    profile.name, profile.core, profile.core
                )
            })?;
        }
        Ok(Some(Self {
            plugin: plugin(root)?,
            cores,
            profile,
            untold,
        }))
    }

    /// Lines for people: about the part, and of whom no cycles are told.
    pub fn notes(&self) -> impl Iterator<Item = String> {
        let untold = (!self.untold.is_empty()).then(|| {
            format!(
                "cycles: none for devices on {}, since no table is there for that core",
                list(&self.untold)
            )
        });
        let part = self.profile.as_ref().map(Profile::introduction);
        part.into_iter().chain(untold)
    }
}

fn list(names: &BTreeSet<String>) -> String {
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    names.join(", ")
}

/// The plugin of a tree.
fn plugin(root: &Root) -> Result<PathBuf, Refusal> {
    let file = root.tree().map(|tree| tree.join(PLUGIN));
    let file = file.and_then(|file| std::path::absolute(file).ok());
    let there = file.filter(|file| Path::is_file(file));
    there.ok_or_else(|| {
        Refusal(
            "the plugin that counts cycles is not built: `cargo xtask build-plugin` in zfl's tree builds it; from \
             elsewhere name the tree with --root"
                .to_owned(),
        )
    })
}
