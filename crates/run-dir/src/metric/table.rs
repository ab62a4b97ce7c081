//! The table of metrics.

use super::host::HOST;
use super::{Folds, Id, Kind, Metric, Source, Topic, Unit};
use crate::event::ClientRecord;
use fl_proto::Cost;

use Folds::{Last, Max, Mean, Sum};
use Source::{Device, Model, Server};
use Unit::{Bytes, Count, Joules, Microseconds, Nats, Seconds};

/// Measured by server and device.
const CLIENT: [Metric; 13] = [
    Metric::new("loss", Nats, Device, Last, "Training loss")
        .kind(Kind::Single)
        .doc(
            "mean cross-entropy of the last local epoch",
            "to the bit, in every body",
        )
        .without_column()
        .without_figure()
        .reads(|record| record.loss.map(f64::from)),
    Metric::new("round_s", Seconds, Server, Mean, "Time to update")
        .kind(Kind::Clock)
        .doc(
            "from `/start` sent to the update received",
            "wall time: the host's load shows",
        )
        .named("round")
        .without_column()
        .reads(|record| record.round_s),
    Metric::new("bytes_up", Bytes, Server, Sum, "Bytes up")
        .named("http_up")
        .topic(Topic::Traffic)
        .doc(
            "HTTP bytes of this round from the client, heads included, delivered or not",
            "exact, see [bytes](#bytes)",
        )
        .head("up kB")
        .without_figure()
        .reads(|record| Some(record.bytes_up as f64)),
    Metric::new("bytes_down", Bytes, Server, Sum, "Bytes down")
        .named("http_down")
        .topic(Topic::Traffic)
        .doc(
            "HTTP bytes of this round to the client, likewise",
            "exact, see [bytes](#bytes)",
        )
        .head("down kB")
        .without_figure()
        .reads(|record| Some(record.bytes_down as f64)),
    Metric::new("train_us", Microseconds, Device, Mean, "Training time")
        .doc(
            "from `/start` taken to training done, by the device's clock",
            "see [time](#time)",
        )
        .head("train ms")
        .named("training")
        .reads(|record| cost(record, |cost| Some(cost.train_us))),
    Metric::new("instructions", Count, Device, Mean, "Instructions")
        .doc(
            "instructions retired in this round's training",
            "exact and repeatable, with `--time icount`",
        )
        .head("M instr.")
        .shown("millions", 1e6, 2)
        .reads(|record| cost(record, |cost| cost.instructions)),
    Metric::new("heap_peak_bytes", Bytes, Device, Max, "Peak heap")
        .topic(Topic::Memory)
        .doc(
            "most heap in use at once, since boot",
            "exact; depends on the number of open connections",
        )
        .head("heap kB")
        .named("heap_peak")
        .figure("heap")
        .reads(|record| cost(record, |cost| cost.heap_peak_bytes)),
    Metric::new("stack_peak_bytes", Bytes, Device, Max, "Peak stack")
        .topic(Topic::Memory)
        .doc(
            "deepest stack since boot",
            "a word written as zero may hide a few bytes",
        )
        .head("stack kB")
        .named("stack_peak")
        .figure("stack")
        .reads(|record| cost(record, |cost| cost.stack_peak_bytes)),
    Metric::new(
        "device_bytes_received",
        Bytes,
        Device,
        Sum,
        "Bytes received",
    )
    .topic(Topic::Traffic)
    .doc("HTTP bytes received since boot, heads included", "exact")
    .since_boot()
    .hidden()
    .reads(|record| cost(record, |cost| Some(cost.bytes_received))),
    Metric::new("device_bytes_sent", Bytes, Device, Sum, "Bytes sent")
        .topic(Topic::Traffic)
        .doc("HTTP bytes sent since boot, heads included", "exact")
        .since_boot()
        .hidden()
        .reads(|record| cost(record, |cost| Some(cost.bytes_sent))),
    Metric::new("segments_sent", Count, Device, Sum, "Segments sent")
        .topic(Topic::Traffic)
        .doc("TCP segments sent since boot", "exact")
        .since_boot()
        .hidden()
        .reads(|record| cost(record, |cost| cost.segments_sent)),
    Metric::new("segments_received", Count, Device, Sum, "Segments received")
        .topic(Topic::Traffic)
        .doc("TCP segments received since boot", "exact")
        .since_boot()
        .hidden()
        .reads(|record| cost(record, |cost| cost.segments_received)),
    Metric::new("retransmissions", Count, Device, Sum, "Segments sent again")
        .topic(Topic::Traffic)
        .doc(
            "segments among those sent whose data, SYN or FIN were sent before, since boot",
            "exact, for 16 connections at once",
        )
        .since_boot()
        .without_column()
        .off_screen()
        .reads(|record| cost(record, |cost| cost.retransmissions)),
];

