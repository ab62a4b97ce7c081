//! Bench of the dashboard's cost: the same run without it, and with it and a reader.

use super::results::Run;
use super::table::{Table, median, number};
use super::{Bench, finish, machine, networks, proc, same_model};
use crate::process;
use anyhow::{Context, Result, bail, ensure};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// After this long a run that has not said where its dashboard is has none.
const SAID_WITHIN: Duration = Duration::from_secs(60);

/// Interval between readings of the processor time.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// One run, and the processor time that zfl itself took, without its devices, in seconds.
struct Measured {
    run: Run,
    cpu_s: f64,
    /// Number of messages that a page was sent.
    messages: usize,
}

/// Runs pairs, one with the dashboard and one without, in turn.
///
/// # Errors
/// If a run fails, a page is sent nothing, or the dashboard changes the model.
pub fn measure(bench: &Bench) -> Result<String> {
    let (pairs, clients, rounds) = bench.size((5, 200, 3), (1, 4, 2));
    let arguments = format!("--body bare --clients {clients} --rounds {rounds}");
    let (mut without, mut with) = (Vec::new(), Vec::new());
    for pair in 1..=pairs {
        without.push(one(bench, &format!("off-{pair}"), &arguments, false)?);
        with.push(one(bench, &format!("on-{pair}"), &arguments, true)?);
    }
    let all = without.iter().chain(&with).map(|one| &one.run);
    ensure!(same_model(all), "the dashboard changes the model");
    let pairs_of = without.iter().zip(&with);
    let share =
        |(off, on): (&Measured, &Measured)| 100.0 * (on.cpu_s - off.cpu_s) / off.run.summary.wall_s;
    let shares: Vec<f64> = pairs_of.map(share).collect();
    let mut table = Table::new(&[
        "dashboard",
        "zfl's own processor s, median",
        "wall s, median",
        "messages to the page, median",
    ]);
    for (name, runs) in [("off", &without), ("on, with one reader", &with)] {
        table.row([
            name.to_owned(),
            number(median(runs.iter().map(|one| one.cpu_s)), 2),
            number(median(runs.iter().map(|one| one.run.summary.wall_s)), 2),
            number(median(runs.iter().map(|one| one.messages as f64)), 0),
        ]);
    }
    let (least, most) = (
        shares.iter().copied().fold(f64::MAX, f64::min),
        shares.iter().copied().fold(f64::MIN, f64::max),
    );
    Ok(format!(
        "{clients} bare devices, {rounds} rounds, {pairs} pairs.\n\n{}\n\
         Processor time added by the dashboard, as a share of the run's wall time, over the pairs: {} % in the \
         median, {least:.1} to {most:.1} %.\n{}",
        table.markdown(),
        number(median(shares), 1),
        networks(without.iter().map(|one| &one.run)),
    ))
}

fn one(bench: &Bench, name: &str, arguments: &str, on: bool) -> Result<Measured> {
    let load = machine::load_average()?;
    let dashboard = if on { "127.0.0.1:0" } else { "off" };
    let arguments = format!("{arguments} --dashboard {dashboard}");
    println!("{name}: zfl run {arguments}");
    let (mut child, out) = bench.start(name, &arguments)?;
    let own = own_ticks_until_the_end(child.id());
    let page = if on { Some(look(&out)?) } else { None };
    let status = finish(&mut child)?;
    ensure!(status.success(), "zfl run {arguments} failed ({status})");
    let ticks = own
        .join()
        .unwrap_or_else(|_| bail!("the thread that looks at /proc"))?;
    let cpu_s = ticks as f64 / ticks_per_second()?;
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

/// Address of the dashboard, from the output of a live run.
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

/// Follows the processor time of the processes of a run that are zfl's own, until it has ended.
fn own_ticks_until_the_end(pid: u32) -> JoinHandle<Result<u64>> {
    std::thread::spawn(move || {
        let mut most = 0;
        loop {
            // At the end they go one by one.
            let now = own_ticks(pid)?;
            most = most.max(now);
            if now == 0 && most > 0 {
                return Ok(most);
            }
            std::thread::sleep(LOOK_EVERY);
        }
    })
}

/// Processor time so far of the processes named zfl that descend from one, itself included.
fn own_ticks(pid: u32) -> Result<u64> {
    let family = proc::family(pid)?;
    let stats = family
        .into_iter()
        .filter_map(|pid| fs::read_to_string(format!("/proc/{pid}/stat")).ok());
    Ok(stats.filter_map(|stat| ticks_of_zfl(&stat)).sum())
}

fn ticks_of_zfl(stat: &str) -> Option<u64> {
    let (name, rest) = stat.rsplit_once(") ")?;
    let fields: Vec<&str> = rest.split(' ').collect();
    let (user, system): (u64, u64) = (fields.get(11)?.parse().ok()?, fields.get(12)?.parse().ok()?);
    name.ends_with("(zfl").then_some(user + system)
}

fn ticks_per_second() -> Result<f64> {
    let told = process::output(Command::new("getconf").arg("CLK_TCK"))?;
    told.trim().parse().context("getconf CLK_TCK")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_time_of_zfl_alone() {
        // proc_pid_stat(5): utime and stime are fields 14 and 15, and the state is field 3.
        let stat = |name: &str| format!("7 ({name}) S 4 5 6 7 8 9 10 11 12 13 1400 15 16 17");
        assert_eq!(ticks_of_zfl(&stat("zfl")), Some(1415));
        assert_eq!(ticks_of_zfl(&stat("qemu-system-i38")), None);
        assert_eq!(ticks_of_zfl(""), None);
    }
}
