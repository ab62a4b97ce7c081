//! The machine that numbers were measured on.

use crate::process;
use anyhow::{Context, Result};
use std::fs;
use std::process::Command;

/// Description of the machine beside a measured number.
pub struct Machine {
    cpu: String,
    cores: usize,
    kernel: String,
    system: String,
    qemu: String,
    date: String,
    /// One minute's load average before anything was measured.
    load: f64,
}

impl Machine {
    /// This machine, now.
    ///
    /// # Errors
    /// If `date` does not run, or `/proc` is not there.
    pub fn here() -> Result<Self> {
        // Where it is missing, nothing is measured that needs it.
        let qemu = process::quiet_output(Command::new("qemu-system-i386").arg("--version"));
        let date = process::output(Command::new("date").args(["-u", "+%Y-%m-%d %H:%M UTC"]))?;
        Ok(Self {
            cpu: cpu_model(&read("/proc/cpuinfo")?),
            cores: std::thread::available_parallelism()?.get(),
            kernel: read("/proc/sys/kernel/osrelease")?.trim().to_owned(),
            system: system_name(&read("/etc/os-release").unwrap_or_default()),
            qemu: qemu_version(&qemu.unwrap_or_default()),
            date: date.trim().to_owned(),
            load: load_average()?,
        })
    }

    /// Date, processor and system, for one line.
    pub fn in_short(&self) -> String {
        let Self {
            cpu,
            cores,
            system,
            date,
            ..
        } = self;
        format!("{date}; {cpu}, {cores} processors; {system}")
    }

    /// The lines above a table, written when it is complete.
    ///
    /// # Errors
    /// If the load average cannot be read.
    pub fn describe(&self, what: &str) -> Result<String> {
        let Self {
            cpu,
            cores,
            kernel,
            system,
            qemu,
            date,
            load,
        } = self;
        let after = load_average()?;
        Ok(format!(
            "`cargo xtask bench {what}`, {date}.\n\
             {cpu}, {cores} processors; {system}, Linux {kernel}; QEMU {qemu}.\n\
             Load average {load:.1} before, {after:.1} at the end."
        ))
    }
}

/// One minute's load average.
///
/// # Errors
/// If `/proc` does not tell.
pub fn load_average() -> Result<f64> {
    let text = read("/proc/loadavg")?;
    first_number(&text).context("/proc/loadavg has no number in it")
}

fn read(path: &str) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {path}"))
}

fn first_number(text: &str) -> Option<f64> {
    text.split_whitespace().next()?.parse().ok()
}

fn cpu_model(cpuinfo: &str) -> String {
    let named = |line: &str| {
        let (name, value) = line.split_once(':')?;
        (name.trim() == "model name").then(|| value.trim().to_owned())
    };
    let model = cpuinfo.lines().find_map(named);
    // ARM's has no such line.
    model.unwrap_or_else(|| std::env::consts::ARCH.to_owned())
}

/// `PRETTY_NAME` of os-release(5).
fn system_name(os_release: &str) -> String {
    let named = |line: &str| {
        Some(
            line.strip_prefix("PRETTY_NAME=")?
                .trim_matches('"')
                .to_owned(),
        )
    };
    let name = os_release.lines().find_map(named);
    name.unwrap_or_else(|| "unnamed system".to_owned())
}

/// `7.2.9` of `QEMU emulator version 7.2.9 (Debian 1:7.2+dfsg-7+deb12u5)`.
fn qemu_version(said: &str) -> String {
    let mut words = said.split_whitespace();
    words
        .find(|word| word.starts_with(|first: char| first.is_ascii_digit()))
        .unwrap_or("of unknown version")
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_the_system_tells() {
        let cpuinfo = "processor\t: 0\nmodel name\t: Some CPU @ 2 GHz\nmodel name\t: Other\n";
        assert_eq!(cpu_model(cpuinfo), "Some CPU @ 2 GHz");
        assert_eq!(cpu_model(""), std::env::consts::ARCH);
        let release = "NAME=\"Debian\"\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\n";
        assert_eq!(system_name(release), "Debian GNU/Linux 12 (bookworm)");
        let said = "QEMU emulator version 7.2.9 (Debian 1:7.2+dfsg-7+deb12u5)\nCopyright";
        assert_eq!(qemu_version(said), "7.2.9");
        assert_eq!(first_number("1.25 3.00 2.10 1/300 12\n"), Some(1.25));
        assert_eq!(first_number(""), None);
    }
}
