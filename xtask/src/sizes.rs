//! `cargo xtask sizes`: what each firmware takes of its board's memory, against the limits in
//! `board.toml`.
//!
//! What is in the image is read from its ELF file; heap, stack and the host's memory are measured on
//! devices that train two rounds of the default model on 600 examples each. Nodes of a mesh and gateways, whose
//! firmware is their own, do the same in small.

use crate::project::{self, Board, Firmware, Limits};
use crate::run::build_zfl;
use crate::{process, setup};
use anyhow::{Context, Result, bail};
use object::{Object, ObjectSection, ObjectSegment, SectionFlags, elf};
use std::path::Path;
use std::process::{Command, Stdio};

/// Memory of a firmware, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sizes {
    /// Loaded from the file: code, constants, initialised data.
    image: u64,
    /// Statically reserved and writable: data and bss.
    statics: u64,
    /// Most heap in use; `None` if the device does not tell.
    heap: Option<u64>,
    /// Most stack in use.
    stack: Option<u64>,
    /// Memory that its QEMU has to itself on the host.
    host: Option<u64>,
}

/// Role of a firmware.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Device,
    Radio,
    Gateway,
}

/// A firmware of a board, and its limits.
struct Guest<'a> {
    board: &'a Board,
    role: Role,
    image: &'a Path,
    limits: &'a Limits,
}

impl<'a> Guest<'a> {
    /// Each firmware of a board that is built.
    fn all(board: &'a Board) -> impl Iterator<Item = Self> {
        let device = (Role::Device, board.kernel.image.as_path(), &board.limits);
        let radio = board.radio.iter().map(|of| (Role::Radio, of));
        let gateway = board.gateway.iter().map(|of| (Role::Gateway, of));
        let others = radio.chain(gateway);
        let others = others.map(|(role, of)| (role, of.image.as_path(), &of.limits));
        let all = [device].into_iter().chain(others);
        let guests = all.map(move |(role, image, limits)| Self {
            board,
            role,
            image,
            limits,
        });
        guests.filter(|guest| project::root().join(guest.image).is_file())
    }

    fn name(&self) -> String {
        let name = &self.board.name;
        match self.role {
            Role::Device => name.clone(),
            Role::Radio => format!("{name} radio"),
            Role::Gateway => format!("{name} gateway"),
        }
    }
}

/// Stack for the report of a fault (`guest/bare/src/arch/flash.ld`).
const FAULT_STACK_BYTES: u64 = 2048;

impl Sizes {
    /// RAM in use at once at most, with the whole of the stacks.
    fn ram(&self, firmware: &Firmware) -> u64 {
        let stacks = (firmware.stack_kib << 10) + FAULT_STACK_BYTES;
        stacks + self.statics + self.heap.unwrap_or(0)
    }
}

/// Prints the sizes of every firmware that is built.
///
/// # Errors
/// If a limit is passed, nothing is built, or a device does not run.
pub fn all() -> Result<()> {
    let boards = project::boards()?;
    let guests: Vec<Guest<'_>> = boards.iter().flat_map(Guest::all).collect();
    if guests.is_empty() {
        bail!("no firmware is built yet: cargo xtask build-guest --body all");
    }
    setup::qemu()?;
    let zfl = build_zfl()?;
    println!(
        "{:<18}{:>18}{:>18}{:>16}{:>16}{:>20}",
        "board", "ROM: image KiB", "RAM: static KiB", "heap KiB", "stack KiB", "host private KiB"
    );
    let mut passed = Vec::new();
    for guest in &guests {
        let (name, limits) = (guest.name(), guest.limits);
        let mut sizes = of_image(&project::root().join(guest.image))?;
        measure(&zfl, guest, &mut sizes).with_context(|| format!("a device on {name}"))?;
        println!("{}", row(&name, &sizes, limits));
        let over = over(&sizes, limits, guest.board.firmware.as_ref());
        passed.extend(over.iter().map(|what| format!("{name}: {what}")));
    }
    if !passed.is_empty() {
        bail!(
            "over the limits of boards/*/board.toml: {}",
            passed.join(", ")
        );
    }
    Ok(())
}

