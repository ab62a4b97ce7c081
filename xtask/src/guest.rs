//! Building firmware.

use crate::project::Board;
use crate::zephyr::{self, Zephyr};
use crate::{GuestBody, process, project, setup};
use anyhow::{Context, Result, bail};
use std::collections::BTreeSet;
use std::path::Path;

/// Builds the firmware of a body, or what one board boots, and puts the images where the boards
/// expect them. The builds themselves find out whether there is anything to do.
///
/// Without a body it is Zephyr where a Zephyr is found, else bare; which and why is said.
///
/// # Errors
/// If there is no such board, it boots something else, something is missing, or a build fails.
pub fn build(body: Option<GuestBody>, board: Option<&str>) -> Result<()> {
    build_roles(body, board, Roles::All)
}

/// Firmware of one board: that of a device alone, or those of a mesh's node and of a gateway, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Roles {
    /// Firmware of a fleet with IP.
    Device,
    /// Each that the board has.
    All,
}

/// Builds as [`build`] does, and no more than these roles.
///
/// # Errors
/// As [`build`].
pub fn build_roles(body: Option<GuestBody>, board: Option<&str>, roles: Roles) -> Result<()> {
    let mut boards = project::boards()?;
    if let Some(name) = board {
        boards = vec![take(boards, name)?];
        let board = &boards[0].body;
        if body.is_some_and(|body| body != GuestBody::All && body.name() != board) {
            bail!("board {name} boots {board}: leave --body out, or name another board");
        }
    } else {
        let body = body.unwrap_or_else(choose);
        boards.retain(|board| body == GuestBody::All || board.body == body.name());
        // The toolchain of a microcontroller comes when its board is asked for.
        boards.retain(|board| board.firmware.is_none() && board.machine.qemu == setup::EMULATOR);
    }
    let (bare, zephyr): (Vec<_>, Vec<_>) = boards
        .iter()
        .partition(|board| board.body == GuestBody::Bare.name());
    let (small, pcs): (Vec<_>, Vec<_>) = bare.into_iter().partition(|b| b.firmware.is_some());
    if !pcs.is_empty() {
        build_bare(setup::GUEST_TARGET, None, &[])?;
    }
    // Boards may share an image.
    let images: BTreeSet<_> = pcs.iter().map(|board| &board.kernel.image).collect();
    for image in images {
        place_bare(setup::GUEST_TARGET, image)?;
        println!("firmware: {}", image.display());
    }
    // A node of a mesh is an image of its own, and so is a gateway.
    let with_roles = pcs.iter().filter(|_| roles == Roles::All);
    let radios = with_roles.clone().filter_map(|board| board.radio.as_ref());
    let radios = radios.map(|role| ("radio", &role.image));
    let gateways = with_roles.filter_map(|board| board.gateway.as_ref());
    let gateways = gateways.map(|role| ("gateway", &role.image));
    let others: BTreeSet<_> = radios.chain(gateways).collect();
    for (role, image) in others {
        build_bare(setup::GUEST_TARGET, None, &[role])?;
        place_bare(setup::GUEST_TARGET, image)?;
        println!("firmware: {}", image.display());
    }
    for board in small {
        let target = board
            .firmware
            .as_ref()
            .map_or("", |firmware| &firmware.target);
        provide(&board.machine.qemu, target)?;
        build_bare(target, Some(&board.name), &[])?;
        place_bare(target, &board.kernel.image)?;
        println!("firmware: {}", board.kernel.image.display());
    }
    for board in zephyr {
        let gateway = board
            .gateway
            .iter()
            .map(|role| (Some("gateway"), &role.image));
        let radio = board.radio.iter().map(|role| (Some("radio"), &role.image));
        let roles = gateway.chain(radio);
        for (role, image) in [(None, &board.kernel.image)].into_iter().chain(roles) {
            zephyr::build(board, role, image)?;
            println!("firmware: {}", image.display());
        }
    }
    Ok(())
}

