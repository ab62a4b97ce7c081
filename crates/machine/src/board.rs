//! Boards: kinds of machine that a guest runs on, read from `boards/<name>/board.toml`.
//!
//! `boards/microvm/README.md` describes the format. It is read strictly: an unknown key is an
//! error, so that a misspelt option is not a silent default.

mod cost;
mod harmless;
mod memory;
mod schema;

pub use cost::{Clock, Energy};
pub use memory::MemoryPart;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;
use zfl_files::FileError;

use crate::program;
use crate::qemu::Version;
use zfl_schema::{Document, Mistake};

/// Most memory of a machine that is not of fixed size: what QEMU's PCs have in one piece below the
/// addresses of their devices, which is all that a 32-bit guest reaches. q35 splits what is more.
const MOST_MEMORY_MIB: u32 = 2048;

/// Names of boards, with the text of each.
macro_rules! built_in {
    ($($name:literal),* $(,)?) => {
        [$(($name, include_str!(concat!("../../../boards/", $name, "/board.toml")))),*]
    };
}

/// The boards that are there without a tree, by name. Others are read from a tree, or by path.
const BUILT_IN: [(&str, &str); 13] = built_in![
    "microvm",
    "q35",
    "qemu_x86",
    "mps2-an500",
    "mps2-an386",
    "mps2-an385",
    "mps2-an505",
    "nrf52840",
    "rp2350",
    "stm32f103",
    "stm32f746",
    "stm32l4r5",
    "riscv-virt",
];

/// End of the name of a board that is a gateway.
const GATEWAY: &str = "-gateway";

/// The guests that an emulated machine can run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Guest {
    /// The bare-metal firmware.
    Bare,
    /// The Zephyr application.
    Zephyr,
}

impl std::fmt::Display for Guest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Bare => "bare",
            Self::Zephyr => "zephyr",
        })
    }
}

/// One kind of machine.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Board {
    /// The name of its folder; what `--board` takes.
    pub name: String,
    /// One line for people.
    pub description: String,
    /// The guest that runs on it.
    pub body: Guest,
    /// Zephyr's name of the board, with its qualifiers, for the build; the folder's name if it is the same.
    pub zephyr: Option<String>,
    /// The emulator and its machine.
    pub machine: Machine,
    /// The network card.
    #[serde(default)]
    pub nic: Nic,
    /// The disk that stands for flash; without it a device keeps nothing when it reboots.
    pub storage: Option<Disk>,
    /// The serial radio and the firmware that has one; without it the machine cannot be a node of a mesh.
    pub radio: Option<Radio>,
    /// The firmware of a gateway; without it the machine cannot be one.
    #[serde(default)]
    pub gateway: Option<Gateway>,
    /// The firmware image.
    pub kernel: Kernel,
    /// The guest's shell on the serial line.
    pub shell: Shell,
    /// Facts that the bare firmware is built for; a PC's firmware finds them out by itself.
    pub firmware: Option<Firmware>,
    /// The clock rate at which virtual time is told.
    pub clock: Option<Clock>,
    /// The energy model of the device that the board stands for.
    pub energy: Option<Energy>,
    /// Size budgets, in KiB; the build checks them.
    #[serde(default)]
    pub limits: BTreeMap<String, u32>,
    /// The path that it was asked for by, if not by its name.
    #[serde(skip)]
    pub path: Option<String>,
    /// True if it is none of the boards under the root: nobody knows who made it.
    #[serde(skip)]
    pub is_strangers: bool,
    /// The text that it was read from.
    #[serde(skip)]
    pub text: String,
}

/// The emulator and its machine.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Machine {
    /// The emulator's program, for example `qemu-system-i386`; empty if the image is a program of the host.
    #[serde(default)]
    pub qemu: String,
    /// After `-M`.
    #[serde(default)]
    pub machine: String,
    /// After `-cpu`.
    #[serde(default)]
    pub cpu: String,
    /// After `-m`.
    pub memory_mib: u32,
    /// The words of an image that is a program of the host, in place of an emulator.
    pub program: Option<Vec<String>>,
    /// Handed over as they are.
    #[serde(default)]
    pub extra_args: Vec<String>,
}

