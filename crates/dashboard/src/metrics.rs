//! The run as OpenMetrics, for a Prometheus that scrapes `/metrics`.
//!
//! <https://prometheus.io/docs/specs/om/open_metrics_spec/>. Base units: seconds, bytes, ratios.

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};
use std::fmt;
use std::sync::atomic::AtomicU64;
use zfl_run_dir::Fold;
use zfl_run_dir::fold::{Device, State};

/// Media type of [`text`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

type Labels = Vec<(&'static str, String)>;

/// The fold, `now_ms` milliseconds after the start of the run.
///
/// # Errors
/// If it cannot be written as text.
pub fn text(fold: &Fold, now_ms: u64) -> Result<String, fmt::Error> {
    let mut metrics = Metrics(Registry::with_prefix("zfl"));
    run(&mut metrics, fold, now_ms);
    devices(&mut metrics, fold);
    let mut text = String::new();
    encode(&mut text, &metrics.0)?;
    Ok(text)
}

fn run(metrics: &mut Metrics, fold: &Fold, now_ms: u64) {
    let run = fold.run(now_ms);
    let meta = fold.meta();
    let known = [
        ("name", Some(&meta.name)),
        ("body", meta.body.as_ref()),
        ("board", meta.board.as_ref()),
    ];
    let known = known
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?.clone())));
    metrics
        .0
        .register("run", "What is run", Info::new(known.collect::<Labels>()));

    let mut value = |name, help, unit, value| metrics.value(name, help, unit, value);
    value(
        "round",
        "The round; 0 before the first",
        None,
        Some(f64::from(run.round)),
    );
    value(
        "rounds",
        "Rounds to complete",
        None,
        Some(f64::from(run.rounds)),
    );
    let seconds = Some(Unit::Seconds);
    value(
        "elapsed",
        "Since the start of the run",
        seconds.clone(),
        Some(run.elapsed_s),
    );
    let last = fold.rounds().filter(|row| row.record.round > 0).last();
    value(
        "last_round",
        "How long the last round took",
        seconds,
        last.map(|row| row.record.round_s),
    );
    value(
        "simulated",
        "What the rounds so far would take on the devices themselves",
        Some(Unit::Seconds),
        run.simulated_s,
    );
    value(
        "energy",
        "Estimate of the energy that the rounds so far took of all devices",
        Some(Unit::Joules),
        run.energy_j,
    );
    value(
        "accuracy",
        "Of the last fold on the test set",
        Some(Unit::Ratios),
        run.accuracy,
    );
    let help = "Mean cross-entropy of the last fold on the test set, in nats";
    value("loss", help, None, run.loss);
    let states = State::ALL.iter().map(|state| {
        let devices = run.states.get(state.name()).copied().unwrap_or(0);
        (vec![("state", state.name().to_owned())], f64::from(devices))
    });
    metrics.gauge("devices", "Devices by what they do", None, states);
    let bytes = [("up", run.bytes_up), ("down", run.bytes_down)];
    let bytes = bytes.map(|(way, bytes)| (vec![("direction", way.to_owned())], bytes));
    metrics.counter(
        "http",
        "HTTP bytes of the complete rounds, from devices (up) and to them",
        Some(Unit::Bytes),
        bytes,
    );
    let faults = fold
        .fault_counts()
        .iter()
        .map(|(kind, &n)| (vec![("kind", kind.clone())], n));
    metrics.counter("faults", "Failures and faults by kind", None, faults);
}

