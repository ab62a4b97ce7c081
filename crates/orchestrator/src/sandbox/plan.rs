//! What this machine allows, found out by doing it: a child process makes the namespaces and the
//! networks on a small scale, says how far it came, and is gone with all of it.

use std::fmt;
use std::io::{self, Read, Write};

use nix::sys::wait::waitpid;
use nix::unistd::geteuid;

use super::{SandboxError, Scratch, namespaces, supervise};
use crate::network::{Bridge, Subnet, Switchboard};
use crate::sys;

/// The networks that can be asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NetworkMode {
    /// The best that this machine allows for what is needed.
    #[default]
    Auto,
    /// A Linux bridge and a tap per device, inside namespaces.
    Bridge,
    /// The switch of this crate and one tap, inside namespaces.
    Switch,
    /// QEMU's user-mode network (slirp) with a forwarded port per device.
    User,
}

/// The networks that a fleet can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    /// A Linux bridge and a tap per device, inside namespaces.
    Bridge,
    /// The switch of this crate and one tap, inside namespaces.
    Switch,
    /// QEMU's user-mode network (slirp) with a forwarded port per device.
    User,
    /// The host's loopback, for native devices only.
    Loopback,
}

/// What a run asks of its network beside carrying frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// Links that lose, delay or limit, from the start or by [`Fleet::set_link`](crate::Fleet::set_link).
    pub links: bool,
    /// Links that can be cut.
    pub cuts: bool,
    /// Captures, or counts of frames and retransmissions.
    pub pcap: bool,
}

impl Needs {
    /// Whether anything is asked for at all.
    pub fn any(self) -> bool {
        self.links || self.cuts || self.pcap
    }

    /// For example `impaired links and captures`.
    fn names(self) -> String {
        let asked = [
            (self.links, "impaired links"),
            (self.cuts, "links that can be cut"),
            (self.pcap, "captures and counts of frames"),
        ];
        let names = asked.iter().filter(|(asked, _)| *asked);
        names
            .map(|(_, name)| *name)
            .collect::<Vec<_>>()
            .join(" and ")
    }
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
            Network::Switch => "switch (zfl's own switch, a link per device)",
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

/// What works in the namespaces, and why what does not.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Trial {
    namespaces: Result<(), String>,
    tap: Result<(), String>,
    bridge: Result<(), String>,
    netem: Result<(), String>,
}

impl Trial {
    const WORKS: Self = Self {
        namespaces: Ok(()),
        tap: Ok(()),
        bridge: Ok(()),
        netem: Ok(()),
    };

    /// Of a child that came to nothing, for this reason.
    fn no_namespaces(why: String) -> Self {
        Self {
            namespaces: Err(why),
            ..Self::WORKS
        }
    }

    /// Why neither bridge nor switch can be had, and what would change that.
    fn no_tap(&self) -> Option<String> {
        match (&self.namespaces, &self.tap) {
            (Err(why), _) => Some(format!(
                "this machine allows no namespaces ({why}); as root it might"
            )),
            (_, Err(why)) => Some(why.clone()),
            _ => None,
        }
    }

    /// One line for each thing that does not work, and a last one.
    fn to_text(&self) -> String {
        let parts = [
            ("namespaces", &self.namespaces),
            ("tap", &self.tap),
            ("bridge", &self.bridge),
            ("netem", &self.netem),
        ];
        let failed = parts.into_iter().filter_map(|(name, tried)| {
            let why = tried.as_ref().err()?.replace('\n', " ");
            Some(format!("{name} {why}\n"))
        });
        failed.chain([END.to_owned()]).collect()
    }

    fn from_text(text: &str) -> Self {
        let Some(lines) = text.strip_suffix(END) else {
            return Self::no_namespaces("the trial of it ended early".into());
        };
        let why = |name: &str| {
            let reason = lines
                .lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            reason.map_or(Ok(()), |reason| Err(reason.to_owned()))
        };
        Self {
            namespaces: why("namespaces"),
            tap: why("tap"),
            bridge: why("bridge"),
            netem: why("netem"),
        }
    }
}

/// What the child says last.
const END: &str = "end\n";

/// Finds out, by trying it in a child process, which network this machine allows, and chooses the
/// best for what is needed.
///
/// The process must have a single thread.
///
/// # Errors
/// [`SandboxError::Unavailable`] if what was asked for cannot be had; it says why and what to do.
pub fn probe(requested: NetworkMode, needs: Needs) -> Result<Plan, SandboxError> {
    // Root needs no user namespace, unless it is root of a container that took that right away.
    let candidates: &[bool] = if geteuid().is_root() {
        &[false, true]
    } else {
        &[true]
    };
    let mut best = (Isolation::None, Trial::no_namespaces(String::new()));
    for &user in candidates {
        let trial = trial(user)?;
        let isolation = match trial.namespaces {
            Err(_) => Isolation::None,
            Ok(()) => Isolation::Namespaces { user },
        };
        best = (isolation, trial);
        if isolation != Isolation::None {
            break;
        }
    }
    let (network, reason) = decide(requested, needs, &best.1).map_err(SandboxError::Unavailable)?;
    Ok(Plan {
        network,
        isolation: best.0,
        reason,
    })
}

