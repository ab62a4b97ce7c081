//! Addresses of clients, and bytes of their connections. Their states are the machine's.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;

use axum::http::StatusCode;
use fl_proto::Word;

use crate::broadcast::Form;
use crate::entry::Entry;
use crate::rate::{Bucket, Rate};

/// Joins of one client: each is told, asked after, and ends what the client was at. A device joins when it
/// has booted, and again when the answer was lost.
const JOINS: Rate = Rate {
    burst: 16,
    per_s: 0.2,
};

/// Address and bytes of a client.
#[derive(Clone, Debug, Default)]
pub struct Client {
    /// Address at which it is reached, once it has joined.
    pub address: Option<SocketAddr>,
    /// Source address of its request to join.
    pub source: Option<IpAddr>,
    /// Word that it wants to see with every request, if it gave one. It is kept here alone.
    pub word: Option<Word>,
    /// Form of the bodies that it is sent.
    pub form: Form,
    /// True if it can evaluate a model on examples held out.
    pub evaluates: bool,
    /// Joins that it may make before it has to wait.
    joins: Option<Bucket>,
    /// HTTP bytes from it.
    pub bytes_up: u64,
    /// HTTP bytes to it.
    pub bytes_down: u64,
    /// Bytes of both ways that are in the table already.
    told: (u64, u64),
    /// It has bytes that are not.
    is_untold: bool,
}

/// Device that asks for an ID.
#[derive(Clone, Copy, Debug)]
pub struct Newcomer {
    /// Address at which it is reached.
    pub address: SocketAddr,
    /// Source address of its request.
    pub source: IpAddr,
    /// True if it asks from this machine's own address.
    pub is_own_machine: bool,
    /// Word that it gave.
    pub word: Option<Word>,
    /// Secret that it showed.
    pub secret: Option<Word>,
    /// Form of the bodies that it wants.
    pub form: Form,
    /// True if it can evaluate a model on examples held out.
    pub evaluates: bool,
}

/// Standing of a client towards whoever else wants its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Nobody has the place.
    Free,
    /// Its device is no longer where it was; it may come back there.
    Gone,
    /// Its device has joined, and was never ready.
    New,
    /// Its device is there.
    There,
}

/// Reason why `/id` grants nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JoinError {
    /// No such ID.
    #[error("client {0} is not part of this experiment, its clients are 0 to {1}")]
    Unknown(u32, u32),
    /// Taken by a live device.
    #[error("client {0} is another device, which is alive")]
    Taken(u32),
    /// Joined over and over.
    #[error("client {0} joins too often: wait a while")]
    TooOften(u32),
    /// No ID left.
    #[error("all {0} clients have joined")]
    Full(u32),
    /// The address has its share of IDs.
    #[error(
        "{from} has {most} of the IDs, as many as one address may have: give the server more \
         --clients-per-address"
    )]
    Crowded {
        /// The address.
        from: IpAddr,
        /// IDs that one address may have.
        most: u32,
    },
    /// It does not know the secret of all.
    #[error(
        "the join secret is missing or wrong: give zfl client --join-secret or ZFL_JOIN_SECRET"
    )]
    NoSecret,
    /// Its maker has another address for this client.
    #[error("client {id} is the device at {expected}, and this comes from {from}")]
    Elsewhere {
        /// The client.
        id: u32,
        /// Its address.
        expected: IpAddr,
        /// Address of the request.
        from: IpAddr,
    },
    /// It does not know the secret of this client.
    #[error("client {0} is a device of this run, which knows a secret of its own")]
    Impostor(u32),
    /// The fleet has no device of this client.
    #[error("client {0} has no device in this run")]
    NoDevice(u32),
    /// The fleet has no device there.
    #[error("this run has no device at {0}")]
    Stranger(IpAddr),
}

impl JoinError {
    /// Status of the refusal.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Unknown(..) | Self::Taken(_) | Self::TooOften(_) | Self::Full(_) => {
                StatusCode::CONFLICT
            }
            Self::Crowded { .. }
            | Self::NoSecret
            | Self::Elsewhere { .. }
            | Self::Impostor(_)
            | Self::NoDevice(_)
            | Self::Stranger(_) => StatusCode::FORBIDDEN,
        }
    }
}

/// All clients.
#[derive(Clone, Debug)]
pub struct Roster {
    /// Rules of entry.
    pub entry: Entry,
    clients: Vec<Client>,
    by_address: BTreeSet<(SocketAddr, u32)>,
    /// IDs that nobody has had.
    free: BTreeSet<u32>,
    /// Clients with bytes that are not in the table.
    untold: Vec<u32>,
}

impl Roster {
    /// `clients` and `edges` that nothing is known of; an edge has an ID behind those of all clients.
    pub fn new(clients: u32, edges: u32) -> Self {
        Self {
            entry: Entry::default(),
            clients: vec![Client::default(); (clients + edges) as usize],
            by_address: BTreeSet::new(),
            free: (0..clients).collect(),
            untold: Vec::new(),
        }
    }

