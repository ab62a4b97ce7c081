//! `cargo xtask sizes`: what each firmware takes of its board's memory, against the limits in
//! `board.toml`.
//!
//! What is in the image is read from its ELF file; heap, stack and the host's memory are measured on
//! devices that train two rounds of the default model on 600 examples each.

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
    let boards: Vec<Board> = project::boards()?
        .into_iter()
        .filter(|board| project::root().join(&board.kernel.image).is_file())
        .collect();
    if boards.is_empty() {
        bail!("no firmware is built yet: cargo xtask build-guest --body all");
    }
    setup::qemu()?;
    let zfl = build_zfl()?;
    println!(
        "{:<12}{:>18}{:>18}{:>16}{:>16}{:>20}",
        "board", "ROM: image KiB", "RAM: static KiB", "heap KiB", "stack KiB", "host private KiB"
    );
    let mut passed = Vec::new();
    for board in &boards {
        let mut sizes = of_image(&project::root().join(&board.kernel.image))?;
        measure(&zfl, board, &mut sizes).with_context(|| format!("a device on {}", board.name))?;
        println!("{}", row(&board.name, &sizes, &board.limits));
        passed.extend(
            over(&sizes, &board.limits, board.firmware.as_ref())
                .iter()
                .map(|what| format!("{}: {what}", board.name)),
        );
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

/// Lets two devices train two rounds and reads what they told; the larger counts.
fn measure(zfl: &Path, board: &Board, sizes: &mut Sizes) -> Result<()> {
    let out = project::target_dir().join("sizes").join(&board.name);
    if out.exists() {
        std::fs::remove_dir_all(&out)
            .with_context(|| format!("cannot remove {}", out.display()))?;
    }
    let mut run = Command::new(zfl);
    run.current_dir(project::root()).stdout(Stdio::null());
    // Two devices, so that neither has QEMU's own code to itself.
    run.args(["run", "--clients", "2", "--rounds", "2"]);
    run.args(["--body", &board.body, "--board", &board.name]);
    run.args(job(board.firmware.as_ref()));
    process::run(run.arg("--out").arg(&out))?;
    let table = std::fs::read_to_string(out.join("clients.csv"))?;
    let column = |name: &str| {
        let mut lines = table.lines();
        let at = lines.next()?.split(',').position(|head| head == name)?;
        lines
            .filter_map(|line| line.split(',').nth(at)?.parse::<u64>().ok())
            .max()
    };
    sizes.heap = column("heap_peak_bytes");
    sizes.stack = column("stack_peak_bytes");
    let summary: serde_json::Value =
        serde_json::from_slice(&std::fs::read(out.join("summary.json"))?)?;
    sizes.host = summary["memory"]["private_bytes_max"].as_u64();
    Ok(())
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
        "{name:<12}{:>18}{:>18}{:>16}{:>16}{:>20}",
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
