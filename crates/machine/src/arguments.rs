//! QEMU's command line: all of it is made here.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::fd::{OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::board::Board;
use crate::program;
use crate::speed::Speed;

/// Deviations of one device from its board.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tuning {
    /// Memory of the machine.
    pub memory_mib: Option<u32>,
    /// Speed of its processor, in counted instructions.
    pub speed: Option<Speed>,
}

/// A machine's network card and what it is plugged into, good for one boot.
#[derive(Debug)]
pub struct Card {
    /// The value of `-netdev`, with the ID `n0`.
    pub netdev: String,
    /// A descriptor that `netdev` names; QEMU inherits it, and it closes here after that.
    pub inherited: Option<OwnedFd>,
    /// The card's address.
    pub mac: String,
}

/// Builds the arguments of a machine of this board; those of a program of the host are its words alone.
///
/// `serial`: the descriptor of its serial line, a socket that is connected.
/// `storage`: the descriptor of the file that its disk is, if it has one.
/// `radio`: the descriptor of its radio's line, a socket that is connected, if it is a node of a mesh.
/// `name`: what `ps` shows; it has no meaning to QEMU.
pub fn arguments(
    board: &Board,
    tuning: Tuning,
    name: &str,
    card: Option<&Card>,
    serial: RawFd,
    storage: Option<RawFd>,
    radio: Option<RawFd>,
) -> Vec<OsString> {
    let machine = &board.machine;
    if let Some(words) = &machine.program {
        return program::arguments(words, card);
    }
    let mut arguments = Arguments::default();
    arguments.pair("-name", name);
    arguments.pair("-M", &machine.machine);
    arguments.pair("-cpu", &machine.cpu);
    let memory_mib = tuning.memory_mib.unwrap_or(machine.memory_mib);
    arguments.pair("-m", format!("{memory_mib}M"));
    arguments
        .0
        .extend(machine.extra_args.iter().map(OsString::from));
    if let Some(speed) = tuning.speed {
        arguments.pair("-icount", speed.argument());
    }
    let radio = radio.zip(board.radio.as_ref());
    let image = radio.map_or(&board.kernel.image, |(_, radio)| &radio.image);
    arguments.pair("-kernel", image);
    let command_line = command_line(board, tuning.speed);
    if !command_line.is_empty() {
        arguments.pair("-append", command_line);
    }
    if let Some(card) = card {
        arguments.pair("-netdev", &card.netdev);
        if board.nic.on_board {
            let nic = format!(
                "nic,netdev=n0,model={},macaddr={}",
                board.nic.model, card.mac
            );
            arguments.pair("-net", nic);
        } else {
            arguments.pair("-device", device(board, &card.mac));
        }
    } else if board.nic.needed && !board.nic.on_board {
        let own = board.nic.model.clone();
        arguments.pair("-device", with_options(own, &board.nic.options));
    }
    if let (Some(fd), Some(disk)) = (storage, &board.storage) {
        // Nobody else opens the file: there is nothing to lock.
        let file = "file.driver=file,file.filename=/dev/fdset/1,file.locking=off";
        arguments.pair("-add-fd", format!("fd={fd},set=1"));
        arguments.pair("-blockdev", format!("driver=raw,node-name=d0,{file}"));
        let own = format!("{},drive=d0", disk.model);
        arguments.pair("-device", with_options(own, &disk.options));
    }
    arguments.pair("-chardev", format!("socket,id=s0,fd={serial}"));
    arguments.pair("-serial", "chardev:s0");
    if let Some((fd, radio)) = radio {
        arguments.pair("-chardev", format!("socket,id=s1,fd={fd}"));
        let own = format!("{},chardev=s1", radio.model);
        arguments.pair("-device", with_options(own, &radio.options));
    }
    // Otherwise QEMU opens a monitor on its standard input.
    arguments.pair("-monitor", "none");
    arguments.0
}

/// Arguments that load a plugin into QEMU's translator.
///
/// `page`: the descriptor of the page in which it counts; without one it counts for nobody.
pub fn plugin(file: &Path, page: Option<RawFd>) -> [OsString; 2] {
    let mut value = OsString::from("file=");
    // QEMU takes two commas for one that ends no option.
    let octets = file.as_os_str().as_bytes().split(|&octet| octet == b',');
    value.push(OsStr::from_bytes(
        &octets.collect::<Vec<_>>().join(&b",,"[..]),
    ));
    if let Some(fd) = page {
        value.push(format!(",fd={fd}"));
    }
    ["-plugin".into(), value]
}

/// Arguments that let gdb into a machine, which stands still while one is connected.
///
/// `listener`: the descriptor of a socket that listens.
pub fn debugger(listener: RawFd) -> [OsString; 4] {
    let socket = format!("socket,id=g0,fd={listener},server=on,wait=off");
    [
        "-chardev".into(),
        socket.into(),
        "-gdb".into(),
        "chardev:g0".into(),
    ]
}

#[derive(Default)]
struct Arguments(Vec<OsString>);