    /// Has places for these clients alone.
    pub fn limit_to(&mut self, clients: Range<u32>) {
        self.free = clients.collect();
    }

    /// Takes a device in that had joined before this process began.
    pub fn recall(&mut self, id: u32, known: &Newcomer) {
        let Some(client) = self.clients.get_mut(id as usize) else {
            return;
        };
        client.address = Some(known.address);
        client.source = Some(known.source);
        client.word = known.word;
        (client.form, client.evaluates) = (known.form, known.evaluates);
        self.free.remove(&id);
        self.by_address.insert((known.address, id));
    }

    /// The client of an ID.
    pub fn get(&self, id: u32) -> Option<&Client> {
        self.clients.get(id as usize)
    }

    /// Adds bytes that went over a client's connections.
    pub fn count(&mut self, id: u32, up: u64, down: u64) {
        let Some(client) = self.clients.get_mut(id as usize) else {
            return;
        };
        client.bytes_up = client.bytes_up.saturating_add(up);
        client.bytes_down = client.bytes_down.saturating_add(down);
        let is_first = (up | down) > 0 && !std::mem::replace(&mut client.is_untold, true);
        self.untold.extend(is_first.then_some(id));
    }

    /// The clients whose bytes have changed since the last call, in order, and those bytes up and down.
    pub fn take_untold(&mut self) -> impl Iterator<Item = (u32, (u64, u64))> {
        let mut untold = std::mem::take(&mut self.untold);
        untold.sort_unstable();
        untold.into_iter().filter_map(|id| {
            let client = self.clients.get_mut(id as usize)?;
            client.is_untold = false;
            let now = (client.bytes_up, client.bytes_down);
            let before = std::mem::replace(&mut client.told, now);
            Some((id, (now.0 - before.0, now.1 - before.1)))
        })
    }