/// The network card.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Nic {
    /// QEMU's name of the device, for example `virtio-net-device`.
    #[serde(default)]
    pub model: String,
    /// True if it is soldered to the board: QEMU has it with the machine.
    #[serde(default)]
    pub on_board: bool,
    /// True if the guest does not boot without it: a leaf of a mesh then has one without a cable.
    #[serde(default)]
    pub needed: bool,
    /// Properties of that device; an empty value is kept, as in `romfile=`.
    #[serde(default)]
    pub options: BTreeMap<String, String>,
    /// The guest loses frames that arrive faster than this.
    pub max_kbit_per_s: Option<u32>,
    /// The first version of QEMU whose card the guest's driver does not work with.
    pub qemu_below: Option<String>,
    /// Advice for the user.
    #[serde(default)]
    pub qemu_hint: String,
}

/// The disk that stands for flash. A machine has it only where the algorithm keeps something on the device.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Disk {
    /// QEMU's name of the device, for example `virtio-blk-device`.
    pub model: String,
    /// Properties of that device.
    #[serde(default)]
    pub options: BTreeMap<String, String>,
}

/// The UART of a radio. A machine has it only as a node of a mesh.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Radio {
    /// QEMU's name of the UART, for example `isa-serial`.
    pub model: String,
    /// Properties of that device.
    #[serde(default)]
    pub options: BTreeMap<String, String>,
    /// The firmware of a node, as [`Kernel::image`].
    pub image: PathBuf,
    /// Its size budgets, as [`Board::limits`].
    #[serde(default)]
    pub limits: BTreeMap<String, u32>,
}

/// The role of an edge between devices and the aggregator above it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gateway {
    /// Its firmware, as [`Kernel::image`].
    pub image: PathBuf,
    /// Its size budgets, as [`Board::limits`].
    #[serde(default)]
    pub limits: BTreeMap<String, u32>,
}

/// The firmware image.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kernel {
    /// After `-kernel`. Relative to the tree in the file, joined to it by [`Board::load`].
    pub image: PathBuf,
    /// After `-append`; left out if empty.
    #[serde(default)]
    pub command_line: String,
}

/// The guest's shell on the serial line.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shell {
    /// Printed when the shell has read its line and waits for the next.
    pub prompt: String,
    /// Text of a line with which the guest reports its own end. It may go on to print a trace,
    /// and it may never stop by itself.
    #[serde(default)]
    pub fatal: Vec<String>,
}

/// Facts of a microcontroller that its firmware is built for: addresses, lines, and the memory that it has.
#[derive(Clone, Debug, Deserialize)]
pub struct Firmware {
    /// Rust's target.
    pub target: String,
    /// Code and constants: flash, or what stands for it.
    pub code: Region,
    /// All else.
    pub ram: Region,
    /// Flash for the examples of a device, which lie in RAM otherwise.
    pub flash: Option<Region>,
    /// The stack's part of the RAM.
    pub stack_kib: u32,
    /// RAM that the firmware takes besides stack and connections, where the board states a real part's.
    pub own_kib: Option<u32>,
    /// Page of the guest under QEMU, within which a hot loop has to stay.
    pub page_kib: u32,
    /// Devices of the machine: what the drivers of its firmware have to know.
    #[serde(flatten)]
    pub devices: BTreeMap<String, Value>,
}

/// A region of memory.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Region {
    /// Its first address.
    pub start: u32,
    /// Its length.
    pub kib: u32,
}

/// Reason for which a board could not be read.
#[derive(Debug, thiserror::Error)]
pub enum BoardError {
    /// There is no such file, or it cannot be read.
    #[error("board {name}: {source}; boards here: {known}")]
    Read {
        /// The request as given.
        name: String,
        /// The path that was tried, and the reason.
        source: FileError,
        /// The boards that do exist, for the message.
        known: String,
    },
    /// The file is not a board, or one that cannot work.
    #[error("{path}: {mistake}")]
    Mistake {
        /// The file.
        path: PathBuf,
        /// Place and advice: the change to make.
        mistake: Box<Mistake>,
    },
}

