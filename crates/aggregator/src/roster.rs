//! Addresses of clients, and bytes of their connections. Their states are the machine's.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use fl_proto::Word;

use crate::broadcast::Form;
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
    /// Joins that it may make before it has to wait.
    joins: Option<Bucket>,
    /// HTTP bytes from it.
    pub bytes_up: u64,
    /// HTTP bytes to it.
    pub bytes_down: u64,
}

/// Device that asks for an ID.
#[derive(Clone, Copy, Debug)]
pub struct Newcomer {
    /// Address at which it is reached.
    pub address: SocketAddr,
    /// Source address of its request.
    pub source: IpAddr,
    /// Word that it gave.
    pub word: Option<Word>,
    /// Form of the bodies that it wants.
    pub form: Form,
}

/// Reason why `/id` grants nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JoinError {
    /// No such ID.
    #[error("client {0} is not part of this experiment, its clients are 0 to {1}")]
    Unknown(u32, u32),
    /// Taken by a live device elsewhere.
    #[error("client {0} is another device, which is alive")]
    Taken(u32),
    /// Joined over and over.
    #[error("client {0} joins too often: wait a while")]
    TooOften(u32),
    /// No ID left.
    #[error("all {0} clients have joined")]
    Full(u32),
}

/// All clients.
#[derive(Clone, Debug)]
pub struct Roster {
    clients: Vec<Client>,
    by_address: BTreeSet<(SocketAddr, u32)>,
    /// IDs that nobody has had.
    free: BTreeSet<u32>,
}

impl Roster {
    /// `clients` that nothing is known of.
    pub fn new(clients: u32) -> Self {
        Self {
            clients: vec![Client::default(); clients as usize],
            by_address: BTreeSet::new(),
            free: (0..clients).collect(),
        }
    }

    /// The client of an ID.
    pub fn get(&self, id: u32) -> Option<&Client> {
        self.clients.get(id as usize)
    }

    /// The client of an ID, to count its bytes.
    pub fn get_mut(&mut self, id: u32) -> Option<&mut Client> {
        self.clients.get_mut(id as usize)
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

    /// Grants an ID to a device: the one wished for, the one that its address has, or the lowest that nobody
    /// has had. Returns whether the client had joined before.
    ///
    /// A device that wishes for the ID of another that has joined takes it over if it comes from the
    /// same IP address (it has rebooted), or if the other is not alive.
    ///
    /// # Errors
    /// [`JoinError`]; nothing has then changed.
    pub fn join(
        &mut self,
        wish: Option<u32>,
        newcomer: Newcomer,
        is_alive: impl Fn(u32) -> bool,
    ) -> Result<(u32, bool), JoinError> {
        let Newcomer {
            address,
            source,
            word,
            form,
        } = newcomer;
        let num_clients = self.clients.len() as u32;
        // The same device asks again if the answer was lost on its way.
        let id = wish
            .or_else(|| self.at(address))
            .or_else(|| self.free.first().copied())
            .ok_or(JoinError::Full(num_clients))?;
        let unknown = JoinError::Unknown(id, num_clients.saturating_sub(1));
        let client = self.clients.get_mut(id as usize).ok_or(unknown)?;
        let before = client.address;
        let is_elsewhere = before.is_some_and(|known| known.ip() != address.ip());
        if is_elsewhere && is_alive(id) {
            return Err(JoinError::Taken(id));
        }
        let joins = client.joins.get_or_insert_with(|| Bucket::full(JOINS));
        if !joins.take() {
            return Err(JoinError::TooOften(id));
        }
        client.address = Some(address);
        client.source = Some(source);
        client.word = word;
        client.form = form;
        self.free.remove(&id);
        if let Some(before) = before {
            self.by_address.remove(&(before, id));
        }
        self.by_address.insert((address, id));
        Ok((id, before.is_some()))
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

    fn from(last: u8) -> Newcomer {
        let address = SocketAddr::from(([192, 0, 2, last], 80));
        Newcomer {
            address,
            source: address.ip(),
            word: None,
            form: Form::default(),
        }
    }

    #[test]
    fn ids_are_granted_once() {
        let mut roster = Roster::new(3);
        let mut join = |wish, last: u8| roster.join(wish, from(last), |_| true);
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
        let mut roster = Roster::new(2);
        let mut join = |wish, last: u8, alive: bool| roster.join(wish, from(last), |_| alive);
        assert_eq!(join(Some(1), 1, false), Ok((1, false)));
        assert_eq!(join(Some(1), 1, true), Ok((1, true)));
        assert_eq!(join(Some(1), 9, false), Ok((1, true)));
        assert_eq!(
            join(None, 1, true),
            Ok((0, false)),
            "its old address is free"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_joins_without_end_has_to_wait() {
        let mut roster = Roster::new(2);
        let mut joined = 0;
        for _ in 0..1000 {
            joined += u32::from(roster.join(Some(1), from(1), |_| true).is_ok());
        }
        assert_eq!(joined, JOINS.burst);
        assert!(roster.join(Some(0), from(1), |_| true).is_ok(), "another");
        tokio::time::advance(std::time::Duration::from_secs(5)).await;
        assert!(roster.join(Some(1), from(1), |_| true).is_ok());
        assert_eq!(
            roster.join(Some(1), from(1), |_| true),
            Err(JoinError::TooOften(1))
        );
    }
}
