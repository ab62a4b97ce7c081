//! Refusals: told a few times a second, and counted beyond that, since strangers cause them at will.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::extract::{ConnectInfo, Request, State};
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::Response;
use zfl_run_dir::Event;

use crate::log::lock;
use crate::rate::{Bucket, Rate};
use crate::shared::Shared;

/// Refusals of one source and client that are told at once, and how many more each second.
const EACH: Rate = Rate {
    burst: 32,
    per_s: 2.0,
};

/// The same for those of all together.
const ALL: Rate = Rate {
    burst: 128,
    per_s: 16.0,
};

/// Sources and clients that are told apart; all others count as one.
const MAX_SENDERS: usize = 1024;

/// Interval at which what was only counted is told.
pub(crate) const INTERVAL: Duration = Duration::from_secs(1);

/// A request that was refused, as its answer carries it.
#[derive(Clone, Debug)]
pub(crate) struct Refused {
    pub client: Option<u32>,
    pub status: StatusCode,
    pub reason: String,
}

/// Takes the refusal out of an answer, and tells or counts it.
pub(crate) async fn tell(
    State(shared): State<Arc<Shared>>,
    request: Request,
    next: Next,
) -> Response {
    let peer = request
        .extensions()
        .get::<ConnectInfo<std::net::SocketAddr>>();
    let source = peer.map(|peer| peer.ip());
    let mut response = next.run(request).await;
    if let Some(refused) = response.extensions_mut().remove::<Refused>()
        && let Some(event) = shared.refusals.add(source, refused)
    {
        shared.log.emit(event);
    }
    response
}

/// Tells from time to time what was only counted, for ever.
pub(crate) async fn tell_counted(shared: Arc<Shared>) {
    loop {
        zfl_clock::sleep(INTERVAL).await;
        shared
            .refusals
            .counted()
            .into_iter()
            .for_each(|event| shared.log.emit(event));
    }
}

/// Source and client that a refused request came from.
type Sender = (Option<IpAddr>, Option<u32>);

/// Refusals of a sender.
#[derive(Debug)]
struct Sent {
    bucket: Bucket,
    /// The last that was only counted.
    last: Option<Refused>,
    counted: u64,
}

/// Refusals of a run.
#[derive(Debug)]
pub(crate) struct Refusals(Mutex<Table>);

#[derive(Debug)]
struct Table {
    all: Bucket,
    senders: BTreeMap<Sender, Sent>,
}

impl Refusals {
    pub fn new() -> Self {
        Self(Mutex::new(Table {
            all: Bucket::full(ALL),
            senders: BTreeMap::new(),
        }))
    }

    /// Takes a refusal in; returns its event if it is told at once.
    pub fn add(&self, source: Option<IpAddr>, refused: Refused) -> Option<Event> {
        let mut table = lock(&self.0);
        let sender = table.sender((source, refused.client));
        let Table { all, senders } = &mut *table;
        let new = || Sent {
            bucket: Bucket::full(EACH),
            last: None,
            counted: 0,
        };
        let sent = senders.entry(sender).or_insert_with(new);
        let before = std::mem::take(&mut sent.counted);
        if let Some(event) = sent.told(all, refused, before) {
            sent.last = None;
            return Some(event);
        }
        None
    }

    /// Events of what was only counted, as far as they may be told now.
    pub fn counted(&self) -> Vec<Event> {
        let Table { all, senders } = &mut *lock(&self.0);
        let mut events = Vec::new();
        senders.retain(|_, sent| {
            if let Some(last) = sent.last.take() {
                let before = std::mem::take(&mut sent.counted) - 1;
                events.extend(sent.told(all, last, before));
            }
            sent.last.is_some() || !sent.bucket.is_full()
        });
        events
    }

    /// Events of all that was only counted: nothing comes after them.
    pub fn rest(&self) -> Vec<Event> {
        let senders = std::mem::take(&mut lock(&self.0).senders);
        let rest = |sent: Sent| Some(event(sent.last?, sent.counted - 1));
        senders.into_values().filter_map(rest).collect()
    }
}

impl Table {
    fn sender(&self, sender: Sender) -> Sender {
        let is_known = self.senders.contains_key(&sender);
        match is_known || self.senders.len() < MAX_SENDERS {
            true => sender,
            false => (None, None),
        }
    }
}

impl Sent {
    /// The event of a refusal and so many before it, or `None` and one more is counted.
    fn told(&mut self, all: &mut Bucket, refused: Refused, before: u64) -> Option<Event> {
        if all.has_one() && self.bucket.take() {
            all.take();
            return Some(event(refused, before));
        }
        self.counted = before + 1;
        self.last = Some(refused);
        None
    }
}

fn event(refused: Refused, more: u64) -> Event {
    let Refused {
        client,
        status,
        reason,
    } = refused;
    Event::ResultRejected {
        client,
        status: status.as_u16(),
        reason,
        more,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(client: u32) -> Refused {
        Refused {
            client: Some(client),
            status: StatusCode::FORBIDDEN,
            reason: "not yours".into(),
        }
    }

    fn more(events: &[Event]) -> Vec<u64> {
        let more = |event: &Event| match event {
            Event::ResultRejected { more, .. } => *more,
            other => panic!("{other:?}"),
        };
        events.iter().map(more).collect()
    }

    fn from(last: u8) -> Option<IpAddr> {
        Some([192, 0, 2, last].into())
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_is_counted_and_nothing_of_it_is_lost() {
        let refusals = Refusals::new();
        let told: Vec<Event> = (0..10_000)
            .filter_map(|_| refusals.add(from(1), refused(3)))
            .collect();
        assert_eq!(more(&told), vec![0; EACH.burst as usize]);
        assert_eq!(more(&refusals.counted()), [0; 0], "nothing may be told yet");
        tokio::time::advance(INTERVAL).await;
        let counted = 10_000 - u64::from(EACH.burst);
        assert_eq!(more(&refusals.counted()), [counted - 1]);
        assert_eq!(more(&refusals.counted()), [0; 0], "all has been told");
    }

    #[tokio::test(start_paused = true)]
    async fn all_senders_together_are_bounded_and_each_is_heard() {
        let refusals = Refusals::new();
        let mut told = 0;
        for second in 0..100 {
            for last in 0..=255 {
                for client in 0..8 {
                    told += usize::from(refusals.add(from(last), refused(client)).is_some());
                }
            }
            told += refusals.counted().len();
            let most = f64::from(ALL.burst) + f64::from(second) * ALL.per_s;
            assert!(told as f64 <= most, "{told} after {second} s");
            assert!(lock(&refusals.0).senders.len() <= MAX_SENDERS + 1);
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        let rest: u64 = more(&refusals.rest())
            .into_iter()
            .map(|more| more + 1)
            .sum();
        assert!(rest > 0 && rest <= 100 * 256 * 8);
    }

    #[tokio::test(start_paused = true)]
    async fn a_sender_that_is_quiet_is_forgotten() {
        let refusals = Refusals::new();
        assert!(refusals.add(from(1), refused(3)).is_some());
        tokio::time::advance(INTERVAL).await;
        refusals.counted();
        assert!(lock(&refusals.0).senders.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_left_at_the_end_is_told() {
        let refusals = Refusals::new();
        for _ in 0..EACH.burst + 7 {
            refusals.add(from(1), refused(3));
        }
        assert_eq!(more(&refusals.rest()), [6]);
    }
}
