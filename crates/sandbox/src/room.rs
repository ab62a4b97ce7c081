//! Namespaces of the machines: a root with next to nothing in it, and a network without anything.
//!
//! One pair serves a whole fleet. It is made by a thread that moves there alone; descriptors keep it alive,
//! and each machine enters on its way to exec.

use std::ffi::CString;
use std::fs::{File, Permissions};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::pivot_root;

use crate::jail::Contents;
use crate::sys;

/// Place at which the new root is put together. It is there, it is our own, and no file of a machine is in it.
const STAGE: &str = "/proc";

/// Bytes that a copy leaves out together if they are zero.
const PAGE_BYTES: usize = 4096;

/// Namespaces of the machines.
#[derive(Debug)]
pub(crate) struct Room {
    mounts: OwnedFd,
    network: OwnedFd,
}

impl Room {
    /// Makes the namespaces; whoever calls must be allowed to mount.
    ///
    /// # Errors
    /// The step that failed, in words.
    pub(crate) fn of(contents: &Contents) -> io::Result<Self> {
        std::thread::scope(|scope| {
            let made = std::thread::Builder::new().spawn_scoped(scope, || make(contents))?;
            made.join()
                .unwrap_or_else(|_| Err(io::Error::other("the thread that makes it panicked")))
        })
    }

    pub(crate) fn fds(&self) -> [RawFd; 2] {
        [self.mounts.as_raw_fd(), self.network.as_raw_fd()]
    }
}

/// Moves this thread into the namespaces and leaves nothing there but `contents`.
fn make(contents: &Contents) -> io::Result<Room> {
    unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET)
        .map_err(|error| named("namespaces for it", error.into()))?;
    let own = |name: &str| File::open(format!("/proc/thread-self/ns/{name}"));
    let room = Room {
        mounts: own("mnt")?.into(),
        network: own("net")?.into(),
    };
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(
        Some("tmpfs"),
        STAGE,
        Some("tmpfs"),
        flags,
        Some("mode=0755"),
    )
    .map_err(|error| named("tmpfs", error.into()))?;
    for path in contents.outermost() {
        bind(path).map_err(|error| named(&path.display().to_string(), error))?;
    }
    for (path, bytes) in contents.copied() {
        copy(path, bytes).map_err(|error| named(&path.display().to_string(), error))?;
    }
    for path in &contents.devices {
        let place = staged(path);
        make_parent(&place)?;
        File::create(&place)?;
    }
    let stage = CString::new(STAGE).expect("without a zero");
    sys::seal(&stage)
        .map_err(|error| named("mount_setattr, which Linux has from 5.12 on", error))?;
    // What is sealed shows no devices, but for those that are mounted after it.
    for path in &contents.devices {
        let nothing = None::<&str>;
        mount(
            Some(path),
            &staged(path),
            nothing,
            MsFlags::MS_BIND,
            nothing,
        )
        .map_err(|error| named(&path.display().to_string(), error.into()))?;
    }
    nix::unistd::chdir(STAGE)?;
    pivot_root(".", ".").map_err(|error| named("pivot_root", error.into()))?;
    umount2(".", MntFlags::MNT_DETACH).map_err(|error| named("the old root", error.into()))?;
    Ok(room)
}

/// Shows a file or folder of the host at the same place.
fn bind(path: &Path) -> io::Result<()> {
    let place = staged(path);
    if path.is_dir() {
        std::fs::create_dir_all(&place)?;
    } else {
        make_parent(&place)?;
        File::create(&place)?;
    }
    let flags = MsFlags::MS_BIND | MsFlags::MS_REC;
    let nothing = None::<&str>;
    Ok(mount(Some(path), &place, nothing, flags, nothing)?)
}

/// Copies a file to the same place. Everyone there may read and execute it, whoever may on the host.
fn copy(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let place = staged(path);
    make_parent(&place)?;
    let file = File::create(&place)?;
    file.set_permissions(Permissions::from_mode(0o755))?;
    file.set_len(bytes.len() as u64)?;
    // Pages of zeros take no memory.
    let pages = bytes.chunks(PAGE_BYTES).zip((0..).step_by(PAGE_BYTES));
    for (page, at) in pages.filter(|(page, _)| page.iter().any(|&octet| octet != 0)) {
        file.write_all_at(page, at)?;
    }
    Ok(())
}

fn make_parent(place: &Path) -> io::Result<()> {
    std::fs::create_dir_all(place.parent().unwrap_or(place))
}

/// Place of an absolute path in the new root.
fn staged(path: &Path) -> PathBuf {
    let names = path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name),
        _ => None,
    });
    Path::new(STAGE).join(names.collect::<PathBuf>())
}

fn named(what: &str, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{what}: {error}"))
}
