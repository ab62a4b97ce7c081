//! Waits on lines and sockets, and on orders.

use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// Those on which something has come, after so long a wait for that or for an order.
pub(crate) fn ready<T: Copy>(
    mut woken: &io::PipeReader,
    watched: &[(T, BorrowedFd<'_>)],
    patience: Duration,
) -> Vec<T> {
    let orders = [woken.as_fd()].into_iter();
    let all = orders.chain(watched.iter().map(|(_, fd)| *fd));
    let mut sources: Vec<_> = all.map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
    let timeout = PollTimeout::try_from(patience).unwrap_or(PollTimeout::NONE);
    // An error (a signal) is a reason to look around, as is an event.
    let _ = poll(&mut sources, timeout);
    let mut has_event = sources.iter().map(|source| source.any() == Some(true));
    if has_event.next() == Some(true) {
        let _ = woken.read(&mut [0; 64]);
    }
    let ready = watched.iter().zip(has_event);
    let ready = ready.filter_map(|((what, _), has_event)| has_event.then_some(*what));
    ready.collect()
}
