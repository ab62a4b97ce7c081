//! gdb into a device: `zfl gdb`.

use crate::runs;
use anyhow::{Context, Result};
use clap::Args;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use zfl_experiment::{Refusal, Root, Settings, require};
use zfl_files::Dir;
use zfl_runner::DOORS;

/// Debugger that knows all instruction sets; Debian's package has the same name.
const DEBUGGER: &str = "gdb-multiarch";

#[derive(Args)]
pub struct GdbArgs {
    /// The device
    #[arg(value_name = "CLIENT")]
    pub client: u32,

    /// The run [default: the one under way]
    #[arg(long, value_name = "RUN")]
    pub run: Option<PathBuf>,

    /// Handed to gdb, after `--`
    #[arg(value_name = "ARGS", last = true)]
    pub args: Vec<OsString>,
}

/// Becomes gdb, connected to a device, with the symbols of its firmware.
///
/// # Errors
/// A [`Refusal`] if the run lets no gdb in, or gdb is not installed.
pub fn gdb(args: &GdbArgs, root: &Root) -> Result<u8> {
    let run = runs::find(root.runs(), args.run.as_deref())?;
    let (folder, client) = (run.join(DOORS), args.client);
    let door = zfl_orchestrator::door_name(client);
    require(folder.join(&door).exists(), || {
        format!(
            "{} lets no gdb into a device {client}: it has to be under way, started with zfl run --gdb, and the device \
             emulated",
            run.display()
        )
    })?;
    // gdb has it until it ends: the run's deadlines stand still meanwhile.
    let lock = Dir::open(&folder)?.open_file(zfl_orchestrator::LOCK, 0)?;
    lock.lock_shared()?;
    fcntl(&lock, FcntlArg::F_SETFD(FdFlag::empty()))?;
    let board = root.board(&board_of(&run, client)?)?;
    let image = std::path::absolute(&board.kernel.image)?;
    let error = Command::new(DEBUGGER)
        // Files of the run's folder are not gdb's to execute.
        .args(["-q", "-iex", "set auto-load local-gdbinit off"])
        .arg(image)
        .args(["-ex", &format!("target remote ./{door}")])
        .args(&args.args)
        // A socket's address is short, the path of a run may not be.
        .current_dir(folder)
        .exec();
    Err(Refusal(format!(
        "{DEBUGGER} cannot be started: {error}; install it with: apt-get install {DEBUGGER}"
    ))
    .into())
}

/// Name of the board of a client, as the run's `config.toml` has it.
fn board_of(run: &Path, client: u32) -> Result<String> {
    let settings = Settings::of_run(&Dir::open(run)?)?;
    let mut end = 0_u32;
    let group = settings.fleet.into_iter().find(|group| {
        end = end.saturating_add(group.count.unwrap_or(0));
        client < end
    });
    let group = group.ok_or_else(|| Refusal(format!("the run has no device {client}")))?;
    group.device.board.context("the device is not emulated")
}
