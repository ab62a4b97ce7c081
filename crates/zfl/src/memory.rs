//! `zfl devices --memory`: where the bytes of the devices' memory go.

use crate::{devices, output};
use anyhow::Result;
use std::fmt::Write;
use std::path::Path;
use zfl_experiment::estimate::memory::{flash, parts};
use zfl_experiment::{Experiment, FleetGroup, GatewayPlan, Out, Root, Settings};
use zfl_files::Dir;
use zfl_run_dir::fold::Device;
use zfl_run_dir::metric::Id;

/// Prints the parts of the memory of each group's devices, as they are planned, and the peaks that the devices told.
///
/// # Errors
/// If the folder is no run directory, or what the run was made of is no longer there.
pub fn show(run: &Path, root: &Root) -> Result<()> {
    let settings = Settings::of_run(&Dir::open(run)?)?;
    let (experiment, _) = Experiment::of_run(&settings, Out::Resumed(run), root)?;
    let (devices, _) = devices::read(run)?;
    let mut first = 0;
    for group in &experiment.groups {
        let end = first + group.count;
        let own = devices
            .iter()
            .filter(|device| (first..end).contains(&device.client));
        output::print(&text(&experiment, group, own)?)?;
        first = end;
    }
    if let Some(plan) = experiment.gateway_plan() {
        output::print(&of_gateways(plan)?)?;
    }
    Ok(())
}

/// The table of the gateways.
fn of_gateways(plan: &GatewayPlan) -> Result<String> {
    let GatewayPlan {
        count,
        largest,
        board,
        ..
    } = plan;
    let mut text = format!(
        "gateways ({count} {}), {largest} devices each at most\n",
        board.name
    );
    let mut row = |name: &str, bytes: u64| writeln!(text, "  {name:<22}{bytes:>12}");
    for part in plan.parts() {
        row(part.name, part.bytes)?;
    }
    row("in all", plan.taken_bytes())?;
    let left = plan.ram_bytes().saturating_sub(plan.taken_bytes());
    row("left of the RAM", left)?;
    Ok(text)
}

/// The table of a group.
fn text<'a>(
    experiment: &Experiment,
    group: &FleetGroup,
    devices: impl Iterator<Item = &'a Device>,
) -> Result<String> {
    let firmware = group
        .board
        .as_ref()
        .and_then(|board| board.firmware.as_ref());
    let parts = parts(experiment, group)?;
    let sum: u64 = parts.iter().map(|part| part.bytes).sum();
    let mut text = format!("{} ({} {})\n", group.name, group.count, group.kind());
    let mut row = |name: &str, bytes: u64| writeln!(text, "  {name:<22}{bytes:>12}");
    for part in &parts {
        row(part.name, part.bytes)?;
    }
    row("in all", sum)?;
    if let Some(firmware) = firmware.filter(|firmware| firmware.free_bytes().is_some()) {
        row("left of the RAM", firmware.ram_bytes().saturating_sub(sum))?;
    }
    if let Some((lists, there)) = flash(experiment, group) {
        row("examples in flash", lists)?;
        row("left of the flash", there.saturating_sub(lists))?;
    }
    let (mut heap, mut stack) = (0, 0);
    for device in devices {
        let peak = |name| device.totals.over_rounds(name).unwrap_or(0.0) as u64;
        heap = heap.max(peak(Id::of("heap_peak_bytes")));
        stack = stack.max(peak(Id::of("stack_peak_bytes")));
    }
    for (name, peak) in [("peak of the heap", heap), ("peak of the stack", stack)] {
        if peak > 0 {
            row(name, peak)?;
        }
    }
    Ok(text)
}
