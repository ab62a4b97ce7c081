//! What this machine allows, found out by doing it: a child process makes the namespaces and the
//! network on a small scale, says how far it came, and is gone with all of it.

use std::fmt;
use std::io::{self, Read, Write};

use nix::sys::wait::waitpid;
use nix::unistd::geteuid;

use super::{SandboxError, Scratch, namespaces, supervise};
use crate::network::{Bridge, Subnet};
use crate::sys;

/// The networks that can be asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NetworkMode {
    /// The best that this machine allows.
    #[default]
    Auto,
    /// A Linux bridge and a tap per device, inside namespaces.
    Bridge,
    /// QEMU's user-mode network (slirp) with a forwarded port per device.
    User,
}

/// The networks that a fleet can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    /// A Linux bridge and a tap per device, inside namespaces.
    Bridge,
    /// QEMU's user-mode network (slirp) with a forwarded port per device.
    User,
    /// The host's loopback, for native devices only.
    Loopback,
}

/// What keeps a fleet apart from its host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// Network, PID and mount namespaces of its own.
    Namespaces {
        /// And a user namespace, where that is what allows the others.
        user: bool,
    },
    /// Processes that look after each other, and a temporary folder.
    None,
}

/// What this machine allows, and why; its `Display` is one line for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Which network it will be.
    pub network: Network,
    /// What keeps it apart from the host.
    pub isolation: Isolation,
    /// Why it is not a better one, and what would change that; empty if it is the best.
    pub reason: String,
}

impl Plan {
    /// The plan for a fleet of native devices only: loopback, no namespaces, no extra processes.
    pub fn native() -> Self {
        Self {
            network: Network::Loopback,
            isolation: Isolation::None,
            reason: String::new(),
        }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.network {
            Network::Bridge => "bridge (a Linux bridge and a tap per device)",
            Network::User => "user (QEMU's user-mode network, a forwarded port per device)",
            Network::Loopback => "loopback",
        })?;
        match (self.network, self.isolation) {
            (Network::Loopback, _) => {}
            (_, Isolation::Namespaces { .. }) => f.write_str(" in private namespaces")?,
            (_, Isolation::None) => f.write_str(" on the host's loopback")?,
        }
        if self.reason.is_empty() {
            Ok(())
        } else {
            write!(f, ": {}", self.reason)
        }
    }
}

/// How far the child came.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Trial {
    NoNamespaces(String),
    NoBridge(String),
    Bridge,
}

/// Finds out, by trying it in a child process, which network this machine allows.
///
/// The process must have a single thread.
///
/// # Errors
/// [`SandboxError::Unavailable`] if the bridge was asked for and cannot be had; it says why.
pub fn probe(requested: NetworkMode) -> Result<Plan, SandboxError> {
    // Root needs no user namespace, unless it is root of a container that took that right away.
    let candidates: &[bool] = if geteuid().is_root() {
        &[false, true]
    } else {
        &[true]
    };
    let mut best = (Isolation::None, Trial::NoNamespaces(String::new()));
    for &user in candidates {
        let trial = trial(user)?;
        let isolation = match trial {
            Trial::NoNamespaces(_) => Isolation::None,
            _ => Isolation::Namespaces { user },
        };
        best = (isolation, trial);
        if isolation != Isolation::None {
            break;
        }
    }
    decide(requested, best.0, best.1)
}

fn decide(
    requested: NetworkMode,
    isolation: Isolation,
    trial: Trial,
) -> Result<Plan, SandboxError> {
    let reason = match trial {
        Trial::Bridge => String::new(),
        Trial::NoBridge(why) => format!("no bridge, since {why}; as root it would work"),
        Trial::NoNamespaces(why) => {
            format!("this machine allows no namespaces ({why}); as root it might")
        }
    };
    let plan = |network, reason| {
        Ok(Plan {
            network,
            isolation,
            reason,
        })
    };
    match (requested, reason.is_empty()) {
        (NetworkMode::Auto | NetworkMode::Bridge, true) => plan(Network::Bridge, reason),
        (NetworkMode::Auto, false) => plan(Network::User, reason),
        (NetworkMode::User, _) => plan(Network::User, "as asked for".into()),
        (NetworkMode::Bridge, false) => Err(SandboxError::Unavailable(format!(
            "the network `bridge` cannot be had: {reason}. `--network user` needs no privileges"
        ))),
    }
}

