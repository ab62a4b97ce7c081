//! Rules of Landlock: what a machine may do where it has no root of its own.

use std::io;
use std::os::fd::OwnedFd;

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, PathBeneath, PathFd,
    Ruleset, RulesetAttr, RulesetCreatedAttr, Scope,
};

use crate::jail::Contents;

/// Makes rules by which only `contents` can be read, and nothing else be done to files, TCP, or the
/// processes outside, as far as this kernel knows how.
///
/// # Errors
/// If this kernel has no Landlock.
pub(crate) fn of(contents: &Contents) -> io::Result<OwnedFd> {
    const NEWEST: ABI = ABI::V6;
    let mut rules = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(NEWEST))
        .and_then(|rules| rules.handle_access(AccessNet::from_all(NEWEST)))
        .and_then(|rules| rules.scope(Scope::from_all(NEWEST)))
        .and_then(Ruleset::create)
        .map_err(io::Error::other)?;
    let readable: BitFlags<AccessFs> = AccessFs::ReadFile | AccessFs::ReadDir | AccessFs::Execute;
    for path in contents
        .outermost()
        .chain(contents.copied().map(|(path, _)| path))
    {
        let allowed = if path.is_dir() {
            readable
        } else {
            AccessFs::ReadFile | AccessFs::Execute
        };
        let opened = PathFd::new(path).map_err(io::Error::other)?;
        rules = rules
            .add_rule(PathBeneath::new(opened, allowed))
            .map_err(io::Error::other)?;
    }
    for path in &contents.devices {
        let allowed = AccessFs::ReadFile | AccessFs::WriteFile | AccessFs::IoctlDev;
        let opened = PathFd::new(path).map_err(io::Error::other)?;
        rules = rules
            .add_rule(PathBeneath::new(opened, allowed))
            .map_err(io::Error::other)?;
    }
    let fd: Option<OwnedFd> = rules.into();
    fd.ok_or_else(|| io::Error::other("this kernel has none (CONFIG_SECURITY_LANDLOCK)"))
}

/// Rules that this kernel is too old for, each with the reason.
pub(crate) fn lacks() -> impl Iterator<Item = (&'static str, String)> {
    let version = crate::sys::landlock_version();
    let rules = [
        (4, "rules about TCP (Landlock)", "6.7"),
        (6, "rules about signals (Landlock)", "6.12"),
    ];
    let missing = rules.into_iter().filter(move |(from, ..)| version < *from);
    missing.map(|(_, rule, linux)| (rule, format!("Linux has them from {linux} on")))
}
