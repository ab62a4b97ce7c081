//! Limits of what a board may ask of QEMU, so that its file is data and no program: it may be a stranger's, and so may
//! the tree that it lies in.
//!
//! Lists of what is harmless, never of what harms: an option of QEMU that is not here is refused, and a board that
//! needs it brings it here. No value may name a file, a socket or another program.

use super::{Disk, Machine, Nic, Radio};

/// Options without a value.
const FLAGS: [&str; 4] = [
    "-nodefaults",
    "-no-user-config",
    "-no-reboot",
    "-no-shutdown",
];

/// Options with one of these values.
const FIXED: [(&str, &[&str]); 7] = [
    ("-display", &["none"]),
    ("-vga", &["none"]),
    ("-net", &["none"]),
    ("-nic", &["none"]),
    ("-parallel", &["none"]),
    ("-bios", &["none"]),
    ("-rtc", &["base=utc", "base=localtime"]),
];

/// Devices besides the network card.
const DEVICES: [&str; 5] = [
    "isa-debug-exit",
    "pvpanic",
    "pvpanic-pci",
    "virtio-rng-device",
    "virtio-rng-pci",
];

/// Disks that stand for flash.
const DISKS: [&str; 2] = ["virtio-blk-device", "virtio-blk-pci"];

/// UARTs of a radio.
const UARTS: [&str; 1] = ["isa-serial"];

/// Properties of machines and devices that name a file, or what reaches one, whatever their value looks like.
const REACHING: [&str; 17] = [
    "append", "bios", "blockdev", "chardev", "drive", "dtb", "dumpdtb", "file", "filename",
    "firmware", "host", "initrd", "kernel", "memdev", "path", "pflash0", "romfile",
];

/// Checks that a board asks for nothing that reaches files, sockets or programs of the host.
///
/// # Errors
/// Advice: the change to make.
pub(super) fn check(machine: &Machine, nic: &Nic, disk: Option<&Disk>) -> Result<(), String> {
    emulator(&machine.qemu)?;
    let needed = [
        ("machine.machine", &machine.machine),
        ("machine.cpu", &machine.cpu),
        ("nic.model", &nic.model),
    ];
    if let Some((key, _)) = needed.iter().find(|(_, value)| value.is_empty()) {
        return Err(format!("{key} is missing: an emulator asks for it"));
    }
    properties("machine.machine", &machine.machine)?;
    words("machine.cpu", &machine.cpu)?;
    arguments(&machine.extra_args)?;
    properties("nic.model", &nic.model)?;
    for (key, value) in &nic.options {
        // Without a boot ROM, which is what an empty value says.
        if !(key == "romfile" && value.is_empty()) {
            properties("nic.options", &format!("{key}={value}"))?;
        }
    }
    let Some(disk) = disk else { return Ok(()) };
    if !DISKS.contains(&disk.model.as_str()) {
        let known = DISKS.join(", ");
        return Err(format!(
            "storage.model is none of {known}: take one of these"
        ));
    }
    let mut options = disk.options.iter();
    options.try_for_each(|(key, value)| properties("storage.options", &format!("{key}={value}")))
}

/// Checks the UART of a radio.
///
/// # Errors
/// Advice: the change to make.
pub(super) fn radio(radio: &Radio) -> Result<(), String> {
    if !UARTS.contains(&radio.model.as_str()) {
        let known = UARTS.join(", ");
        return Err(format!("radio.model is none of {known}: take one of these"));
    }
    let mut options = radio.options.iter();
    options.try_for_each(|(key, value)| properties("radio.options", &format!("{key}={value}")))
}

/// Checks the name of the emulator, which is looked up in `PATH`.
fn emulator(name: &str) -> Result<(), String> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
    match name.strip_prefix("qemu-system-") {
        Some(rest) if !rest.is_empty() && rest.chars().all(is_plain) => Ok(()),
        _ => Err(format!(
            "machine.qemu is `{name}`: give the bare name of an emulator that is installed, such as \
             qemu-system-arm"
        )),
    }
}

fn arguments(all: &[String]) -> Result<(), String> {
    let mut rest = all.iter().map(String::as_str);
    while let Some(option) = rest.next() {
        if FLAGS.contains(&option) {
            continue;
        }
        let value = rest.next().unwrap_or_default();
        argument(option, value)
            .map_err(|problem| format!("machine.extra_args: {option} {value}: {problem}"))?;
    }
    Ok(())
}

fn argument(option: &str, value: &str) -> Result<(), String> {
    let first = value.split(',').next().unwrap_or_default();
    match option {
        "-cpu" | "-smp" | "-seed" => words(option, value),
        "-global" | "-machine" | "-M" => properties(option, value),
        "-accel" if first == "tcg" => properties(option, value),
        "-device" if DEVICES.contains(&first) => properties(option, value),
        _ => {
            let fixed = FIXED.iter().find(|(name, _)| *name == option);
            match fixed.is_some_and(|(_, values)| values.contains(&value)) {
                true => Ok(()),
                false => Err("a board may not ask for this; what it may stands in \
                    boards/microvm/README.md"
                    .into()),
            }
        }
    }
}

