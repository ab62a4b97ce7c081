//! Networks and isolation that a fleet can have, and the plan that names one of each.

use std::fmt;

/// The networks that can be asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NetworkMode {
    /// The best that this machine allows for what is needed.
    #[default]
    Auto,
    /// A Linux bridge and a tap per device, inside namespaces.
    Bridge,
    /// The switch of `zfl-netsim` and one tap, inside namespaces.
    Switch,
    /// A relay of this process for each device, which reaches the aggregator alone.
    User,
}

/// The networks that a fleet can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NetworkKind {
    /// A Linux bridge and a tap per device, inside namespaces.
    Bridge,
    /// The switch of `zfl-netsim` and one tap, inside namespaces.
    Switch,
    /// A relay of this process for each device, which reaches the aggregator alone.
    User,
    /// The host's loopback, for native devices only.
    Loopback,
    /// None: native devices share a process with the aggregator, and no socket is opened.
    InProcess,
}

/// Demands of a run on its network beside carrying frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// Links that lose, delay or limit, from the start or later.
    pub links: bool,
    /// Links that can be cut.
    pub cuts: bool,
    /// Captures, or counts of frames and retransmissions.
    pub pcap: bool,
}

impl Needs {
    /// Tells if anything is asked for at all.
    pub fn any(self) -> bool {
        self.links || self.cuts || self.pcap
    }

    /// Names what is asked for, as in `impaired links and captures`.
    pub(crate) fn names(self) -> String {
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

/// Separation of a fleet from its host.
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

/// Network and isolation that this machine allows, with the reason; its `Display` is one line for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Network that it will be.
    pub network: NetworkKind,
    /// Isolation from the host.
    pub isolation: Isolation,
    /// Reason for not having a better one, and what would change that; empty if it is the best.
    pub reason: String,
}

impl Plan {
    /// The plan for a fleet of native devices only: loopback, no namespaces, no extra processes.
    pub fn native() -> Self {
        Self {
            network: NetworkKind::Loopback,
            isolation: Isolation::None,
            reason: String::new(),
        }
    }
}

impl Plan {
    /// The plan for native devices that share this process with their aggregator.
    pub fn in_process() -> Self {
        Self {
            network: NetworkKind::InProcess,
            ..Self::native()
        }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.network {
            NetworkKind::Bridge => "bridge (a Linux bridge and a tap per device)",
            NetworkKind::Switch => "switch (zfl's own switch, a link per device)",
            NetworkKind::User => {
                "user (a relay in zfl, by which devices reach the aggregator alone)"
            }
            NetworkKind::Loopback => "loopback (a socket per stream)",
            NetworkKind::InProcess => "in process (no sockets)",
        })?;
        match (self.network, self.isolation) {
            (NetworkKind::Loopback | NetworkKind::InProcess, _) => {}
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