impl Board {
    /// Reads the board called `name`: of the tree's `boards/`, or one that is built in where there is no tree;
    /// or at the path `name` if it has a slash (a folder with a `board.toml`, or the file itself). Paths in it
    /// are joined to the tree. A board may ask only for what is harmless.
    pub fn load(tree: Option<&Path>, name: &str) -> Result<Self, BoardError> {
        let (path, text) = read(tree, name)?;
        let is_own = |tree: &Path| is_within(&path, &tree.join("boards"));
        let is_strangers = name.contains('/') && !tree.is_some_and(is_own);
        let mut board =
            Self::parse(&text, is_strangers).map_err(|mistake| BoardError::Mistake {
                path,
                mistake: Box::new(mistake),
            })?;
        if let Some(tree) = tree {
            board.kernel.image = tree.join(&board.kernel.image);
            let radio = board.radio.iter_mut();
            radio.for_each(|radio| radio.image = tree.join(&radio.image));
            let gateway = board.gateway.iter_mut();
            gateway.for_each(|gateway| gateway.image = tree.join(&gateway.image));
        }
        board.path = name.contains('/').then(|| name.to_owned());
        board.text = text;
        Ok(board)
    }

    /// Name of the board whose firmware this is, in whatever role.
    pub fn folder(&self) -> &str {
        self.name.strip_suffix(GATEWAY).unwrap_or(&self.name)
    }

    /// The same machine with the firmware of a gateway; `None` if the board has none.
    pub fn as_gateway(&self) -> Option<Self> {
        let mut board = self.clone();
        board.kernel.image = self.gateway.as_ref()?.image.clone();
        board.name += GATEWAY;
        board.radio = None;
        Some(board)
    }

    fn parse(text: &str, is_strangers: bool) -> Result<Self, Mistake> {
        let document = Document::toml(text)?;
        document.check(&schema::schema())?;
        let mut board: Self = document.read()?;
        board.is_strangers = is_strangers;
        let sound = board.check();
        sound.map_err(|problem| {
            // It begins with the path of the value.
            let path = problem.split([' ', ':']).next().unwrap_or_default();
            document.mistake(path, &problem)
        })?;
        Ok(board)
    }

    /// Checks that its guest can run on a machine of this memory, and use all of it.
    ///
    /// # Errors
    /// Reason of a failure.
    pub fn check_memory(&self, mib: u32) -> Result<(), String> {
        let fixed = self.machine.memory_mib;
        let (least, most) = match self.body {
            // The image is linked for a DRAM of this size and does not look how much there is.
            Guest::Zephyr => (fixed, fixed),
            // So is that of a microcontroller.
            Guest::Bare if self.firmware.is_some() => (fixed, fixed),
            Guest::Bare => (1, MOST_MEMORY_MIB.max(fixed)),
        };
        let (name, guest) = (&self.name, self.body);
        if mib < least {
            return Err(format!(
                "{mib} MiB of memory are too few: the {guest} guest of board {name} needs {least}"
            ));
        }
        if mib > most {
            return Err(format!(
                "{mib} MiB of memory are too many: the {guest} guest of board {name} can use {most}"
            ));
        }
        Ok(())
    }

    /// True if its guest reads on the kernel's command line how fast its clock runs; others are told in their shell.
    pub fn tells_speed(&self) -> bool {
        self.body == Guest::Bare && self.firmware.is_none()
    }

    /// True if its image is a program of the host, and nothing is emulated.
    pub fn is_program(&self) -> bool {
        self.machine.program.is_some()
    }

    /// Name or path under which [`Board::load`] finds it.
    pub fn asked(&self) -> &str {
        self.path.as_ref().unwrap_or(&self.name)
    }

