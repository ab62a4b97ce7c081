//! Confinement of a fleet's machines: their emulators and programs, and the jail that fits all of them.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use zfl_machine::{Emulator, Qemu};
use zfl_sandbox::{Contents, Isolation, Jail};
use zfl_twin::Core;

use super::{FleetError, checks};
use crate::spec::DeviceSpec;

/// Emulators by board, the jail of their machines, and what it lacks, for people.
pub(super) struct Confinement {
    pub(super) emulators: BTreeMap<String, Emulator>,
    pub(super) jail: Jail,
    pub(super) lacks: Vec<String>,
}

/// Tries the emulator of every board, and makes the best jail in which all of them work.
///
/// Those with a plugin load it where the cycles of their core are known.
pub(super) fn confine(
    isolation: Isolation,
    devices: &[DeviceSpec],
    plugin: Option<&Path>,
    found: &BTreeMap<String, Qemu>,
) -> Result<Confinement, FleetError> {
    let (mut tried, mut contents, mut lacks) = (Vec::new(), Contents::default(), Vec::new());
    for (name, qemu) in found {
        let board = checks::boards(devices).find(|board| board.name == *name);
        let board = board.expect("every emulator is of a board");
        let plugin = plugin.filter(|_| Core::is_known(&board.machine.cpu));
        let emulator = Emulator::of(qemu, board, plugin).map_err(|why| {
            FleetError::Config(format!(
                "the emulator of board {name}, {}, does not start: {why}",
                qemu.path.display()
            ))
        })?;
        contents.add(emulator.contents.clone());
        if let Some(why) = &emulator.unfiltered {
            lacks.push(lack("a filter of system calls", why));
        }
        tried.push((board, emulator));
    }
    for board in checks::boards(devices).filter(|board| board.is_program()) {
        if tried.iter().any(|(known, _)| known.name == board.name) {
            continue;
        }
        let program = Emulator::of_program(board).map_err(|why| {
            let (name, image) = (&board.name, board.kernel.image.display());
            FleetError::Config(format!(
                "the program of board {name}, {image}, does not start: {why}"
            ))
        })?;
        contents.add(program.contents.clone());
        lacks.extend(
            program
                .unfiltered
                .as_ref()
                .map(|why| lack("a filter of system calls", why)),
        );
        tried.push((board, program));
    }
    if tried.is_empty() {
        return Ok(Confinement {
            emulators: BTreeMap::new(),
            jail: Jail::default(),
            lacks,
        });
    }
    let works = |jail: &Jail| -> io::Result<()> {
        tried
            .iter()
            .try_for_each(|(board, emulator)| emulator.works(board, jail))
    };
    let (jail, without) = best(isolation, &contents, tried.iter().map(|one| &one.1), works);
    lacks.extend(without.iter().map(|(what, why)| lack(what, why)));
    let emulators = tried
        .into_iter()
        .map(|(board, mut emulator)| {
            // They are in the jail.
            emulator.light = BTreeMap::new();
            (board.name.clone(), emulator)
        })
        .collect();
    Ok(Confinement {
        emulators,
        jail,
        lacks,
    })
}

/// The best jail: with the light forms of the emulators, if all work so.
fn best<'a>(
    isolation: Isolation,
    contents: &Contents,
    emulators: impl Iterator<Item = &'a Emulator>,
    works: impl Fn(&Jail) -> io::Result<()>,
) -> (Jail, Vec<(&'static str, String)>) {
    let mut light = contents.clone();
    for emulator in emulators {
        light.copies.extend(emulator.light.clone());
    }
    match Jail::best(isolation, &light, &works) {
        (jail, lacks) if lacks.is_empty() || isolation == Isolation::None => (jail, lacks),
        _ => Jail::best(isolation, contents, works),
    }
}

fn lack(what: &str, why: &str) -> String {
    format!("a guest that breaks out of its emulator is confined without {what}: {why}")
}
