//! The switch's thread: moves frames between sockets and the engine, by the monotonic clock.
//!
//! One epoll waits for every socket, for one timer that is set to the engine's next deadline (a
//! timerfd, which has nanoseconds and no slack), and for the handle. Sockets do not block: a frame that a port does not take at once waits in a short
//! queue of that port and is dropped if that is full, as a network card does. So a frozen guest
//! harms itself only.
//!
//! The thread asks for a real-time class, to be in time on a busy host. A flood of frames could
//! then take a whole processor from everyone else, so a thread of that class pauses as soon as it
//! has worked for long without.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::eventfd::EventFd;
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use nix::unistd;

use super::capture::Capture;
use super::engine::{Engine, Frame, Port};
use super::stats::{PortCounters, count};
use super::sys;
use crate::link::Direction;
use crate::link::MAX_FRAME_BYTES;

/// Frames that are read from one port before the others have their turn.
const BATCH: usize = 32;
/// Frames that wait for a port that takes none: as many as the receive ring of a good network card.
const MAX_UNREAD: usize = 256;

const TIMER: u64 = 0;
const WAKE: u64 = 1;
const FIRST_LINE: u64 = 2;

/// Something for the thread to do between two frames.
pub(crate) type Command = Box<dyn FnOnce(&mut Pump) + Send>;

/// Receiver of the host's frames in place of a descriptor.
pub type HostHook = Box<dyn FnMut(&[u8]) + Send>;

/// The far end of a port.
pub(crate) enum End {
    /// Nothing is there: what comes for it is dropped.
    Vacant,
    /// A tap, or a datagram socket.
    Fd(OwnedFd),
    /// A function.
    Hook(HostHook),
}

struct Line {
    end: End,
    unread: VecDeque<Frame>,
}

pub(crate) struct Pump {
    engine: Engine,
    epoll: Epoll,
    timer: TimerFd,
    /// Time to which the timer is set.
    armed: Option<Duration>,
    wake: Arc<EventFd>,
    commands: Receiver<Command>,
    stopped: bool,
    /// Number of times that the thread woke.
    turns: u64,
    /// The host's, then the devices'.
    lines: Vec<Line>,
    captures: Vec<Option<Capture>>,
    /// Longer than any frame, so that one that is too long shows.
    buffer: Box<[u8; MAX_FRAME_BYTES + 1]>,
    /// Unix time of the monotonic clock's zero.
    epoch: Duration,
}

