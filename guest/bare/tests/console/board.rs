//! Boards, as far as booting one takes.

use std::collections::BTreeMap;
use std::net::SocketAddrV4;
use std::path::PathBuf;
use std::process::Command;

use serde::Deserialize;

use super::guest;

/// The part of `board.toml` that starts QEMU.
#[derive(Deserialize)]
pub struct Board {
    pub machine: Machine,
    nic: Nic,
    kernel: Kernel,
    pub shell: Shell,
}

#[derive(Deserialize)]
pub struct Machine {
    pub qemu: String,
    machine: String,
    cpu: String,
    memory_mib: u32,
    extra_args: Vec<String>,
}

#[derive(Deserialize)]
struct Nic {
    model: String,
    #[serde(default)]
    on_board: bool,
    #[serde(default)]
    options: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Kernel {
    image: PathBuf,
}

#[derive(Deserialize)]
pub struct Shell {
    pub prompt: String,
}

/// Additional arguments of a test for QEMU.
#[derive(Clone, Copy, Debug, Default)]
pub struct Extras {
    /// An address of the host's loopback, forwarded to the device's HTTP port.
    pub forward: Option<SocketAddrV4>,
    /// Count instructions; each takes 2^shift ns.
    pub icount: Option<u8>,
    /// Another processor than the board's.
    pub cpu: Option<&'static str>,
}

/// Names of the boards whose firmware is built for them alone: all but PCs.
pub fn microcontrollers() -> Vec<String> {
    let folder = guest().join("../../boards");
    let folders = std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{folder:?}: {e}"));
    let names = folders.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let is_built_for = |name: &String| {
        let text = std::fs::read_to_string(folder.join(name).join("board.toml"));
        let board: Option<toml::Table> = text.ok().and_then(|text| text.parse().ok());
        board.is_some_and(|board| board.contains_key("firmware"))
    };
    let mut boards: Vec<_> = names.filter(is_built_for).collect();
    boards.sort();
    boards
}

impl Board {
    /// Reads a board of the repository.
    pub fn load(name: &str) -> Self {
        let path = guest().join("../../boards").join(name).join("board.toml");
        let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path:?}: {e}"));
        toml::from_str(&text).unwrap_or_else(|e| panic!("{path:?}: {e}"))
    }

    fn image(&self) -> PathBuf {
        let named = std::env::var_os("ZFL_IMAGE").map(PathBuf::from);
        let image = named.unwrap_or_else(|| guest().join("../..").join(&self.kernel.image));
        assert!(
            image.exists(),
            "{image:?} is missing: run `cargo xtask build-guest` first"
        );
        image
    }

    /// QEMU with a guest whose serial line is standard input and output.
    pub fn command(&self, extras: &Extras) -> Command {
        let mut device = format!("{},netdev=network", self.nic.model);
        for (key, value) in &self.nic.options {
            device += &format!(",{key}={value}");
        }
        let mut qemu = Command::new(&self.machine.qemu);
        let cpu = extras.cpu.unwrap_or(&self.machine.cpu);
        qemu.args(["-M", &self.machine.machine, "-cpu", cpu]);
        qemu.args(["-m", &format!("{}M", self.machine.memory_mib)]);
        qemu.args(&self.machine.extra_args);
        let mut network = "user,id=network".to_owned();
        if let Some(address) = extras.forward {
            network += &format!(",hostfwd=tcp:{address}-10.0.2.15:80");
        }
        if let Some(shift) = extras.icount {
            qemu.args(["-icount", &format!("shift={shift},sleep=on")]);
        }
        let card = match self.nic.on_board {
            true => [
                "-net",
                &format!("nic,netdev=network,model={}", self.nic.model),
            ],
            false => ["-device", &device],
        };
        qemu.args(["-netdev", &network]).args(card);
        qemu.args(["-serial", "stdio"]);
        qemu.arg("-kernel").arg(self.image());
        qemu
    }
}
