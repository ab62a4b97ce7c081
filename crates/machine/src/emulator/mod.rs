//! An emulator as its machines start it: what it needs of the host, found out by starting it once.
//!
//! It is started stopped, before any guest is there, and asked over QMP to answer: then it has loaded all
//! that the board makes it load. A jail is made of that, and tried in the same way.

mod elf;
mod needs;
mod placed;
mod trial;
mod unused;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use zfl_sandbox::{Contents, Jail};

use crate::arguments;
use crate::board::Board;
use crate::qemu::Qemu;

/// Largest image of a guest; those we have are below 1 MiB.
const MAX_IMAGE_BYTES: u64 = 1 << 30;

/// Largest plugin; ours is below 1 MiB.
const MAX_PLUGIN_BYTES: u64 = 64 << 20;

/// Filter of the system calls that an emulator needs to start and not to run.
const FILTER: [&str; 2] = [
    "-sandbox",
    "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
];

/// An emulator for the machines of one board.
#[derive(Clone, Debug)]
pub struct Emulator {
    /// Its program, behind whatever script stands before it, and the arguments that every machine has.
    pub command: Vec<OsString>,
    /// Files of the host that its machines need.
    pub contents: Contents,
    /// Its program and some libraries in a form that takes less memory of each machine, by the paths of the
    /// files that they stand for. Good for a jail in which they work.
    pub light: BTreeMap<PathBuf, Vec<u8>>,
    /// Reason for which it does not filter system calls.
    pub unfiltered: Option<String>,
    /// Plugin that its machines load.
    pub plugin: Option<PathBuf>,
}

impl Emulator {
    /// Finds out what the machines of a board need, and the plugin that they load, if they load one.
    ///
    /// # Errors
    /// If the emulator does not start, with its complaint.
    pub fn of(qemu: &Qemu, board: &Board, plugin: Option<&Path>) -> io::Result<Self> {
        let loading = plugin.map(|file| arguments::plugin(file, None));
        let look = |filter: &[&str]| {
            let mut emulator = vec![qemu.path.clone().into_os_string()];
            emulator.extend(filter.iter().map(OsString::from));
            emulator.extend(loading.iter().flatten().cloned());
            trial::start(
                &Jail::default(),
                &emulator,
                board,
                trial::Guest::Absent,
                |pid| Ok((needs::command_line(pid)?, needs::mapped(pid)?)),
            )
        };
        let (filter, unfiltered, (line, mapped)) = match look(&FILTER) {
            Ok(seen) => (&FILTER[..], None, seen),
            Err(why) => (&[][..], Some(why.to_string()), look(&[])?),
        };
        let own = |word: &OsString| {
            !["-sandbox", "-plugin", "-name"]
                .iter()
                .any(|other| word == other)
        };
        let mut command: Vec<OsString> = line.into_iter().take_while(own).collect();
        let mut contents = Contents::default();
        let mut light = unused::emptied(&mapped);
        contents.paths.extend(mapped);
        contents.paths.extend(needs::loaded(&command)?);
        contents.paths.extend(needs::data(&command)?);
        contents.paths.extend(needs::named(&command, board));
        contents.devices.extend(board.kvm());
        let radio = board.radio.iter().map(|radio| &radio.image);
        let radio = radio.filter(|image| image.is_file());
        for image in radio.chain([&board.kernel.image]) {
            let place = std::path::absolute(image)?;
            contents
                .copies
                .insert(place, zfl_files::read(image, MAX_IMAGE_BYTES)?);
        }
        if let Some(file) = plugin {
            // A copy: whoever may read the file on the host.
            contents
                .copies
                .insert(file.to_owned(), zfl_files::read(file, MAX_PLUGIN_BYTES)?);
        }
        command.extend(filter.iter().map(OsString::from));
        if let Some(program) = command.first().map(Path::new)
            && let (Ok(path), Ok(image)) = (program.canonicalize(), placed::placed(program))
        {
            light.insert(path, image);
        }
        let light = contents.paths.iter().filter_map(|path| {
            let light = light.get(&path.canonicalize().ok()?)?;
            Some((path.clone(), light.clone()))
        });
        Ok(Self {
            command,
            light: light.collect(),
            contents,
            unfiltered,
            plugin: plugin.map(Path::to_owned),
        })
    }

    /// Finds out what a board's image needs that is a program of the host itself: it is started once, up to its
    /// prompt.
    ///
    /// # Errors
    /// If it does not start, with its complaint.
    pub fn of_program(board: &Board) -> io::Result<Self> {
        let image = std::path::absolute(&board.kernel.image)?;
        let program = [image.clone().into_os_string()];
        let look = |pid| Ok((needs::command_line(pid)?, needs::mapped(pid)?));
        let (mut command, mut paths) = trial::run(&Jail::default(), &program, board, look)?;
        // A script has its interpreter before it. Behind it are its words, and the end of the last.
        let words = board.machine.program.as_ref().map_or(0, Vec::len);
        command.truncate(command.len().saturating_sub(words + 1).max(1));
        paths.extend(needs::named(&command, board));
        paths.retain(|path| path.canonicalize().ok() != image.canonicalize().ok());
        // Linked to no library it would run, in place of telling them.
        if !paths.is_empty() {
            paths.extend(needs::loaded(&command)?);
        }
        let mut contents = Contents {
            paths,
            ..Contents::default()
        };
        let bytes = zfl_files::read(&image, MAX_IMAGE_BYTES)?;
        contents.copies.insert(image, bytes);
        Ok(Self {
            command,
            contents,
            light: BTreeMap::new(),
            unfiltered: Some("none is made for programs of the host".into()),
            plugin: None,
        })
    }

    /// Tries if a machine of this board starts in this jail.
    ///
    /// # Errors
    /// The emulator's complaint.
    pub fn works(&self, board: &Board, jail: &Jail) -> io::Result<()> {
        if board.is_program() {
            return trial::run(jail, &self.command, board, |_| Ok(()));
        }
        let mut command = self.command.clone();
        let plugin = self.plugin.as_deref();
        command.extend(
            plugin
                .into_iter()
                .flat_map(|file| arguments::plugin(file, None)),
        );
        trial::start(jail, &command, board, trial::Guest::Stopped, |_| Ok(()))
    }
}