    /// All clients with their IDs.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &Client)> {
        (0..).zip(&self.clients)
    }

    /// Bytes from and to a client so far.
    pub fn bytes(&self, id: u32) -> Option<(u64, u64)> {
        let client = self.get(id)?;
        Some((client.bytes_up, client.bytes_down))
    }

    /// The ID for a newcomer: the one wished for, the one that its address has, or the lowest that nobody
    /// has had.
    pub fn place(&self, wish: Option<u32>, newcomer: &Newcomer) -> Option<u32> {
        // The same device asks again if the answer was lost on its way.
        wish.or_else(|| self.at(newcomer.address))
            .or_else(|| self.free.first().copied())
    }

    /// True if a client has joined and is another device than this one, as far as address and word tell.
    pub fn is_another(&self, id: u32, newcomer: &Newcomer) -> bool {
        let client = self.get(id);
        let is_it = |client: &Client| {
            client.address == Some(newcomer.address) && client.word == newcomer.word
        };
        client.is_some_and(|client| client.address.is_some() && !is_it(client))
    }

    /// Grants an ID to a device, and returns whether the client had joined before.
    ///
    /// The ID of another device is free if nobody has it any more; from the same address also if the
    /// other is gone, for it has rebooted then. Who has proved to be the client has it in any case.
    ///
    /// # Errors
    /// [`JoinError`]; nothing has then changed.
    pub fn join(
        &mut self,
        wish: Option<u32>,
        newcomer: Newcomer,
        standing: impl Fn(u32) -> Standing,
    ) -> Result<(u32, bool), JoinError> {
        let Newcomer {
            address,
            source,
            word,
            form,
            evaluates,
            ..
        } = newcomer;
        let proven = self.entry.proven(wish, &newcomer)?;
        let num_clients = self.clients.len() as u32;
        let id = proven.or_else(|| self.place(wish, &newcomer));
        let id = id.ok_or(JoinError::Full(num_clients))?;
        let unknown = JoinError::Unknown(id, num_clients.saturating_sub(1));
        let client = self.get(id).ok_or(unknown)?;
        let (before, is_near) = (client.address, client.source == Some(source));
        if proven.is_none() && self.is_another(id, &newcomer) {
            match standing(id) {
                Standing::Free => {}
                Standing::Gone if is_near => {}
                _ => return Err(JoinError::Taken(id)),
            }
        }
        if proven.is_none() && !is_near {
            self.has_room(&newcomer)?;
        }
        let client = &mut self.clients[id as usize];
        let joins = client.joins.get_or_insert_with(|| Bucket::full(JOINS));
        if !joins.take() {
            return Err(JoinError::TooOften(id));
        }
        client.address = Some(address);
        client.source = Some(source);
        client.word = word;
        (client.form, client.evaluates) = (form, evaluates);
        self.free.remove(&id);
        if let Some(before) = before {
            self.by_address.remove(&(before, id));
        }
        self.by_address.insert((address, id));
        Ok((id, before.is_some()))
    }

    /// Checks that an address may have one ID more.
    fn has_room(&self, newcomer: &Newcomer) -> Result<(), JoinError> {
        let Newcomer {
            source,
            is_own_machine,
            ..
        } = *newcomer;
        let Some(most) = self.entry.per_address.filter(|_| !is_own_machine) else {
            return Ok(());
        };
        let own = zfl_http_server::source(source);
        let those = self.clients.iter().filter_map(|client| client.source);
        match those
            .filter(|&other| zfl_http_server::source(other) == own)
            .count()
            < most as usize
        {
            true => Ok(()),
            false => Err(JoinError::Crowded { from: source, most }),
        }
    }

    /// The client of an address; the lowest, if one address has had several.
    fn at(&self, address: SocketAddr) -> Option<u32> {
        let those = self.by_address.range((address, 0)..=(address, u32::MAX));
        those.map(|(_, id)| *id).next()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::tests::newcomer;

    fn from(last: u8) -> Newcomer {
        newcomer(last, None)
    }

    #[test]
    fn ids_are_granted_once() {
        let mut roster = Roster::new(3, 0);
        let mut join = |wish, last: u8| roster.join(wish, from(last), |_| Standing::There);
        assert_eq!(join(Some(1), 1), Ok((1, false)));
        assert_eq!(join(None, 2), Ok((0, false)));
        assert_eq!(join(Some(1), 3), Err(JoinError::Taken(1)));
        assert_eq!(join(Some(3), 3), Err(JoinError::Unknown(3, 2)));
        assert_eq!(join(None, 3), Ok((2, false)));
        assert_eq!(join(None, 3), Ok((2, true)), "the same device, again");
        assert_eq!(join(None, 4), Err(JoinError::Full(3)));
    }

    #[test]
    fn a_device_that_comes_back_takes_its_own_place() {
        let mut roster = Roster::new(2, 0);
        let mut join = |wish, last: u8, standing| roster.join(wish, from(last), |_| standing);
        assert_eq!(join(Some(1), 1, Standing::Free), Ok((1, false)));
        assert_eq!(join(Some(1), 1, Standing::There), Ok((1, true)));
        for standing in [Standing::There, Standing::New, Standing::Gone] {
            assert_eq!(join(Some(1), 9, standing), Err(JoinError::Taken(1)));
        }
        assert_eq!(join(Some(1), 9, Standing::Free), Ok((1, true)));
        assert_eq!(
            join(None, 1, Standing::There),
            Ok((0, false)),
            "its old address is free"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_joins_without_end_has_to_wait() {
        let mut roster = Roster::new(2, 0);
        let mut joined = 0;
        for _ in 0..1000 {
            joined += u32::from(roster.join(Some(1), from(1), |_| Standing::There).is_ok());
        }
        assert_eq!(joined, JOINS.burst);
        assert!(
            roster.join(Some(0), from(1), |_| Standing::There).is_ok(),
            "another"
        );
        tokio::time::advance(std::time::Duration::from_secs(5)).await;
        assert!(roster.join(Some(1), from(1), |_| Standing::There).is_ok());
        assert_eq!(
            roster.join(Some(1), from(1), |_| Standing::There),
            Err(JoinError::TooOften(1))
        );
    }

    #[test]
    fn a_device_at_the_same_address_with_another_word_is_another_one() {
        let mut roster = Roster::new(1, 0);
        let with = |byte: u8| Newcomer {
            word: Some(Word::random([byte; 16])),
            ..from(1)
        };
        let mut join = |byte, standing| roster.join(Some(0), with(byte), |_| standing);
        assert_eq!(join(1, Standing::Free), Ok((0, false)));
        assert_eq!(join(1, Standing::There), Ok((0, true)), "it asks again");
        for standing in [Standing::New, Standing::There] {
            assert_eq!(
                join(2, standing),
                Err(JoinError::Taken(0)),
                "it may be deaf"
            );
        }
        assert_eq!(join(2, Standing::Gone), Ok((0, true)), "it has rebooted");
    }

    #[test]
    fn one_address_has_its_share_and_this_machine_all() {
        let mut roster = Roster::new(6, 0);
        roster.entry.per_address = Some(2);
        let mut at = |ip: IpAddr, port: u16, is_own_machine| {
            let newcomer = Newcomer {
                address: SocketAddr::new(ip, port),
                source: ip,
                is_own_machine,
                ..from(1)
            };
            roster.join(None, newcomer, |_| Standing::There)
        };
        let far: IpAddr = [192, 0, 2, 7].into();
        let crowded = JoinError::Crowded { from: far, most: 2 };
        assert_eq!(at(far, 1, false), Ok((0, false)));
        assert_eq!(at(far, 2, false), Ok((1, false)));
        assert_eq!(at(far, 3, false), Err(crowded));
        assert_eq!(at(far, 2, false), Ok((1, true)), "its own again");
        let [one, other] = ["2001:db8::1", "2001:db8::2"].map(|ip| ip.parse().unwrap());
        assert_eq!(at(one, 1, false), Ok((2, false)));
        assert_eq!(at(one, 2, false), Ok((3, false)));
        assert!(at(other, 1, false).is_err(), "it is of the same network");
        for (port, id) in [(1, 4), (2, 5)] {
            assert_eq!(at([127, 0, 0, 1].into(), port, true), Ok((id, false)));
        }
    }
}