fn devices(metrics: &mut Metrics, fold: &Fold) {
    let mut gauge = |name, help, unit, value: fn(&Device) -> Option<f64>| {
        let known = fold.devices().filter_map(|device| {
            Some((vec![("client", device.client.to_string())], value(device)?))
        });
        metrics.gauge(name, help, unit, known);
    };
    let (bytes, seconds) = (Some(Unit::Bytes), Some(Unit::Seconds));
    gauge(
        "device_training",
        "A device's own training time in its last round",
        seconds.clone(),
        |device| device.train_us.map(|us| us as f64 / 1e6),
    );
    gauge(
        "device_round",
        "From choosing the cohort to a device's last update",
        seconds.clone(),
        |device| device.round_s,
    );
    gauge(
        "device_virtual_training",
        "A device's last training by the clock that its board is given",
        seconds.clone(),
        |device| device.virtual_s,
    );
    gauge(
        "device_link",
        "Simulated time that a device's link took in its last round",
        seconds.clone(),
        |device| device.link_s,
    );
    gauge(
        "device_energy",
        "Estimate of the energy that a device's last round took",
        Some(Unit::Joules),
        |device| device.energy_j,
    );
    gauge(
        "device_instructions",
        "Instructions of a device's last training",
        None,
        |device| device.instructions.map(|n| n as f64),
    );
    gauge(
        "device_heap_peak",
        "Most heap of a device ever in use",
        bytes.clone(),
        |device| device.heap_peak_bytes.map(f64::from),
    );
    gauge(
        "device_stack_peak",
        "Most stack of a device ever in use",
        bytes.clone(),
        |device| device.stack_peak_bytes.map(f64::from),
    );
    gauge(
        "device_host_memory",
        "Memory of the host that is a device's alone",
        bytes,
        |device| device.host_bytes.map(|bytes| bytes as f64),
    );
    summed(metrics, fold, seconds);
}

/// Cost to each device over the whole run.
fn summed(metrics: &mut Metrics, fold: &Fold, seconds: Option<Unit>) {
    let of_each = |value: fn(&Device) -> Option<u64>| {
        let known = move |device: &Device| {
            Some((vec![("client", device.client.to_string())], value(device)?))
        };
        fold.devices().filter_map(known)
    };
    metrics.counter(
        "device_retransmissions",
        "TCP segments that a device sent again, in all its boots",
        None,
        of_each(|device| device.retransmissions),
    );
    metrics.counter(
        "device_link_dropped",
        "TCP segments that a device's link dropped",
        None,
        of_each(|device| device.link_dropped),
    );
    let processor = Family::<Labels, Counter<f64, AtomicU64>>::default();
    for device in fold.devices() {
        if let Some(cpu_s) = device.cpu_s {
            let labels = vec![("client", device.client.to_string())];
            processor.get_or_create(&labels).inc_by(cpu_s);
        }
    }
    let help = "Processor time of the host that a device took";
    metrics.register("device_host_processor", help, seconds, processor);
}

/// A registry of one scrape.
struct Metrics(Registry);

impl Metrics {
    /// One value without labels, if it is known.
    fn value(&mut self, name: &str, help: &str, unit: Option<Unit>, value: Option<f64>) {
        if let Some(value) = value {
            let gauge = Gauge::<f64, AtomicU64>::default();
            gauge.set(value);
            self.register(name, help, unit, gauge);
        }
    }

    /// One value for each of these labels.
    fn gauge(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<Unit>,
        values: impl IntoIterator<Item = (Labels, f64)>,
    ) {
        let family = Family::<Labels, Gauge<f64, AtomicU64>>::default();
        for (labels, value) in values {
            family.get_or_create(&labels).set(value);
        }
        self.register(name, help, unit, family);
    }

    fn counter(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<Unit>,
        values: impl IntoIterator<Item = (Labels, u64)>,
    ) {
        let family = Family::<Labels, Counter>::default();
        for (labels, value) in values {
            family.get_or_create(&labels).inc_by(value);
        }
        self.register(name, help, unit, family);
    }

    fn register(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<Unit>,
        metric: impl prometheus_client::registry::Metric,
    ) {
        match unit {
            Some(unit) => self.0.register_with_unit(name, help, unit, metric),
            None => self.0.register(name, help, metric),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use zfl_run_dir::Meta;

    #[test]
    fn names_types_and_the_end_are_open_metrics() {
        let meta = Meta {
            name: "a \"night\"\n".into(),
            clients: 2,
            ..Meta::default()
        };
        let text = text(&Fold::new(meta), 1500).unwrap();
        for line in [
            "# TYPE zfl_run info",
            r#"zfl_run_info{name="a \"night\"\n"} 1"#,
            "# TYPE zfl_elapsed_seconds gauge",
            "# UNIT zfl_elapsed_seconds seconds",
            "zfl_elapsed_seconds 1.5",
            r#"zfl_devices{state="joining"} 2.0"#,
            "# TYPE zfl_http_bytes counter",
            r#"zfl_http_bytes_total{direction="up"} 0"#,
        ] {
            assert!(
                text.lines().any(|other| other == line),
                "{line} is not in\n{text}"
            );
        }
        assert!(text.ends_with("# EOF\n"));
    }
}
