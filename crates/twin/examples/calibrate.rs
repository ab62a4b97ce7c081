//! `calibrate TREE PLUGIN`: counts the benchmarks in QEMU, and writes `profiles/counts.toml` and `docs/calibration.md`.
//! `cargo xtask calibrate` builds what it needs and calls it.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};

use zfl_twin::calibration::{Published, page};
use zfl_twin::{Counts, PAGE_BYTES};

/// Targets, and the machines that run their code.
const M4: (&str, &str) = ("thumbv7em-none-eabihf", "mps2-an386");
const M0: (&str, &str) = ("thumbv6m-none-eabi", "mps2-an385");

/// Benchmarks, where they run, and the files that they are built into.
const BENCHMARKS: [(&str, (&str, &str), &str); 4] = [
    ("ad-plain", M4, "zfl-ad-plain"),
    ("ad-pairs", M4, "zfl-ad-pairs"),
    ("ad-plain-m0", M0, "zfl-ad-plain"),
    ("train", M4, "zfl-train"),
];

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args_os().skip(1);
    let (Some(tree), Some(plugin)) = (arguments.next(), arguments.next()) else {
        return Err("calibrate TREE PLUGIN".into());
    };
    let tree = Path::new(&tree);
    let mut all = BTreeMap::new();
    let mut told = BTreeMap::new();
    for (name, (target, machine), image) in BENCHMARKS {
        let image = tree.join(format!("guest/bare/target/{target}/release/{image}"));
        let (counts, line) = counted(machine, &image, Path::new(&plugin))?;
        println!(
            "{name}: {} instructions, {}",
            counts.of("instructions"),
            line.trim()
        );
        told.insert(name, line);
        all.insert(name.to_owned(), counts);
    }
    if told["ad-plain"] != told["ad-pairs"] || told["ad-plain"] != told["ad-plain-m0"] {
        return Err("the kernels of `ad` differ in what they compute".into());
    }
    let published: Published =
        toml::from_str(&fs::read_to_string(tree.join("profiles/published.toml"))?)?;
    let text =
        "# Instructions of the benchmarks by class, as `cargo xtask calibrate` counted them.\n\n"
            .to_owned()
            + &toml::to_string(&all)?;
    fs::write(tree.join("profiles/counts.toml"), text)?;
    fs::write(tree.join("docs/calibration.md"), page(&published, &all)?)?;
    Ok(())
}

/// Runs an image to its end; what was counted in it, and what it printed.
fn counted(machine: &str, image: &Path, plugin: &Path) -> Result<(Counts, String), Box<dyn Error>> {
    let path = std::env::temp_dir().join(format!("zfl-counts-{}", std::process::id()));
    let page = File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(&path)?;
    fs::remove_file(&path)?;
    page.set_len(PAGE_BYTES as u64)?;
    let output = Command::new("qemu-system-arm")
        .args([
            "-M",
            machine,
            "-nodefaults",
            "-no-user-config",
            "-no-reboot",
            "-display",
            "none",
        ])
        .args([
            "-monitor",
            "none",
            "-chardev",
            "file,id=s,path=/dev/stdout",
            "-serial",
            "chardev:s",
        ])
        .arg("-plugin")
        .arg(format!("file={},fd=0", plugin.display()))
        .arg("-kernel")
        .arg(image)
        .stdin(Stdio::from(page.try_clone()?))
        .stderr(Stdio::inherit())
        .output()?;
    let counts = Counts::read(&page)?;
    if !output.status.success() || counts.of("regions") != 1 {
        return Err(format!("{} did not run to its end", image.display()).into());
    }
    Ok((counts, String::from_utf8_lossy(&output.stdout).into_owned()))
}