/// Makes everything once, in a child, and lets the kernel take it away again.
fn trial(user: bool) -> io::Result<Trial> {
    let (mut answer, to_parent) = io::pipe()?;
    let mut to_parent = Some(to_parent);
    let mask = supervise::block_signals()?;
    let child = sys::fork(|| {
        let tried = try_namespaces(user, to_parent.as_ref());
        // What comes from process 1 of the namespace is already in the pipe.
        let _ = to_parent
            .take()
            .zip(tried.err())
            .map(|(mut to, error)| write!(to, "n{error}"));
        0
    });
    mask.thread_set_mask()?;
    let child = child?;
    to_parent.take();
    let mut text = String::new();
    answer.read_to_string(&mut text)?;
    waitpid(child, None)?;
    let why = || text.get(1..).unwrap_or_default().to_owned();
    Ok(match text.as_bytes().first() {
        Some(b'+') => Trial::Bridge,
        Some(b'b') => Trial::NoBridge(why()),
        _ => Trial::NoNamespaces(why()),
    })
}

fn try_namespaces(user: bool, to_parent: Option<&io::PipeWriter>) -> io::Result<()> {
    namespaces::unshare_pid(user)?;
    let init = sys::fork(|| {
        let letter_and_reason = match namespaces::unshare_rest().and_then(|()| Scratch::detached())
        {
            Err(error) => format!("n{error}"),
            Ok(_) => match try_bridge() {
                Err(error) => format!("b{error}"),
                Ok(()) => "+".to_owned(),
            },
        };
        // The parent reads nothing if this fails, and takes it for "no namespaces".
        let _ = to_parent.map(|mut to| to.write_all(letter_and_reason.as_bytes()));
        0
    })?;
    waitpid(init, None)?;
    Ok(())
}

fn try_bridge() -> io::Result<()> {
    // A runtime on this thread alone, as a process that forks must be.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let subnet = Subnet::for_devices(1).expect("there is room for one device");
        Bridge::start(subnet).await?.add_tap("zfl0").await?;
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: Isolation = Isolation::Namespaces { user: true };

    #[test]
    fn the_default_is_the_best_and_says_why() {
        let plan = decide(NetworkMode::Auto, OWN, Trial::Bridge).unwrap();
        assert_eq!(plan.network, Network::Bridge);

        let trial = Trial::NoBridge("/dev/net/tun cannot be used: Permission denied".into());
        let plan = decide(NetworkMode::Auto, OWN, trial).unwrap();
        assert_eq!(plan.network, Network::User);
        assert_eq!(
            plan.to_string(),
            "user (QEMU's user-mode network, a forwarded port per device) in private namespaces: \
             no bridge, since /dev/net/tun cannot be used: Permission denied; as root it would work"
        );

        let trial = Trial::NoNamespaces("new PID namespace: No space left".into());
        let plan = decide(NetworkMode::Auto, Isolation::None, trial).unwrap();
        assert_eq!(
            (plan.network, plan.isolation),
            (Network::User, Isolation::None)
        );
        assert!(
            plan.to_string().contains("on the host's loopback"),
            "{plan}"
        );
    }

    #[test]
    fn what_is_asked_for_is_done_or_refused() {
        let plan = decide(NetworkMode::User, OWN, Trial::Bridge).unwrap();
        assert_eq!(plan.network, Network::User);
        let trial = Trial::NoBridge("there is no tun".into());
        let error = decide(NetworkMode::Bridge, OWN, trial)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("there is no tun") && error.contains("--network user"),
            "{error}"
        );
    }
}
