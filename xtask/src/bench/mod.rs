//! `cargo xtask bench <what>`: the numbers in docs/, measured.
//!
//! Each benchmark runs the optimised `zfl` as a user would, with a fixed seed, and reads nothing but
//! the run directory and `/proc`. It prints a Markdown table with the machine it was measured on, and
//! with `--write` puts it between its markers into its page.
//!
//! A benchmark fails if something is wrong that does not depend on the machine's speed: rounds that do
//! not complete, models that differ. What does depend on it is stated and not judged by the exit status.

mod bodies;
mod dashboard;
mod faults;
mod fleet;
mod guests;
mod kernels;
mod kill;
mod links;
pub mod machine;
mod peers;
mod proc;
mod results;
mod scale;
pub mod table;

use crate::{GuestBody, guest, project, run, setup};
use anyhow::{Context, Result, anyhow, bail};
use clap::{Args, ValueEnum};
use machine::Machine;
use results::Run;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

/// After this long a run hangs.
const LIMIT: Duration = Duration::from_secs(1800);

/// The seed of every run.
const SEED: &str = "1";

#[derive(Args)]
pub struct BenchArgs {
    /// The benchmark to run
    #[arg(value_enum)]
    what: What,

    /// Put the table into its page in docs/
    #[arg(long)]
    write: bool,

    /// A few devices and rounds: shows that the command works, and nothing else
    #[arg(long, conflicts_with = "write")]
    quick: bool,

    /// Of `scale`: 1,000 and 2,000 emulated devices and 100,000 native ones, too
    #[arg(long, conflicts_with = "quick")]
    large: bool,

    /// Of `peers`: Flower too, in a virtual environment that is made for it
    #[arg(long)]
    flower: bool,
}

/// A benchmark.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum What {
    /// Cost of lost and delayed frames: 12 runs of 20 devices
    Links,
    /// Devices that drop out and crash, against a run without: 3 runs of 50 devices
    Faults,
    /// 50, 100 and 200 devices
    Fleet,
    /// Remains of a run after SIGKILL, and their lifetime
    Kill,
    /// The same experiment in every body and on every board
    Bodies,
    /// Fleets of 50 to 2,000 devices, as far as they fit, and up to 100,000 natives: boot, join, rounds
    Scale,
    /// Cost of the dashboard: pairs of runs of 200 devices, with it and without
    Dashboard,
    /// Training natively, an example at a time, beside a C of the same arithmetic
    Kernels,
    /// Training on each board: instructions and processor time of an example
    Guests,
    /// 100 clients and 20 rounds, native and emulated, beside a C, NumPy and Flower
    Peers,
}

impl What {
    fn name(self) -> &'static str {
        match self {
            Self::Links => "links",
            Self::Faults => "faults",
            Self::Fleet => "fleet",
            Self::Kill => "kill",
            Self::Bodies => "bodies",
            Self::Scale => "scale",
            Self::Dashboard => "dashboard",
            Self::Kernels => "kernels",
            Self::Guests => "guests",
            Self::Peers => "peers",
        }
    }

    /// The page with its numbers.
    fn page(self) -> &'static str {
        match self {
            Self::Links => "docs/network.md",
            Self::Scale | Self::Peers | Self::Guests => "docs/performance.md",
            _ => "docs/benchmarks.md",
        }
    }
}

/// Measures, prints, and writes if asked.
///
/// # Errors
/// If something cannot be built, a run fails, or the page has no place for the table.
pub fn bench(args: &BenchArgs) -> Result<()> {
    let folder = project::target_dir().join("bench").join(args.what.name());
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let (machine, measured) = match args.what {
        What::Kernels => (Machine::here()?, kernels::measure(&folder, args.quick)?),
        what => of_runs(what, folder, args)?,
    };
    let what = args.what.name();
    let text = format!("{}\n\n{measured}", machine.describe(what)?);
    println!("\n{text}");
    if args.write {
        let page = project::root().join(args.what.page());
        let before =
            fs::read_to_string(&page).with_context(|| format!("cannot read {}", page.display()))?;
        let after =
            table::put(&before, what, &text).with_context(|| format!("in {}", args.what.page()))?;
        fs::write(&page, after).with_context(|| format!("cannot write {}", page.display()))?;
        println!("written into {}", args.what.page());
    }
    Ok(())
}

