//! The device: its exchanges on the client's thread, its training on a thread of its own.

use crate::instructions::{self, Counter};
use crate::mailbox::Mailbox;
use crate::port::ZephyrPort;
use crate::tcp::Errno;
use crate::{HTTP_PORT, ISA, clock, glue};
use core::ffi::c_void;
use core::fmt::Write as _;
use fl_client::{Activity, Config, Device, TrainJob};
use fl_shell::command::Run;

/// Examples a training thread works through between two looks at whether it is done.
const STEP_EXAMPLES: u32 = 64;

/// The same where instructions are counted and interrupts wait for the end of a step, some 5 ms.
const COUNTED_STEP_EXAMPLES: u32 = 16;

/// Interval at which the client looks for the end of the training, in microseconds. Nothing else wakes it:
/// a thread that waits for sockets cannot wait for a mailbox as well.
const TRAINING_LOOK_US: u64 = 5_000;

static TO_TRAIN: Mailbox<Work> = Mailbox::new();
static TRAINED: Mailbox<Work> = Mailbox::new();

/// Mailboxes between the threads.
struct Work {
    job: TrainJob,
    counter: Counter,
}

impl Work {
    /// Trains to the end.
    fn finish(&mut self) {
        let Self { job, counter } = self;
        let examples = if counter.counts() {
            COUNTED_STEP_EXAMPLES
        } else {
            STEP_EXAMPLES
        };
        while counter.counted(|| job.step(examples)) {
            glue::time_passes();
        }
    }
}

/// The thread that trains; `glue.c` defines it.
#[unsafe(no_mangle)]
extern "C" fn zfl_trainer_thread(_: *mut c_void, _: *mut c_void, _: *mut c_void) {
    loop {
        let mut work = TO_TRAIN.take();
        work.finish();
        TRAINED.put(work);
    }
}

/// Runs the device until its experiment is over.
///
/// # Errors
/// If it cannot listen.
pub fn run(args: &Run) -> Result<(), Errno> {
    let icount = args.icount.filter(|_| instructions::COUNTS_NANOSECONDS);
    let port = ZephyrPort::new(args.server, HTTP_PORT, icount.is_some())?;
    poll(Device::new(config(args)), port, icount);
    Ok(())
}

fn config(args: &Run) -> Config {
    Config {
        client: args.client,
        address: args.address.map(|address| {
            let mut text = heapless::String::new();
            // An IPv4 address and a port have at most 21 characters.
            let _ = write!(text, "{address}");
            text
        }),
        http_port: HTTP_PORT,
        secret: args.secret,
        isa: Some(ISA),
        ..Config::default()
    }
}

fn poll(mut device: Device<ZephyrPort>, mut port: ZephyrPort, icount: Option<u8>) {
    let mut training = false;
    loop {
        let activity = device.poll(&mut port);
        if let Some(job) = device.take_job() {
            training = true;
            let counter = Counter::new(icount);
            TO_TRAIN.put(Work { job, counter });
        }
        if let Some(Work { job, counter }) = TRAINED.try_take() {
            training = false;
            port.add_instructions(&counter);
            device.finish_job(job);
            continue;
        }
        match activity {
            Activity::Busy => {}
            Activity::Idle { wake_at_us } => port.wait(sooner(wake_at_us, training)),
            Activity::Stopped => break,
        }
    }
}

/// Latest time to wake.
fn sooner(wake_at_us: Option<u64>, training: bool) -> Option<u64> {
    if !training {
        return wake_at_us;
    }
    let look_us = clock::now_us() + TRAINING_LOOK_US;
    Some(wake_at_us.map_or(look_us, |wake_at_us| wake_at_us.min(look_us)))
}
