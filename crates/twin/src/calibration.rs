//! Calibration: predictions beside published measurements, and how far they are off.
//!
//! A runtime's kernels are not those that are counted here, so cycles of one measured row differ by the code, too. The one
//! free constant of a core, measured over predicted cycles, is fitted without the row that it then predicts.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Deserialize;

use crate::core::Core;
use crate::counts::Counts;
use crate::file::TwinError;
use crate::profile::Profile;

/// Multiply-adds of MLPerf Tiny's `ad`.
pub const MULTIPLY_ADDS: f64 = 264_192.0;

/// Published measurements, as `profiles/published.toml` has them.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Published {
    /// Inferences of `ad`.
    pub inference: Vec<Inference>,
    /// Federated runs on boards.
    pub federated: Vec<Federated>,
}

/// Inference of `ad`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Inference {
    /// Board.
    pub board: String,
    /// Program that ran the net.
    pub runtime: String,
    /// Profile of its part.
    pub profile: String,
    /// Milliseconds.
    pub ms: f64,
    /// Microjoules, if they were measured.
    pub uj: Option<f64>,
    /// Counts that it is predicted from.
    pub counts: String,
}

/// A federated run of keyword spotting, 650-hidden-3, on three boards.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Federated {
    /// Hidden units.
    pub hidden: u32,
    /// Federated rounds.
    pub rounds: u32,
    /// Seconds.
    pub s: f64,
}

/// A measured number and a predicted one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pair {
    /// Measured.
    pub measured: f64,
    /// Predicted.
    pub predicted: f64,
}

impl Pair {
    /// Deviation of the prediction, as a share of what was measured.
    pub fn error(self) -> f64 {
        self.predicted / self.measured - 1.0
    }
}

/// Prediction for the row at a place with the constant that the other rows of its core have; `None` where there are none.
pub fn leave_one_out(rows: &[Pair], at: usize) -> Option<Pair> {
    let others = rows.iter().enumerate().filter(|(other, _)| *other != at);
    let logs: Vec<f64> = others
        .map(|(_, row)| (row.measured / row.predicted).ln())
        .collect();
    let row = rows.get(at)?;
    let mean = logs.iter().sum::<f64>() / logs.len() as f64;
    (!logs.is_empty()).then(|| Pair {
        predicted: row.predicted * mean.exp(),
        ..*row
    })
}

/// Number of parameters of 650-hidden-3.
fn parameters(hidden: u32) -> f64 {
    f64::from(650 * hidden + hidden + hidden * 3 + 3)
}

/// Seconds of a federated run that the other runs tell: a constant for its 120 samples a board, which stream over USB, one
/// for each octet of a model that goes to a board or back, and the training by the twin.
pub fn federated(runs: &[Federated], at: usize, training_s: impl Fn(u32) -> f64) -> Option<Pair> {
    let bytes = |run: &Federated| 8.0 * parameters(run.hidden) * f64::from(run.rounds);
    let rest = |run: &Federated| run.s - training_s(run.hidden);
    let others: Vec<_> = runs
        .iter()
        .enumerate()
        .filter(|(other, _)| *other != at)
        .collect();
    let n = others.len() as f64;
    let sum = |of: &dyn Fn(&Federated) -> f64| others.iter().map(|(_, run)| of(run)).sum::<f64>();
    let (x, y) = (sum(&bytes) / n, sum(&rest) / n);
    let covariance = sum(&|run| (bytes(run) - x) * (rest(run) - y));
    let slope = covariance / sum(&|run| (bytes(run) - x).powi(2));
    let run = runs.get(at)?;
    Some(Pair {
        measured: run.s,
        predicted: y + slope * (bytes(run) - x) + training_s(run.hidden),
    })
}

/// Median and largest of absolute values.
pub fn median_and_worst(errors: &[f64]) -> (f64, f64) {
    let mut sizes: Vec<f64> = errors.iter().map(|error| error.abs()).collect();
    sizes.sort_by(f64::total_cmp);
    let middle = sizes.len() / 2;
    let median = match sizes.len() % 2 {
        0 if middle > 0 => f64::midpoint(sizes[middle - 1], sizes[middle]),
        _ => sizes.get(middle).copied().unwrap_or(0.0),
    };
    (median, sizes.last().copied().unwrap_or(0.0))
}