impl Arguments {
    fn pair(&mut self, option: &str, value: impl Into<OsString>) {
        self.0.extend([option.into(), value.into()]);
    }
}

/// The bare firmware of a PC learns here how fast its clock runs; the others read no command line of the kernel
/// and are told in their shell.
fn command_line(board: &Board, speed: Option<Speed>) -> String {
    let own = board.kernel.command_line.clone();
    match speed {
        Some(Speed { shift, .. }) if board.tells_speed() => {
            format!("{own} icount={shift}").trim_start().to_owned()
        }
        _ => own,
    }
}

fn device(board: &Board, mac: &str) -> String {
    let own = format!("{},netdev=n0,mac={mac}", board.nic.model);
    with_options(own, &board.nic.options)
}

fn with_options(device: String, options: &BTreeMap<String, String>) -> String {
    options.iter().fold(device, |device, (key, value)| {
        format!("{device},{key}={value}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    use expect_test::{Expect, expect};

    use crate::board::tests::{board, workspace};

    const AS_THE_BOARD: Tuning = Tuning {
        memory_mib: None,
        speed: None,
    };

    fn tap() -> Card {
        Card {
            netdev: "tap,id=n0,fd=11,vhost=off".into(),
            inherited: None,
            mac: "52:54:00:00:00:07".into(),
        }
    }

    fn check(name: &str, expected: Expect) {
        check_tuned(name, AS_THE_BOARD, &tap(), None, expected);
    }

    fn check_tuned(
        name: &str,
        tuning: Tuning,
        card: &Card,
        storage: Option<RawFd>,
        expected: Expect,
    ) {
        let root = workspace();
        let mut board = board(name);
        board.kernel.image = board.kernel.image.strip_prefix(root).unwrap().into();
        let arguments = arguments(&board, tuning, "zfl-7", Some(card), 9, storage, None);
        let lines = arguments.chunk_by(|_, next| !next.as_encoded_bytes().starts_with(b"-"));
        let lines = lines.map(|line| line.join(" ".as_ref()).into_string().unwrap() + "\n");
        expected.assert_eq(&lines.collect::<String>());
    }

    #[test]
    fn microvm() {
        check(
            "microvm",
            expect![[r#"
                -name zfl-7
                -M microvm,acpi=off,rtc=off,x-option-roms=off,auto-kernel-cmdline=off
                -cpu qemu32,+ssse3,+sse4.1,+rdrand,+avx,+avx2,+xsave,+xsaveopt
                -m 64M
                -accel tcg,tb-size=4
                -nodefaults
                -no-user-config
                -no-reboot
                -display none
                -global virtio-mmio.force-legacy=false
                -device isa-debug-exit,iobase=0xf4,iosize=0x04
                -kernel build/guest/bare/zfl-bare.elf
                -netdev tap,id=n0,fd=11,vhost=off
                -device virtio-net-device,netdev=n0,mac=52:54:00:00:00:07
                -chardev socket,id=s0,fd=9
                -serial chardev:s0
                -monitor none
            "#]],
        );
    }

    #[test]
    fn q35() {
        check(
            "q35",
            expect![[r#"
                -name zfl-7
                -M q35,hpet=off,sata=off,smbus=off,usb=off,vmport=off
                -cpu qemu32,+ssse3,+sse4.1,+rdrand,+avx,+avx2,+xsave,+xsaveopt
                -m 64M
                -accel tcg,tb-size=4
                -nodefaults
                -no-user-config
                -no-reboot
                -display none
                -device isa-debug-exit,iobase=0xf4,iosize=0x04
                -kernel build/guest/bare/zfl-bare.elf
                -netdev tap,id=n0,fd=11,vhost=off
                -device virtio-net-pci,netdev=n0,mac=52:54:00:00:00:07,addr=0x3,disable-legacy=on,romfile=,vectors=0
                -chardev socket,id=s0,fd=9
                -serial chardev:s0
                -monitor none
            "#]],
        );
    }

    #[test]
    fn qemu_x86() {
        check(
            "qemu_x86",
            expect![[r#"
                -name zfl-7
                -M q35,sata=off,smbus=off,usb=off,vmport=off
                -cpu qemu32,+nx,+pae,+rdrand
                -m 15M
                -accel tcg,tb-size=16
                -nodefaults
                -no-user-config
                -no-reboot
                -display none
                -device isa-debug-exit,iobase=0xf4,iosize=0x04
                -kernel build/guest/zephyr/qemu_x86/zephyr/zephyr.elf
                -netdev tap,id=n0,fd=11,vhost=off
                -device e1000,netdev=n0,mac=52:54:00:00:00:07,addr=0x3,romfile=
                -chardev socket,id=s0,fd=9
                -serial chardev:s0
                -monitor none
            "#]],
        );
    }

    #[test]
    fn a_leaf_whose_guest_needs_its_card_has_one_without_a_cable() {
        let board = board("qemu_x86");
        let words = arguments(&board, AS_THE_BOARD, "leaf", None, 10, None, Some(12));
        let words: Vec<_> = words.iter().filter_map(|word| word.to_str()).collect();
        assert!(words.contains(&"e1000,addr=0x3,romfile="), "{words:?}");
        assert!(!words.contains(&"-netdev"), "{words:?}");
    }

    #[test]
    fn mps2_has_its_card_on_board() {
        check(
            "mps2-an386",
            expect![[r#"
                -name zfl-7
                -M mps2-an386
                -cpu cortex-m4
                -m 16M
                -accel tcg,tb-size=2
                -nodefaults
                -no-user-config
                -no-reboot
                -display none
                -kernel build/guest/bare/zfl-mps2-an386.elf
                -netdev tap,id=n0,fd=11,vhost=off
                -net nic,netdev=n0,model=lan9118,macaddr=52:54:00:00:00:07
                -chardev socket,id=s0,fd=9
                -serial chardev:s0
                -monitor none
            "#]],
        );
    }

    #[test]
    fn riscv_virt_is_told_its_speed_in_its_shell() {
        let tuning = Tuning {
            memory_mib: None,
            speed: Some(Speed::of_mips(125.0, false).unwrap()),
        };
        check_tuned(
            "riscv-virt",
            tuning,
            &tap(),
            None,
            expect![[r#"
                -name zfl-7
                -M virt
                -cpu sifive-e31
                -m 64M
                -accel tcg,tb-size=2
                -bios none
                -nodefaults
                -no-user-config
                -no-reboot
                -display none
                -global virtio-mmio.force-legacy=false
                -device virtio-rng-device
                -icount shift=3,sleep=on
                -kernel build/guest/bare/zfl-riscv-virt.elf
                -netdev tap,id=n0,fd=11,vhost=off
                -device virtio-net-device,netdev=n0,mac=52:54:00:00:00:07
                -chardev socket,id=s0,fd=9
                -serial chardev:s0
                -monitor none
            "#]],
        );
    }

    #[test]
    fn a_slow_small_device_with_a_disk_behind_the_switch() {
        let tuning = Tuning {
            memory_mib: Some(8),
            speed: Some(Speed::of_mips(125.0, true).unwrap()),
        };
        let card = Card {
            netdev: "dgram,id=n0,local.type=fd,local.str=12".into(),
            ..tap()
        };
        check_tuned(
            "microvm",
            tuning,
            &card,
            Some(13),
            expect![[r#"
            -name zfl-7
            -M microvm,acpi=off,rtc=off,x-option-roms=off,auto-kernel-cmdline=off
            -cpu qemu32,+ssse3,+sse4.1,+rdrand,+avx,+avx2,+xsave,+xsaveopt
            -m 8M
            -accel tcg,tb-size=4
            -nodefaults
            -no-user-config
            -no-reboot
            -display none
            -global virtio-mmio.force-legacy=false
            -device isa-debug-exit,iobase=0xf4,iosize=0x04
            -icount shift=3,sleep=on,align=on
            -kernel build/guest/bare/zfl-bare.elf
            -append icount=3
            -netdev dgram,id=n0,local.type=fd,local.str=12
            -device virtio-net-device,netdev=n0,mac=52:54:00:00:00:07
            -add-fd fd=13,set=1
            -blockdev driver=raw,node-name=d0,file.driver=file,file.filename=/dev/fdset/1,file.locking=off
            -device virtio-blk-device,drive=d0
            -chardev socket,id=s0,fd=9
            -serial chardev:s0
            -monitor none
        "#]],
        );
    }

    #[test]
    fn a_plugin_has_its_page_and_a_comma_in_its_path_is_no_end() {
        let [option, value] = plugin(Path::new("/a,b/x.so"), Some(7));
        assert_eq!(
            (option.to_str(), value.to_str()),
            (Some("-plugin"), Some("file=/a,,b/x.so,fd=7"))
        );
        assert_eq!(plugin(Path::new("/x.so"), None)[1], "file=/x.so");
    }

    #[test]
    fn zephyr_is_told_its_speed_in_its_shell_and_has_no_disk() {
        let tuning = Tuning {
            memory_mib: Some(16),
            speed: Some(Speed::of_mips(1000.0, false).unwrap()),
        };
        check_tuned(
            "qemu_x86",
            tuning,
            &tap(),
            Some(13),
            expect![[r#"
                -name zfl-7
                -M q35,sata=off,smbus=off,usb=off,vmport=off
                -cpu qemu32,+nx,+pae,+rdrand
                -m 16M
                -accel tcg,tb-size=16
                -nodefaults
                -no-user-config
                -no-reboot
                -display none
                -device isa-debug-exit,iobase=0xf4,iosize=0x04
                -icount shift=0,sleep=on
                -kernel build/guest/zephyr/qemu_x86/zephyr/zephyr.elf
                -netdev tap,id=n0,fd=11,vhost=off
                -device e1000,netdev=n0,mac=52:54:00:00:00:07,addr=0x3,romfile=
                -chardev socket,id=s0,fd=9
                -serial chardev:s0
                -monitor none
            "#]],
        );
    }
}
