//! Playing a role inside the sandbox: a fleet of stand-ins, and what one asks of it.

use std::net::SocketAddr;

use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use zfl_orchestrator::{BootReport, Fleet, FleetConfig, FleetEvent, probe};
use zfl_sandbox::{Needs, NetworkMode, Sandbox, enter};

use super::{PATIENCE, Stage, board, fleet, stage};

/// The `main` of a test program: its roles, each a test of that name, by the network that each asks
/// for and by what it needs of that.
#[macro_export]
macro_rules! roles {
    ($($network:ident $needs:expr => $($name:ident),* $(,)?;)*) => {
        fn main() {
            $crate::support::main(
                &[$($((stringify!($name), || $crate::support::play::play(zfl_sandbox::NetworkMode::$network, $needs, $name))),*),*],
                vec![$($($crate::support::test(stringify!($name), || $crate::support::play::passes(stringify!($name)))),*),*],
            );
        }
    };
}

/// Runs the role and expects it to succeed.
pub fn passes(role: &str) {
    let stage = Stage::new();
    let output = stage.role(role).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{:?}\n{text}", output.status);
    stage.check_empty(&[]);
}

pub const NOTHING: Needs = Needs {
    links: false,
    cuts: false,
    pcap: false,
};
pub const LINKS: Needs = Needs {
    links: true,
    ..NOTHING
};

pub fn play<F: Future<Output = ()>>(
    network: NetworkMode,
    needs: Needs,
    role: fn(Sandbox) -> F,
) -> u8 {
    let plan = probe(network, needs).unwrap();
    enter(&plan, |sandbox| {
        tokio::runtime::Runtime::new()
            .unwrap()
            .block_on(role(sandbox));
        0
    })
    .unwrap()
}

pub type Events = UnboundedReceiver<FleetEvent>;

pub async fn start(sandbox: Sandbox, config: FleetConfig) -> (Fleet, SocketAddr, Events) {
    let (tell, events) = unbounded_channel();
    let fleet = Fleet::start(sandbox, config, tell).await.unwrap();
    let server = (fleet.server_ip(), 8080).into();
    (fleet, server, events)
}

pub async fn booted(sandbox: Sandbox, script: &str, count: u32) -> (Fleet, BootReport, Events) {
    let (fleet, server, events) = start(sandbox, fleet(board(script), count)).await;
    let report = fleet.boot(server).await;
    (fleet, report, events)
}

/// The next event that `pick` takes.
pub async fn next<T>(events: &mut Events, pick: impl Fn(FleetEvent) -> Option<T>) -> T {
    loop {
        let event = tokio::time::timeout(PATIENCE, events.recv()).await;
        if let Some(picked) = pick(event.expect("an event in time").expect("a fleet")) {
            return picked;
        }
    }
}

pub fn log_of(client: u32) -> String {
    std::fs::read_to_string(stage().join(format!("serial/{client}.log"))).unwrap()
}