    fn check(&self) -> Result<(), String> {
        if self.shell.prompt.trim().is_empty() {
            return Err("shell.prompt is empty: nothing would tell that the guest listens".into());
        }
        if self.machine.memory_mib == 0 {
            return Err("machine.memory_mib is 0".into());
        }
        if self.nic.on_board && !self.nic.options.is_empty() {
            return Err("nic.options are of a card that is plugged in: leave them out".into());
        }
        if self.nic.max_kbit_per_s == Some(0) {
            return Err("nic.max_kbit_per_s is 0: leave it out if there is no limit".into());
        }
        if self
            .nic
            .qemu_below
            .as_deref()
            .is_some_and(|text| Version::parse(text).is_none())
        {
            return Err("nic.qemu_below is not a version such as 8.0.50".into());
        }
        if self.shell.fatal.iter().any(|text| text.trim().is_empty()) {
            return Err("shell.fatal has an empty text: every line would be fatal".into());
        }
        self.clock.as_ref().map_or(Ok(()), Clock::check)?;
        self.energy.as_ref().map_or(Ok(()), Energy::check)?;
        if let Some(words) = &self.machine.program {
            return program::check(self, words);
        }
        harmless::check(&self.machine, &self.nic, self.storage.as_ref())?;
        no_comma("nic", &self.nic.model, &self.nic.options)?;
        let disk = self.storage.as_ref();
        disk.map_or(Ok(()), |disk| {
            no_comma("storage", &disk.model, &disk.options)
        })?;
        let Some(radio) = &self.radio else {
            return Ok(());
        };
        harmless::radio(radio)?;
        no_comma("radio", &radio.model, &radio.options)
    }
}

/// Refuses a comma in a device's model or options.
fn no_comma(table: &str, model: &String, options: &BTreeMap<String, String>) -> Result<(), String> {
    let texts = options.iter().flat_map(|(key, value)| [key, value]);
    match texts.chain([model]).find(|text| text.contains(',')) {
        Some(text) => Err(format!(
            "{table}: `{text}` has a comma, which would end the option"
        )),
        None => Ok(()),
    }
}

/// The text of a board, and what errors call it.
fn read(tree: Option<&Path>, name: &str) -> Result<(PathBuf, String), BoardError> {
    let built_in = || BUILT_IN.iter().find(|(known, _)| *known == name);
    if let (None, Some((name, text))) = (tree, built_in()) {
        return Ok((format!("built-in board {name}").into(), (*text).to_owned()));
    }
    let path = locate(tree, name);
    let text = zfl_files::read_text(&path, zfl_files::MAX_TEXT);
    let text = text.map_err(|source| BoardError::Read {
        name: name.to_owned(),
        source,
        known: known(tree).join(", "),
    })?;
    Ok((path, text))
}

/// The names of the boards of a tree, or of those built in, in order.
pub fn known(tree: Option<&Path>) -> Vec<String> {
    let Some(tree) = tree else {
        return BUILT_IN.map(|(name, _)| name.to_owned()).into();
    };
    let Ok(folders) = std::fs::read_dir(tree.join("boards")) else {
        return Vec::new();
    };
    let mut names: Vec<String> = folders
        .flatten()
        .filter(|folder| folder.path().join("board.toml").is_file())
        .filter_map(|folder| folder.file_name().into_string().ok())
        .collect();
    names.sort();
    names
}

/// Tells whether a file lies in a folder, links followed.
fn is_within(file: &Path, folder: &Path) -> bool {
    matches!((file.canonicalize(), folder.canonicalize()), (Ok(file), Ok(folder)) if file.starts_with(&folder))
}