/// Installs what the firmware of a microcontroller is built and run with.
///
/// # Errors
/// If there is no such board, or something is missing and cannot be installed.
pub fn prepare(board: &str) -> Result<()> {
    let board = take(project::boards()?, board)?;
    let target = board
        .firmware
        .map_or_else(String::new, |firmware| firmware.target);
    provide(&board.machine.qemu, &target)
}

fn provide(emulator: &str, target: &str) -> Result<()> {
    setup::lld()?;
    setup::emulator(emulator)?;
    setup::toolchain(target).map(drop)
}

/// Builds benchmarks of a microcontroller's board, for a target.
///
/// # Errors
/// If something is missing, or they do not build.
pub fn build_benchmarks(board: &str, target: &str, names: &[&str]) -> Result<()> {
    let machine = take(project::boards()?, board)?.machine;
    provide(&machine.qemu, target)?;
    let mut cargo = bare_cargo(target, Some(board))?;
    cargo.args(["--no-default-features", "--features", "bench"]);
    cargo.args(names.iter().flat_map(|name| ["--bin", name]));
    // As what trains in the firmware, whose crates say it in its Cargo.toml.
    cargo.args(["--config", "profile.release.package.zfl-bare.opt-level=3"]);
    process::run(&mut cargo).context("the benchmarks do not build")
}

/// Default body of a build.
fn choose() -> GuestBody {
    match Zephyr::find() {
        Some(zephyr) => {
            println!(
                "building for Zephyr, since there is one at {}; --body bare builds the other",
                zephyr.base().display()
            );
            GuestBody::Zephyr
        }
        None => {
            println!(
                "building bare, since there is no Zephyr here; {} brings one",
                zephyr::SETUP
            );
            GuestBody::Bare
        }
    }
}

impl GuestBody {
    /// Name in a `board.toml`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bare => "bare",
            Self::Zephyr => "zephyr",
            Self::All => "all",
        }
    }
}

/// The board of this name.
fn take(boards: Vec<Board>, name: &str) -> Result<Board> {
    let known: Vec<_> = boards.iter().map(|board| board.name.clone()).collect();
    boards
        .into_iter()
        .find(|board| board.name == name)
        .with_context(|| format!("there is no board {name:?}; there are {}", known.join(", ")))
}

/// Builds the firmware for a target; that of a microcontroller for its board.
fn build_bare(target: &str, board: Option<&str>, features: &[&str]) -> Result<()> {
    let mut cargo = bare_cargo(target, board)?;
    cargo.args(["--features", &features.join(",")]);
    process::run(&mut cargo).context("the bare-metal firmware does not build")
}

/// Cargo's build of the bare guest for a target.
fn bare_cargo(target: &str, board: Option<&str>) -> Result<std::process::Command> {
    let folder = project::root().join("guest/bare");
    let toolchain = setup::toolchain(target)?;
    let mut cargo = toolchain.cargo("build");
    // The linker's flags are in the guest's own Cargo configuration, which goes by the folder.
    cargo
        .current_dir(&folder)
        .envs(board.map(|board| ("ZFL_BOARD", board)))
        .args(["--release", "--locked", "--target-dir"]);
    cargo.arg(folder.join("target"));
    if board.is_some() {
        cargo.args(["--features", "board"]);
    }
    Ok(cargo)
}

/// Copies the ELF file of a target, by rename: a QEMU that is just starting sees the old image or the new one, never
/// half of one.
fn place_bare(target: &str, image: &Path) -> Result<()> {
    let built = project::root()
        .join("guest/bare/target")
        .join(target)
        .join("release/zfl-bare");
    let image = project::root().join(image);
    // One that is the same stays as it is: it is built into zfl, which would be built again.
    if matches!((std::fs::read(&built), std::fs::read(&image)), (Ok(one), Ok(two)) if one == two) {
        return Ok(());
    }
    let fresh = image.with_extension("new");
    let folder = image
        .parent()
        .context("the image of a board has no folder")?;
    std::fs::create_dir_all(folder)
        .and_then(|()| std::fs::copy(&built, &fresh))
        .and_then(|_| std::fs::rename(&fresh, &image))
        .with_context(|| format!("cannot copy {} to {}", built.display(), image.display()))
}
