//! What the dashboard costs a run: the same run without it, and with it and a page that looks.

use super::table::{Table, median, number};
use super::{Bench, finish, machine, same_model};
use crate::bench::results::Run;
use anyhow::{Context, Result, bail, ensure};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::path::Path;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// After this long a run that has not said where its dashboard is has none.
const SAID_WITHIN: Duration = Duration::from_secs(60);

/// One run, and the processor time that it took in all, in seconds.
struct Measured {
    run: Run,
    cpu_s: f64,
    /// What a page was sent.
    messages: usize,
}

/// Runs pairs, one with the dashboard and one without, in turn.
///
/// # Errors
/// If a run fails, a page is sent nothing, or the dashboard changes the model.
pub fn measure(bench: &Bench) -> Result<String> {
    let (pairs, clients, rounds) = bench.size((7, 200, 20), (1, 8, 2));
    let arguments = format!("--body native --clients {clients} --rounds {rounds}");
    let (mut without, mut with) = (Vec::new(), Vec::new());
    for pair in 1..=pairs {
        without.push(one(bench, &format!("off-{pair}"), &arguments, false)?);
        with.push(one(bench, &format!("on-{pair}"), &arguments, true)?);
    }
    let all = without.iter().chain(&with).map(|one| &one.run);
    ensure!(same_model(all), "the dashboard changes the model");
    let ratios = |of: fn(&Measured) -> f64| {
        let pairs = without.iter().zip(&with);
        pairs
            .map(|(off, on)| of(on) / of(off))
            .collect::<Vec<f64>>()
    };
    let mut table = Table::new(&[
        "dashboard",
        "processor s, median",
        "wall s, median",
        "messages to the page, median",
    ]);
    for (name, runs) in [("off", &without), ("on, one page looks", &with)] {
        table.row([
            name.to_owned(),
            number(median(runs.iter().map(|one| one.cpu_s)), 2),
            number(median(runs.iter().map(|one| one.run.summary.wall_s)), 2),
            number(median(runs.iter().map(|one| one.messages as f64)), 0),
        ]);
    }
    let ratio = |of: Vec<f64>| {
        let (least, most) = of.iter().fold((f64::MAX, f64::MIN), |(least, most), one| {
            (least.min(*one), most.max(*one))
        });
        let middle = number(median(of), 3);
        format!("{middle} in the median, {least:.3} to {most:.3}")
    };
    Ok(format!(
        "{clients} native devices, {rounds} rounds, {pairs} pairs.\n\n{}\n\
         On over off, of each pair: processor time {}; wall time {}.",
        table.markdown(),
        ratio(ratios(|one| one.cpu_s)),
        ratio(ratios(|one| one.run.summary.wall_s)),
    ))
}

fn one(bench: &Bench, name: &str, arguments: &str, on: bool) -> Result<Measured> {
    let load = machine::load_average()?;
    let dashboard = if on { "127.0.0.1:0" } else { "off" };
    let arguments = format!("{arguments} --dashboard {dashboard}");
    println!("{name}: zfl run {arguments}");
    let before = children_cpu_s()?;
    let (mut child, out) = bench.start(name, &arguments)?;
    let page = if on { Some(look(&out)?) } else { None };
    let status = finish(&mut child)?;
    ensure!(status.success(), "zfl run {arguments} failed ({status})");
    let cpu_s = children_cpu_s()? - before;
    let messages = match page {
        Some(page) => page.join().unwrap_or_else(|_| bail!("the page's thread"))?,
        None => 0,
    };
    ensure!(!on || messages > 1, "the page was sent nothing");
    Ok(Measured {
        run: Run::read(&out, load)?,
        cpu_s,
        messages,
    })
}

/// Reads the stream of a page until the run is over; returns the number of messages.
fn look(out: &Path) -> Result<JoinHandle<Result<usize>>> {
    let address = address(out)?;
    let mut stream =
        TcpStream::connect(&address).with_context(|| format!("no dashboard at {address}"))?;
    write!(
        stream,
        "GET /api/events HTTP/1.1\r\nHost: {address}\r\n\r\n"
    )?;
    Ok(std::thread::spawn(move || {
        let mut messages = 0;
        for line in BufReader::new(stream).split(b'\n') {
            // A connection that breaks is how a run ends.
            let Ok(line) = line else { break };
            messages += usize::from(line.starts_with(b"data:"));
        }
        Ok(messages)
    }))
}

/// Where a run that goes on says that its dashboard is.
fn address(out: &Path) -> Result<String> {
    let deadline = Instant::now() + SAID_WITHIN;
    loop {
        for file in ["out", "err"] {
            let said = fs::read_to_string(out.with_extension(file)).unwrap_or_default();
            if let Some((_, rest)) = said.split_once("dashboard: http://")
                && let Some((address, _)) = rest.split_once('/')
            {
                return Ok(address.to_owned());
            }
        }
        ensure!(
            Instant::now() < deadline,
            "zfl has not said within {SAID_WITHIN:?} where its dashboard is: see {}",
            out.with_extension("err").display()
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Processor time of all processes that this one has waited for, and theirs, in seconds.
fn children_cpu_s() -> Result<f64> {
    let stat = fs::read_to_string("/proc/self/stat").context("/proc/self/stat")?;
    let ticks = children_ticks(&stat).context("/proc/self/stat has other fields")?;
    let per_second = crate::process::output(std::process::Command::new("getconf").arg("CLK_TCK"))?;
    let per_second: f64 = per_second.trim().parse().context("getconf CLK_TCK")?;
    Ok(ticks as f64 / per_second)
}

fn children_ticks(stat: &str) -> Option<u64> {
    let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
    let (user, system): (u64, u64) = (fields.get(13)?.parse().ok()?, fields.get(14)?.parse().ok()?);
    Some(user + system)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_time_of_children() {
        // proc_pid_stat(5): cutime and cstime are fields 16 and 17, and the first here is field 3.
        let stat = "7 (a) b) S 4 5 6 7 8 9 10 11 12 13 14 15 1600 17 18 19";
        assert_eq!(children_ticks(stat), Some(1617));
        assert_eq!(children_ticks(""), None);
    }
}
