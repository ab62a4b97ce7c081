//! Federated averaging as a whole, beside a C, NumPy and Flower: 100 clients of 600 images, 784-16-10, five epochs
//! in one batch each.

use super::table::{Table, median, number};
use super::{Bench, networks, proc};
use crate::{process, project};
use anyhow::{Context, Result, bail, ensure};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Runs of each program that is fast, in turns; medians count.
const TURNS: usize = 3;

/// Rounds of every program.
const ROUNDS: u32 = 20;

/// Times of one run of a program.
#[derive(Clone, Copy, Debug)]
struct Times {
    round_s: f64,
    wall_s: f64,
    /// Processor time of all of its processes.
    cpu_s: f64,
    accuracy: f64,
}

/// Measures zfl natively and emulated, and what is there of the others; Flower, and NumPy where it is missing, in a
/// virtual environment if `flower`.
///
/// # Errors
/// If a program fails.
pub fn measure(bench: &Bench, flower: bool) -> Result<String> {
    if !process::exists("gcc") {
        bail!("gcc, which compiles the C beside zfl, is missing: install it");
    }
    let rounds = bench.size(ROUNDS, 2);
    let data = unpack(&bench.folder)?;
    let threads = std::thread::available_parallelism()?.get();
    let c = compile(&bench.folder)?;
    let python = match flower {
        true => Some(environment(&bench.folder)?),
        false => Some(PathBuf::from("python3")).filter(|python| has_numpy(python)),
    };
    let mut native = Vec::new();
    let (mut of_c, mut of_numpy) = (Vec::new(), Vec::new());
    let mut runs = Vec::new();
    for turn in 0..bench.size(TURNS, 1) {
        let mut command = Command::new(&c);
        command
            .arg(&data)
            .args([threads, rounds as usize].map(|n| n.to_string()));
        of_c.push(peer(&mut command)?);
        if let Some(python) = &python {
            of_numpy.push(script(python, "fedavg.py", &data, rounds)?);
        }
        let (times, run) = zfl(bench, &format!("native-{turn}"), "native", rounds)?;
        native.push(times);
        runs.push(run);
    }
    let (bare, run) = zfl(bench, "bare", "bare", rounds)?;
    runs.push(run);
    ensure!(
        super::same_model(&runs),
        "natives and emulated devices have different models"
    );
    let mut table = Table::new(&[
        "program",
        "round s, median",
        "in units of the C",
        &format!("{rounds} rounds in all s"),
        "processor s in all",
        "accuracy %",
    ]);
    let base = middle(&of_c, |times| times.round_s);
    let mut row = |name: &str, runs: &[Times]| {
        if !runs.is_empty() {
            table.row(cells(name, runs, base));
        }
    };
    row(
        &format!("C, `xtask/reference/fedavg.c`, {threads} threads"),
        &of_c,
    );
    row("zfl, native", &native);
    row("NumPy, `xtask/reference/fedavg.py`", &of_numpy);
    if flower && let Some(python) = &python {
        let times = script(python, "fedavg_flower.py", &data, rounds)?;
        row("Flower's simulation, its clients in NumPy", &[times]);
    }
    row("zfl, bare devices on microvm", &[bare]);
    let mut notes = networks(&runs);
    if python.is_none() {
        notes += "\nNot measured: NumPy, which python3 has not (`--flower` makes an environment with both).";
    }
    Ok(format!("{}\n{notes}", table.markdown()))
}

fn cells(name: &str, runs: &[Times], base: Option<f64>) -> Vec<String> {
    let round = middle(runs, |times| times.round_s);
    let ratio = round.zip(base).map(|(round, base)| round / base);
    vec![
        name.to_owned(),
        number(round, 3),
        number(ratio, 2),
        number(middle(runs, |times| times.wall_s), 2),
        number(middle(runs, |times| times.cpu_s), 2),
        number(middle(runs, |times| times.accuracy), 2),
    ]
}

fn middle(runs: &[Times], of: fn(&Times) -> f64) -> Option<f64> {
    median(runs.iter().map(of))
}