/// Checks `name,key=value,…`.
fn properties(what: &str, text: &str) -> Result<(), String> {
    words(what, text)?;
    let keys = text.split(',').filter_map(|part| part.split_once('='));
    for (key, _) in keys {
        // Of `-global`, it is `driver.property`.
        let property = key.rsplit('.').next().unwrap_or(key);
        if REACHING.contains(&property) {
            return Err(format!("{what}: `{key}` reaches files: leave it out"));
        }
    }
    Ok(())
}

/// Checks that a value is of names and numbers alone.
fn words(what: &str, text: &str) -> Result<(), String> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "+-_.,=".contains(c);
    match text.chars().find(|&c| !is_plain(c)) {
        Some(c) => Err(format!(
            "{what}: `{text}` has a {c:?}, and a board may only name numbers and words"
        )),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::board::tests::{board, workspace};

    #[test]
    fn boards_of_zfl_are_harmless() {
        let boards = crate::board::known(Some(&workspace()));
        // A program is nobody's but zfl's own (`program::check`).
        let boards = boards.iter().map(|name| (name, board(name)));
        for (name, board) in boards.filter(|(_, board)| !board.is_program()) {
            check(&board.machine, &board.nic, board.storage.as_ref())
                .unwrap_or_else(|problem| panic!("{name}: {problem}"));
        }
    }

    #[test]
    fn an_emulator_is_a_bare_name() {
        for name in [
            "./evil",
            "/bin/sh",
            "qemu-system-",
            "qemu-system-../../evil",
            "sh",
            "",
        ] {
            assert!(emulator(name).is_err(), "{name}");
        }
        emulator("qemu-system-riscv32").unwrap();
    }

    #[test]
    fn arguments_that_reach_files_sockets_or_programs_are_refused() {
        let all = [
            "-chardev file,id=a,path=x",
            "-monitor stdio",
            "-qmp unix:x",
            "-serial file:x",
            "-D x",
            "-d plugin",
            "-plugin x.so",
            "-drive file=x",
            "-hda x",
            "-blockdev x",
            "-incoming exec:x",
            "-readconfig x",
            "-writeconfig x",
            "-bios x",
            "-pflash x",
            "-kernel x",
            "-initrd x",
            "-dtb x",
            "-L x",
            "-gdb tcp::1",
            "-s",
            "-netdev tap,script=x",
            "-nic tap",
            "-fsdev local",
            "-virtfs local",
            "-object memory-backend-file",
            "-semihosting",
            "-semihosting-config enable=on",
            "-trace file=x",
            "-pidfile x",
            "-daemonize",
            "-runas x",
            "-chroot x",
            "-loadvm x",
            "-snapshot",
            "-device loader,file=x",
            "-device vfio-pci,host=0",
            "-device isa-debug-exit,chardev=x",
            "-accel kvm",
            "-display gtk",
            "-global pci.romfile=x",
            "-machine dumpdtb=x",
            "-M none,firmware=x",
            "-device",
            "isa-debug-exit",
            "-cpu a/b",
            "-smp @x",
        ];
        for text in all {
            let words: Vec<String> = text.split(' ').map(str::to_owned).collect();
            assert!(arguments(&words).is_err(), "{text}");
        }
    }

    #[test]
    fn what_a_board_needs_is_taken() {
        let all = [
            "-smp 2",
            "-cpu cortex-m3",
            "-global virtio-mmio.force-legacy=false",
            "-bios none",
            "-vga none",
            "-machine acpi=off",
            "-device virtio-rng-device",
            "-accel tcg,tb-size=2,thread=single",
            "-no-reboot",
        ];
        let words = all
            .iter()
            .flat_map(|text| text.split(' '))
            .map(str::to_owned);
        arguments(&words.collect::<Vec<_>>()).unwrap();
    }

    #[test]
    fn a_card_has_no_files_either() {
        let mut board = board("q35");
        for (key, value) in [("romfile", "x"), ("chardev", "x"), ("addr", "../x")] {
            board.nic.options = [(key.to_owned(), value.to_owned())].into();
            assert!(
                check(&board.machine, &board.nic, None).is_err(),
                "{key}={value}"
            );
        }
        board.nic.options.clear();
        for model in ["virtio-net-pci,romfile=x", "loader,file=x", "a/b"] {
            board.nic.model = model.into();
            assert!(check(&board.machine, &board.nic, None).is_err(), "{model}");
        }
    }
    #[test]
    fn a_disk_is_one_of_ours_and_names_no_file() {
        let mut board = board("q35");
        assert!(board.storage.is_some());
        let disk = board.storage.as_mut().unwrap();
        disk.options.insert("drive".to_owned(), "x".to_owned());
        let refused = check(&board.machine, &board.nic, board.storage.as_ref());
        assert!(refused.unwrap_err().contains("drive"));
        let disk = board.storage.as_mut().unwrap();
        disk.options.clear();
        disk.model = "nvme".to_owned();
        let refused = check(&board.machine, &board.nic, board.storage.as_ref());
        assert!(refused.unwrap_err().contains("virtio-blk-device"));
    }
}