/// Measures what takes runs of zfl.
fn of_runs(what: What, folder: PathBuf, args: &BenchArgs) -> Result<(Machine, String)> {
    setup::qemu()?;
    guest::build(Some(GuestBody::Bare), None)?;
    let zfl = run::build_zfl()?;
    let quick = args.quick;
    let bench = Bench { zfl, folder, quick };
    let machine = Machine::here()?;
    let measured = match what {
        What::Links => links::measure(&bench),
        What::Faults => faults::measure(&bench),
        What::Fleet => fleet::measure(&bench),
        What::Kill => kill::measure(&bench),
        What::Bodies => bodies::measure(&bench),
        What::Scale => scale::measure(&bench, args.large),
        What::Dashboard => dashboard::measure(&bench),
        What::Guests => guests::measure(&bench),
        What::Peers => peers::measure(&bench, args.flower),
        What::Kernels => bail!("kernels take no runs"),
    }?;
    Ok((machine, measured))
}

/// Common parts of the benchmarks.
struct Bench {
    zfl: PathBuf,
    /// For the run directories.
    folder: PathBuf,
    quick: bool,
}

impl Bench {
    /// `full`, or, with `--quick`, `quick`.
    fn size<T>(&self, full: T, quick: T) -> T {
        if self.quick { quick } else { full }
    }

    /// Runs `zfl run` with these arguments to its end, and expects that every round completes.
    fn run(&self, name: &str, arguments: &str) -> Result<Run> {
        self.try_run(name, arguments)?
            .map_err(|why| anyhow!("zfl run {arguments} is refused: {why}"))
    }

    /// The same; a run that zfl refuses to start is no error, and gives the reason.
    fn try_run(&self, name: &str, arguments: &str) -> Result<Result<Run, String>> {
        /// Status of a run that was refused.
        const REFUSED: i32 = 2;
        let load = machine::load_average()?;
        println!("{name}: zfl run {arguments}");
        let (mut child, out) = self.start(name, arguments)?;
        let status = finish(&mut child)?;
        let said = out.with_extension("err");
        if status.code() == Some(REFUSED) {
            let why = fs::read_to_string(&said)?;
            return Ok(Err(why.lines().last().unwrap_or_default().to_owned()));
        }
        if !status.success() {
            let said = said.display();
            bail!("zfl run {arguments} failed ({status}): see {said}");
        }
        Run::read(&out, load).map(Ok)
    }

    /// Starts `zfl run`, without a dashboard unless the arguments have one; returns it with its run
    /// directory. What it prints goes into files beside that.
    fn start(&self, name: &str, arguments: &str) -> Result<(Child, PathBuf)> {
        let out = self.folder.join(name);
        if out.exists() {
            fs::remove_dir_all(&out).with_context(|| format!("cannot remove {}", out.display()))?;
        }
        let file = |path: PathBuf| {
            File::create(&path).with_context(|| format!("cannot write {}", path.display()))
        };
        let mut command = Command::new(&self.zfl);
        if !arguments.contains("--dashboard") {
            command.args(["run", "--dashboard", "off"]);
        } else {
            command.arg("run");
        }
        command
            .current_dir(project::root())
            .args(arguments.split_whitespace())
            .args(["--seed", SEED, "--out"])
            .arg(&out)
            .stdout(file(out.with_extension("out"))?)
            .stderr(file(out.with_extension("err"))?);
        let child = command
            .spawn()
            .with_context(|| format!("cannot start {}", self.zfl.display()))?;
        Ok((child, out))
    }
}

/// Waits for the end of a run, and ends one that hangs.
fn finish(child: &mut Child) -> Result<std::process::ExitStatus> {
    let deadline = Instant::now() + LIMIT;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if Instant::now() > deadline {
            child.kill()?;
            child.wait()?;
            bail!("zfl has not ended within {LIMIT:?}");
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// True if all runs have the same model.
fn same_model<'a>(runs: impl IntoIterator<Item = &'a Run>) -> bool {
    let mut hashes = runs.into_iter().map(|run| &run.summary.model_sha256);
    let first = hashes.next();
    hashes.all(|hash| Some(hash) == first)
}

/// True if the same work has two models.
fn hashes_differ<T: Ord>(models: Vec<(T, String)>) -> bool {
    let mut first = std::collections::BTreeMap::new();
    models.into_iter().any(|(work, model)| {
        let before = first.entry(work).or_insert_with(|| model.clone());
        *before != model
    })
}

/// The networks that these runs had, in words.
fn networks<'a>(runs: impl IntoIterator<Item = &'a Run>) -> String {
    let named = runs
        .into_iter()
        .filter_map(|run| run.summary.network.as_deref());
    let names: BTreeSet<&str> = named.collect();
    format!("Network: {}.", Vec::from_iter(names).join("; "))
}

/// True if a device of a live run has begun this round.
fn has_begun(out: &Path, round: u64) -> bool {
    let text = fs::read_to_string(out.join("events.jsonl")).unwrap_or_default();
    results::events(&text)
        .any(|event| event["event"] == "client_started" && event["round"].as_u64() == Some(round))
}
