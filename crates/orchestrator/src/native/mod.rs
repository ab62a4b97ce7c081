//! The native body: a device as a thread of this process, over the host's sockets.
//!
//! One thread per device, so that a device that trains or blocks holds up no other, and so that
//! one that panics ends alone.

mod panic;
mod port;

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use fl_client::{Activity, Config, Device, Overrides};
use tokio::sync::oneshot;

use crate::log::DeviceLog;
use port::SocketPort;

pub(crate) type SharedLog = Arc<Mutex<DeviceLog>>;

/// Examples between two looks at the network: well below a millisecond for the default model.
const STEP_EXAMPLES: u32 = 16;

/// Far more than a device uses; pages that are not touched cost nothing.
const STACK_BYTES: usize = 2 << 20;

/// A native device to be.
#[derive(Debug)]
pub(crate) struct Spec {
    pub(crate) client: u32,
    /// The ID to ask for.
    pub(crate) join_as: Option<u32>,
    pub(crate) overrides: Overrides,
}

/// How a native device ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The experiment is over for it.
    Finished,
    /// It was stopped by [`Thread::stop`].
    Stopped,
    /// It panicked: where and why.
    Panicked(String),
}

/// A native device that runs. Dropping it stops the device and does not wait.
#[derive(Debug)]
pub(crate) struct Thread {
    /// Where the aggregator reaches it.
    pub(crate) address: SocketAddr,
    gate: Arc<Gate>,
    /// Closed to wake the thread.
    stop: Option<io::PipeWriter>,
    thread: Option<JoinHandle<()>>,
}

impl Thread {
    /// Starts a device that joins the aggregator at `server`; its end goes to the receiver. `refused`
    /// is told if the aggregator does not let it join.
    pub(crate) fn start(
        spec: &Spec,
        server: SocketAddr,
        log: SharedLog,
        refused: impl FnOnce(String) + Send + 'static,
    ) -> io::Result<(Self, oneshot::Receiver<End>)> {
        let port = SocketPort::open(server, log)?;
        let address = port.address()?;
        let config = Config {
            client: spec.join_as,
            address: None,
            http_port: address.port(),
            overrides: spec.overrides,
            isa: Some(std::env::consts::ARCH),
        };
        let (wake, stop) = io::pipe()?;
        let gate = Arc::new(Gate::default());
        let (tell, ended) = oneshot::channel();
        let body = {
            let gate = Arc::clone(&gate);
            move || {
                let end = panic::caught(|| live(config, port, &wake, &gate, refused));
                // Nobody may be there to hear of it.
                let _ = tell.send(end.unwrap_or_else(End::Panicked));
            }
        };
        let builder = std::thread::Builder::new().stack_size(STACK_BYTES);
        let thread = builder
            .name(format!("client {}", spec.client))
            .spawn(body)?;
        Ok((
            Self {
                address,
                gate,
                stop: Some(stop),
                thread: Some(thread),
            },
            ended,
        ))
    }

    /// Makes the device stand still before its next step; its connections stay open.
    pub(crate) fn freeze(&self) {
        self.gate.set(Order::Stand);
    }

    /// Lets it go on.
    pub(crate) fn thaw(&self) {
        self.gate.set(Order::Go);
    }

    /// Stops the device as a crash would, in the middle of whatever it does. Blocks for the time
    /// of a training step.
    pub(crate) fn stop(mut self) {
        self.gate.set(Order::Stop);
        self.stop.take();
        // A panic was caught, and told by the receiver of `start`.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        self.gate.set(Order::Stop);
    }
}

/// What a device may do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Order {
    #[default]
    Go,
    Stand,
    Stop,
}

/// Where a device asks before each step whether it may take it.
#[derive(Debug, Default)]
struct Gate {
    order: Mutex<Order>,
    changed: Condvar,
}

impl Gate {
    fn set(&self, order: Order) {
        *self.order.lock().unwrap_or_else(PoisonError::into_inner) = order;
        self.changed.notify_all();
    }

    /// Waits while the order is to stand; whether to go on.
    fn pass(&self) -> bool {
        let order = self.order.lock().unwrap_or_else(PoisonError::into_inner);
        let order = self
            .changed
            .wait_while(order, |order| *order == Order::Stand);
        *order.unwrap_or_else(PoisonError::into_inner) == Order::Go
    }
}

/// The life of a device, as fl-client describes it.
fn live(
    config: Config,
    mut port: SocketPort,
    stop: &io::PipeReader,
    gate: &Gate,
    refused: impl FnOnce(String),
) -> End {
    let mut device = Device::new(config);
    let mut refused = Some(refused);
    while gate.pass() {
        let activity = device.poll(&mut port);
        if let Some(reason) = device.refusal()
            && let Some(refused) = refused.take()
        {
            refused(reason.to_owned());
        }
        if let Some(job) = device.job() {
            job.step(STEP_EXAMPLES);
            continue;
        }
        match activity {
            Activity::Busy => {}
            Activity::Idle { wake_at_us } => port.wait(stop, wake_at_us),
            Activity::Stopped => return End::Finished,
        }
    }
    End::Stopped
}

/// A log that a device panicked with in its hands is still a log.
pub(crate) fn lock(log: &SharedLog) -> MutexGuard<'_, DeviceLog> {
    log.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    pub(super) fn log() -> SharedLog {
        let log = DeviceLog::create(std::path::Path::new("/dev/null"), Instant::now());
        Arc::new(Mutex::new(log.unwrap()))
    }

    /// An address that refuses connections. It is held, so that nobody else comes to listen there.
    pub(super) fn nobody() -> tokio::net::TcpSocket {
        let held = tokio::net::TcpSocket::new_v4().unwrap();
        held.bind(([127, 0, 0, 1], 0).into()).unwrap();
        held
    }

    #[test]
    fn a_device_that_finds_no_aggregator_goes_on_trying_until_it_is_stopped() {
        let held = nobody();
        let spec = Spec {
            client: 3,
            join_as: Some(3),
            overrides: Overrides::default(),
        };
        let log = log();
        let (device, ended) =
            Thread::start(&spec, held.local_addr().unwrap(), Arc::clone(&log), drop).unwrap();
        assert!(device.address.ip().is_loopback());
        while lock(&log).last_lines().is_empty() {
            std::thread::yield_now();
        }
        device.stop();
        assert_eq!(ended.blocking_recv(), Ok(End::Stopped));
        assert!(lock(&log).last_lines()[0].contains("connection refused"));
    }

    #[test]
    fn a_frozen_device_can_be_stopped() {
        let held = nobody();
        let spec = Spec {
            client: 3,
            join_as: None,
            overrides: Overrides::default(),
        };
        let (device, ended) =
            Thread::start(&spec, held.local_addr().unwrap(), log(), drop).unwrap();
        device.freeze();
        device.stop();
        assert_eq!(ended.blocking_recv(), Ok(End::Stopped));
    }

    #[test]
    fn a_gate_holds_until_it_is_opened() {
        let gate = Arc::new(Gate::default());
        assert!(gate.pass());
        gate.set(Order::Stand);
        let waiting = {
            let gate = Arc::clone(&gate);
            std::thread::spawn(move || gate.pass())
        };
        assert!(!waiting.is_finished());
        gate.set(Order::Go);
        assert!(waiting.join().unwrap());
        gate.set(Order::Stop);
        assert!(!gate.pass());
    }
}
