//! `zfl server`: only the aggregator, for devices that are started elsewhere.

use crate::args::ServerArgs;
use crate::run::{shown_status, status};
use crate::secret::{VARIABLE, join_secret};
use crate::terminal::Terminal;
use crate::terminal::display::Shown;
use crate::{command, output};
use anyhow::Result;
use zfl_clock::Instant;
use zfl_experiment::{Experiment, Refusal, Root};
use zfl_runner::Listening;

/// Carries `zfl server` out, and returns the exit status.
///
/// # Errors
/// A [`Refusal`] of what cannot be meant; that the address is taken; any
/// other failure to begin.
pub fn server(args: &ServerArgs, root: &Root, began: Instant) -> Result<u8> {
    args.display.check()?;
    let secret = join_secret(args.join_secret.as_deref(), std::env::var_os(VARIABLE))?;
    let settings = args.settings();
    let out = settings.out.as_deref();
    let resolved = Experiment::of_server(&settings, out, root);
    let (experiment, data) = resolved.map_err(Refusal::of)?;
    for line in &experiment.notes {
        output::note(line);
    }
    let shown = Shown;
    let terminal = Terminal::of(&experiment, args.display);
    let server = Listening {
        experiment,
        data,
        listen: args.listen,
        secret,
        clients_per_address: args.clients_per_address,
        page: args.dashboard.address(),
        command: Some(command::own()),
        signals: true,
        began,
    };
    Ok(shown_status(status(&server.run(terminal)?), shown))
}
