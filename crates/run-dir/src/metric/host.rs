//! The metrics that the process which runs the fleet measures.

use super::{Folds, Kind, Metric, Source, Unit};
use serde::{Deserialize, Serialize};

use Folds::{Last, Max, Mean, Sum};
use Source::{Host, Link, Model};
use Unit::{Bytes, Count, Joules, Milliseconds, Seconds};

/// Declares the fields of [`HostCost`] with the row of each.
macro_rules! host_metrics {
    ($($(#[doc = $doc:literal])+ $field:ident: $type:ty = $row:expr;)+) => {
        /// Cost of a client in a round, as the process that runs the fleet measures it; what cannot be
        /// known is absent.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
        #[serde(default)]
        pub struct HostCost {
            $($(#[doc = $doc])+
            #[serde(skip_serializing_if = "Option::is_none")]
            pub $field: Option<$type>,)+
        }

        pub(super) const HOST: [Metric; [$(stringify!($field)),+].len()] = [
            $($row
                .kind(<$type as Measured>::KIND)
                .reads(|record| Some(record.host.as_ref()?.$field? as f64)),)+
        ];
    };
}

/// A type that fields of [`HostCost`] have.
trait Measured {
    const KIND: Kind;
}

impl Measured for u64 {
    const KIND: Kind = Kind::Whole;
}

impl Measured for f64 {
    const KIND: Kind = Kind::Real;
}

host_metrics! {
    /// From the start of its machine to its prompt, at its last boot, in milliseconds.
    boot_ms: u64 = Metric::new("boot_ms", Milliseconds, Host, Last, "Boot time")
        .doc("from the start of QEMU to the shell's first prompt, at the last boot", "wall time")
        .head("boot ms");
    /// Training time at the clock rate that its board names: instructions over instructions a second.
    virtual_s: f64 = Metric::new("virtual_s", Seconds, Model, Sum, "Simulated training")
        .doc("training time at a named clock rate", "exact, given `instructions`")
        .head("virtual s").named("virtual_training").figure("computing").shows_last();
    /// Time that `/start` and the update take on its link, by the link's numbers, in seconds.
    link_s: f64 = Metric::new("link_s", Seconds, Model, Sum, "Simulated link")
        .doc("time on the link for `/start` and the update", "a lower bound")
        .head("link s").shows_last();
    /// An estimate by its board's energy model, in joules.
    energy_j: f64 = Metric::new("energy_j", Joules, Model, Sum, "Energy (estimate)")
        .doc("energy of the round's training and transfers", "an estimate")
        .head("energy J*").shows_last();
    /// Processor time of the host that its machine took since its last update, in seconds.
    cpu_s: f64 = Metric::new("host_cpu_s", Seconds, Host, Sum, "Host processor")
        .doc(
            "processor time that the machine's QEMU took since the client's last update",
            "10 ms; with the host's own noise",
        )
        .head("host s").named("host_processor").shown("s", 1.0, 2);
    /// Memory of the host that is its machine's alone, in bytes.
    private_bytes: u64 = Metric::new("host_private_bytes", Bytes, Host, Max, "Host memory")
        .doc("memory of that QEMU that no other process shares", "a page")
        .head("host MB").named("host_memory").shown("MB", 1e6, 1).shows_last();
    /// TCP segments that it sent since its last update, as its link counts them.
    link_segments_up: u64 = Metric::new("link_segments_up", Count, Link, Sum, "Segments up")
        .doc("TCP segments from it, offered to the link since the client's last update", "exact")
        .hidden();
    /// TCP segments sent to it.
    link_segments_down: u64 = Metric::new("link_segments_down", Count, Link, Sum, "Segments down")
        .doc("TCP segments to it, likewise", "exact")
        .hidden();
    /// Segments among both whose data were sent before.
    link_retransmissions: u64 = Metric::new("link_retransmissions", Count, Link, Sum, "Sent again on the link")
        .doc("segments among both whose data, SYN or FIN were sent before", "exact")
        .without_column().off_screen();
    /// Segments among both that the link dropped.
    link_dropped: u64 = Metric::new("link_dropped", Count, Link, Sum, "Dropped by its link")
        .doc("TCP segments among both that the link dropped, for any reason", "exact")
        .head("dropped");
    /// Bytes of all frames that the link was offered both ways, with Ethernet headers.
    link_bytes: u64 = Metric::new("link_bytes", Bytes, Link, Sum, "Bytes on its link")
        .doc("bytes of all frames that the link was offered since the client's last update, with Ethernet headers", "exact")
        .head("link kB");
    /// Packets that its transfers sent over the radio since its last update.
    radio_packets: u64 = Metric::new("radio_packets", Count, Link, Sum, "Radio packets")
        .doc("packets of its own transfers that it sent by radio since the client's last update", "simulated")
        .head("packets").shows_last();
    /// Tiles among those of its transfers, both ways, that were sent more than once.
    radio_again: u64 = Metric::new("radio_again", Count, Link, Sum, "Sent again by radio")
        .doc("tiles sent more than once, by it and to it", "simulated")
        .head("again").shows_last();
    /// Frames that it sent for others.
    radio_relayed: u64 = Metric::new("radio_relayed", Count, Link, Sum, "Relayed for others")
        .doc("frames of others that it repeated", "simulated")
        .head("relayed").shows_last();
    /// Time that it was in the air, in seconds.
    radio_airtime_s: f64 = Metric::new("radio_airtime_s", Seconds, Link, Sum, "Air time")
        .doc("time that its radio sent, by the radio's formula", "simulated")
        .head("air s").shows_last();
    /// Energy of its radio, in joules.
    radio_energy_j: f64 = Metric::new("radio_energy_j", Joules, Link, Sum, "Radio energy")
        .doc("energy of its radio, by the powers of `links/radio`", "an estimate")
        .head("radio J*").shows_last();
    /// Hops of its packets to the gateway on average.
    radio_hops: f64 = Metric::new("radio_hops", Count, Link, Last, "Hops")
        .doc("hops of its packets to the gateway, the mean so far", "simulated")
        .head("hops");
    /// Simulated time on the mesh since its last update, in seconds.
    radio_s: f64 = Metric::new("radio_s", Seconds, Link, Sum, "Time on the mesh")
        .doc("simulated time on the mesh since its last update, of all leaves together", "simulated")
        .head("mesh s");
    /// Cycles of its training by the table of its core.
    cycles: u64 = Metric::new("cycles", Count, Model, Mean, "Cycles")
        .doc("cycles of the training by the table of the board's core (`profiles/cores`); with `--cost cycles`", "given the counts by class; see [cycles](#cycles)")
        .head("M cycles").shown("millions", 1e6, 2);
    /// Time of training and link on the part that the run is a twin of, in seconds.
    twin_s: f64 = Metric::new("twin_s", Seconds, Model, Sum, "Time on the part")
        .doc("time of training and link on the part of `--profile`", "an estimate; [calibration](calibration.md) says how far off")
        .head("twin s*").shows_last();
    /// Energy of that part's processor, in joules.
    twin_j: f64 = Metric::new("twin_j", Joules, Model, Sum, "Energy on the part")
        .doc("energy of that part's processor meanwhile", "an estimate, likewise")
        .head("twin J*").shows_last();
}
