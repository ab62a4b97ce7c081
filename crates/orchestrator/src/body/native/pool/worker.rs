//! A worker of the pool: runs the devices that have something to do.

use std::sync::Arc;
use std::time::Duration;

use fl_client::{Activity, Device};
use zfl_clock::Instant;
use zfl_pipe::address_of;

use super::port::PoolPort;
use super::queue::Work;
use super::slot::{Being, Life, Order, Slot};
use super::{Shared, lock};
use crate::body::native::panic;
use crate::event::FleetEvent;

/// Examples between two looks at the clock.
const STEP_EXAMPLES: u32 = 64;

/// Training between two looks at the devices whose streams moved.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// Training before another device has its turn.
const TURN: Duration = Duration::from_millis(50);

/// Point at which a device stops running for now.
enum Stop {
    /// It waits for its streams, or for a time.
    Idle(Option<Instant>),
    /// It has training to do.
    Trains,
    /// It was ordered to end or to stand.
    Ordered,
    /// The experiment is over for it.
    Finished,
}

impl Shared {
    /// Works until the pool ends.
    pub(super) fn work(&self) {
        while let Some(work) = self.queue.next() {
            match work {
                Work::Stirred(at) => self.run(at, false),
                Work::Starting(at) => {
                    self.slots[at as usize].comes_up();
                    self.run(at, false);
                }
                Work::Training(at) => self.run(at, true),
            }
        }
    }

    /// Runs a device until it waits, or for its turn of training.
    fn run(&self, at: u32, may_train: bool) {
        let slot = &self.slots[at as usize];
        let (life, timer) = slot.take();
        if let Some(timer) = timer {
            self.queue.not_at(timer, at);
        }
        let being = match life {
            Some(Life::Waits(being)) => Some(being),
            Some(Life::Begins) => Some(self.born(slot)),
            Some(Life::Rests(resting)) => {
                Device::wake(slot.config(), *resting).map(|device| self.being(slot, device))
            }
            _ => return self.settled(slot),
        };
        let Some(mut being) = being else {
            slot.ended();
            return self.died(slot, "no memory for its model".to_owned());
        };
        let until = Instant::now() + TURN;
        let mut has_trained = false;
        let stop = loop {
            let stop = panic::caught(|| self.exchange(slot, &mut being));
            let stop = match stop {
                Ok(Stop::Trains) if may_train => {
                    let trained = panic::caught(|| train(slot, &mut being));
                    has_trained = true;
                    // Others first, in a moment in which this one is whole.
                    while let Some(other) = self.queue.pop_stirred() {
                        self.run(other, false);
                    }
                    lock(&slot.home.log).save_if_old();
                    let is_over = Instant::now() >= until && self.queue.others_train();
                    match trained {
                        Ok(()) if slot.order() != Order::Go => Ok(Stop::Ordered),
                        Ok(()) if is_over || self.queue.is_over() => Ok(Stop::Trains),
                        Ok(()) => continue,
                        Err(why) => Err(why),
                    }
                }
                other => other,
            };
            break stop;
        };
        self.stops(at, slot, being, stop, has_trained);
    }

    /// A device that starts.
    fn born(&self, slot: &Slot) -> Box<Being> {
        let client = slot.home.client;
        self.emit(FleetEvent::Booting { client, attempt: 1 });
        self.emit(FleetEvent::Running {
            client,
            address: address_of(client),
            boot_ms: 0,
        });
        self.being(slot, Device::new(slot.config()))
    }

    /// A device with a port of its own.
    fn being(&self, slot: &Slot, device: Device<PoolPort>) -> Box<Being> {
        let home = Arc::clone(&slot.home);
        Box::new(Being {
            device,
            port: PoolPort::new(
                home,
                self.lines.clone(),
                self.started,
                self.examples_of(slot),
            ),
            told_refusal: false,
        })
    }

    /// Lets another come up, if this one did until now.
    pub(super) fn settled(&self, slot: &Slot) {
        if slot.came_up() {
            self.queue.came_up();
        }
    }

    /// Moves the exchanges of a device along until it waits or trains.
    fn exchange(&self, slot: &Slot, being: &mut Being) -> Stop {
        let Being {
            device,
            port,
            told_refusal,
        } = being;
        loop {
            if slot.order() != Order::Go {
                return Stop::Ordered;
            }
            slot.looks();
            let activity = device.poll(port);
            port.tell();
            if let Some(reason) = device.refusal()
                && !std::mem::replace(told_refusal, true)
            {
                let (client, reason) = (slot.home.client, reason.to_owned());
                self.emit(FleetEvent::Refused { client, reason });
            }
            if device.job().is_some() {
                return Stop::Trains;
            }
            match activity {
                Activity::Busy => {}
                Activity::Idle { wake_at_us } => {
                    let at = |us| self.started + Duration::from_micros(us);
                    return Stop::Idle(wake_at_us.map(at));
                }
                Activity::Stopped => return Stop::Finished,
            }
        }
    }

    /// Puts a device back, or ends it.
    fn stops(
        &self,
        at: u32,
        slot: &Slot,
        mut being: Box<Being>,
        stop: Result<Stop, String>,
        has_trained: bool,
    ) {
        if !matches!(stop, Ok(Stop::Idle(_))) || !being.device.has_streams() {
            self.settled(slot);
        }
        let (timer, trains) = match stop {
            Ok(Stop::Idle(timer)) => (timer, false),
            Ok(Stop::Ordered) => (None, false),
            Ok(Stop::Trains) => (None, true),
            Ok(Stop::Finished) => {
                drop(being);
                slot.ended();
                let client = slot.home.client;
                return self.emit(FleetEvent::Finished { client });
            }
            Err(why) => {
                drop(being);
                slot.ended();
                return self.died(slot, why);
            }
        };
        being.port.rest();
        // Before it is put back: whoever takes it takes the time back.
        if let Some(timer) = timer {
            self.queue.at(timer, at);
        }
        let life = match timer {
            None if !trains => rest(being),
            _ => Life::Waits(being),
        };
        let rests = matches!(life, Life::Rests(_));
        match slot.put(life, timer, trains) {
            Ok(false) => {}
            Ok(true) if trains => self.queue.push_training(at),
            Ok(true) => self.queue.push(at),
            Err(life) => {
                if let Some(timer) = timer {
                    self.queue.not_at(timer, at);
                }
                drop(life);
                slot.ended();
            }
        }
        let mut log = lock(&slot.home.log);
        if has_trained {
            log.has_trained();
        }
        match rests {
            true => log.save_if_trained(),
            false => log.save_if_old(),
        }
        if self.is_large() {
            log.rest();
        }
        drop(log);
        self.check_log(slot);
    }
}

/// Puts a device that waits for nothing but a round to rest.
fn rest(being: Box<Being>) -> Life {
    let Being {
        device,
        port,
        told_refusal,
    } = *being;
    match device.rest() {
        Ok(resting) => Life::Rests(Box::new(resting)),
        Err(device) => Life::Waits(Box::new(Being {
            device,
            port,
            told_refusal,
        })),
    }
}

/// Trains until it is time to look around.
fn train(slot: &Slot, being: &mut Being) {
    let until = Instant::now() + LOOK_EVERY;
    let Some(job) = being.device.job() else {
        return;
    };
    while job.step(STEP_EXAMPLES) && Instant::now() < until && slot.order() == Order::Go {}
}
