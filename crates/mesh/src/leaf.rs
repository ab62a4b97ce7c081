//! One leaf: a device on the port of a radio.

use fl_client::{Activity, Config, Device};
use zfl_netsim::radio::Mesh;

use crate::fleet::{LeafEnd, LeafSpec};
use crate::port::RadioPort;

/// Examples between two looks at the clock.
const STEP_EXAMPLES: u32 = 256;

/// A leaf that runs.
pub(crate) struct RunningLeaf {
    device: Device<RadioPort>,
    port: RadioPort,
    /// Message that is on its way up.
    label: Option<u8>,
    pub wake_us: Option<u64>,
    seen_us: u64,
    is_frozen: bool,
    end: Option<Box<dyn FnOnce(LeafEnd) + Send>>,
    refused: Option<Box<dyn FnOnce(String) + Send>>,
}

impl RunningLeaf {
    pub fn new(spec: LeafSpec, http_port: u16, now_us: u64) -> Self {
        let config = Config {
            http_port,
            address: None,
            ..spec.config
        };
        Self {
            device: Device::new(config),
            port: RadioPort::new(spec.log, spec.storage),
            label: None,
            wake_us: Some(0),
            seen_us: now_us,
            is_frozen: false,
            end: Some(spec.end),
            refused: Some(spec.refused),
        }
    }

    pub fn freeze(&mut self, frozen: bool) {
        self.is_frozen = frozen;
    }

    /// Ends it.
    pub fn end(mut self, end: LeafEnd) {
        if let Some(tell) = self.end.take() {
            tell(end);
        }
    }

    /// Exchanges messages with the mesh and does what there is to do; true if the device is done.
    pub fn run(&mut self, number: usize, mesh: &mut Mesh) -> bool {
        if self.is_frozen {
            return false;
        }
        self.tick(mesh.now_us());
        if let Some((label, message)) = mesh.take_down(number) {
            self.port.streams.come(label, message);
        }
        if let Some(label) = self.label.take_if(|_| !mesh.is_sending_up(number))
            && mesh.failure_up(number).is_some()
        {
            self.port.streams.broken(label);
        }
        let is_done = self.work();
        if self.label.is_none()
            && let Some((label, message)) = self.port.streams.take_out()
        {
            match mesh.send_up(number, label, &message) {
                Ok(()) => self.label = Some(label),
                Err(_) => self.port.streams.broken(label),
            }
        }
        is_done && !self.is_busy()
    }

    /// Lets time pass for the device, unless it waits for the radio.
    fn tick(&mut self, now_us: u64) {
        if !self.port.streams.is_busy() {
            self.port.clock_us += now_us.saturating_sub(self.seen_us);
        }
        self.seen_us = now_us;
    }

    fn work(&mut self) -> bool {
        loop {
            let activity = self.device.poll(&mut self.port);
            if let Some(reason) = self.device.refusal()
                && let Some(refused) = self.refused.take()
            {
                refused(reason.to_owned());
            }
            if let Some(job) = self.device.job() {
                while job.step(STEP_EXAMPLES) {}
                continue;
            }
            match activity {
                Activity::Busy => {}
                Activity::Idle { wake_at_us } => {
                    self.wake_us = wake_at_us;
                    return false;
                }
                Activity::Stopped => return true,
            }
        }
    }

    /// Simulated time at which the device wants to go on by itself.
    pub fn due_us(&self) -> Option<u64> {
        let wake_us = self
            .wake_us
            .filter(|_| !self.is_frozen && !self.port.streams.is_busy())?;
        Some(self.seen_us + wake_us.saturating_sub(self.port.clock_us))
    }

    /// True while it exchanges something.
    pub fn is_busy(&self) -> bool {
        self.port.streams.is_busy() || self.label.is_some()
    }
}
