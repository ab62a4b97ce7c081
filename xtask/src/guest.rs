//! Building firmware.

use crate::{GuestBody, process, project, setup};
use anyhow::{Context, Result, bail};
use std::collections::BTreeSet;
use std::path::Path;

const BARE: &str = "bare";

/// Builds the firmware of a body, or what one board boots, and puts the images where the boards
/// expect them. Cargo itself finds out whether there is anything to do.
///
/// # Errors
/// If there is no such board, no toolchain, or the build fails.
pub fn build(body: GuestBody, board: Option<&str>) -> Result<()> {
    let boards = project::boards()?;
    if let Some(name) = board
        && !boards.iter().any(|board| board.name == name)
    {
        let names: Vec<_> = boards.iter().map(|board| board.name.as_str()).collect();
        bail!("there is no board {name:?}; there are {}", names.join(", "));
    }
    let wanted = |b: &&project::Board| match board {
        Some(name) => b.name == name,
        None => b.body == BARE || body == GuestBody::All,
    };
    let chosen: Vec<_> = boards.iter().filter(wanted).collect();
    if let Some(other) = chosen.iter().find(|board| board.body != BARE) {
        bail!(
            "board {} boots {}, which this command does not build yet",
            other.name,
            other.body
        );
    }
    let images: BTreeSet<_> = chosen.iter().map(|board| &board.kernel.image).collect();
    build_bare()?;
    for image in images {
        place_bare(image)?;
        println!("firmware: {}", image.display());
    }
    Ok(())
}

fn build_bare() -> Result<()> {
    let folder = project::root().join("guest/bare");
    let toolchain = setup::toolchain(setup::GUEST_TARGET)?;
    let mut cargo = toolchain.cargo("build");
    // The linker's flags are in the guest's own Cargo configuration, which goes by the folder.
    cargo
        .current_dir(&folder)
        .args(["--release", "--locked", "--target-dir"]);
    process::run(cargo.arg(folder.join("target"))).context("the bare-metal firmware does not build")
}

/// Copies the ELF file whose name is that of the image, by rename: a QEMU that is just starting sees
/// the old image or the new one, never half of one.
fn place_bare(image: &Path) -> Result<()> {
    let name = image
        .file_stem()
        .context("the image of a board has no name")?;
    let built = project::root()
        .join("guest/bare/target")
        .join(setup::GUEST_TARGET)
        .join("release")
        .join(name);
    let image = project::root().join(image);
    let fresh = image.with_extension("new");
    let folder = image
        .parent()
        .context("the image of a board has no folder")?;
    std::fs::create_dir_all(folder)
        .and_then(|()| std::fs::copy(&built, &fresh))
        .and_then(|_| std::fs::rename(&fresh, &image))
        .with_context(|| format!("cannot copy {} to {}", built.display(), image.display()))
}