/// The page docs/calibration.md, from what was published and what was counted.
///
/// # Errors
/// If a profile or a core is not known.
pub fn page(published: &Published, counts: &BTreeMap<String, Counts>) -> Result<String, TwinError> {
    let mut page = HEAD.to_owned();
    kernels(&mut page, counts)?;
    let errors = inferences(&mut page, published, counts)?;
    tell(&mut page, &errors);
    let errors = runs(&mut page, published, counts)?;
    tell(&mut page, &errors);
    page.push_str(TAIL);
    Ok(page)
}

fn tell(page: &mut String, errors: &[f64]) {
    let (median, worst) = median_and_worst(errors);
    let (median, worst) = (100.0 * median, 100.0 * worst);
    // Writing to a string does not fail, here and below.
    let _ = writeln!(
        page,
        "\nErrors of these times: median {median:.0} %, worst {worst:.0} %."
    );
}

/// Table of the kernels on each core.
fn kernels(page: &mut String, counts: &BTreeMap<String, Counts>) -> Result<(), TwinError> {
    page.push_str(KERNELS);
    let cores = [
        "cortex-m0plus",
        "cortex-m3",
        "cortex-m4",
        "cortex-m33",
        "cortex-m7",
    ];
    for core in cores {
        let core = Core::load(None, core)?;
        let each = |name: &str| {
            let counts = counts.get(name)?;
            Some(core.cycles(counts) as f64 / MULTIPLY_ADDS)
        };
        let has_pairs = !["cortex-m0plus", "cortex-m3"].contains(&core.name.as_str());
        let pairs = each("ad-pairs").filter(|_| has_pairs);
        let plain = match core.name.as_str() {
            "cortex-m0plus" => each("ad-plain-m0"),
            _ => each("ad-plain"),
        };
        let Some(plain) = plain else {
            continue;
        };
        let text =
            |number: Option<f64>| number.map_or("-".to_owned(), |number| format!("{number:.2}"));
        let _ = writeln!(
            page,
            "| {} | {plain:.2} | {} | {} |",
            core.description,
            text(pairs),
            text(pairs.map(|pairs| plain / pairs))
        );
    }
    Ok(())
}

/// Table of the inferences; returns the errors of the table alone.
fn inferences(
    page: &mut String,
    published: &Published,
    counts: &BTreeMap<String, Counts>,
) -> Result<Vec<f64>, TwinError> {
    page.push_str(INFERENCES);
    let mut rows = Vec::new();
    for row in &published.inference {
        let profile = Profile::load(None, &row.profile)?;
        let core = Core::load(None, &profile.core)?;
        let Some(counts) = counts.get(&row.counts) else {
            continue;
        };
        let cycles = core.cycles(counts);
        let pair = Pair {
            measured: row.ms,
            predicted: 1e3 * profile.seconds(cycles),
        };
        rows.push((row, profile, pair));
    }
    let mut errors = Vec::new();
    for (at, (row, profile, pair)) in rows.iter().enumerate() {
        let core: Vec<_> = rows
            .iter()
            .enumerate()
            .filter(|(_, other)| other.1.core == profile.core)
            .collect();
        let place = core.iter().position(|(index, _)| *index == at).unwrap_or(0);
        let pairs: Vec<Pair> = core.iter().map(|(_, other)| other.2).collect();
        let others = leave_one_out(&pairs, place);
        let others = others.map_or("no other row of this core".to_owned(), |pair| {
            format!("{:.3} ({:+.0} %)", pair.predicted, 100.0 * pair.error())
        });
        let energy = row.uj.map(|uj| Pair {
            measured: uj,
            predicted: 1e6 * profile.joules(pair.predicted / 1e3, 0.0),
        });
        let energy_error = energy.map(Pair::error);
        let energy = energy.map_or("-".to_owned(), |pair| {
            let (uj, predicted, percent) = (pair.measured, pair.predicted, 100.0 * pair.error());
            format!("{uj:.1} / {predicted:.1} ({percent:+.0} %)")
        });
        let each = |ms: f64| ms * profile.mhz * 1e3 / MULTIPLY_ADDS;
        let _ = writeln!(
            page,
            "| {}, {} MHz | {} | {:.2} | {:.2} | {:.3} / {:.3} ({:+.0} %) | {others} | {energy} |",
            row.board,
            profile.mhz,
            row.runtime,
            each(pair.measured),
            each(pair.predicted),
            pair.measured,
            pair.predicted,
            100.0 * pair.error(),
        );
        check(profile, pair.error(), energy_error)?;
        errors.push(pair.error());
    }
    Ok(errors)
}