/// The network and the reason for it, or why there is none.
fn decide(
    requested: NetworkMode,
    needs: Needs,
    trial: &Trial,
) -> Result<(Network, String), String> {
    match (requested, trial.no_tap()) {
        (NetworkMode::User, _) if needs.any() => Err(format!(
            "the network `user` has no {}: take `--network auto` or `switch`, or leave them out",
            needs.names()
        )),
        (NetworkMode::User, _) => Ok((Network::User, "as asked for".into())),
        (NetworkMode::Auto, Some(why)) if needs.any() => Err(format!(
            "{} need the network `switch`, which cannot be had: {why}. Do that, or leave them out",
            needs.names()
        )),
        (NetworkMode::Auto, Some(why)) if trial.namespaces.is_err() => Ok((Network::User, why)),
        (NetworkMode::Auto, Some(why)) => Ok((Network::User, format!("no bridge, since {why}"))),
        (NetworkMode::Bridge, Some(why)) => Err(cannot("bridge", &why, needs)),
        (NetworkMode::Switch, Some(why)) => Err(cannot("switch", &why, needs)),
        (NetworkMode::Switch, None) => Ok((Network::Switch, "as asked for".into())),
        (NetworkMode::Bridge, None) => bridge_or_switch(needs, trial),
        (NetworkMode::Auto, None) if needs.any() => {
            Ok((Network::Switch, format!("it has {}", needs.names())))
        }
        (NetworkMode::Auto, None) => Ok(match &trial.bridge {
            Ok(()) => (Network::Bridge, String::new()),
            Err(why) => (Network::Switch, format!("no bridge, since {why}")),
        }),
    }
}

/// What comes of a bridge that was asked for on a machine that has taps.
fn bridge_or_switch(needs: Needs, trial: &Trial) -> Result<(Network, String), String> {
    let instead = |why: &str| format!("in place of the bridge that was asked for, since {why}");
    match (&trial.bridge, &trial.netem) {
        (Err(why), _) => Err(format!(
            "the network `bridge` cannot be had: {why}. `--network switch` needs no bridge"
        )),
        _ if needs.pcap => Ok((
            Network::Switch,
            instead("only the switch captures and counts frames"),
        )),
        (_, Err(why)) if needs.links => Ok((Network::Switch, instead(why))),
        _ => Ok((Network::Bridge, String::new())),
    }
}

fn cannot(network: &str, why: &str, needs: Needs) -> String {
    let way_out = if needs.any() {
        format!("Without {} `--network user` would do", needs.names())
    } else {
        "`--network user` needs no privileges".to_owned()
    };
    format!("the network `{network}` cannot be had: {why}. {way_out}")
}

/// Makes everything once, in a child, and lets the kernel take it away again.
fn trial(user: bool) -> io::Result<Trial> {
    let (mut answer, to_parent) = io::pipe()?;
    let mut to_parent = Some(to_parent);
    let mask = supervise::block_signals()?;
    let child = sys::fork(|| {
        let tried = try_namespaces(user, to_parent.as_ref());
        // What comes from process 1 of the namespace is already in the pipe.
        if let (Some(mut to), Err(error)) = (to_parent.take(), tried) {
            let text = Trial::no_namespaces(error.to_string()).to_text();
            // The parent takes silence for "no namespaces", too.
            let _ = to.write_all(text.as_bytes());
        }
        0
    });
    mask.thread_set_mask()?;
    let child = child?;
    to_parent.take();
    let mut text = String::new();
    answer.read_to_string(&mut text)?;
    waitpid(child, None)?;
    Ok(Trial::from_text(&text))
}

fn try_namespaces(user: bool, to_parent: Option<&io::PipeWriter>) -> io::Result<()> {
    namespaces::unshare_pid(user)?;
    let init = sys::fork(|| {
        let made = namespaces::unshare_rest().and_then(|()| Scratch::detached());
        let tried = match made.and_then(|_| try_networks()) {
            Err(error) => Trial::no_namespaces(error.to_string()),
            Ok(trial) => trial,
        };
        // The parent reads nothing if this fails, and takes it for "no namespaces".
        let _ = to_parent.map(|mut to| to.write_all(tried.to_text().as_bytes()));
        0
    })?;
    waitpid(init, None)?;
    Ok(())
}

fn try_networks() -> io::Result<Trial> {
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
                let tapped = bridge.add_tap("zfl0").await.map(drop).map_err(text);
                (tapped, bridge.can_impair().await)
            }
            Err(error) => (Err(text(error)), Ok(())),
        };
        Ok(Trial {
            namespaces: Ok(()),
            tap,
            bridge,
            netem,
        })
    })
}

