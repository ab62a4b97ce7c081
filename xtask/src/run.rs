//! `cargo xtask run`: `zfl run` on a machine where nothing is prepared.

use crate::guest::Roles;
use crate::{GuestBody, guest, process, project, setup, zephyr};
use anyhow::{Context, Result, bail};
use serde::Deserialize;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// The part of `zfl run --dry-run`'s answer that decides what is to be prepared.
#[derive(Deserialize)]
struct Plan {
    fleet: BTreeSet<Kind>,
    /// Radio of a mesh.
    radio: Option<String>,
    /// Body of edges.
    edge_body: Option<String>,
}

/// Kind of a device; a fleet may have several.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, PartialOrd, Ord)]
struct Kind {
    body: String,
    board: Option<String>,
}

/// Prepares what `zfl run` with these arguments needs, and becomes it.
///
/// # Errors
/// If the arguments are refused, or something cannot be set up or built.
pub fn run(args: &[OsString]) -> Result<ExitCode> {
    // Without arguments nothing can be refused, and bare firmware is what is wanted where no Zephyr is: it is
    // built beside zfl, whose last crates leave a processor idle.
    let beside = (args.is_empty() && zephyr::check().is_err()).then(|| {
        std::thread::spawn(|| guest::build_roles(Some(GuestBody::Bare), None, Roles::Device))
    });
    let zfl = build_zfl()?;
    // What went wrong there goes wrong again below, and is told then.
    let _ = beside.map(std::thread::JoinHandle::join);
    // Nothing is prepared for what starts nothing.
    if !has_flag(args, &["--help", "-h", "--dry-run"]) {
        // Arguments are checked before anything is installed for them.
        let mut plan = match Plan::of(&zfl, args)? {
            Ok(plan) => plan,
            Err(status) => return Ok(status),
        };
        if plan.has_body("bare") && !has_flag(args, &["--body", "--board"]) && build_default()? {
            plan = match Plan::of(&zfl, args)? {
                Ok(plan) => plan,
                Err(status) => return Ok(status),
            };
        }
        let roles = plan.roles();
        let mut kinds = plan.kinds().into_iter();
        kinds.try_for_each(|kind| prepare(&kind, roles))?;
    }
    // Replaces this process, so that signals reach zfl and its exit status is this command's.
    let mut command = Command::new(&zfl);
    let error = command.arg("run").args(args).exec();
    bail!("cannot start {}: {error}", process::line(&command))
}

/// True if one of these flags is among the arguments, by itself or with its value behind `=`.
fn has_flag(args: &[OsString], flags: &[&str]) -> bool {
    args.iter().any(|arg| {
        let arg = arg.to_string_lossy();
        flags.contains(&arg.split('=').next().unwrap_or_default())
    })
}

/// Builds the Zephyr guest where that can be done: zfl takes it for each device of which neither a
/// flag nor a file says what it is.
fn build_default() -> Result<bool> {
    if zephyr::check().is_err() {
        return Ok(false);
    }
    println!(
        "Zephyr is here, so devices are Zephyr's unless told otherwise; --body bare takes the other"
    );
    guest::build(Some(GuestBody::Zephyr), None)?;
    Ok(true)
}

impl Plan {
    /// Resolves these arguments with zfl; gives the exit status if zfl refuses them.
    fn of(zfl: &Path, args: &[OsString]) -> Result<Result<Self, ExitCode>> {
        let output = Command::new(zfl)
            .args(["run", "--dry-run"])
            .args(args)
            .output()
            .with_context(|| format!("cannot start {}", zfl.display()))?;
        if !output.status.success() {
            // What it says besides when it goes well, it says again when it runs.
            std::io::stderr().write_all(&output.stderr)?;
            let code = output
                .status
                .code()
                .and_then(|code| u8::try_from(code).ok());
            return Ok(Err(code.map_or(ExitCode::FAILURE, ExitCode::from)));
        }
        Self::parse(&String::from_utf8_lossy(&output.stdout)).map(Ok)
    }

    fn parse(text: &str) -> Result<Self> {
        toml::from_str(text).context("`zfl run --dry-run` did not print its plan")
    }

    /// Firmware that the fleet boots: a newcomer's first run waits for no other.
    fn roles(&self) -> Roles {
        match self.radio.is_some() || self.edge_body.as_deref() == Some("bare") {
            true => Roles::All,
            false => Roles::Device,
        }
    }

    /// Kinds of the fleet, and of its gateways where no device has their body.
    fn kinds(&self) -> BTreeSet<Kind> {
        let mut kinds = self.fleet.clone();
        let is_guest = |body: &&String| *body == "bare" || *body == "zephyr";
        let gateways = self.edge_body.iter().find(is_guest);
        if let Some(body) = gateways.filter(|body| !self.has_body(body)) {
            let (body, board) = (body.clone(), None);
            kinds.insert(Kind { body, board });
        }
        kinds
    }

