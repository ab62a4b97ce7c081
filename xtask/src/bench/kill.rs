//! Bench of SIGKILL: the remains of a run, and their lifetime.

use super::proc::Footprint;
use super::table::{Table, largest, median, number};
use super::{Bench, has_begun};
use anyhow::{Context, Result, bail, ensure};
use std::process::Child;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// After this long something is left for good.
const GIVE_UP: Duration = Duration::from_secs(60);

/// Longest wait for the second round to begin.
const BEGIN_WITHIN: Duration = Duration::from_secs(600);

/// One run that was killed.
struct Killed {
    footprint: Footprint,
    /// Until nothing of it ran or was held any more.
    gone_s: f64,
    /// Until the system's process 1 had collected what has ended.
    collected_s: f64,
}

/// Kills runs in the middle of their second round.
///
/// # Errors
/// If a run does not come so far, or something of it is still there after a minute.
pub fn measure(bench: &Bench) -> Result<String> {
    let (clients, times) = bench.size((50, 5), (4, 2));
    let examples = bench.size(1200, 100);
    let mut table = Table::new(&[
        "run",
        "processes",
        "namespaces",
        "FIFOs, pipes and sockets",
        "s until all are gone",
        "until process 1 has collected them",
    ]);
    let mut seconds = Vec::new();
    for run in 1..=times {
        let arguments = format!(
            "--body bare --network switch --clients {clients} --examples {examples} --epochs 20"
        );
        let killed = one(bench, &arguments, clients)?;
        table.row([
            run.to_string(),
            killed.footprint.processes.len().to_string(),
            killed.footprint.namespaces.len().to_string(),
            killed.footprint.channels.len().to_string(),
            number(Some(killed.gone_s), 2),
            number(Some(killed.collected_s), 2),
        ]);
        seconds.push(killed.gone_s);
    }
    let (median, worst) = (median(seconds.clone()), largest(seconds));
    Ok(format!(
        "{clients} bare devices in the middle of round 2.\n\n{}\nMedian {} s, worst {} s.",
        table.markdown(),
        number(median, 2),
        number(worst, 2)
    ))
}

fn one(bench: &Bench, arguments: &str, clients: usize) -> Result<Killed> {
    println!("kill: zfl run {arguments}");
    let (mut child, out) = bench.start("killed", arguments)?;
    let killed = wait_for(&mut child, || has_begun(&out, 2))
        .and_then(|()| Footprint::of(child.id()))
        .and_then(|footprint| kill(&mut child, footprint, clients));
    if killed.is_err() {
        // It may be over already; what is to be reported is the error above.
        let _ = child.kill();
        let _ = child.wait();
    }
    killed.with_context(|| format!("see {}", out.with_extension("err").display()))
}

fn kill(child: &mut Child, footprint: Footprint, clients: usize) -> Result<Killed> {
    ensure!(
        footprint.processes.len() > clients,
        "{} processes are too few for {clients} devices",
        footprint.processes.len()
    );
    ensure!(
        !footprint.namespaces.is_empty(),
        "the namespaces of the run cannot be seen: run this as root"
    );
    let began = Instant::now();
    child.kill()?;
    child.wait()?;
    let gone_s = until(began, || footprint.left())?;
    let listed = || {
        let listed = footprint.is_listed();
        Ok(Vec::from_iter(listed.then(|| {
            "a process that has ended and that process 1 does not collect".to_owned()
        })))
    };
    let collected_s = until(began, listed)?;
    Ok(Killed {
        footprint,
        gone_s,
        collected_s,
    })
}

/// Seconds since `began` until nothing is left.
fn until(began: Instant, left: impl Fn() -> Result<Vec<String>>) -> Result<f64> {
    loop {
        let left = left()?;
        // Behind the look that found nothing: what is stated is an upper bound.
        let took = began.elapsed();
        if left.is_empty() {
            return Ok(took.as_secs_f64());
        }
        if took > GIVE_UP {
            bail!("left after {GIVE_UP:?}: {}", left.join(", "));
        }
        sleep(Duration::from_millis(5));
    }
}

fn wait_for(child: &mut Child, mut done: impl FnMut() -> bool) -> Result<()> {
    let deadline = Instant::now() + BEGIN_WITHIN;
    while !done() {
        if let Some(status) = child.try_wait()? {
            bail!("zfl has ended ({status}) before it could be killed");
        }
        if Instant::now() > deadline {
            bail!("no second round within {BEGIN_WITHIN:?}");
        }
        sleep(Duration::from_millis(50));
    }
    Ok(())
}