fn of_image(path: &Path) -> Result<Sizes> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let file = object::File::parse(&*bytes)
        .with_context(|| format!("{} is no ELF file", path.display()))?;
    let image = file.segments().map(|segment| segment.file_range().1).sum();
    let writable = file.sections().filter(|section| match section.flags() {
        SectionFlags::Elf { sh_flags } => {
            let wanted = u64::from(elf::SHF_ALLOC | elf::SHF_WRITE);
            sh_flags & wanted == wanted
        }
        _ => false,
    });
    let statics = writable.map(|section| section.size()).sum();
    Ok(Sizes {
        image,
        statics,
        ..Sizes::default()
    })
}

/// Lets two devices train two rounds and reads what they, or their gateways, told; the larger counts.
fn measure(zfl: &Path, guest: &Guest<'_>, sizes: &mut Sizes) -> Result<()> {
    let Guest { board, role, .. } = *guest;
    let out = project::target_dir()
        .join("sizes")
        .join(guest.name().replace(' ', "-"));
    if out.exists() {
        std::fs::remove_dir_all(&out)
            .with_context(|| format!("cannot remove {}", out.display()))?;
    }
    let mut run = Command::new(zfl);
    run.current_dir(project::root()).stdout(Stdio::null());
    // Two devices, so that neither has QEMU's own code to itself.
    run.args(["run", "--clients", "2", "--rounds", "2"]);
    run.args(["--body", &board.body, "--board", &board.name]);
    match role {
        Role::Device => run.args(job(board.firmware.as_ref())),
        Role::Radio => run.args(MESH),
        Role::Gateway => run.args(["--edges", "2", "--edge-body", &board.body]),
    };
    process::run(run.arg("--out").arg(&out))?;
    let table = std::fs::read_to_string(out.join("clients.csv"))?;
    let column = |name: &str| {
        let mut lines = table.lines();
        let at = lines.next()?.split(',').position(|head| head == name)?;
        lines
            .filter_map(|line| line.split(',').nth(at)?.parse::<u64>().ok())
            .max()
    };
    [sizes.heap, sizes.stack] = match role {
        Role::Gateway => of_gateways(&out)?,
        Role::Device | Role::Radio => ["heap_peak_bytes", "stack_peak_bytes"].map(column),
    };
    let summary: serde_json::Value =
        serde_json::from_slice(&std::fs::read(out.join("summary.json"))?)?;
    sizes.host = summary["memory"]["private_bytes_max"].as_u64();
    Ok(())
}

/// Mesh of two nodes: a leaf behind its gateway, over 64 pixels.
const MESH: [&str; 10] = [
    "--radio",
    "hc-12",
    "--topology",
    "grid",
    "--data",
    "zfl:digits",
    "--examples",
    "60",
    "--batch-size",
    "20",
];

/// Peaks of heap and stack that gateways log in each round; `None` of a firmware that does not.
fn of_gateways(out: &Path) -> Result<[Option<u64>; 2]> {
    let mut peaks = [None; 2];
    for log in std::fs::read_dir(out.join("serial"))? {
        let text = String::from_utf8_lossy(&std::fs::read(log?.path())?).into_owned();
        for own in text.lines().filter_map(peaks_in) {
            peaks = [0, 1].map(|at| peaks[at].max(Some(own[at])));
        }
    }
    Ok(peaks)
}

/// Reads `delivered; heap 1234, stack 567 bytes at most`.
fn peaks_in(line: &str) -> Option<[u64; 2]> {
    let (_, peaks) = line.split_once("delivered; heap ")?;
    let (heap, rest) = peaks.split_once(", stack ")?;
    let (stack, _) = rest.split_once(' ')?;
    Some([heap.parse().ok()?, stack.parse().ok()?])
}

/// The training that a board is measured with: the default model on 600 examples, or what the memory of a real part
/// is meant for.
fn job(firmware: Option<&Firmware>) -> &'static [&'static str] {
    match firmware.map_or(u64::MAX, |firmware| firmware.ram.kib) {
        ..=128 => &[
            "--data",
            "data/digits",
            "--examples",
            "100",
            "--batch-size",
            "10",
        ],
        129..=1024 => &["--examples", "100", "--batch-size", "10"],
        _ => &["--examples", "600"],
    }
}

fn kib(bytes: u64) -> u64 {
    bytes.div_ceil(1024)
}

