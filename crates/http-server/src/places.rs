//! The connections of a listener: which there are, and which goes when another wants its place.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::task::AbortHandle;

use crate::limits::Limits;

/// Place of a connection, as its requests carry it; clones are the same one.
#[derive(Clone, Debug)]
pub struct Place {
    places: Arc<Places>,
    id: u64,
}

impl Place {
    /// Names the owner of the connection, which keeps it from then on; the first one stays. An owner that
    /// has too many loses its oldest.
    pub fn belongs_to(&self, owner: u32) {
        let beyond = self.places.lock().give(self.id, owner);
        beyond.inspect(AbortHandle::abort);
    }

    /// Notes that the head of the request is whole.
    pub(crate) fn asks(&self) {
        if let Some(entry) = self.places.lock().entries.get_mut(&self.id) {
            entry.asks = true;
        }
    }
}

/// A place that is free again when this is dropped.
#[derive(Debug)]
pub(crate) struct Taken(pub Place);

impl Drop for Taken {
    fn drop(&mut self) {
        self.0.places.lock().entries.remove(&self.0.id);
    }
}

/// The places of a listener.
#[derive(Debug)]
pub(crate) struct Places(Mutex<Table>);

/// Number of the network of a peer, as [`source()`] gives it.
pub type Source = u128;

/// Shift from an IPv6 address to its network.
const HOST_BITS: u32 = 64;

/// Source that an address counts for: an IPv4 address itself, and of an IPv6 one the network, since whoever has
/// one of its addresses has them all.
pub fn source(peer: IpAddr) -> Source {
    match peer.to_canonical() {
        IpAddr::V4(address) => address.to_bits().into(),
        IpAddr::V6(address) => address.to_bits() >> HOST_BITS << HOST_BITS,
    }
}

#[derive(Debug)]
struct Entry {
    source: Source,
    asks: bool,
    owner: Option<u32>,
    /// Its end by force, once it has begun.
    abort: Option<AbortHandle>,
}

#[derive(Debug)]
struct Table {
    each: usize,
    next: u64,
    /// By age: the oldest first.
    entries: BTreeMap<u64, Entry>,
    /// Sources of owners, as far as known.
    homes: HashMap<u32, Source>,
}

impl Places {
    pub fn new(limits: &Limits) -> Arc<Self> {
        Arc::new(Self(Mutex::new(Table {
            each: limits.each,
            next: 0,
            entries: BTreeMap::new(),
            homes: HashMap::new(),
        })))
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a place for the connection of a peer, which `spawn` begins.
    pub fn take(self: &Arc<Self>, peer: IpAddr, spawn: impl FnOnce(Taken) -> AbortHandle) {
        let id = self.lock().add(source(peer));
        let place = Place {
            places: self.clone(),
            id,
        };
        let abort = spawn(Taken(place));
        match self.lock().entries.get_mut(&id) {
            Some(entry) => entry.abort = Some(abort),
            // It is over already, or its place was needed.
            None => abort.abort(),
        }
    }

    /// Ends a connection, so that there is a place; false if every one has an owner.
    pub fn make_room(&self) -> bool {
        let mut table = self.lock();
        let victim = table.victim().and_then(|id| table.entries.remove(&id));
        drop(table);
        victim
            .map(|entry| entry.abort.inspect(AbortHandle::abort))
            .is_some()
    }
}

impl Table {
    fn add(&mut self, source: Source) -> u64 {
        let entry = Entry {
            source,
            asks: false,
            owner: None,
            abort: None,
        };
        self.entries.insert(self.next, entry);
        self.next += 1;
        self.next - 1
    }

    /// Gives a connection an owner; returns the end of the oldest that the owner has beyond its places.
    fn give(&mut self, id: u64, owner: u32) -> Option<AbortHandle> {
        let entry = self.entries.get_mut(&id)?;
        if entry.owner.is_some() {
            return None;
        }
        entry.owner = Some(owner);
        self.homes.insert(owner, entry.source);
        let own = || {
            let all = self.entries.iter();
            all.filter(|(_, one)| one.owner == Some(owner))
        };
        if own().count() <= self.each {
            return None;
        }
        // Maybe this very one: heads are not read in the order in which connections came.
        let (&oldest, _) = own().next()?;
        self.entries.remove(&oldest)?.abort
    }

