//! Devices of the host.

use std::fs::File;
use std::io;
use std::path::Path;

/// Opens a device for reading and writing.
pub(crate) fn open_device(device: &Path) -> io::Result<File> {
    File::options().read(true).write(true).open(device)
}