fn locate(tree: Option<&Path>, name: &str) -> PathBuf {
    if !name.contains('/') {
        let boards = tree.unwrap_or(Path::new("")).join("boards");
        return boards.join(name).join("board.toml");
    }
    let path = PathBuf::from(name);
    if path.is_dir() {
        path.join("board.toml")
    } else {
        path
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn workspace() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
    }

    /// A board of the repository.
    pub(crate) fn board(name: &str) -> Board {
        Board::load(Some(&workspace()), name).unwrap_or_else(|error| panic!("{error}"))
    }

    #[test]
    fn every_board_of_the_repository_can_be_read() {
        let names = known(Some(&workspace()));
        assert!(names.contains(&"microvm".to_owned()), "{names:?}");
        for name in names {
            let board = board(&name);
            assert_eq!(board.name, name);
            assert!(board.kernel.image.starts_with(workspace()));
            let has_figures = board.clock.is_some() && board.energy.is_some();
            assert!(has_figures || board.is_program(), "{name}");
        }
    }

    #[test]
    fn what_is_built_in_is_what_the_folder_has() {
        let folders = known(Some(&workspace()));
        assert!(known(None).iter().all(|name| folders.contains(name)));
        for name in known(None) {
            let built_in = Board::load(None, &name).unwrap();
            let image = workspace().join(&built_in.kernel.image);
            assert_eq!(image, board(&name).kernel.image);
        }
        let error = Board::load(None, "toaster").unwrap_err().to_string();
        assert!(error.contains("boards here: microvm, q35"), "{error}");
    }

    #[test]
    fn a_board_that_is_not_there_names_those_that_are() {
        let error = Board::load(Some(&workspace()), "toaster")
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("toaster") && error.contains("microvm"),
            "{error}"
        );
    }

    #[test]
    fn a_path_is_a_folder_or_a_file() {
        let folder = workspace().join("boards/microvm");
        let file = folder.join("board.toml");
        for path in [folder, file] {
            assert_eq!(
                Board::load(Some(&workspace()), path.to_str().unwrap())
                    .unwrap()
                    .name,
                "microvm"
            );
        }
    }

    /// The name of this target promises no DSP extension: the firmware has it, and is fast, by the processor's.
    #[test]
    fn the_firmware_of_armv8m_is_built_for_the_processor_of_its_boards() {
        let config = workspace().join("guest/bare/.cargo/config.toml");
        let config: toml::Table = std::fs::read_to_string(config).unwrap().parse().unwrap();
        let target = "thumbv8m.main-none-eabihf";
        // Cargo takes the triple apart at its dot.
        let flags = &config["target"]["thumbv8m"]["main-none-eabihf"]["rustflags"];
        let flags: Vec<_> = flags.as_array().unwrap().iter().collect();
        let names = known(Some(&workspace()));
        let boards = names.iter().map(|name| board(name));
        let is_of = |board: &Board| board.firmware.as_ref().is_some_and(|f| f.target == target);
        let cpus: Vec<_> = boards.filter(is_of).map(|b| b.machine.cpu).collect();
        assert!(cpus.len() >= 2, "{cpus:?}");
        for cpu in cpus {
            let flag = toml::Value::from(format!("-Ctarget-cpu={cpu}"));
            assert!(flags.contains(&&flag), "{flag} of {flags:?}");
        }
    }

    #[test]
    fn a_misspelt_key_is_an_error() {
        let text = std::fs::read_to_string(workspace().join("boards/microvm/board.toml")).unwrap();
        let text = text.replace("memory_mib", "memory_mb");
        let error = Board::parse(&text, false).unwrap_err();
        assert!(
            error.problem.contains("did you mean `memory_mib`?"),
            "{error}"
        );
        assert!(
            text.lines()
                .nth(error.line - 1)
                .unwrap()
                .starts_with("memory_mb")
        );
    }

    #[test]
    fn a_clock_and_an_energy_model_are_checked_and_may_be_absent() {
        let mut board = board("microvm");
        board.clock = Some(Clock { mips: 100.0 });
        assert!(board.check().unwrap_err().contains("clock.mips"));
        board.clock = None;
        board.energy.as_mut().unwrap().idle_watt = -1.0;
        assert!(board.check().unwrap_err().contains("energy.idle_watt"));
        board.energy = None;
        assert_eq!(board.check(), Ok(()));
    }

    #[test]
    fn a_board_without_a_prompt_is_refused() {
        let text = std::fs::read_to_string(workspace().join("boards/microvm/board.toml")).unwrap();
        let mut board: Board = toml::from_str(&text).unwrap();
        board.shell.prompt = "  ".into();
        assert!(board.check().unwrap_err().contains("shell.prompt"));
    }
}