    fn has_body(&self, body: &str) -> bool {
        self.fleet.iter().any(|kind| kind.body == body)
    }
}

fn prepare(kind: &Kind, roles: Roles) -> Result<()> {
    match kind.body.as_str() {
        "native" => Ok(()),
        "bare" => {
            setup::qemu()?;
            guest::build_roles(Some(GuestBody::Bare), kind.board.as_deref(), roles)
        }
        "zephyr" => {
            setup::qemu()?;
            prepare_zephyr(kind.board.as_ref())
        }
        body => bail!("no firmware is built for body {body:?}"),
    }
}

/// Builds the Zephyr guest, or takes the image that is there where nothing can be built.
fn prepare_zephyr(name: Option<&String>) -> Result<()> {
    let boards = project::boards()?;
    let board = boards.iter().find(|board| Some(&board.name) == name);
    let Err(missing) = zephyr::check_for(board) else {
        return guest::build(Some(GuestBody::Zephyr), name.map(String::as_str));
    };
    if !board.is_some_and(|board| project::root().join(&board.kernel.image).is_file()) {
        return Err(missing);
    }
    println!("the Zephyr firmware is taken as it is: it cannot be built again here");
    Ok(())
}

/// Builds the command line as it is used, optimised, and returns its path.
///
/// # Errors
/// If it does not build.
pub fn build_zfl() -> Result<PathBuf> {
    let mut cargo = project::cargo();
    process::run(cargo.args(["build", "--release", "--locked", "--package", "zfl"]))
        .context("zfl does not build")?;
    Ok(project::target_dir().join("release/zfl"))
}

/// Builds the bare firmware, and installs a zfl that has it built in.
///
/// # Errors
/// If one of them does not build.
pub fn install(args: &[OsString]) -> Result<()> {
    guest::build(Some(GuestBody::Bare), None)?;
    let mut cargo = project::cargo();
    cargo.args(["install", "--locked", "--path", "crates/zfl"]);
    process::run(cargo.args(args)).context("zfl cannot be installed")
}

#[cfg(test)]
mod tests {
    use super::{Kind, Plan, Roles, has_flag};

    #[test]
    fn every_kind_of_a_fleet_is_prepared_once() {
        let group =
            |body: &str, more: &str| format!("[[fleet]]\ncount = 2\nbody = \"{body}\"\n{more}\n");
        let text = [
            "clients = 8\n".to_owned(),
            group("native", ""),
            group("bare", "board = \"q35\""),
            group("bare", "board = \"q35\""),
            group("zephyr", "board = \"qemu_x86\""),
        ];
        let plan = Plan::parse(&text.concat()).unwrap();
        let kind = |body: &str, board: Option<&str>| Kind {
            body: body.to_owned(),
            board: board.map(str::to_owned),
        };
        let expected = [
            kind("bare", Some("q35")),
            kind("native", None),
            kind("zephyr", Some("qemu_x86")),
        ];
        assert!(plan.fleet.iter().eq(&expected), "{:?}", plan.fleet);
        assert!(plan.has_body("bare") && !plan.has_body("mixed"));
        assert!(Plan::parse("body = \"bare\"").is_err());
    }

    #[test]
    fn firmware_of_gateways_and_nodes_is_built_for_those_who_boot_it() {
        let roles = |text: &str| {
            let plan = format!("{text}\n[[fleet]]\nbody = \"bare\"\nboard = \"microvm\"\n");
            Plan::parse(&plan).unwrap().roles()
        };
        assert_eq!(roles("clients = 2"), Roles::Device);
        assert_eq!(roles("edge_body = \"host\""), Roles::Device);
        assert_eq!(roles("edge_body = \"bare\""), Roles::All);
        assert_eq!(roles("radio = \"hc-12\""), Roles::All);
    }

    #[test]
    fn gateways_of_another_body_than_the_devices_are_prepared_as_well() {
        let bodies = |edges: &str| {
            let plan = format!("edge_body = \"{edges}\"\n[[fleet]]\nbody = \"zephyr\"\n");
            let kinds = Plan::parse(&plan).unwrap().kinds();
            kinds.into_iter().map(|kind| kind.body).collect::<Vec<_>>()
        };
        assert_eq!(bodies("host"), ["zephyr"]);
        assert_eq!(bodies("zephyr"), ["zephyr"]);
        assert_eq!(bodies("bare"), ["bare", "zephyr"]);
    }

    #[test]
    fn a_flag_is_seen_with_its_value_and_nothing_else_is() {
        let has = |arg: &str| has_flag(&[arg.into()], &["--body", "-h"]);
        assert!(has("--body") && has("--body=bare") && has("-h"));
        assert!(!has("--boards") && !has("body") && !has("-hidden"));
    }
}