/// Holds what a profile says of its errors against those that were found, as shares.
fn check(profile: &Profile, time: f64, energy: Option<f64>) -> Result<(), TwinError> {
    let known = profile.error;
    let said = [
        ("time", known.map(|known| known.time), Some(time)),
        ("energy", known.and_then(|known| known.energy), energy),
    ];
    for (what, said, found) in said {
        let (said, found) = (said.unwrap_or(0.0), found.map_or(0.0, f64::abs));
        // It is written to the hundredth.
        if found > said + 0.005 {
            return Err(TwinError::Better {
                profile: profile.name.clone(),
                what,
                said,
                found,
            });
        }
    }
    Ok(())
}

/// Table of the federated runs; returns their errors.
fn runs(
    page: &mut String,
    published: &Published,
    counts: &BTreeMap<String, Counts>,
) -> Result<Vec<f64>, TwinError> {
    let profile = Profile::load(None, "nrf52840")?;
    let core = Core::load(None, &profile.core)?;
    let sample_s = counts
        .get("train")
        .map_or(0.0, |counts| profile.seconds_of(&core, counts));
    // Time of a sample goes with the weights: 120 a board, all boards at once.
    let training_s = |hidden| 120.0 * sample_s * parameters(hidden) / parameters(25);
    let _ = write!(
        page,
        "\n## Federated runs on boards\n\nKeyword spotting, 650-h-3, on three Arduino Nano 33 BLE (nRF52840). A sample takes \
         {:.2} ms of training by the twin, {:.2} s of the whole run.\n{RUNS}",
        1e3 * sample_s,
        training_s(25)
    );
    let mut errors = Vec::new();
    for (at, run) in published.federated.iter().enumerate() {
        let Some(pair) = federated(&published.federated, at, training_s) else {
            continue;
        };
        let _ = writeln!(
            page,
            "| {} | {} | {:.1} | {:.1} | {:+.1} % |",
            run.hidden,
            run.rounds,
            pair.measured,
            pair.predicted,
            100.0 * pair.error()
        );
        errors.push(pair.error());
    }
    Ok(errors)
}

const HEAD: &str = "\
# Calibration

How far the twin's predictions ([cost](cost.md#cycles)) are from published measurements. `cargo xtask calibrate` counts the
benchmarks of `guest/bare/src/bench` in QEMU and writes this page and `profiles/counts.toml`; what was published stands in
`profiles/published.toml`.
";

const KERNELS: &str = "
## Kernels

`ad` of MLPerf Tiny (640-128x4-8-128x4-640, eight bits, 264,192 multiply-adds), written in Rust: a plain loop, and two products an
instruction with the DSP extension, two outputs at a time, the way of CMSIS-NN. Cycles a multiply-add by the tables of
the cores (`profiles/cores`). For the Cortex-M0+ the loop is built as ARMv6-M code, which a Cortex-M3 executes, too.

| core | plain | pairs | plain / pairs |
|---|---|---|---|
";

const INFERENCES: &str = "
Plain Rust is slower than a kernel of CMSIS-NN's kind by the factor in the last column. CMSIS-NN itself was not compiled.

## Inference

Medians of the submitters' logs, MLPerf Tiny v1.1, closed division, beside the kernel `pairs`, on the Cortex-M0+ `plain`. The runtimes have kernels of their own:
on one board they differ by a factor of 1.4 among themselves, which no prediction from one kernel can follow. *Others* is
the prediction with the factor that the other rows of the core have (leave one out). It is worse than the table alone: with
three rows that spread so far, the two that are left say more about their runtimes than about the core, and the row
that differs most from them is missed most. Nothing of that is a cycle of the core, so the table keeps no factor.
Energies are those of the part's profile.

| board | runtime | cycles, measured | predicted | ms, measured / predicted | ms by others | µJ, measured / predicted |
|---|---|---|---|---|---|---|
";

