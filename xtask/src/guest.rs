//! Building firmware.

use crate::project::Board;
use crate::{GuestBody, process, project, setup};
use anyhow::{Context, Result, bail};
use std::collections::BTreeSet;
use std::path::Path;

/// The body that this file builds.
const BARE: &str = "bare";

/// Builds the firmware of a body, or what one board boots, and puts the images where the boards
/// expect them. Cargo itself finds out whether there is anything to do.
///
/// # Errors
/// If there is no such board, it boots something else, there is no toolchain, or the build fails.
pub fn build(body: GuestBody, board: Option<&str>) -> Result<()> {
    let GuestBody::Bare = body;
    let mut boards = project::boards()?;
    match board {
        Some(name) => boards = vec![take(boards, name)?],
        None => boards.retain(|board| board.body == BARE),
    }
    build_bare()?;
    // Boards may share an image.
    let images: BTreeSet<_> = boards.iter().map(|board| &board.kernel.image).collect();
    for image in images {
        place_bare(image)?;
        println!("firmware: {}", image.display());
    }
    Ok(())
}

/// The board of this name, if the bare-metal firmware is what it boots.
fn take(boards: Vec<Board>, name: &str) -> Result<Board> {
    let known: Vec<_> = boards.iter().map(|board| board.name.clone()).collect();
    let Some(board) = boards.into_iter().find(|board| board.name == name) else {
        bail!("there is no board {name:?}; there are {}", known.join(", "));
    };
    if board.body != BARE {
        bail!(
            "board {name} boots {}, and only {BARE} can be built so far",
            board.body
        );
    }
    Ok(board)
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