/// What root can do about a tap that cannot be had.
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

    const NOTHING: Needs = Needs {
        links: false,
        cuts: false,
        pcap: false,
    };
    const LINKS: Needs = Needs {
        links: true,
        ..NOTHING
    };
    const CUTS: Needs = Needs {
        cuts: true,
        ..NOTHING
    };
    const PCAP: Needs = Needs {
        pcap: true,
        ..NOTHING
    };

    fn no_tap() -> Trial {
        let why = "/dev/net/tun cannot be used: Permission denied".to_owned();
        let way = way_to_a_tap(io::ErrorKind::PermissionDenied);
        Trial {
            tap: Err(format!("{why}; {way}")),
            bridge: Err(why),
            ..Trial::WORKS
        }
    }

    fn no_netem() -> Trial {
        Trial {
            netem: Err("this kernel has no netem".into()),
            ..Trial::WORKS
        }
    }

    fn network(requested: NetworkMode, needs: Needs, trial: &Trial) -> Network {
        decide(requested, needs, trial).unwrap().0
    }

    fn plan_text(requested: NetworkMode, needs: Needs, trial: &Trial) -> String {
        let (network, reason) = decide(requested, needs, trial).unwrap();
        let isolation = match trial.namespaces {
            Ok(()) => Isolation::Namespaces { user: true },
            Err(_) => Isolation::None,
        };
        Plan {
            network,
            isolation,
            reason,
        }
        .to_string()
    }

    #[test]
    fn the_default_is_the_best_and_says_why() {
        let auto = |needs, trial: &Trial| plan_text(NetworkMode::Auto, needs, trial);
        assert_eq!(
            auto(NOTHING, &Trial::WORKS),
            "bridge (a Linux bridge and a tap per device) in private namespaces"
        );
        assert_eq!(
            auto(LINKS, &Trial::WORKS),
            "switch (zfl's own switch, a link per device) in private namespaces: \
             it has impaired links"
        );
        let both = Needs { pcap: true, ..CUTS };
        assert!(
            auto(both, &Trial::WORKS)
                .ends_with("it has links that can be cut and captures and counts of frames")
        );
        assert_eq!(
            auto(NOTHING, &no_tap()),
            "user (QEMU's user-mode network, a forwarded port per device) in private namespaces: \
             no bridge, since /dev/net/tun cannot be used: Permission denied; as root it would work, \
             and for this user after, as root: chmod 666 /dev/net/tun"
        );
        let none = Trial::no_namespaces("new PID namespace: No space left".into());
        assert!(auto(NOTHING, &none).contains("on the host's loopback: this machine allows no"));
        let no_bridge = Trial {
            bridge: Err("cannot make the bridge: Not supported".into()),
            ..Trial::WORKS
        };
        assert!(auto(NOTHING, &no_bridge).starts_with("switch"));
        assert!(auto(NOTHING, &no_bridge).contains("cannot make the bridge"));
    }

    #[test]
    fn a_bridge_does_what_the_kernel_can_and_the_switch_the_rest() {
        let asked = NetworkMode::Bridge;
        for needs in [NOTHING, CUTS, LINKS] {
            assert_eq!(network(asked, needs, &Trial::WORKS), Network::Bridge);
        }
        assert_eq!(network(asked, CUTS, &no_netem()), Network::Bridge);
        assert_eq!(network(asked, PCAP, &Trial::WORKS), Network::Switch);
        let text = plan_text(asked, LINKS, &no_netem());
        assert!(
            text.starts_with("switch")
                && text.contains("in place of the bridge that was asked for")
                && text.contains("this kernel has no netem"),
            "{text}"
        );
    }

    #[test]
    fn what_is_asked_for_is_done_or_refused() {
        let error = |requested, needs, trial: &Trial| decide(requested, needs, trial).unwrap_err();
        for trial in [Trial::WORKS, no_tap()] {
            assert_eq!(network(NetworkMode::User, NOTHING, &trial), Network::User);
            for needs in [LINKS, CUTS, PCAP] {
                let text = error(NetworkMode::User, needs, &trial);
                assert!(text.contains("--network auto"), "{text}");
            }
        }
        assert_eq!(
            network(NetworkMode::Switch, NOTHING, &no_netem()),
            Network::Switch
        );
        for asked in [NetworkMode::Bridge, NetworkMode::Switch] {
            let text = error(asked, NOTHING, &no_tap());
            assert!(
                text.contains("Permission denied") && text.contains("--network user"),
                "{text}"
            );
            let text = error(asked, LINKS, &no_tap());
            assert!(text.contains("Without impaired links"), "{text}");
        }
        let text = error(NetworkMode::Auto, LINKS, &no_tap());
        assert!(text.contains("chmod 666 /dev/net/tun"), "{text}");
    }

    #[test]
    fn a_trial_comes_back_from_the_child_as_it_was() {
        let torn = Trial {
            netem: Err("two\nlines".into()),
            ..no_tap()
        };
        let flat = Trial {
            netem: Err("two lines".into()),
            ..no_tap()
        };
        assert_eq!(Trial::from_text(&torn.to_text()), flat);
        assert_eq!(Trial::from_text(&Trial::WORKS.to_text()), Trial::WORKS);
        let silent = Trial::from_text("");
        assert!(silent.namespaces.unwrap_err().contains("ended early"));
    }
}