const RUNS: &str = "\
The rest is the serial line, about which nothing is published: its two constants, a time for the 120 samples of each board and
one for an octet of a model, are fitted on the other runs, and the twin adds the training. So these errors show
that the form is right, and little of the training.

| hidden units | rounds | s, measured | predicted by the others | error |
|---|---|---|---|---|
";

const TAIL: &str = "
## Missing

- ESP32-S3: a core (Xtensa LX7) that no board here has.
- STM32F722 with MQTT: the sizes of its net are not published. Its .95 mJ in 3.2 ms are 297 mW.
- STM32F103 and SAMD21 with Train++: the number of rows of its second data set is not published.
- M33, M3 and RV32: no row to compare with.
- The compiler: counts are of the code that it makes today. The plain loop took 10.86 cycles a multiply-add on the Cortex-M0+
  (4 % off) and 6.29 on the Cortex-M4F when it was counted earlier, and takes 8.83 and 4.99 with Rust 1.95.
- Caches and wait states of flash are in no table: a profile has one number for them, `wait`, which is 0 in all of them. Wait
  states of the reads of weights were tried and left out. An STM32G0B1 has no cache for data and 2 of them at 64 MHz: with 2
  cycles for each of the 264,192 weights the kernel takes 10.83 cycles, 4 % too few instead of 22 %. By the same rule an
  STM32L4R5 at 120 MHz waits 5 cycles for each 64 bits of its flash: 3.45 cycles, off by +11 %, -5 % and +34 % instead of
  -9 %, -22 % and +10 %. The median gets better and the worst row worse: whether a runtime keeps its weights in RAM is not
  published.
- Powers of the parts: which numbers are from a document, which are from a measurement and which are from memory stands with
  each profile (`profiles/*.toml`, `sources`). That of STM32H7A3 is its measured row above; those of nRF52840 and STM32U575
  are of their documents, as others quote them; that of STM32L4R5 is from memory, 2 % above a measured row; those of
  STM32F103, STM32G0B1 and FE310 were looked for and not found.
";

#[cfg(test)]
mod tests {
    use super::*;

    const fn pair(measured: f64, predicted: f64) -> Pair {
        Pair {
            measured,
            predicted,
        }
    }

    #[test]
    fn a_row_is_predicted_by_the_others_alone() {
        let rows = [pair(2.0, 1.0), pair(8.0, 1.0), pair(100.0, 1.0)];
        let left_out = leave_one_out(&rows, 2).unwrap();
        assert!((left_out.predicted - 4.0).abs() < 1e-12);
        assert_eq!(leave_one_out(&rows[..1], 0), None);
    }

    #[test]
    fn a_federated_run_follows_from_the_others_where_the_form_is_right() {
        let seconds = |hidden, rounds: u32| {
            300.0 + 2e-5 * 8.0 * parameters(hidden) * f64::from(rounds) + f64::from(hidden)
        };
        let runs = [(5, 3), (25, 1), (25, 24), (15, 12)].map(|(hidden, rounds)| Federated {
            hidden,
            rounds,
            s: seconds(hidden, rounds),
        });
        for at in 0..runs.len() {
            let pair = federated(&runs, at, f64::from).unwrap();
            assert!(pair.error().abs() < 1e-9, "{pair:?}");
        }
    }

    #[test]
    fn the_median_is_in_the_middle_and_signs_do_not_matter() {
        assert_eq!(median_and_worst(&[-0.3, 0.1, 0.2]), (0.2, 0.3));
        assert_eq!(median_and_worst(&[]), (0.0, 0.0));
    }

    /// `cargo xtask calibrate` writes both.
    #[test]
    fn the_page_is_of_the_counts_and_the_measurements_that_are_there() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
        let read = |name: &str| std::fs::read_to_string(format!("{folder}/{name}")).unwrap();
        let published = toml::from_str(&read("profiles/published.toml")).unwrap();
        let counts = toml::from_str(&read("profiles/counts.toml")).unwrap();
        let page = page(&published, &counts).unwrap();
        assert!(
            page == read("docs/calibration.md"),
            "docs/calibration.md is behind: cargo xtask calibrate"
        );
    }
}
