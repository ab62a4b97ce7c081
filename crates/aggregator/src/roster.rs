//! Who takes part, and what each is doing.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use fl_proto::Token;

use crate::broadcast::Form;

/// What the aggregator knows of a client.
#[derive(Clone, Debug, Default)]
pub struct Client {
    /// What it is doing.
    pub state: ClientState,
    /// Where it is reached, once it has joined.
    pub address: Option<SocketAddr>,
    /// Where it asked from when it joined.
    pub source: Option<IpAddr>,
    /// Form of the bodies that it is sent.
    pub form: Form,
    /// HTTP bytes from it.
    pub bytes_up: u64,
    /// HTTP bytes to it.
    pub bytes_down: u64,
    /// Since when it has been asked in vain.
    pub silent_since: Option<Instant>,
}

/// What a client is doing, as far as the aggregator knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ClientState {
    /// Never heard of.
    #[default]
    Absent,
    /// Joined, fetching its data.
    Joined,
    /// Has its data; to be asked whether it is ready.
    Fetched,
    /// Waits for a round.
    Ready,
    /// Is in the cohort of this round.
    Busy,
    /// Did not do what it was asked; counts again once it answers `/ready`.
    Suspect,
    /// Gone, until it joins again.
    Lost(String),
}

/// A place in the cohort of the open round.
#[derive(Clone, Debug)]
pub struct Assignment {
    /// What the client must send back.
    pub token: Token,
    /// Set once the update is in, or will not come.
    pub outcome: Option<Outcome>,
    /// Whether an update is refused even if it comes: the device is known to fail this round.
    pub will_crash: bool,
    /// Whether what comes is damaged on the way.
    pub corrupt: bool,
}

/// How a place in the cohort ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The update is in.
    Received,
    /// It will not come.
    Failed(String),
}

/// Why `/id` grants nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JoinError {
    /// No such ID.
    #[error("client {0} is not part of this experiment, its clients are 0 to {1}")]
    Unknown(u32, u32),
    /// Taken by a live device elsewhere.
    #[error("client {0} is another device, which is alive")]
    Taken(u32),
    /// No ID left.
    #[error("all {0} clients have joined")]
    Full(u32),
}

/// All clients.
#[derive(Clone, Debug)]
pub struct Roster {
    clients: Vec<Client>,
}

impl Roster {
    /// `clients` that nothing is known of.
    pub fn new(clients: u32) -> Self {
        Self {
            clients: vec![Client::default(); clients as usize],
        }
    }

    /// The client of an ID.
    pub fn get(&self, id: u32) -> Option<&Client> {
        self.clients.get(id as usize)
    }

    /// The client of an ID.
    pub fn get_mut(&mut self, id: u32) -> Option<&mut Client> {
        self.clients.get_mut(id as usize)
    }

    /// All clients with their IDs, to change them.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (u32, &mut Client)> {
        (0..).zip(&mut self.clients)
    }

    /// All clients with their IDs.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &Client)> {
        (0..).zip(&self.clients)
    }

    /// Clients that nobody knows to be there, and for how long each has been asked in vain.
    ///
    /// One that has a round's work to do is not among them: its link may be full with its update.
    pub fn silent(&self) -> Vec<(u32, Duration)> {
        let asked = self.iter().filter(|(_, client)| {
            matches!(client.state, ClientState::Suspect | ClientState::Fetched)
        });
        asked
            .filter_map(|(id, client)| Some((id, client.silent_since?.elapsed())))
            .collect()
    }

    /// How many clients stand so.
    pub fn count(&self, state: impl Fn(&ClientState) -> bool) -> u32 {
        self.clients
            .iter()
            .filter(|client| state(&client.state))
            .count() as u32
    }

    /// Grants an ID: the one wished for, the one that this address has, or the lowest that nobody has
    /// had. Returns whether the client had joined before.
    ///
    /// A device that wishes for the ID of another that has joined takes it over if it comes from the
    /// same IP address (it has rebooted), or if the other is lost or suspect.
    ///
    /// # Errors
    /// [`JoinError`]; nothing has then changed.
    pub fn join(
        &mut self,
        wish: Option<u32>,
        address: SocketAddr,
    ) -> Result<(u32, bool), JoinError> {
        let last = (self.clients.len() as u32).saturating_sub(1);
        let id = match wish {
            Some(id) => id,
            None => {
                let find = |fits: &dyn Fn(&Client) -> bool| {
                    self.iter()
                        .find(|(_, client)| fits(client))
                        .map(|(id, _)| id)
                };
                // The same device asks again if the answer was lost on its way.
                find(&|client| client.address == Some(address))
                    .or_else(|| find(&|client| client.address.is_none()))
                    .ok_or(JoinError::Full(last + 1))?
            }
        };
        let client = self.get_mut(id).ok_or(JoinError::Unknown(id, last))?;
        let again = client.address.is_some();
        let alive = !matches!(
            client.state,
            ClientState::Absent | ClientState::Lost(_) | ClientState::Suspect
        );
        if alive
            && client
                .address
                .is_some_and(|known| known.ip() != address.ip())
        {
            return Err(JoinError::Taken(id));
        }
        client.state = ClientState::Joined;
        client.address = Some(address);
        client.silent_since = None;
        Ok((id, again))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(last: u8) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, last], 80))
    }

    #[test]
    fn ids_are_granted_once() {
        let mut roster = Roster::new(3);
        assert_eq!(roster.join(Some(1), at(1)), Ok((1, false)));
        assert_eq!(roster.join(None, at(2)), Ok((0, false)));
        assert_eq!(roster.join(Some(1), at(3)), Err(JoinError::Taken(1)));
        assert_eq!(roster.join(Some(3), at(3)), Err(JoinError::Unknown(3, 2)));
        assert_eq!(roster.join(None, at(3)), Ok((2, false)));
        assert_eq!(roster.join(None, at(4)), Err(JoinError::Full(3)));
    }

    #[test]
    fn a_device_that_comes_back_takes_its_own_place() {
        let mut roster = Roster::new(2);
        roster.join(Some(1), at(1)).unwrap();
        assert_eq!(roster.join(Some(1), at(1)), Ok((1, true)));
        roster.get_mut(1).unwrap().state = ClientState::Lost("crashed".into());
        assert_eq!(roster.join(Some(1), at(9)), Ok((1, true)));
    }
}
