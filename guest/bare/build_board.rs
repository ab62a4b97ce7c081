//! Facts of a microcontroller's board, from `[firmware]` of its file.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::{env, fs};

use toml::{Table, Value};

use super::{folder, script};

/// Writes the board's facts for the code and for the linker.
pub fn microcontroller() {
    println!("cargo::rerun-if-env-changed=ZFL_BOARD");
    let name = env::var("ZFL_BOARD")
        .expect("ZFL_BOARD names the board: cargo xtask build-guest --board sets it");
    let path = folder().join("../../boards").join(name).join("board.toml");
    println!("cargo::rerun-if-changed={}", path.display());
    let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let board: Table = text
        .parse()
        .unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let firmware = board.get("firmware").and_then(Value::as_table);
    let firmware = firmware.unwrap_or_else(|| panic!("{} has no [firmware]", path.display()));
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let isa = env::var("TARGET").expect("cargo sets TARGET");
    let isa = isa.split('-').next().unwrap_or_default();
    let isa = format!("/// Name of the instruction set.\npub const ISA: &str = {isa:?};\n");
    write(&out.join("board.rs"), &(constants(firmware) + &isa));
    write(&out.join("memory.ld"), &memory(firmware));
    println!(
        "cargo::rustc-link-arg-bins=-T{}",
        out.join("memory.ld").display()
    );
    println!("cargo::rustc-link-arg-bins=--nmagic");
    script("src/arch/flash.ld");
}

fn write(path: &Path, text: &str) {
    fs::write(path, text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
}

/// Constants of all numbers, named by their tables; a `kib` is told in bytes.
fn constants(firmware: &Table) -> String {
    let mut text = String::new();
    let mut constant = |name: &str, value: &Value| {
        let Some(value) = value.as_integer() else {
            return;
        };
        let (name, value) = match name.strip_suffix("kib") {
            Some(rest) => (format!("{rest}bytes"), value * 1024),
            None => (name.to_owned(), value),
        };
        let name = name.to_uppercase();
        writeln!(
            text,
            "#[allow(missing_docs, dead_code)]\npub const {name}: usize = {value:#x};"
        )
        .expect("a string has room");
    };
    // What not every board states.
    if !firmware.contains_key("flash") {
        constant("flash_start", &Value::from(0));
        constant("flash_kib", &Value::from(0));
    }
    for (key, value) in firmware {
        match value.as_table() {
            Some(table) => table
                .iter()
                .for_each(|(inner, value)| constant(&format!("{key}_{inner}"), value)),
            None => constant(key, value),
        }
    }
    text
}

/// The linker's regions and sizes.
fn memory(firmware: &Table) -> String {
    let number = |table: &str, key: &str| {
        let found = firmware
            .get(table)
            .and_then(|table| table.get(key))
            .and_then(Value::as_integer);
        found.unwrap_or_else(|| panic!("[firmware] has no number {table}.{key}"))
    };
    let region = |name: &str, table: &str| {
        let (start, kib) = (number(table, "start"), number(table, "kib"));
        format!("    {name} : ORIGIN = {start:#x}, LENGTH = {kib}K\n")
    };
    let size = |key: &str| {
        let found = firmware.get(key).and_then(Value::as_integer);
        found.unwrap_or_else(|| panic!("[firmware] has no number {key}"))
    };
    format!(
        "MEMORY {{\n{}{}}}\nSTACK_SIZE = {}K;\nGUEST_PAGE = {}K;\n",
        region("FLASH", "code"),
        region("RAM", "ram"),
        size("stack_kib"),
        size("page_kib"),
    )
}
