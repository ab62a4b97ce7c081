//! Virtio on a PC: on PCI's bus 0, or, on microvm, in a row of MMIO slots.

use virtio_drivers::transport::DeviceType;
use virtio_drivers::transport::pci::bus::{Command, ConfigurationAccess, DeviceFunction, PciRoot};
use virtio_drivers::transport::pci::{PciTransport, virtio_device_type};

use super::{cpu, interrupts};
use crate::driver::virtio::IdentityMapped;
use crate::driver::virtio::find::{Found, Slots};

/// The slots of microvm.
const SLOTS: Slots = Slots {
    first: 0xfeb0_0000,
    bytes: 0x200,
    count: 8,
    first_line: 5,
};

/// Looks on both buses for the first device of a kind.
pub fn virtio_device(kind: DeviceType) -> virtio_drivers::Result<Option<Found>> {
    if PortAccess::is_there() {
        on_pci(kind)
    } else {
        Ok(SLOTS.find(kind))
    }
}

fn on_pci(kind: DeviceType) -> virtio_drivers::Result<Option<Found>> {
    const INTERRUPT_LINE: u8 = 0x3c;

    let mut root = PciRoot::new(PortAccess);
    let mut devices = root.enumerate_bus(0);
    let Some((place, _)) = devices.find(|(_, info)| virtio_device_type(info) == Some(kind)) else {
        return Ok(None);
    };
    let (_, command) = root.get_status_command(place);
    root.set_command(place, command | Command::MEMORY_SPACE | Command::BUS_MASTER);
    let transport = PciTransport::new::<IdentityMapped, _>(&mut root, place)
        .map_err(|_| virtio_drivers::Error::Unsupported)?;
    // The BIOS wrote here which line it wired the device to.
    let line = PortAccess.read_word(place, INTERRUPT_LINE) as u8;
    if line >= interrupts::TIMER {
        return Err(virtio_drivers::Error::Unsupported);
    }
    interrupts::set_level_triggered(line);
    Ok(Some(Found {
        transport: transport.into(),
        line,
    }))
}

/// PCI's configuration space through the two ports of the first mechanism.
struct PortAccess;

impl PortAccess {
    const ADDRESS: u16 = 0xcf8;
    const DATA: u16 = 0xcfc;
    const ENABLE: u32 = 1 << 31;

    /// The address register keeps what is written; without PCI there is no register.
    fn is_there() -> bool {
        // SAFETY: choosing an address touches no memory.
        unsafe { cpu::out32(Self::ADDRESS, Self::ENABLE) };
        cpu::in32(Self::ADDRESS) == Self::ENABLE
    }

    fn select(place: DeviceFunction, offset: u8) {
        let DeviceFunction {
            bus,
            device,
            function,
        } = place;
        let place = u32::from(bus) << 16 | u32::from(device) << 11 | u32::from(function) << 8;
        // SAFETY: choosing an address touches no memory.
        unsafe { cpu::out32(Self::ADDRESS, Self::ENABLE | place | u32::from(offset & !3)) };
    }
}

impl ConfigurationAccess for PortAccess {
    fn read_word(&self, place: DeviceFunction, offset: u8) -> u32 {
        Self::select(place, offset);
        cpu::in32(Self::DATA)
    }

    fn write_word(&mut self, place: DeviceFunction, offset: u8, word: u32) {
        Self::select(place, offset);
        // SAFETY: configuration places a card's registers and lets it use memory; the driver gives
        // the card only memory that it owns.
        unsafe { cpu::out32(Self::DATA, word) };
    }

    unsafe fn unsafe_clone(&self) -> Self {
        Self
    }
}