/// Lists the numbers over their limits, to the byte; and what is over the memory that a board states.
fn over(sizes: &Sizes, limits: &Limits, firmware: Option<&Firmware>) -> Vec<String> {
    let all = [
        ("image", Some(sizes.image), limits.image_kib),
        ("static", Some(sizes.statics), limits.static_kib),
        ("heap", sizes.heap, limits.heap_kib),
        ("stack", sizes.stack, limits.stack_kib),
        ("host memory", sizes.host, limits.host_private_kib),
    ];
    let passed = all.into_iter().filter_map(|(what, bytes, limit)| {
        let used = kib(bytes?);
        (used > limit).then(|| format!("{what} {used} KiB of {limit}"))
    });
    let memory = firmware.into_iter().flat_map(|firmware| {
        let whole = [
            ("flash", sizes.image, firmware.code.kib << 10),
            ("RAM", sizes.ram(firmware), firmware.ram.kib << 10),
        ];
        let passed = whole.into_iter().filter(|(_, used, there)| used > there);
        passed.map(|(what, used, there)| format!("{what} {used} bytes of {there}"))
    });
    passed.chain(memory).collect()
}

fn row(name: &str, sizes: &Sizes, limits: &Limits) -> String {
    let of = |bytes: Option<u64>, limit: u64| match bytes {
        Some(bytes) => format!("{} of {limit}", kib(bytes)),
        None => format!("- of {limit}"),
    };
    format!(
        "{name:<18}{:>18}{:>18}{:>16}{:>16}{:>20}",
        of(Some(sizes.image), limits.image_kib),
        of(Some(sizes.statics), limits.static_kib),
        of(sizes.heap, limits.heap_kib),
        of(sizes.stack, limits.stack_kib),
        of(sizes.host, limits.host_private_kib),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::project::Region;

    #[test]
    fn a_passed_limit_is_named() {
        let limits = Limits {
            image_kib: 10,
            static_kib: 10,
            heap_kib: 10,
            stack_kib: 10,
            host_private_kib: 10,
        };
        let fits = Sizes {
            image: 10_240,
            statics: 1,
            heap: Some(10_240),
            stack: Some(10_240),
            host: None,
        };
        assert_eq!(over(&fits, &limits, None), Vec::<String>::new());
        let large = Sizes {
            image: 10_241,
            heap: Some(20_000),
            host: Some(99_999),
            ..fits
        };
        assert_eq!(
            over(&large, &limits, None),
            [
                "image 11 KiB of 10",
                "heap 20 KiB of 10",
                "host memory 98 KiB of 10"
            ]
        );
    }

    #[test]
    fn each_role_of_a_board_has_limits_and_gateways_tell_their_peaks() {
        let boards = project::boards().unwrap();
        let board = boards.iter().find(|board| board.name == "microvm").unwrap();
        let [radio, gateway] = [&board.radio, &board.gateway].map(|role| role.as_ref().unwrap());
        for role in [radio, gateway] {
            let fits = Sizes {
                image: role.limits.image_kib << 10,
                statics: role.limits.static_kib << 10,
                ..Sizes::default()
            };
            assert_eq!(over(&fits, &role.limits, None), Vec::<String>::new());
            let more = Sizes {
                image: fits.image + 1,
                statics: fits.statics + 1,
                ..fits
            };
            assert_eq!(over(&more, &role.limits, None).len(), 2);
        }
        let line = "[    1.188] zfl: round 1: sums of 2 updates delivered; heap 1234, stack 567 bytes at most";
        assert_eq!(peaks_in(line), Some([1234, 567]));
        assert_eq!(peaks_in("[    1.188] zfl: stopped"), None);
    }

    #[test]
    fn one_byte_beyond_the_flash_or_the_ram_of_a_part_is_named() {
        let limits = Limits {
            image_kib: 512,
            static_kib: 512,
            heap_kib: 512,
            stack_kib: 512,
            host_private_kib: 512,
        };
        let part = Firmware {
            target: String::new(),
            code: Region { kib: 512 },
            ram: Region { kib: 64 },
            stack_kib: 14,
        };
        let full = Sizes {
            image: 512 << 10,
            statics: 100,
            heap: Some((48 << 10) - 100),
            ..Sizes::default()
        };
        assert_eq!(over(&full, &limits, Some(&part)), Vec::<String>::new());
        let more_ram = Sizes {
            statics: 101,
            ..full
        };
        assert_eq!(
            over(&more_ram, &limits, Some(&part)),
            ["RAM 65537 bytes of 65536"]
        );
        let more_flash = Sizes {
            image: full.image + 1,
            ..full
        };
        assert_eq!(
            over(&more_flash, &limits, Some(&part)),
            ["image 513 KiB of 512", "flash 524289 bytes of 524288"]
        );
    }
}
