//! Trial of the networks that a fleet can have, each on a small scale.

use std::io;

use zfl_sandbox::{Needs, NetworkMode, NetworkTrial, Plan, SandboxError};

use super::{Bridge, Subnet, Switchboard};

/// Finds out, by trying it in a child process, which network this machine allows, and chooses the
/// best for what is needed.
///
/// The process must have a single thread.
///
/// # Errors
/// [`SandboxError::Unavailable`] if what was asked for cannot be had; it says why and what to do.
pub fn probe(requested: NetworkMode, needs: Needs) -> Result<Plan, SandboxError> {
    zfl_sandbox::probe(requested, needs, try_networks)
}

fn try_networks() -> io::Result<NetworkTrial> {
    // A runtime on this thread alone, as a process that forks must be.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let subnet = Subnet::for_devices(1).expect("there is room for one device");
        let text = |error: io::Error| error.to_string();
        let tap = Switchboard::try_tap(subnet).await;
        let tap = tap.map_err(|error| format!("{error}; {}", way_to_a_tap(error.kind())));
        let (bridge, netem) = match Bridge::start(subnet, 0, &[]).await {
            Ok(bridge) => {
                let tapped = bridge.try_tap().await.map_err(text);
                (tapped, bridge.can_impair().await)
            }
            Err(error) => (Err(text(error)), Ok(())),
        };
        Ok(NetworkTrial { tap, bridge, netem })
    })
}

/// Advice to root about a tap that cannot be had.
fn way_to_a_tap(error: io::ErrorKind) -> &'static str {
    match error {
        io::ErrorKind::NotFound => {
            "it has to be made, as root: mkdir -p /dev/net && mknod -m 666 /dev/net/tun c 10 200"
        }
        io::ErrorKind::PermissionDenied => {
            "as root it would work, and for this user after, as root: chmod 666 /dev/net/tun"
        }
        _ => "as root it might work",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tap_that_cannot_be_had_comes_with_a_command_for_root() {
        for (error, command) in [
            (
                io::ErrorKind::NotFound,
                "mknod -m 666 /dev/net/tun c 10 200",
            ),
            (io::ErrorKind::PermissionDenied, "chmod 666 /dev/net/tun"),
            (io::ErrorKind::Other, "as root it might work"),
        ] {
            assert!(way_to_a_tap(error).contains(command), "{error}");
        }
    }
}