/// Runs zfl; a round lasts from the end of one to the end of the next.
fn zfl(bench: &Bench, name: &str, body: &str, rounds: u32) -> Result<(Times, super::Run)> {
    let before = proc::cpu_of_children()?;
    let arguments = format!("--body {body} --clients 100 --examples 600 --rounds {rounds}");
    let run = bench.run(name, &arguments)?;
    let ends = run.rounds.iter().map(|round| round.elapsed_s);
    let lasted = ends.clone().zip(ends.skip(1)).map(|(from, to)| to - from);
    let times = Times {
        round_s: median(lasted).unwrap_or(f64::NAN),
        wall_s: run.summary.wall_s,
        cpu_s: proc::cpu_of_children()? - before,
        accuracy: run.accuracy_percent().unwrap_or(f64::NAN),
    };
    Ok((times, run))
}

/// Runs a program that prints the times of a round and of all, and the accuracy.
fn peer(command: &mut Command) -> Result<Times> {
    println!("{}", process::line(command));
    let before = proc::cpu_of_children()?;
    let said = process::output(command)?;
    let last = said.lines().last().unwrap_or_default();
    let words = last.split_whitespace().map(str::parse);
    let numbers: Vec<f64> = words.collect::<Result<_, _>>().unwrap_or_default();
    let [round_s, wall_s, accuracy] = *numbers else {
        bail!("`{}` printed no times: {last}", process::line(command));
    };
    Ok(Times {
        round_s,
        wall_s,
        cpu_s: proc::cpu_of_children()? - before,
        accuracy,
    })
}

/// Runs a script of `xtask/reference`.
fn script(python: &Path, name: &str, data: &Path, rounds: u32) -> Result<Times> {
    let mut command = Command::new(python);
    command
        .arg(project::root().join("xtask/reference").join(name))
        .arg(data)
        .arg(rounds.to_string())
        .env("OPENBLAS_NUM_THREADS", "1");
    peer(&mut command)
}

/// Unpacks MNIST into a folder.
fn unpack(folder: &Path) -> Result<PathBuf> {
    let out = folder.join("mnist");
    fs::create_dir_all(&out).with_context(|| format!("cannot make {}", out.display()))?;
    for set in ["train", "t10k"] {
        for kind in ["images-idx3", "labels-idx1"] {
            let name = format!("{set}-{kind}-ubyte");
            let path = out.join(&name);
            let file =
                File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
            let packed = project::root()
                .join("data/mnist")
                .join(format!("{name}.gz"));
            process::run(Command::new("gzip").arg("-dc").arg(packed).stdout(file))?;
        }
    }
    Ok(out)
}

/// Compiles the C for this processor.
fn compile(folder: &Path) -> Result<PathBuf> {
    let out = folder.join("fedavg.out");
    let mut gcc = Command::new("gcc");
    gcc.args(["-O3", "-march=native", "-ffast-math", "-pthread"])
        .args([
            "-DD0=784",
            "-DD1=16",
            "-DD2=0",
            "-DD3=10",
            "-DBATCH=600",
            "-DEPOCHS=5",
        ])
        .args(["-DRATE=0.5f", "-DCLIENTS=100", "-DCOUNT=600"])
        .arg(project::root().join("xtask/reference/fedavg.c"))
        .arg("-o")
        .arg(&out)
        .arg("-lm");
    process::run(&mut gcc)?;
    Ok(out)
}

fn has_numpy(python: &Path) -> bool {
    process::quiet_output(Command::new(python).args(["-c", "import numpy"])).is_ok()
}

/// The Python of a virtual environment with NumPy and Flower, made unless it is there.
fn environment(folder: &Path) -> Result<PathBuf> {
    let venv = folder.join("venv");
    let python = venv.join("bin/python");
    let has_flower = Command::new(&python)
        .args(["-c", "import flwr, ray, numpy"])
        .output();
    if !has_flower.is_ok_and(|output| output.status.success()) {
        process::run(Command::new("python3").args(["-m", "venv"]).arg(&venv))?;
        let install = [
            "-m",
            "pip",
            "install",
            "--quiet",
            "numpy",
            "flwr[simulation]",
        ];
        process::run(Command::new(&python).args(install))?;
    }
    Ok(python)
}
