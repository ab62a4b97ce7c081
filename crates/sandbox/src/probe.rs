//! Probe of this machine by doing: a child process makes the namespaces and tries the networks in
//! them, says how far it came, and is gone with all of it.

use std::io::{self, Read, Write};

use nix::sys::wait::waitpid;
use nix::unistd::geteuid;

use crate::error::SandboxError;
use crate::plan::{Isolation, Needs, NetworkKind, NetworkMode, Plan};
use crate::{namespaces, supervise, sys};

/// Networks tried inside the namespaces; an error says why one does not work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkTrial {
    /// A tap, with what would change a failure.
    pub tap: Result<(), String>,
    /// A bridge with a tap.
    pub bridge: Result<(), String>,
    /// Impairments of a bridge's links by the kernel.
    pub netem: Result<(), String>,
}

/// Namespaces tried, and the networks inside them.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Trial {
    namespaces: Result<(), String>,
    networks: NetworkTrial,
}

impl Trial {
    const WORKS: Self = Self {
        namespaces: Ok(()),
        networks: NetworkTrial {
            tap: Ok(()),
            bridge: Ok(()),
            netem: Ok(()),
        },
    };

    /// Trial of a child that came to nothing, for this reason.
    fn no_namespaces(why: String) -> Self {
        Self {
            namespaces: Err(why),
            ..Self::WORKS
        }
    }

    /// Reason why neither bridge nor switch can be had, and what would change that.
    fn no_tap(&self) -> Option<String> {
        match (&self.namespaces, &self.networks.tap) {
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
            ("tap", &self.networks.tap),
            ("bridge", &self.networks.bridge),
            ("netem", &self.networks.netem),
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
            networks: NetworkTrial {
                tap: why("tap"),
                bridge: why("bridge"),
                netem: why("netem"),
            },
        }
    }
}

/// Last line of the child.
const END: &str = "end\n";