/// Reasons for which a client was chosen, where cohorts follow from earlier rounds.
const CHOICE: [Metric; 3] = [
    Metric::new("selection_score", Count, Server, Last, "Selection score")
        .kind(Kind::Real)
        .doc(
            "number by which the selector chose the client; empty where it has none, or an infinite one",
            "see [selection](selection.md)",
        )
        .hidden()
        .reads(|record| record.chosen?.score),
    Metric::new("times_chosen", Count, Server, Last, "Times chosen")
        .doc("rounds that the client was chosen for so far", "exact, but with the uniform selection in the order of arrival, which counts nothing")
        .hidden()
        .reads(|record| Some(f64::from(record.chosen?.times))),
    Metric::new("energy_left_j", Joules, Model, Last, "Energy left (estimate)")
        .kind(Kind::Real)
        .doc("energy that was left of the client's budget before the round", "an estimate")
        .head("left J*")
        .unscraped()
        .reads(|record| record.chosen?.energy_left_j),
];

/// Made of the others; they stand in no file.
const OTHERS: [Metric; 3] = [
    Metric::new("bytes", Bytes, Server, Sum, "Bytes up and down")
        .topic(Topic::Traffic)
        .without_column()
        .unscraped()
        .made_of(|values| Some(values.get(BYTES_UP)? + values.get(BYTES_DOWN)?)),
    Metric::new("segments", Count, Device, Sum, "Segments")
        .topic(Topic::Traffic)
        .head("segments")
        .without_figure()
        .unscraped()
        .off_screen()
        .made_of(|values| Some(values.get(SEGMENTS_SENT)? + values.get(SEGMENTS_RECEIVED)?)),
    Metric::new("resent", Count, Device, Sum, "Retransmissions")
        .topic(Topic::Traffic)
        .head("again")
        .without_figure()
        .unscraped()
        .made_of(|values| {
            values
                .get(LINK_RETRANSMISSIONS)
                .or(values.get(RETRANSMISSIONS))
        }),
];

const BYTES_UP: Id = Id::of("bytes_up");
const BYTES_DOWN: Id = Id::of("bytes_down");
const SEGMENTS_SENT: Id = Id::of("segments_sent");
const SEGMENTS_RECEIVED: Id = Id::of("segments_received");
const RETRANSMISSIONS: Id = Id::of("retransmissions");
const LINK_RETRANSMISSIONS: Id = Id::of("link_retransmissions");

/// All metrics; those that are read off a record are the columns of `clients.csv`, in this order.
pub const METRICS: [Metric; CLIENT.len() + OTHERS.len() + HOST.len() + CHOICE.len()] = {
    let mut all = [CLIENT[0]; CLIENT.len() + OTHERS.len() + HOST.len() + CHOICE.len()];
    let mut row = 0;
    while row < all.len() {
        all[row] = if row < CLIENT.len() {
            CLIENT[row]
        } else if row < CLIENT.len() + OTHERS.len() {
            OTHERS[row - CLIENT.len()]
        } else if row < CLIENT.len() + OTHERS.len() + HOST.len() {
            HOST[row - CLIENT.len() - OTHERS.len()]
        } else {
            CHOICE[row - CLIENT.len() - OTHERS.len() - HOST.len()]
        };
        row += 1;
    }
    all
};

/// A number of the cost that a device told.
fn cost<T: Into<u64>>(record: &ClientRecord, of: impl Fn(&Cost) -> Option<T>) -> Option<f64> {
    let number: u64 = of(record.cost.as_ref()?)?.into();
    Some(number as f64)
}
