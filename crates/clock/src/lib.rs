//! Clock of a run that stands still while zfl does: for deadlines, time limits and back-off.
//!
//! ^Z, a batch system, a container or a debugger may stop all of zfl for hours. The system's clock runs
//! on, and on waking up every deadline would have passed. An [`Instant`] counts only time in which this
//! process ran. Nobody tells a process that it was stopped, so a [`heartbeat`] looks at the clock many
//! times a second; two looks that are further apart than [`GAP`] have a standstill between them, which
//! counts as no time. Whoever looks first after it finds it, so that no deadline is missed by the order
//! in which things wake up.
//!
//! Without a heartbeat the clock is the system's, or that of a test whose time is at a stand.

#![forbid(unsafe_code)]

use std::ops::{Add, Sub};
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time;

/// Interval at which the heartbeat looks.
const BEAT: Duration = Duration::from_millis(100);

/// Longest time between two looks that is no standstill: a busy machine lets a beat wait, too.
pub const GAP: Duration = Duration::from_millis(500);

/// Time beyond which nothing is awaited: 30 years.
const FOREVER: Duration = Duration::from_secs(30 * 365 * 24 * 3600);

/// A point in the time in which this process ran.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Instant(time::Instant);

impl Instant {
    /// The time now.
    pub fn now() -> Self {
        let mut clock = CLOCK.lock().unwrap_or_else(PoisonError::into_inner);
        Self(clock.at(time::Instant::now()))
    }

    /// Time since then; none if it is yet to come.
    pub fn elapsed(self) -> Duration {
        Self::now() - self
    }
}

impl Add<Duration> for Instant {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        Self(self.0 + duration.min(FOREVER))
    }
}

impl Sub for Instant {
    type Output = Duration;

    /// Time from one to the other; none if that is earlier.
    fn sub(self, earlier: Self) -> Duration {
        self.0.saturating_duration_since(earlier.0)
    }
}

/// Waits until then.
pub fn sleep_until(deadline: Instant) -> Sleep {
    let sleep = Box::pin(time::sleep(deadline - Instant::now()));
    Sleep { deadline, sleep }
}

/// Waits so long.
pub fn sleep(duration: Duration) -> Sleep {
    sleep_until(Instant::now() + duration)
}

/// A wait: see [`sleep`].
#[derive(Debug)]
pub struct Sleep {
    deadline: Instant,
    sleep: Pin<Box<time::Sleep>>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            ready!(self.sleep.as_mut().poll(cx));
            let left = self.deadline - Instant::now();
            if left.is_zero() {
                return Poll::Ready(());
            }
            // It was slept through a standstill.
            let until = time::Instant::now() + left;
            self.sleep.as_mut().reset(until);
        }
    }
}

/// Ticks that are so far apart, the first at once; those of a standstill are not made up for.
pub fn interval(every: Duration) -> Interval {
    let next = Instant::now();
    Interval { every, next }
}

/// Ticks: see [`interval`].
#[derive(Debug)]
pub struct Interval {
    every: Duration,
    next: Instant,
}

impl Interval {
    /// Waits for the next tick. Nothing is lost if it is not waited for to the end.
    pub async fn tick(&mut self) {
        sleep_until(self.next).await;
        self.next = Instant::now() + self.every;
    }
}

/// The time limit has passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Elapsed;

/// Waits for a future, at most so long.
///
/// # Errors
/// [`Elapsed`] if it is not done by then.
pub async fn timeout<F: Future>(limit: Duration, future: F) -> Result<F::Output, Elapsed> {
    tokio::select! {
        biased;
        output = future => Ok(output),
        () = sleep(limit) => Err(Elapsed),
    }
}

/// Looks at the clock many times a second while a future runs: what takes longer is a standstill.
pub async fn heartbeat<F: Future>(future: F) -> F::Output {
    let _beating = Beating::begin();
    let beats = tokio::spawn(async {
        loop {
            let _ = Instant::now();
            time::sleep(BEAT).await;
        }
    });
    let output = future.await;
    beats.abort();
    output
}

/// Has the clock stand still as long as that is the answer, which is asked for many times a second: while a debugger is
/// at a device. Ends, and the clock goes on, when there is no answer or this is dropped.
pub async fn stand_still_while(mut is_still: impl FnMut() -> Option<bool>) {
    let _going = Going;
    while let Some(still) = is_still() {
        hold(still);
        // By the system's clock: this one may stand still.
        time::sleep(BEAT).await;
    }
}

