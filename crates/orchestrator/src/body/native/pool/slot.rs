//! The place of a device in a pool: whether it runs, and who has it.

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fl_client::{Config, Device, Overrides, Resting};
use tokio::sync::oneshot;
use zfl_clock::Instant;
use zfl_pipe::address_of;

use super::port::{Home, PoolPort};
use crate::log::DeviceLog;
use crate::spec::DeviceSpec;
use crate::storage::RestingStorage;

/// Order to a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    Go,
    /// Stands still before its next step.
    Stand,
    /// Ends before its next step.
    Stop,
}

/// A device with its port.
pub(super) struct Being {
    pub(super) device: Device<PoolPort>,
    pub(super) port: PoolPort,
    pub(super) told_refusal: bool,
}

/// State of a device.
pub(super) enum Life {
    /// It does not run.
    Off,
    /// It is to be started.
    Begins,
    /// It waits for a round, without the memory of one.
    Rests(Box<Resting>),
    /// It waits for something else.
    Waits(Box<Being>),
    /// A worker has it.
    Runs,
}

impl Life {
    /// True if a worker may run it.
    fn is_free(&self) -> bool {
        matches!(self, Self::Begins | Self::Rests(_) | Self::Waits(_))
    }
}

/// Place of one device.
pub(super) struct Slot {
    pub(super) home: Arc<Home>,
    join_as: Option<u32>,
    overrides: Overrides,
    order: AtomicU8,
    /// Its streams moved while it ran.
    stirred: AtomicBool,
    cell: Mutex<Cell>,
}

struct Cell {
    life: Life,
    /// It is in the queue.
    is_queued: bool,
    /// Time at which it will be.
    timer: Option<Instant>,
    /// It has a place of those that come up.
    comes_up: bool,
    /// Those who wait for its end.
    gone: Vec<oneshot::Sender<()>>,
}

impl std::fmt::Debug for Slot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Slot")
            .field("client", &self.home.client)
            .finish_non_exhaustive()
    }
}

impl Slot {
    pub(super) fn new(spec: &DeviceSpec, log: DeviceLog, storage: Option<RestingStorage>) -> Self {
        Self {
            home: Arc::new(Home::new(spec.client, log, storage)),
            join_as: spec.join_as,
            overrides: spec.overrides,
            order: AtomicU8::new(Order::Go as u8),
            stirred: AtomicBool::new(false),
            cell: Mutex::new(Cell {
                life: Life::Off,
                is_queued: false,
                timer: None,
                comes_up: false,
                gone: Vec::new(),
            }),
        }
    }

    /// Configuration of the device.
    pub(super) fn config(&self) -> Config {
        Config {
            client: self.join_as,
            overrides: self.overrides,
            http_port: address_of(self.home.client).port(),
            isa: Some(std::env::consts::ARCH),
            ..Config::default()
        }
    }

    fn lock(&self) -> MutexGuard<'_, Cell> {
        self.cell.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn order(&self) -> Order {
        match self.order.load(Ordering::Acquire) {
            0 => Order::Go,
            1 => Order::Stand,
            _ => Order::Stop,
        }
    }

    /// Gives an order to a device that runs, unless that is to end.
    pub(super) fn set(&self, order: Order) {
        let cell = self.lock();
        if !matches!(cell.life, Life::Off) && self.order() != Order::Stop {
            self.order.store(order as u8, Ordering::Release);
        }
    }

    /// Prepares a start; false if it runs.
    pub(super) fn boot(&self) -> bool {
        let mut cell = self.lock();
        let is_off = matches!(cell.life, Life::Off);
        if is_off {
            cell.life = Life::Begins;
            self.order.store(Order::Go as u8, Ordering::Release);
        }
        is_off
    }

    pub(super) fn runs(&self) -> bool {
        !matches!(self.lock().life, Life::Off)
    }

    /// Notes that there is something to do; true if it is to be put into the queue.
    pub(super) fn stir(&self) -> bool {
        self.stirred.store(true, Ordering::Release);
        let mut cell = self.lock();
        let is_free = cell.life.is_free();
        let is_news = is_free && !cell.is_queued && self.order() == Order::Go;
        cell.is_queued |= is_news;
        is_news
    }

    /// True if its streams moved since it last looked.
    pub(super) fn was_stirred(&self) -> bool {
        self.stirred.load(Ordering::Acquire)
    }

    /// Notes that it looks at its streams now.
    pub(super) fn looks(&self) {
        self.stirred.store(false, Ordering::Release);
    }

    /// Takes the device out of its place, to run it; and the time that it had set.
    pub(super) fn take(&self) -> (Option<Life>, Option<Instant>) {
        let mut cell = self.lock();
        cell.is_queued = false;
        let timer = cell.timer.take();
        let is_free = cell.life.is_free();
        if !is_free || self.order() != Order::Go {
            return (None, timer);
        }
        let life = std::mem::replace(&mut cell.life, Life::Runs);
        (Some(life), timer)
    }

    /// Notes that it has a place of those that come up.
    pub(super) fn comes_up(&self) {
        self.lock().comes_up = true;
    }

    /// Takes that place away; true if it had one.
    pub(super) fn came_up(&self) -> bool {
        std::mem::take(&mut self.lock().comes_up)
    }

    /// Puts a device back that goes on at `timer`, or `trains`; true if it is in the queue then. One that was
    /// ended meanwhile comes back.
    pub(super) fn put(
        &self,
        life: Life,
        timer: Option<Instant>,
        trains: bool,
    ) -> Result<bool, Life> {
        let mut cell = self.lock();
        if self.order() == Order::Stop {
            return Err(life);
        }
        cell.life = life;
        cell.timer = timer;
        cell.is_queued = self.order() == Order::Go && (trains || self.was_stirred());
        Ok(cell.is_queued)
    }

    /// Notes that the device has ended.
    pub(super) fn ended(&self) {
        let mut cell = self.lock();
        cell.life = Life::Off;
        cell.is_queued = false;
        let gone = std::mem::take(&mut cell.gone);
        drop(cell);
        self.home.hang_up();
        gone.into_iter().for_each(|gone| _ = gone.send(()));
    }

    /// Ends a device; `gone` is told when it is gone. False if it did not run.
    pub(super) fn kill(&self, gone: oneshot::Sender<()>) -> bool {
        let mut cell = self.lock();
        if matches!(cell.life, Life::Off) {
            return false;
        }
        self.order.store(Order::Stop as u8, Ordering::Release);
        cell.gone.push(gone);
        if matches!(cell.life, Life::Runs) {
            return true;
        }
        let life = std::mem::replace(&mut cell.life, Life::Off);
        drop(cell);
        drop(life);
        self.ended();
        true
    }

    /// Ends a device when no worker is left; false if it did not run.
    pub(super) fn end(&self) -> bool {
        let life = std::mem::replace(&mut self.lock().life, Life::Off);
        let ran = !matches!(life, Life::Off);
        drop(life);
        self.ended();
        ran
    }
}
