//! Thread of a native device, over the host's sockets.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use fl_client::{Activity, Config, Device, Overrides, TrainJob, Word};
use tokio::sync::oneshot;
use zfl_clock::Instant;

use super::panic;
use super::port::SocketPort;
use crate::log::SharedLog;
use crate::storage::FileStorage;

/// Examples between two looks at the gate: well below a millisecond for the default model.
const STEP_EXAMPLES: u32 = 600;

/// Training between two looks at the network, each of which costs calls into the kernel.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// Far more than a device uses; pages that are not touched cost nothing.
const STACK_BYTES: usize = 2 << 20;

/// A native device to be.
#[derive(Debug)]
pub(super) struct ThreadSpec {
    pub(super) client: u32,
    /// The ID to ask for.
    pub(super) join_as: Option<u32>,
    pub(super) overrides: Overrides,
    /// Secret that it shows when it joins.
    pub(super) secret: Option<Word>,
    /// Storage that stays over reboots.
    pub(super) storage: Option<FileStorage>,
}

/// End of a native device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ThreadEnd {
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
    /// Address at which the aggregator reaches it.
    pub(super) address: SocketAddr,
    gate: Arc<Gate>,
    /// Closed to wake the thread.
    stop: Option<io::PipeWriter>,
    thread: Option<JoinHandle<()>>,
}

impl Thread {
    /// Starts a device that joins the aggregator at `server`; its end goes to the receiver. `refused`
    /// is told if the aggregator does not let it join.
    pub(super) fn start(
        spec: ThreadSpec,
        server: SocketAddr,
        log: SharedLog,
        refused: impl FnOnce(String) + Send + 'static,
    ) -> io::Result<(Self, oneshot::Receiver<ThreadEnd>)> {
        let port = SocketPort::open(server, log, spec.storage)?;
        let address = port.address()?;
        let config = Config {
            client: spec.join_as,
            address: None,
            http_port: address.port(),
            secret: spec.secret,
            overrides: spec.overrides,
            isa: Some(std::env::consts::ARCH),
            ..Config::default()
        };
        let (wake, stop) = io::pipe()?;
        let gate = Arc::new(Gate::default());
        let (tell, ended) = oneshot::channel();
        let body = {
            let gate = Arc::clone(&gate);
            move || {
                let end = panic::caught(|| live(config, port, &wake, &gate, refused));
                // Nobody may be there to hear of it.
                let _ = tell.send(end.unwrap_or_else(ThreadEnd::Panicked));
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
    pub(super) fn freeze(&self) {
        self.gate.set(Order::Stand);
    }

    /// Lets it go on.
    pub(super) fn thaw(&self) {
        self.gate.set(Order::Go);
    }

    /// Stops the device as a crash would, in the middle of whatever it does. Blocks for the time
    /// of a training step.
    pub(super) fn stop(mut self) {
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

/// Order to a device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Order {
    #[default]
    Go,
    Stand,
    Stop,
}

/// Gate that a device passes before each step.
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

    /// Waits while the order is to stand, and tells if the device may go on.
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
) -> ThreadEnd {
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
            train(job, gate);
            continue;
        }
        match activity {
            Activity::Busy => {}
            Activity::Idle { wake_at_us } => port.wait(stop, wake_at_us),
            Activity::Stopped => return ThreadEnd::Finished,
        }
    }
    ThreadEnd::Stopped
}

/// Trains until it is time to look at the network.
fn train(job: &mut TrainJob, gate: &Gate) {
    let until = Instant::now() + LOOK_EVERY;
    while job.step(STEP_EXAMPLES) && Instant::now() < until && gate.pass() {}
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::log::{DeviceLog, lock};

    pub(in crate::body::native) fn log() -> SharedLog {
        let log = DeviceLog::create(tempfile::tempfile().unwrap(), Instant::now());
        Arc::new(Mutex::new(log.unwrap()))
    }

    /// An address that refuses connections. It is held, so that nobody else comes to listen there.
    pub(in crate::body::native) fn nobody() -> tokio::net::TcpSocket {
        let held = tokio::net::TcpSocket::new_v4().unwrap();
        held.bind(([127, 0, 0, 1], 0).into()).unwrap();
        held
    }

    #[test]
    fn a_device_that_finds_no_aggregator_goes_on_trying_until_it_is_stopped() {
        let held = nobody();
        let spec = ThreadSpec {
            client: 3,
            join_as: Some(3),
            overrides: Overrides::default(),
            secret: None,
            storage: None,
        };
        let log = log();
        let (device, ended) =
            Thread::start(spec, held.local_addr().unwrap(), Arc::clone(&log), drop).unwrap();
        assert!(device.address.ip().is_loopback());
        while lock(&log).last_lines().is_empty() {
            std::thread::yield_now();
        }
        device.stop();
        assert_eq!(ended.blocking_recv(), Ok(ThreadEnd::Stopped));
        assert!(lock(&log).last_lines()[0].contains("connection refused"));
    }

    #[test]
    fn a_frozen_device_can_be_stopped() {
        let held = nobody();
        let spec = ThreadSpec {
            client: 3,
            join_as: None,
            overrides: Overrides::default(),
            secret: None,
            storage: None,
        };
        let (device, ended) = Thread::start(spec, held.local_addr().unwrap(), log(), drop).unwrap();
        device.freeze();
        device.stop();
        assert_eq!(ended.blocking_recv(), Ok(ThreadEnd::Stopped));
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