/// Tries in a child process which networks this machine allows, and chooses the
/// best for what is needed.
///
/// The process must have a single thread. `networks` makes each network once, inside the namespaces
/// that this crate has made for it.
///
/// # Errors
/// [`SandboxError::Unavailable`] if what was asked for cannot be had; it says why and what to do.
pub fn probe(
    requested: NetworkMode,
    needs: Needs,
    networks: fn() -> io::Result<NetworkTrial>,
) -> Result<Plan, SandboxError> {
    // Root needs no user namespace, unless it is root of a container that took that right away.
    let candidates: &[bool] = if geteuid().is_root() {
        &[false, true]
    } else {
        &[true]
    };
    let mut best = (Isolation::None, Trial::no_namespaces(String::new()));
    for &user in candidates {
        let trial = trial(user, networks)?;
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

/// Chooses the network and gives the reason for it, or says why there is none.
fn decide(
    requested: NetworkMode,
    needs: Needs,
    trial: &Trial,
) -> Result<(NetworkKind, String), String> {
    match (requested, trial.no_tap()) {
        (NetworkMode::User, _) if needs.any() => Err(format!(
            "the network `user` has no {}: take `--network auto` or `switch`, or leave them out",
            needs.names()
        )),
        (NetworkMode::User, _) => Ok((NetworkKind::User, "as asked for".into())),
        (NetworkMode::Auto, Some(why)) if needs.any() => Err(format!(
            "{} need the network `switch`, which cannot be had: {why}. Do that, or leave them out",
            needs.names()
        )),
        (NetworkMode::Auto, Some(why)) if trial.namespaces.is_err() => Ok((NetworkKind::User, why)),
        (NetworkMode::Auto, Some(why)) => {
            Ok((NetworkKind::User, format!("no bridge, since {why}")))
        }
        (NetworkMode::Bridge, Some(why)) => Err(cannot("bridge", &why, needs)),
        (NetworkMode::Switch, Some(why)) => Err(cannot("switch", &why, needs)),
        (NetworkMode::Switch, None) => Ok((NetworkKind::Switch, "as asked for".into())),
        (NetworkMode::Bridge, None) => bridge_or_switch(needs, trial),
        (NetworkMode::Auto, None) if needs.any() => {
            Ok((NetworkKind::Switch, format!("it has {}", needs.names())))
        }
        (NetworkMode::Auto, None) => Ok(match &trial.networks.bridge {
            Ok(()) => (NetworkKind::Bridge, String::new()),
            Err(why) => (NetworkKind::Switch, format!("no bridge, since {why}")),
        }),
    }
}

/// Chooses for a bridge that was asked for on a machine that has taps.
fn bridge_or_switch(needs: Needs, trial: &Trial) -> Result<(NetworkKind, String), String> {
    let instead = |why: &str| format!("in place of the bridge that was asked for, since {why}");
    match (&trial.networks.bridge, &trial.networks.netem) {
        (Err(why), _) => Err(format!(
            "the network `bridge` cannot be had: {why}. `--network switch` needs no bridge"
        )),
        _ if needs.pcap => Ok((
            NetworkKind::Switch,
            instead("only the switch captures and counts frames"),
        )),
        (_, Err(why)) if needs.links => Ok((NetworkKind::Switch, instead(why))),
        _ => Ok((NetworkKind::Bridge, String::new())),
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
fn trial(user: bool, networks: fn() -> io::Result<NetworkTrial>) -> io::Result<Trial> {
    let (mut answer, to_parent) = io::pipe()?;
    let mut to_parent = Some(to_parent);
    let mask = supervise::block_signals()?;
    let child = sys::fork(|| {
        let tried = try_namespaces(user, networks, to_parent.as_ref());
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

fn try_namespaces(
    user: bool,
    networks: fn() -> io::Result<NetworkTrial>,
    to_parent: Option<&io::PipeWriter>,
) -> io::Result<()> {
    namespaces::unshare_pid(user)?;
    let init = sys::fork(|| {
        let tried = match namespaces::unshare_rest().and_then(|()| networks()) {
            Err(error) => Trial::no_namespaces(error.to_string()),
            Ok(networks) => Trial {
                namespaces: Ok(()),
                networks,
            },
        };
        // The parent reads nothing if this fails, and takes it for "no namespaces".
        let _ = to_parent.map(|mut to| to.write_all(tried.to_text().as_bytes()));
        0
    })?;
    waitpid(init, None)?;
    Ok(())
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

    fn works_but(change: impl FnOnce(&mut NetworkTrial)) -> Trial {
        let mut trial = Trial::WORKS;
        change(&mut trial.networks);
        trial
    }

    fn no_tap() -> Trial {
        let why = "/dev/net/tun cannot be used: Permission denied";
        works_but(|networks| {
            networks.tap = Err(format!("{why}; as root it would work"));
            networks.bridge = Err(why.into());
        })
    }

    fn no_netem() -> Trial {
        works_but(|networks| networks.netem = Err("this kernel has no netem".into()))
    }

    fn network(requested: NetworkMode, needs: Needs, trial: &Trial) -> NetworkKind {
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
            "user (a relay in zfl, by which devices reach the aggregator alone) in private namespaces: \
             no bridge, since /dev/net/tun cannot be used: Permission denied; as root it would work"
        );
        let none = Trial::no_namespaces("new PID namespace: No space left".into());
        assert!(auto(NOTHING, &none).contains("on the host's loopback: this machine allows no"));
        let no_bridge = works_but(|networks| {
            networks.bridge = Err("cannot make the bridge: Not supported".into());
        });
        assert!(auto(NOTHING, &no_bridge).starts_with("switch"));
        assert!(auto(NOTHING, &no_bridge).contains("cannot make the bridge"));
    }

    #[test]
    fn a_bridge_does_what_the_kernel_can_and_the_switch_the_rest() {
        let asked = NetworkMode::Bridge;
        for needs in [NOTHING, CUTS, LINKS] {
            assert_eq!(network(asked, needs, &Trial::WORKS), NetworkKind::Bridge);
        }
        assert_eq!(network(asked, CUTS, &no_netem()), NetworkKind::Bridge);
        assert_eq!(network(asked, PCAP, &Trial::WORKS), NetworkKind::Switch);
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
            assert_eq!(
                network(NetworkMode::User, NOTHING, &trial),
                NetworkKind::User
            );
            for needs in [LINKS, CUTS, PCAP] {
                let text = error(NetworkMode::User, needs, &trial);
                assert!(text.contains("--network auto"), "{text}");
            }
        }
        assert_eq!(
            network(NetworkMode::Switch, NOTHING, &no_netem()),
            NetworkKind::Switch
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
        assert!(text.contains("as root it would work"), "{text}");
    }

    #[test]
    fn a_trial_comes_back_from_the_child_as_it_was() {
        let with_netem = |why: &str| {
            let mut trial = no_tap();
            trial.networks.netem = Err(why.into());
            trial
        };
        let (torn, flat) = (with_netem("two\nlines"), with_netem("two lines"));
        assert_eq!(Trial::from_text(&torn.to_text()), flat);
        assert_eq!(Trial::from_text(&Trial::WORKS.to_text()), Trial::WORKS);
        let silent = Trial::from_text("");
        assert!(silent.namespaces.unwrap_err().contains("ended early"));
    }
}
