//! Boards under a root, and the bodies that they boot.

use crate::BodyChoice;
use crate::choice::Body;
use crate::refusal::{Refusal, require};
use crate::root::Root;
use crate::settings::{DeviceSettings, Settings};
use std::collections::BTreeSet;
use zfl_machine::Board;
use zfl_machine::board::Guest;

/// The boards of a bare and of a Zephyr device unless another is asked for.
const DEFAULT_BOARDS: [&str; 2] = ["microvm", "qemu_x86"];

/// Looks up the guest that a board boots. A board that cannot be read has none here: it is refused, by
/// its name, when it is needed.
pub fn guests(root: &Root) -> impl Fn(&str) -> Option<Guest> {
    |name| root.board(name).ok().map(|board| board.body)
}

/// The body asked for, or that of the board, or the best that is built.
pub(crate) fn body_of(device: &DeviceSettings, root: &Root) -> Result<Body, Refusal> {
    let body = device.body();
    Ok(match (body, &device.board) {
        (BodyChoice::Bare, _) => Body::Bare,
        (BodyChoice::Zephyr, _) => Body::Zephyr,
        (BodyChoice::Native, _) => Body::Native,
        (BodyChoice::Auto, Some(name)) => Body::of(root.board(name)?.body),
        (BodyChoice::Auto, None) if has_zephyr(root) => Body::Zephyr,
        (BodyChoice::Auto, None) => Body::Bare,
    })
}

/// The board asked for, or the default one of a guest.
pub(crate) fn board_of(
    guest: Guest,
    device: &DeviceSettings,
    root: &Root,
) -> Result<Board, Refusal> {
    if let Some(name) = &device.board {
        let board = root.board(name)?;
        require(board.body == guest, || {
            format!("board {name} does not boot --body {guest}: leave one of the two out")
        })?;
        return Ok(board);
    }
    default_board(root, guest)?.ok_or_else(|| {
        let place = match root.tree() {
            Some(tree) => format!("under {}", tree.join("boards").display()),
            None => "built in".to_owned(),
        };
        Refusal(format!(
            "there is no board for --body {guest} {place}: take --body bare or native"
        ))
    })
}

/// The board that native devices are calculated as, if there is one.
pub(crate) fn of_natives(root: &Root) -> Result<Option<Board>, Refusal> {
    default_board(root, Guest::Bare)
}

/// Parts of a file that flags override by the board or the body that they ask for, in lines for people.
pub fn overridden(flags: &Settings, file: &Settings, root: &Root) -> BTreeSet<String> {
    let devices = file.fleet.iter().map(|group| &group.device);
    devices
        .chain([&file.device])
        .filter_map(|device| overridden_device(&flags.device, device, root))
        .collect()
}

/// Without emulation everything goes that only a machine has: no word of that.
fn overridden_device(flags: &DeviceSettings, file: &DeviceSettings, root: &Root) -> Option<String> {
    let guest_of = guests(root);
    if flags.excludes_board(file, &guest_of) {
        let (guest, old) = (flags.body?.guest()?, file.board.as_deref()?);
        return Some(format!(
            "--body {guest}: {} instead of the file's board {old}, which boots {}",
            default_board(root, guest).ok()??.name,
            guest_of(old)?
        ));
    }
    if flags.excludes_body(file, &guest_of) {
        let board = flags.board.as_deref()?;
        return Some(format!(
            "--board {board}: {}, which it boots, instead of the file's body {}",
            guest_of(board)?,
            file.body?.guest()?
        ));
    }
    None
}

/// Tells whether the firmware of the Zephyr board is built that is taken where no board is named.
fn has_zephyr(root: &Root) -> bool {
    let board = default_board(root, Guest::Zephyr).ok().flatten();
    board.is_some_and(|board| board.kernel.image.is_file())
}

/// The board of devices of which only the body is said.
pub(crate) fn default_board(root: &Root, guest: Guest) -> Result<Option<Board>, Refusal> {
    // The others are slower, and come first by name.
    let mut names = root.boards();
    names.sort_by_key(|name| !DEFAULT_BOARDS.contains(&name.as_str()));
    for name in names {
        let board = root.board(&name)?;
        if board.body == guest {
            return Ok(Some(board));
        }
    }
    Ok(None)
}