    /// The connection that has least right to its place.
    fn victim(&self) -> Option<u64> {
        let mut waiting: HashMap<Source, [isize; 2]> = HashMap::new();
        let free = || self.entries.iter().filter(|(_, one)| one.owner.is_none());
        for (_, one) in free() {
            waiting.entry(one.source).or_default()[usize::from(one.asks)] += 1;
        }
        let mut allowed: HashMap<Source, isize> = HashMap::new();
        for home in self.homes.values() {
            *allowed.entry(*home).or_default() += self.each as isize;
        }
        let excess = |source: &Source, [silent, asking]: [isize; 2]| {
            silent + asking - allowed.get(source).copied().unwrap_or(0)
        };
        let most = waiting
            .iter()
            .map(|(source, halves)| excess(source, *halves))
            .max()?;
        free()
            .find(|(_, one)| {
                let halves @ [silent, asking] = waiting[&one.source];
                excess(&one.source, halves) == most && one.asks == (asking > silent)
            })
            .map(|(id, _)| *id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::task::JoinSet;

    /// Places whose connections only wait, in the order in which they came.
    struct Bench {
        places: Arc<Places>,
        held: Vec<Place>,
        tasks: JoinSet<()>,
    }

    impl Bench {
        fn new(each: usize) -> Self {
            let places = Places::new(&Limits {
                each,
                ..Limits::of(4, each, 0, usize::MAX)
            });
            let (held, tasks) = (Vec::new(), JoinSet::new());
            Self {
                places,
                held,
                tasks,
            }
        }

        fn come(&mut self, last: u8, count: usize) {
            for _ in 0..count {
                let Self {
                    places,
                    held,
                    tasks,
                } = self;
                places.take([192, 0, 2, last].into(), |taken| {
                    held.push(taken.0.clone());
                    tasks.spawn(async move {
                        let _taken = taken;
                        std::future::pending().await
                    })
                });
            }
        }

        /// The number of the next connection to go.
        fn goes(&self) -> Option<u64> {
            let before: Vec<u64> = self.places.lock().entries.keys().copied().collect();
            self.places.make_room();
            let after = self.places.lock();
            before
                .into_iter()
                .find(|id| !after.entries.contains_key(id))
        }

        fn left(&self) -> Vec<u64> {
            self.places.lock().entries.keys().copied().collect()
        }
    }

    #[tokio::test]
    async fn the_source_with_most_loses_its_oldest() {
        let mut bench = Bench::new(4);
        bench.come(1, 2);
        bench.come(2, 4);
        assert_eq!(bench.goes(), Some(2));
        assert_eq!(bench.goes(), Some(3));
        // Now both have two, and the oldest of all goes.
        assert_eq!(bench.goes(), Some(0));
    }

    #[tokio::test]
    async fn idle_connections_do_not_push_out_requests_nor_requests_heads() {
        let mut bench = Bench::new(4);
        bench.come(1, 8);
        (0..3).for_each(|at| bench.held[at].asks());
        assert_eq!(bench.goes(), Some(3), "five are silent, three ask");
        assert_eq!(bench.goes(), Some(4));
        bench.held[5].asks();
        assert_eq!(bench.goes(), Some(0), "two are silent, four ask");
    }

    #[tokio::test]
    async fn the_source_of_an_owner_may_have_more_than_a_strangers() {
        let mut bench = Bench::new(4);
        bench.come(1, 1);
        bench.held[0].belongs_to(7);
        bench.come(1, 3);
        bench.come(2, 1);
        bench.come(3, 1);
        assert_eq!(bench.goes(), Some(4));
        assert_eq!(bench.goes(), Some(5));
        bench.come(1, 2);
        bench.come(4, 1);
        assert_eq!(bench.goes(), Some(1), "five are beyond its four");
    }

    #[tokio::test]
    async fn an_owner_has_its_places_and_the_newest_of_them() {
        let mut bench = Bench::new(2);
        bench.come(1, 4);
        for at in [1, 0, 3] {
            bench.held[at].belongs_to(7);
            bench.held[at].belongs_to(8);
        }
        assert_eq!(bench.left(), [1, 2, 3]);
        assert_eq!(bench.goes(), Some(2), "those of an owner stay");
        assert_eq!(bench.goes(), None);
        let first = bench.tasks.join_next().await.expect("it was ended");
        assert!(first.unwrap_err().is_cancelled());
    }

    #[tokio::test]
    async fn a_connection_that_is_over_has_no_place() {
        let mut bench = Bench::new(2);
        bench.come(1, 2);
        bench.held[0].belongs_to(7);
        bench.tasks.shutdown().await;
        assert_eq!(bench.left(), [0; 0]);
        bench.held[0].belongs_to(7);
    }

    #[test]
    fn a_network_of_ipv6_is_one_source() {
        let of = |address: &str| source(address.parse().unwrap());
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:0:0:2"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
    }
}