impl Pump {
    /// `ends`: one for each device of the engine.
    pub fn new(
        engine: Engine,
        host: End,
        ends: Vec<Option<OwnedFd>>,
        wake: Arc<EventFd>,
        commands: Receiver<Command>,
    ) -> io::Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let flags = TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK;
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, flags)?;
        // Edge-triggered, so that an expiry need not be read.
        let edge = EpollFlags::EPOLLIN | EpollFlags::EPOLLET;
        epoll.add(&timer, EpollEvent::new(edge, TIMER))?;
        epoll.add(wake.as_fd(), EpollEvent::new(EpollFlags::EPOLLIN, WAKE))?;
        let since_1970 = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let line = || Line {
            end: End::Vacant,
            unread: VecDeque::new(),
        };
        let mut pump = Self {
            engine,
            epoll,
            timer,
            armed: None,
            wake,
            commands,
            stopped: false,
            turns: 0,
            lines: (0..=ends.len()).map(|_| line()).collect(),
            captures: ends.iter().map(|_| None).collect(),
            buffer: Box::new([0; MAX_FRAME_BYTES + 1]),
            epoch: since_1970.saturating_sub(now()),
        };
        pump.attach(Port::Host, host)?;
        for (device, end) in ends.into_iter().enumerate() {
            pump.attach(Port::Device(device), end.map_or(End::Vacant, End::Fd))?;
        }
        Ok(pump)
    }

    /// Moves frames until [`Pump::stop`].
    pub fn run(mut self) -> io::Result<()> {
        let real_time = sys::become_real_time().is_ok();
        self.engine.counters().set_real_time(real_time);
        let mut breath = real_time.then(Breath::default);
        let mut events = [EpollEvent::empty(); 64];
        while !self.stopped {
            self.deliver();
            self.arm()?;
            if let Some(breath) = &mut breath {
                breath.worked(now());
            }
            let ready = match self.epoll.wait(&mut events, EpollTimeout::NONE) {
                Err(Errno::EINTR) => 0,
                ready => ready?,
            };
            self.turns += 1;
            if let Some(breath) = &mut breath {
                breath.waited(now());
            }
            for event in &events[..ready] {
                match event.data() {
                    TIMER => {}
                    WAKE => self.run_commands(),
                    line => self.serve((line - FIRST_LINE) as usize, event.events()),
                }
                self.deliver();
            }
        }
        Ok(())
    }

    pub fn stop(&mut self) {
        self.stopped = true;
    }

    #[cfg(test)]
    pub fn turns(&self) -> u64 {
        self.turns
    }

    pub fn engine(&mut self) -> &mut Engine {
        &mut self.engine
    }

    /// Takes a frame as if the host had sent it.
    pub fn inject(&mut self, frame: &[u8]) {
        self.engine.ingress(now(), Port::Host, frame);
    }

    /// Puts another end to a port; what waits for the old one is dropped.
    pub fn attach(&mut self, port: Port, end: End) -> io::Result<()> {
        let line = line_of(port);
        self.detach(line);
        if let End::Fd(fd) = &end {
            let event = EpollEvent::new(EpollFlags::EPOLLIN, FIRST_LINE + line as u64);
            self.epoll.add(fd, event)?;
        }
        self.lines[line].end = end;
        Ok(())
    }

    /// Puts a capture to a device and returns the one before.
    pub fn set_capture(&mut self, device: usize, capture: Option<Capture>) -> Option<Capture> {
        std::mem::replace(&mut self.captures[device], capture)
    }

    fn run_commands(&mut self) {
        // The counter is reset before the commands are taken, so none is forgotten.
        let _ = self.wake.read();
        while let Ok(command) = self.commands.try_recv() {
            command(self);
        }
    }

    /// Takes and gives frames at a port that is ready for one of both.
    fn serve(&mut self, line: usize, ready: EpollFlags) {
        if ready.contains(EpollFlags::EPOLLOUT) {
            self.flush(line);
        }
        for _ in 0..BATCH {
            let End::Fd(fd) = &self.lines[line].end else {
                return;
            };
            match unistd::read(fd, &mut self.buffer[..]) {
                Ok(len) => self.take(line, len),
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) if !ready.contains(EpollFlags::EPOLLHUP) => return,
                // The far end is gone. Left in place, the descriptor would wake this thread for ever.
                Err(_) => return self.detach(line),
            }
        }
    }

    /// Hands the frame in the buffer to the engine.
    fn take(&mut self, line: usize, len: usize) {
        let now = now();
        let port = port_of(line);
        let frame = &self.buffer[..len];
        record(
            &self.captures,
            &self.engine,
            self.epoch + now,
            port,
            Direction::Uplink,
            frame,
        );
        self.engine.ingress(now, port, frame);
    }

    /// Delivers every frame whose time has come.
    fn deliver(&mut self) {
        if self.engine.next_deadline().is_none() {
            return;
        }
        let mut now = now();
        while let Some(delivery) = self.engine.egress(now) {
            let (at, port) = (self.epoch + now, delivery.port);
            let frame = delivery.frame.bytes();
            record(
                &self.captures,
                &self.engine,
                at,
                port,
                Direction::Downlink,
                frame,
            );
            self.send(line_of(delivery.port), delivery.frame);
            now = self::now();
        }
    }

    fn send(&mut self, line: usize, frame: Frame) {
        let Line { end, unread } = &mut self.lines[line];
        let sent = match end {
            _ if !unread.is_empty() => Err(Errno::EAGAIN),
            End::Vacant => Err(Errno::ENOTCONN),
            End::Hook(hook) => {
                hook(frame.bytes());
                Ok(0)
            }
            End::Fd(fd) => unistd::write(fd, frame.bytes()),
        };
        match sent {
            Ok(_) => self.engine.recycle(frame),
            Err(Errno::EAGAIN) if unread.len() < MAX_UNREAD => {
                unread.push_back(frame);
                if unread.len() == 1 {
                    self.watch(line, EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT);
                }
            }
            Err(_) => {
                count(&self.counters(line).unread);
                self.engine.recycle(frame);
            }
        }
    }

    /// Sends what waits for a port, as far as it takes it.
    fn flush(&mut self, line: usize) {
        while let Some(frame) = self.lines[line].unread.pop_front() {
            let End::Fd(fd) = &self.lines[line].end else {
                return;
            };
            match unistd::write(fd, frame.bytes()) {
                Err(Errno::EAGAIN) => return self.lines[line].unread.push_front(frame),
                Ok(_) => {}
                Err(_) => count(&self.counters(line).unread),
            }
            self.engine.recycle(frame);
        }
        self.watch(line, EpollFlags::EPOLLIN);
    }

    fn watch(&mut self, line: usize, events: EpollFlags) {
        let End::Fd(fd) = &self.lines[line].end else {
            return;
        };
        // It can fail only for a descriptor that the epoll does not have.
        let _ = self
            .epoll
            .modify(fd, &mut EpollEvent::new(events, FIRST_LINE + line as u64));
    }

    fn detach(&mut self, line: usize) {
        if let End::Fd(fd) = std::mem::replace(&mut self.lines[line].end, End::Vacant) {
            let _ = self.epoll.delete(fd);
        }
        while let Some(frame) = self.lines[line].unread.pop_front() {
            count(&self.counters(line).unread);
            self.engine.recycle(frame);
        }
    }

    /// Sets the timer to the next deadline.
    fn arm(&mut self) -> io::Result<()> {
        let next = self.engine.next_deadline();
        if let Some(at) = next.filter(|_| next != self.armed) {
            // Zero would switch the timer off.
            let at = TimeSpec::from_duration(at.max(Duration::from_nanos(1)));
            self.timer.set(
                Expiration::OneShot(at),
                TimerSetTimeFlags::TFD_TIMER_ABSTIME,
            )?;
        }
        self.armed = next;
        Ok(())
    }

    fn counters(&self, line: usize) -> &PortCounters {
        self.engine.counters().port(port_of(line))
    }
}

