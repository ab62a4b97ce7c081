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
use zfl_run_dir::fold::State;
use zfl_run_dir::metric::{self, Folds, Id};
use zfl_run_dir::{Distribution, Fold};

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
        "Of the last model on the test set",
        Some(Unit::Ratios),
        run.accuracy,
    );
    let help = "Mean cross-entropy of the last model on the test set, in nats";
    value("loss", help, None, run.loss);
    let spread = fold.evaluation().into_iter().flat_map(|evaluation| {
        let global = (&"global", &evaluation.global.distribution);
        let own = evaluation.personal.as_ref();
        let own = own.map(|personal| (&"personal", &personal.distribution));
        [global].into_iter().chain(own).flat_map(statistics)
    });
    metrics.gauge(
        "evaluated_accuracy",
        "Of models on the examples that devices hold out, in the last evaluation, by statistic over devices",
        Some(Unit::Ratios),
        spread,
    );
    let told = last.into_iter().flat_map(|row| &row.record.metrics);
    let told = told.map(|(name, &number)| (vec![("name", name.clone())], number));
    metrics.gauge(
        "algorithm",
        "Numbers that the algorithm told of the last round",
        None,
        told,
    );
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

/// A distribution over devices, number by number.
fn statistics((model, over): (&&str, &Distribution)) -> [(Labels, f64); 9] {
    let numbers = [
        ("mean", over.mean),
        ("weighted_mean", over.weighted_mean),
        ("worst_decile", over.worst_decile),
        ("deviation", over.deviation),
        ("min", over.min),
        ("q1", over.q1),
        ("median", over.median),
        ("q3", over.q3),
        ("max", over.max),
    ];
    numbers.map(|(statistic, number)| {
        let labels = vec![
            ("model", (*model).to_owned()),
            ("statistic", statistic.to_owned()),
        ];
        (labels, number)
    })
}

/// The metrics of devices: of what is summed up a counter, of all else a gauge.
fn devices(metrics: &mut Metrics, fold: &Fold) {
    for id in Id::all() {
        let metric = id.metric();
        let Some(name) = metric.scraped else {
            continue;
        };
        let (unit, per) = unit(metric.unit);
        let values = fold.devices().filter_map(|device| {
            let value = device.totals.now(id)? / per;
            Some((vec![("client", device.client.to_string())], value))
        });
        let name = format!("device_{name}");
        let help = format!(
            "{} of a device: {}",
            metric.label,
            metric.doc.replace('`', "")
        );
        if metric.folds == Folds::Sum && !metric.shows_last {
            let family = Family::<Labels, Counter<f64, AtomicU64>>::default();
            for (labels, value) in values {
                family.get_or_create(&labels).inc_by(value);
            }
            metrics.register(&name, &help, unit, family);
        } else {
            metrics.gauge(&name, &help, unit, values);
        }
    }
}

/// The base unit of a metric, and its size in the metric's own.
fn unit(unit: metric::Unit) -> (Option<Unit>, f64) {
    match unit {
        metric::Unit::Count | metric::Unit::Nats => (None, 1.0),
        metric::Unit::Seconds => (Some(Unit::Seconds), 1.0),
        metric::Unit::Milliseconds => (Some(Unit::Seconds), 1e3),
        metric::Unit::Microseconds => (Some(Unit::Seconds), 1e6),
        metric::Unit::Bytes => (Some(Unit::Bytes), 1.0),
        metric::Unit::Joules => (Some(Unit::Joules), 1.0),
    }
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
