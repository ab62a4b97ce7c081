//! Training natively, an example at a time, beside a C of the same arithmetic.

use super::table::Table;
use crate::{process, project};
use anyhow::{Context, Result, bail};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

/// Layer sizes of a net with one hidden layer or two, examples of a batch, epochs: as in fl-nn's example
/// `kernels`.
const SHAPES: [(&[u32], u32, u32); 4] = [
    (&[784, 16, 10], 600, 5),
    (&[784, 200, 200, 10], 10, 1),
    (&[784, 128, 256, 10], 32, 1),
    (&[64, 32, 10], 10, 5),
];

/// Turns of the C and of zfl, one after the other; the shortest time of each counts.
const TURNS: usize = 3;

/// Measures every shape.
///
/// # Errors
/// If something does not build or run, or two levels of instructions end in different parameters.
pub fn measure(folder: &Path, quick: bool) -> Result<String> {
    if !process::exists("gcc") {
        bail!("gcc, which compiles the C beside zfl, is missing: install it");
    }
    let example = build()?;
    process::run(Command::new(&example).args(["0", "--write"]).arg(folder))?;
    let seconds = if quick { "0.1" } else { "1" };
    let mut table = Table::new(&[
        "net",
        "batch",
        "rule",
        "arithmetic",
        "instructions",
        "ns an example",
        "C",
        "ratio",
    ]);
    for (sizes, batch, epochs) in SHAPES {
        let name = sizes
            .iter()
            .map(u32::to_string)
            .collect::<Vec<_>>()
            .join("-");
        let reference = compile(folder, &name, sizes, batch, epochs)?;
        let (mut c, mut lines) = (f64::INFINITY, BTreeMap::new());
        for _ in 0..TURNS {
            let found = process::output(
                Command::new(&reference)
                    .arg(folder.join(&name))
                    .arg(seconds),
            )?;
            c = c.min(number(&found, 0)?);
            let found = process::output(Command::new(&example).args([seconds, &*name]))?;
            for line in found.lines() {
                let (case, hash) = (words(line, 0..5), words(line, 6..7));
                let best = lines.entry(case).or_insert((f64::INFINITY, hash));
                best.0 = best.0.min(number(line, 5)?);
            }
        }
        hold_same(&lines)?;
        for (case, (time, _)) in &lines {
            let sgd = case[2] == "sgd";
            let beside = |text: String| if sgd { text } else { "–".to_owned() };
            let cells = [
                format!("{time:.0}"),
                beside(format!("{c:.0}")),
                beside(format!("{:.2}", time / c)),
            ];
            table.row(case.iter().cloned().chain(cells));
        }
    }
    Ok(table.markdown())
}

/// Builds fl-nn's example `kernels`.
fn build() -> Result<std::path::PathBuf> {
    let mut cargo = Command::new("cargo");
    let arguments = "build --release --locked -p fl-nn --features host --example kernels";
    cargo
        .current_dir(project::root())
        .args(arguments.split(' '));
    process::run(&mut cargo)?;
    Ok(project::target_dir().join("release/examples/kernels"))
}

/// Compiles the C for one shape.
fn compile(
    folder: &Path,
    name: &str,
    sizes: &[u32],
    batch: u32,
    epochs: u32,
) -> Result<std::path::PathBuf> {
    let out = folder.join(format!("{name}.c.out"));
    let hidden = if sizes.len() == 4 { sizes[2] } else { 0 };
    let values = [
        ("D0", sizes[0]),
        ("D1", sizes[1]),
        ("D2", hidden),
        ("D3", sizes[sizes.len() - 1]),
        ("BATCH", batch),
        ("EPOCHS", epochs),
    ];
    let mut gcc = Command::new("gcc");
    gcc.args(["-O3", "-march=native", "-ffp-contract=off"])
        .args(values.map(|(name, value)| format!("-D{name}={value}")))
        .arg(project::root().join("xtask/reference/mlp.c"))
        .arg("-o")
        .arg(&out)
        .arg("-lm");
    process::run(&mut gcc)?;
    Ok(out)
}

/// Refuses levels that end in different parameters.
fn hold_same(lines: &BTreeMap<Vec<String>, (f64, Vec<String>)>) -> Result<()> {
    let mut hashes = BTreeMap::new();
    for (case, (_, hash)) in lines {
        let first = hashes.entry(&case[..4]).or_insert(hash);
        if *first != hash {
            bail!(
                "{} ends in other parameters than the levels before",
                case.join(" ")
            );
        }
    }
    Ok(())
}

fn words(line: &str, places: std::ops::Range<usize>) -> Vec<String> {
    let words = line.split_whitespace().map(str::to_owned);
    words.skip(places.start).take(places.len()).collect()
}

fn number(line: &str, place: usize) -> Result<f64> {
    let word = line.split_whitespace().nth(place);
    let number = word.and_then(|word| word.parse().ok());
    number.with_context(|| format!("no time in `{line}`"))
}