/// Leaves half of a processor to others, over times longer than [`Breath::LONGEST`].
#[derive(Debug, Default)]
struct Breath {
    /// Excess of the thread's working time over its waiting time.
    ahead: Duration,
    /// Time at which it last began to work or to wait; `None` before the first time.
    since: Option<Duration>,
}

impl Breath {
    /// For so long the thread works without a pause.
    const LONGEST: Duration = Duration::from_millis(2);

    /// The thread is about to wait.
    fn worked(&mut self, now: Duration) {
        let lap = self.lap(now);
        self.ahead += lap;
        if self.ahead > Self::LONGEST {
            std::thread::sleep(self.ahead);
            *self = Self::default();
        }
    }

    /// The thread has waited.
    fn waited(&mut self, now: Duration) {
        let lap = self.lap(now);
        self.ahead = self.ahead.saturating_sub(lap);
    }

    fn lap(&mut self, now: Duration) -> Duration {
        now.saturating_sub(self.since.replace(now).unwrap_or(now))
    }
}

/// Hands a frame of a device's to its capture, if there is one.
fn record(
    captures: &[Option<Capture>],
    engine: &Engine,
    at: Duration,
    port: Port,
    direction: Direction,
    frame: &[u8],
) {
    let Port::Device(device) = port else { return };
    let Some(capture) = &captures[device] else {
        return;
    };
    if !capture.record(at, direction, frame) {
        count(&engine.counters().port(port).capture_misses);
    }
}

fn line_of(port: Port) -> usize {
    match port {
        Port::Host => 0,
        Port::Device(device) => device + 1,
    }
}

fn port_of(line: usize) -> Port {
    line.checked_sub(1).map_or(Port::Host, Port::Device)
}

/// The monotonic clock.
fn now() -> Duration {
    // It can fail only for a clock that is not there, and this one always is.
    nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC)
        .map_or(Duration::ZERO, Duration::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_only_works_pauses_half_of_the_time() {
        let start = std::time::Instant::now();
        let (mut breath, mut worked) = (Breath::default(), Duration::ZERO);
        breath.waited(now());
        while worked < Duration::from_millis(20) {
            let before = now();
            while now() - before < Duration::from_millis(1) {}
            worked += now() - before;
            breath.worked(now());
            breath.waited(now());
        }
        // The sleeps are never shorter than asked, so a slow host cannot fail this.
        assert!(
            start.elapsed() >= worked + worked.mul_f64(0.8),
            "{:?} of work",
            worked
        );
    }

    #[test]
    fn a_thread_that_waits_as_long_as_it_works_is_left_alone() {
        let ms = Duration::from_millis;
        let mut breath = Breath::default();
        for turn in 0..1000 {
            breath.waited(ms(2 * turn));
            breath.worked(ms(2 * turn + 1));
            assert!(breath.ahead <= Breath::LONGEST);
        }
    }
}
