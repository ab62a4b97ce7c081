//! `zfl client`: only devices, as threads of this process, for an aggregator that runs elsewhere.

use crate::args::ClientArgs;
use crate::output;
use crate::secret::{VARIABLE, join_secret};
use anyhow::Result;
use std::collections::BTreeSet;
use std::path::Path;
use tokio::sync::mpsc::{self, UnboundedReceiver};
use zfl_experiment::place::{self, Place};
use zfl_experiment::{Refusal, Root};
use zfl_orchestrator::{
    DeviceBody, DeviceSpec, Fleet, FleetConfig, FleetEvent, Overrides, Word, preflight,
};
use zfl_runner::{Interrupts, block_on};
use zfl_sandbox::{Plan, Sandbox, enter};

/// Files of this process beside those of its devices.
const OTHER_FILES: u64 = 64;

/// Carries `zfl client` out, and returns the exit status.
///
/// # Errors
/// A [`Refusal`] of what cannot be meant; any other failure to begin.
pub fn client(args: &ClientArgs, root: &Root) -> Result<u8> {
    let secret = join_secret(args.join_secret.as_deref(), std::env::var_os(VARIABLE))?;
    let name = format!("{}-client-{}", place::timestamp_now(), args.clients);
    let place = Place::of(args.out.as_deref(), root.runs(), &name);
    place.look()?;
    let devices = devices(args, secret);
    preflight(&devices, OTHER_FILES).map_err(Refusal::of)?;
    let out = place.make()?;
    let mut outcome = Ok(1);
    enter(&Plan::native(), |sandbox| {
        outcome = block_on(live(sandbox, args, devices, &out));
        0
    })?;
    outcome
}

fn devices(args: &ClientArgs, secret: Option<Word>) -> Vec<DeviceSpec> {
    let overrides = Overrides {
        local_epochs: Some(args.epochs),
        batch_size: Some(args.batch_size),
    };
    let device = |client| DeviceSpec {
        // Other devices may have joined before: whichever ID is free will do.
        join_as: None,
        overrides,
        secret,
        ..DeviceSpec::new(client, DeviceBody::Native)
    };
    (0..args.clients).map(device).collect()
}

async fn live(
    sandbox: Sandbox,
    args: &ClientArgs,
    devices: Vec<DeviceSpec>,
    out: &Path,
) -> Result<u8> {
    let mut interrupts = Interrupts::new()?;
    let (tell, told) = mpsc::unbounded_channel();
    let config = FleetConfig::new(devices, out.join("serial"));
    let fleet = Fleet::start(sandbox, config, tell).await?;
    let report = fleet.boot(args.server).await;
    output::say(&format!(
        "{} devices run and ask the aggregator at {} until it answers; Ctrl-C ends them",
        report.booted.len(),
        args.server
    ));
    output::say(&format!("logs in {}", out.join("serial").display()));
    let status = tokio::select! {
        ends = ends(told, args.clients) => {
            output::say(&ends.describe(args.clients));
            u8::from(ends.finished < args.clients)
        }
        interrupt = interrupts.next() => interrupt.status,
    };
    fleet.stop().await;
    Ok(status)
}

/// Ends of devices.
#[derive(Debug, Default, PartialEq, Eq)]
struct Ends {
    finished: u32,
    died: u32,
    /// Those that the aggregator had no place for.
    refused: BTreeSet<u32>,
}

impl Ends {
    /// True if all of so many have ended, except those without a place: they would go on
    /// asking for ever.
    fn are_all(&self, clients: u32) -> bool {
        self.finished + self.died + self.refused.len() as u32 >= clients
    }

    fn describe(&self, clients: u32) -> String {
        let mut text = format!(
            "the experiment is over for {} of {clients} devices",
            self.finished
        );
        if !self.refused.is_empty() {
            text += &format!(
                "; {} never joined, for the reason above",
                self.refused.len()
            );
        }
        text
    }
}

/// Waits until every device has ended that could join.
async fn ends(mut told: UnboundedReceiver<FleetEvent>, clients: u32) -> Ends {
    let mut ends = Ends::default();
    while !ends.are_all(clients) {
        match told.recv().await {
            Some(FleetEvent::Died(death)) => {
                output::warn(&format!("device {} died: {}", death.client, death.reason));
                ends.refused.remove(&death.client);
                ends.died += 1;
            }
            Some(FleetEvent::Refused { client, reason }) => {
                output::warn(&format!("device {client} cannot join: {reason}"));
                ends.refused.insert(client);
            }
            Some(FleetEvent::Finished { client }) => {
                // It asked again, and had a place then.
                ends.refused.remove(&client);
                ends.finished += 1;
            }
            Some(_) => {}
            None => break,
        }
    }
    ends
}
