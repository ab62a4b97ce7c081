//! Devices that are Zephyr applications: they train to the bit what native devices do, and die
//! readably.
//!
//! Run by `cargo xtask test` where there is a Zephyr, after it has built the guest.

mod support;

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use support::{Run, root};

const BOARD: &str = "qemu_x86";

#[test]
fn zephyr_devices_agree_with_native_and_bare_ones() {
    let arguments = ["--clients", "2", "--rounds", "2", "--seed", "4"];
    let model = |body: &str| Run::succeeds(&[&["--body", body], &arguments[..]].concat()).model();
    let native = model("native");
    assert_eq!(model("zephyr"), native, "zephyr");
    assert_eq!(model("bare"), native, "bare");
}

/// A Zephyr device alone, its shell on this test's pipes. It ends with the test.
struct Device(Child);

impl Drop for Device {
    fn drop(&mut self) {
        // Either may fail only because it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Device {
    fn boot() -> Self {
        let text =
            std::fs::read_to_string(root().join(format!("boards/{BOARD}/board.toml"))).unwrap();
        let board: toml::Table = toml::from_str(&text).unwrap();
        let (machine, nic) = (&board["machine"], &board["nic"]);
        let word = |value: &toml::Value| value.as_str().unwrap().to_owned();
        let mut card = format!("{},netdev=n0", word(&nic["model"]));
        for (key, value) in nic["options"].as_table().unwrap() {
            card += &format!(",{key}={}", word(value));
        }
        let mut qemu = Command::new(word(&machine["qemu"]));
        qemu.current_dir(root());
        qemu.args([
            "-machine",
            &word(&machine["machine"]),
            "-cpu",
            &word(&machine["cpu"]),
        ]);
        qemu.args([
            "-m",
            &machine["memory_mib"].as_integer().unwrap().to_string(),
        ]);
        qemu.args(machine["extra_args"].as_array().unwrap().iter().map(word));
        qemu.args([
            "-kernel",
            &word(&board["kernel"]["image"]),
            "-serial",
            "stdio",
        ]);
        qemu.args(["-netdev", "user,id=n0,restrict=on", "-device", &card]);
        let qemu = qemu
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        Self(qemu.spawn().expect("QEMU starts"))
    }

    /// Types a line once the shell is there, and returns all that the device wrote until it ended.
    fn type_and_die(&mut self, line: &str) -> String {
        let mut out = BufReader::new(self.0.stdout.take().unwrap());
        let mut input = self.0.stdin.take().unwrap();
        let mut text = Vec::new();
        while !text.ends_with(b"uart:~$ ") {
            assert_ne!(
                out.read_until(b' ', &mut text).unwrap(),
                0,
                "it ended before its prompt"
            );
        }
        writeln!(input, "{line}").unwrap();
        // The machine ends with the device, and the pipe with it.
        while out.read_until(b'\n', &mut text).unwrap() != 0 {}
        String::from_utf8_lossy(&text).into_owned()
    }
}

#[test]
fn every_fatal_error_ends_the_machine_with_a_line_that_says_so() {
    for how in ["panic", "fault", "stack", "heap"] {
        let mut device = Device::boot();
        let console = device.type_and_die(&format!("crash {how}"));
        let fatal = console.lines().rfind(|line| line.contains("zfl: fatal: "));
        assert!(fatal.is_some(), "crash {how}: {console}");
        let status = device.0.wait().unwrap();
        assert!(!status.success(), "crash {how}: QEMU ended with {status}");
    }
}