/// Lets the clock go on when this is dropped.
struct Going;

impl Drop for Going {
    fn drop(&mut self) {
        hold(false);
    }
}

fn hold(still: bool) {
    let mut clock = CLOCK.lock().unwrap_or_else(PoisonError::into_inner);
    clock.at(time::Instant::now());
    clock.held = still;
}

static CLOCK: Mutex<Clock> = Mutex::new(Clock::SYSTEM);

/// The system's clock and the standstills.
#[derive(Debug)]
struct Clock {
    hearts: u32,
    looked: Option<time::Instant>,
    stood: Duration,
    /// Told to stand still.
    held: bool,
}

impl Clock {
    const SYSTEM: Self = Self {
        hearts: 0,
        looked: None,
        stood: Duration::ZERO,
        held: false,
    };

    /// The time of this clock at a time of the system's.
    fn at(&mut self, now: time::Instant) -> time::Instant {
        let since = now.saturating_duration_since(self.looked.unwrap_or(now));
        if self.held || self.hearts > 0 && since > GAP {
            self.stood += since;
        }
        self.looked = Some(now);
        // What stood still is part of the time that the system's clock has counted.
        now.checked_sub(self.stood).unwrap_or(now)
    }
}

/// A heartbeat that goes on until this is dropped.
struct Beating;

impl Beating {
    fn begin() -> Self {
        let mut clock = CLOCK.lock().unwrap_or_else(PoisonError::into_inner);
        // Nobody need have looked before.
        clock.at(time::Instant::now());
        clock.hearts += 1;
        Self
    }
}

impl Drop for Beating {
    fn drop(&mut self) {
        let mut clock = CLOCK.lock().unwrap_or_else(PoisonError::into_inner);
        clock.hearts -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn beating() -> Clock {
        Clock {
            hearts: 1,
            ..Clock::SYSTEM
        }
    }

    #[test]
    fn time_between_two_beats_counts_and_a_standstill_does_not() {
        let (mut clock, began) = (beating(), time::Instant::now());
        let first = clock.at(began);
        assert_eq!(clock.at(began + GAP), first + GAP);
        let hours = 8 * 3600 * SECOND;
        assert_eq!(clock.at(began + GAP + hours), first + GAP, "it stood still");
        assert_eq!(clock.at(began + GAP + hours + BEAT), first + GAP + BEAT);
        let again = began + GAP + BEAT + 2 * hours;
        assert_eq!(clock.at(again), first + GAP + BEAT);
    }

    #[test]
    fn without_a_heartbeat_the_clock_is_the_systems() {
        let (mut clock, began) = (Clock::SYSTEM, time::Instant::now());
        assert_eq!(clock.at(began), began);
        assert_eq!(clock.at(began + SECOND), began + SECOND);
        clock.hearts = 1;
        assert_eq!(clock.at(began + SECOND + BEAT), began + SECOND + BEAT);
    }

    #[test]
    fn a_clock_that_is_held_stands_still() {
        let (mut clock, began) = (beating(), time::Instant::now());
        let first = clock.at(began);
        clock.held = true;
        assert_eq!(clock.at(began + BEAT), first);
        clock.held = false;
        assert_eq!(clock.at(began + 2 * BEAT), first + BEAT);
    }

    #[test]
    fn a_limit_without_end_is_a_limit() {
        let now = Instant::now();
        assert!(now + Duration::MAX > now);
        assert_eq!(now - (now + SECOND), Duration::ZERO);
    }

    #[tokio::test]
    async fn what_is_done_in_time_is_no_time_out() {
        let limit = Duration::from_secs(3600);
        assert_eq!(timeout(limit, async { 7 }).await, Ok(7));
        let never = std::future::pending::<()>();
        assert_eq!(timeout(Duration::ZERO, never).await, Err(Elapsed));
        sleep_until(Instant::now()).await;
    }

    #[tokio::test]
    async fn a_future_with_a_heartbeat_gives_what_it_gives() {
        assert!(heartbeat(async { Instant::now() }).await.elapsed() < GAP);
        assert_eq!(CLOCK.lock().unwrap().hearts, 0);
    }
}
